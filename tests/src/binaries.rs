//! Where the programs under test are.
//!
//! Owns finding a binary that the workspace builds. `CARGO_BIN_EXE_*` reaches only the binaries of
//! the package under test, so the place is taken from the running executable: tests are in
//! `target/PROFILE/deps`, binaries in `target/PROFILE`.

use std::path::PathBuf;

/// The workspace's binary `name` (`secapp`, `gts-mock`, `reader-bridge`, ...), as built beside the
/// running test or program.
///
/// # Panics
///
/// When it has not been built; the message says how to build it.
#[must_use]
#[track_caller]
pub fn built(name: &str) -> PathBuf {
    let directory = directory();
    let path = directory.join(name);
    assert!(
        path.is_file(),
        "no binary {name} in {}: build the workspace's binaries first, with \
         `cargo build --workspace --bins` (scripts/test does), in the same profile and target directory",
        directory.display()
    );
    path
}

/// The directory that cargo puts the workspace's binaries into.
fn directory() -> PathBuf {
    let running =
        std::env::current_exe().expect("the kernel tells the path of the running program");
    let directory = running.parent().expect("an executable's path has a parent");
    if directory.ends_with("deps") {
        directory
            .parent()
            .expect("deps is inside the profile's directory")
            .to_path_buf()
    } else {
        directory.to_path_buf()
    }
}
