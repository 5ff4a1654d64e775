#![no_main]

use libfuzzer_sys::fuzz_target;
use ringtail_fuzz::targets::native_frame;

fuzz_target!(|input: &[u8]| native_frame::run(input));
