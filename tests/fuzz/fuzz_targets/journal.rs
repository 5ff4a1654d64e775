#![no_main]

use libfuzzer_sys::fuzz_target;
use ringtail_fuzz::targets::journal;

fuzz_target!(|input: &[u8]| journal::run(input));
