#![no_main]

use libfuzzer_sys::fuzz_target;
use ringtail_fuzz::targets::message_oracle;

fuzz_target!(|input: &[u8]| message_oracle::run(input));
