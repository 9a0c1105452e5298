//! What the fuzz targets have met so far is met again: seeds, corpora and all that ever broke something.

use std::fs;
use std::path::Path;

use samepath_tests::fuzz::{TARGETS, seeds};

/// Every input of a target, by name.
fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut all = seeds::of(target);
    for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        all.push((path.display().to_string(), fs::read(&path).unwrap()));
    }
    all
}

#[test]
fn every_input_of_every_target_keeps_the_promises() {
    for (name, target) in TARGETS {
        let inputs = inputs(name);
        assert!(inputs.len() > seeds::of(name).len(), "{name} has no corpus");
        for (input, bytes) in inputs {
            let outcome = std::panic::catch_unwind(|| target(&bytes));
            assert!(outcome.is_ok(), "{name}: {input} breaks a promise; what is said above names it");
        }
    }
}

#[test]
fn every_target_can_be_searched() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let mut searched: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().display().to_string())
        .collect();
    let mut replayed: Vec<String> = TARGETS.iter().map(|(name, _)| name.to_string()).collect();
    searched.sort();
    replayed.sort();
    assert_eq!(searched, replayed);
}
