#![no_main]

use libfuzzer_sys::fuzz_target;
use ringtail_fuzz::targets::names;

fuzz_target!(|input: &[u8]| names::run(input));
