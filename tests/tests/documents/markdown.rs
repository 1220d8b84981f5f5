//! Code spans and links of Markdown, as far as finding paths needs them (`CommonMark` 0.31: 6.1, 6.3, 4.5).

/// The words of all code spans outside fenced blocks, with their line numbers from 1.
pub(crate) fn code_words(text: &str) -> Vec<(usize, String)> {
    let spans = prose(text).flat_map(|(number, line)| {
        let inside = line.split('`').skip(1).step_by(2);
        inside.map(move |span| (number, span))
    });
    spans
        .flat_map(|(number, span)| {
            span.split_whitespace()
                .map(move |word| (number, word.to_owned()))
        })
        .collect()
}

/// The targets of inline links to files, without fragment, with their line numbers from 1.
pub(crate) fn relative_links(text: &str) -> Vec<(usize, String)> {
    let targets = prose(text).flat_map(|(number, line)| {
        let rest = line.split("](").skip(1);
        rest.filter_map(move |rest| Some((number, rest.split_once(')')?.0)))
    });
    targets
        .filter_map(|(number, target)| Some((number, file_of(target)?)))
        .collect()
}

/// The file of a link's target; none for other sites and for places in the same document.
fn file_of(target: &str) -> Option<String> {
    let target = target.split_whitespace().next()?;
    let file = target.split('#').next()?;
    let elsewhere = target.contains("://") || target.starts_with("mailto:");
    (!elsewhere && !file.is_empty()).then(|| file.to_owned())
}

/// The lines outside fenced code blocks, with their numbers from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```") || line.trim_start().starts_with("~~~");
        fenced ^= fence;
        !fenced && !fence
    })
}

#[test]
fn words_come_from_code_spans_outside_fences() {
    let text = "Run `scripts/test --all` or `x`.\n```\n`not/this.rs`\n```\nsee `a/b.rs`";
    let words = [(1, "scripts/test"), (1, "--all"), (1, "x"), (5, "a/b.rs")];
    assert_eq!(
        code_words(text),
        words.map(|(number, word)| (number, word.to_owned()))
    );
}

#[test]
fn links_lose_their_fragment_and_other_sites_are_left_out() {
    let text =
        "[a](docs/a.md#part) [b](https://example.org/b.md) [c](#here)\n![d](d.svg \"title\")";
    assert_eq!(
        relative_links(text),
        [(1, "docs/a.md".to_owned()), (2, "d.svg".to_owned())]
    );
}
