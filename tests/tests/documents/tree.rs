//! The text files of the repository.

use std::fs;
use std::path::{Path, PathBuf};

/// One file of text.
pub(crate) struct Text {
    /// Its path from the repository's root.
    pub(crate) name: String,
    pub(crate) text: String,
}

impl Text {
    /// Its lines with their numbers, from 1.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }
}

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package
        .parent()
        .expect("the package is in the workspace's root")
        .to_path_buf()
}

/// Every file of the tree that is UTF-8, without build output and git's own files.
pub(crate) fn texts(root: &Path) -> impl Iterator<Item = Text> {
    let mut files = Vec::new();
    collect(root, &mut files);
    files.sort();
    files.into_iter().filter_map(move |path| {
        let name = path
            .strip_prefix(root)
            .expect("collected below the root")
            .display()
            .to_string();
        Some(Text {
            name,
            text: fs::read_to_string(&path).ok()?,
        })
    })
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory of the repository can be read") {
        let entry = entry.expect("a directory of the repository can be read");
        let kind = entry
            .file_type()
            .expect("a file of the repository has a type");
        if kind.is_file() {
            files.push(entry.path());
        } else if kind.is_dir() && !is_output(&entry.path()) {
            collect(&entry.path(), files);
        }
    }
}

/// Build output: cargo marks its directories for backup programs (bford.info/cachedir).
fn is_output(directory: &Path) -> bool {
    let name = directory.file_name().unwrap_or_default();
    name == ".git"
        || name == "target"
        || name == "__pycache__"
        || directory.join("CACHEDIR.TAG").exists()
}
