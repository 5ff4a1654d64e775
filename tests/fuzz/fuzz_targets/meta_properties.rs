#![no_main]

use libfuzzer_sys::fuzz_target;
use ringtail_fuzz::targets::meta_properties;

fuzz_target!(|input: &[u8]| meta_properties::run(input));
