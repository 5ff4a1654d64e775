#![no_main]

use libfuzzer_sys::fuzz_target;
use ringtail_fuzz::targets::record_reader;

fuzz_target!(|input: &[u8]| record_reader::run(input));
