//! The committed seeds of the fuzz targets, each through its target: with a stable compiler, so that a target that no longer builds, or
//! whose claim a change broke, shows without a fuzzer. `RINGTAIL_WRITE_SEEDS=1` writes them anew.
//!
//! A global allocator counts, so this is a binary with one test in it.

use std::collections::BTreeSet;
use std::path::Path;
use std::{env, fs};

#[path = "fuzz/src/seeds/mod.rs"]
mod seeds;
#[path = "fuzz/src/targets/mod.rs"]
mod targets;

use seeds::{FOLDERS, Seeds};
use targets::TARGETS;

#[test]
fn every_seed_is_committed_and_keeps_what_its_target_claims() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("the manifest of the fuzz targets");
    let bins: BTreeSet<&str> = manifest
        .split("[[bin]]")
        .skip(1)
        .filter_map(|bin| bin.split('"').nth(1))
        .collect();
    let names: BTreeSet<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(bins, names, "every target has a binary, and every binary is a target");

    for (name, make) in FOLDERS {
        let mut made = Seeds::new();
        make(&mut made);
        let folder = root.join("seeds").join(name);
        if env::var_os("RINGTAIL_WRITE_SEEDS").is_some() {
            write(&folder, &made);
        }
        let committed = read(&folder);
        for name in made.keys().chain(committed.keys()) {
            assert!(
                made.get(name) == committed.get(name),
                "{}: {name} is not what src/seeds makes; RINGTAIL_WRITE_SEEDS=1 writes it",
                folder.display()
            );
        }
    }
    for (name, run) in TARGETS {
        let seeds = read(&root.join("seeds").join(name));
        assert!(!seeds.is_empty(), "{name} has no seeds");
        for (seed, input) in seeds {
            println!("{name}/{seed}");
            run(&input);
        }
    }
}

fn read(folder: &Path) -> Seeds {
    let files = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    files
        .map(|file| {
            let file = file.expect("a folder can be read");
            let name = file.file_name().into_string().expect("seeds have plain names");
            (name, fs::read(file.path()).expect("a seed can be read"))
        })
        .collect()
}

fn write(folder: &Path, seeds: &Seeds) {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).expect("the folder can be made");
    for (name, bytes) in seeds {
        fs::write(folder.join(name), bytes).expect("a seed can be written");
    }
}
