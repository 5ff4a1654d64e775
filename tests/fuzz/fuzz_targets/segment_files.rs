#![no_main]

use libfuzzer_sys::fuzz_target;
use ringtail_fuzz::targets::segment_files;

fuzz_target!(|input: &[u8]| segment_files::run(input));
