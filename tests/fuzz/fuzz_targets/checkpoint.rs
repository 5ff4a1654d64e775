#![no_main]

use libfuzzer_sys::fuzz_target;
use ringtail_fuzz::targets::checkpoint;

fuzz_target!(|input: &[u8]| checkpoint::run(input));
