#![no_main]

use libfuzzer_sys::fuzz_target;
use ringtail_fuzz::targets::metadata_log;

fuzz_target!(|input: &[u8]| metadata_log::run(input));
