//! What looks like a path of this repository, and what like one of somebody's machine.

use std::fs;
use std::path::Path;

/// Endings that only this repository's own files have in its documents.
const OWN_ENDINGS: [&str; 6] = [".rs", ".md", ".toml", ".sh", ".apdu", ".json"];

/// The path in `word`, if it looks like one of this repository (from its root, or from `directory`) and does not exist.
pub(crate) fn missing(root: &Path, directory: &Path, word: &str) -> Option<String> {
    let path = word
        .trim_start_matches("./")
        .trim_end_matches([',', ';', ':', '.']);
    let path = without_line_number(path);
    let exists = exists(root, path) || exists(directory, path);
    (looks_like_own(root, path) && !exists).then(|| path.to_owned())
}

fn looks_like_own(root: &Path, path: &str) -> bool {
    let plain = path
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "._-/*".contains(c));
    let Some((first, _)) = path.split_once('/') else {
        return false;
    };
    let inside = !first.is_empty() && first != "target" && first != "..";
    plain
        && inside
        && (root.join(first).is_dir() || OWN_ENDINGS.iter().any(|ending| path.ends_with(ending)))
}

/// `file.rs:12` names `file.rs`.
fn without_line_number(path: &str) -> &str {
    match path.rsplit_once(':') {
        Some((file, line)) if line.bytes().all(|byte| byte.is_ascii_digit()) => file,
        _ => path,
    }
}

/// Whether the path exists; a `*` in its last part stands for anything.
fn exists(from: &Path, path: &str) -> bool {
    let full = from.join(path);
    let (Some(parent), Some(name)) = (
        full.parent(),
        full.file_name().and_then(|name| name.to_str()),
    ) else {
        return full.exists();
    };
    let Some((start, end)) = name.split_once('*') else {
        return full.exists();
    };
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .any(|name| {
            name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
        })
}

/// Starts of paths that only a build machine has: users' homes, and where this tree lies now.
pub(crate) fn machine(root: &Path) -> Vec<String> {
    // Put together here, so that this file does not name them itself.
    let homes =
        ["home", "root", "Users", "work", "builds"].map(|directory| format!("/{directory}/"));
    homes
        .into_iter()
        .chain([format!("{}/", root.display())])
        .collect()
}

/// Whether `path` begins somewhere in `line`, and not in the middle of another path or URL.
pub(crate) fn occurs(path: &str, line: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line.get(..at).and_then(|before| before.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || "._-/*}".contains(c))
    })
}

#[test]
fn a_path_that_does_not_exist_is_told_from_words_with_slashes() {
    let root = super::tree::root();
    let check = |word| missing(&root, &root.join("docs"), word);
    assert_eq!(check("tests/src/lib.rs:12"), None);
    assert_eq!(check("tests/src/*.rs"), None);
    assert_eq!(check("scripts/lib.sh,"), None);
    assert_eq!(check("text/csv"), None);
    assert_eq!(check("/etc/reader.conf.d/vpcd"), None);
    assert_eq!(check("target/debug/secapp"), None);
    assert_eq!(check("tests/nowhere"), Some("tests/nowhere".to_owned()));
    assert_eq!(check("gone/away.rs"), Some("gone/away.rs".to_owned()));
    assert_eq!(check("tests/src/*.xyz"), Some("tests/src/*.xyz".to_owned()));
}

#[test]
fn a_home_directory_is_found_at_the_start_of_a_path_only() {
    let home = format!("/{}/", "home");
    assert!(occurs(&home, &format!("see {home}me/card.img")));
    assert!(occurs(&home, &format!("\"{home}me\"")));
    assert!(!occurs(&home, &format!("https://example.org{home}page")));
}
