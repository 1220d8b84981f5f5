//! The suite against the text that it checks, `docs/card-interface.md`: no chapter, no row of a table and no status word is
//! left out, and no clause is named that is not there.

use std::{collections::BTreeSet, fs, path::PathBuf};

use super::Suite;

mod rows;

const DOCUMENT: &str = "card-interface, ";
/// Chapters about other things than what a card answers to commands.
const ELSEWHERE: [&str; 2] = ["The virtual reader", "Seen by other people's tools"];
/// Status words that no command can bring about, as the text says (`Where no script reaches`).
const OUT_OF_REACH: [&str; 3] = ["6581", "6986", "6999"];

fn text() -> String {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/card-interface.md");
    fs::read_to_string(file).unwrap()
}

/// Titles of chapters, without the commands that some of them show.
fn chapters(text: &str) -> Vec<&str> {
    let lines = text.lines().filter_map(|line| {
        let title = line
            .strip_prefix("### ")
            .or_else(|| line.strip_prefix("## "))?;
        Some(title.split('`').next().unwrap_or(title).trim())
    });
    lines.filter(|title| !ELSEWHERE.contains(title)).collect()
}

fn named(suite: &Suite) -> Vec<(String, String)> {
    let clauses = suite.cases().flat_map(|(_, case)| {
        let clauses = case
            .clauses
            .iter()
            .filter_map(|clause| clause.strip_prefix(DOCUMENT));
        clauses.map(|clause| (clause.to_owned(), case.name.clone()))
    });
    clauses.collect()
}

#[test]
fn every_chapter_of_the_card_interface_is_checked_and_no_other_is_named() {
    let text = text();
    let chapters = chapters(&text);
    let named = named(&Suite::load());
    let is_of = |clause: &str, chapter: &str| {
        let rest = clause.strip_prefix(chapter);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    };
    for chapter in &chapters {
        assert!(
            named.iter().any(|(clause, _)| is_of(clause, chapter)),
            "nothing checks {chapter:?}"
        );
    }
    for (clause, case) in &named {
        assert!(
            chapters.iter().any(|chapter| is_of(clause, chapter)),
            "{case:?} names {clause:?}, and there is no such chapter in {chapters:?}"
        );
    }
}

/// Four hexadecimal digits of a status word that stand alone.
fn status_words(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    words
        .filter(|word| word.len() == 4 && word.chars().all(|c| c.is_ascii_hexdigit()))
        .filter(|word| word.starts_with('6') || word.starts_with("98") || *word == "9000")
        .filter(|word| word.chars().any(|c| c.is_ascii_digit()))
        .map(str::to_uppercase)
        .collect()
}

#[test]
fn every_status_word_of_the_card_interface_is_expected_by_a_case_or_said_to_be_out_of_reach() {
    // Up to the chapters about other things.
    let text = text();
    let text = text.split("## The virtual reader").next().unwrap();
    let mut told = status_words(&text.replace("RFC 6979", ""));
    assert!(told.len() > 15, "{told:?}");
    for word in OUT_OF_REACH {
        assert!(told.remove(word), "{word} is not in the text any more");
    }
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/conformance");
    let files = e2e::suite::scripts()
        .into_iter()
        .chain(e2e::suite::whole_life());
    let scripts: Vec<_> = files
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    let spoken = |line: &&str| {
        let says = ["#", "test ", "clause "];
        says.iter().all(|word| !line.trim_start().starts_with(word))
    };
    let lines = scripts.iter().flat_map(|text| text.lines());
    let scripts: Vec<_> = lines.filter(spoken).collect();
    let scripts = scripts.join(" ");
    let expected = status_words(&scripts);
    let missing: Vec<_> = told.difference(&expected).collect();
    assert!(
        missing.is_empty(),
        "no case in {} expects {missing:?}",
        directory.display()
    );
}
