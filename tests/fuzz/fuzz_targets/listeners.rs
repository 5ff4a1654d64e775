#![no_main]

use libfuzzer_sys::fuzz_target;
use ringtail_fuzz::targets::listeners;

fuzz_target!(|input: &[u8]| listeners::run(input));
