//! The suite of test scripts in `tests/conformance`, as files.

use std::fs;
use std::path::{Path, PathBuf};

/// The scripts that leave a card as usable as it was, in the order of their names.
///
/// # Panics
///
/// When the directory cannot be read, or holds next to nothing.
#[must_use]
#[track_caller]
pub fn scripts() -> Vec<PathBuf> {
    let files = of("conformance");
    assert!(files.len() >= 10, "{files:?}");
    files
}

/// The scripts that take a card through its whole life, to its end: each needs a card of its own.
///
/// # Panics
///
/// When the directory cannot be read.
#[must_use]
#[track_caller]
pub fn whole_life() -> Vec<PathBuf> {
    of("conformance/whole-life")
}

fn of(directory: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let entries =
        fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "apdu")
        })
        .collect();
    files.sort();
    files
}
