#![no_main]

use libfuzzer_sys::fuzz_target;
use ringtail_fuzz::targets::frame_decoder;

fuzz_target!(|input: &[u8]| frame_decoder::run(input));
