#![no_main]

use libfuzzer_sys::fuzz_target;
use ringtail_fuzz::targets::batch_validator;

fuzz_target!(|input: &[u8]| batch_validator::run(input));
