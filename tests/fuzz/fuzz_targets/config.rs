#![no_main]

use libfuzzer_sys::fuzz_target;
use ringtail_fuzz::targets::config;

fuzz_target!(|input: &[u8]| config::run(input));
