#![no_main]

use libfuzzer_sys::fuzz_target;
use ringtail_fuzz::targets::arena;

fuzz_target!(|input: &[u8]| arena::run(input));
