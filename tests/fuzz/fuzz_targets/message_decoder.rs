#![no_main]

use libfuzzer_sys::fuzz_target;
use ringtail_fuzz::targets::message_decoder;

fuzz_target!(|input: &[u8]| message_decoder::run(input));
