//! Runs inputs through a target without libFuzzer: `replay TARGET FOLDER…`.

use ringtail_fuzz::targets::TARGETS;
use std::{env, fs};

fn main() {
    let mut arguments = env::args().skip(1);
    let name = arguments.next().expect("usage: replay TARGET FOLDER…");
    let (_, run) = TARGETS
        .iter()
        .find(|(target, _)| *target == name)
        .expect("a target of this name");
    let mut count = 0;
    for folder in arguments {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("a folder can be read").path();
            run(&fs::read(&path).expect("an input can be read"));
            count += 1;
        }
    }
    println!("{name}: {count} inputs");
}
