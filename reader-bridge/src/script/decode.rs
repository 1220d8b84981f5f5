//! Answers for people: the status word in words, BER-TLV as a tree.

use std::fmt::Write as _;

use protocol::{card::StatusWord, tlv};

/// Objects inside of objects at most.
const MAX_DEPTH: usize = 16;

/// An answer in lines.
pub fn answer(bytes: &[u8]) -> String {
    let Some((data, status)) = bytes.split_last_chunk::<2>() else {
        return format!("{}  no status word\n", hex::encode_upper(bytes));
    };
    let mut text = String::new();
    if !data.is_empty() {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{}", hex::encode_upper(data));
        if is_tree(data, 0) {
            tree(data, 1, &mut text);
        }
    }
    let _ = writeln!(text, "{}", StatusWord::from(*status));
    text
}

/// Whether all of it is BER-TLV. A single byte or two are more often something else.
fn is_tree(data: &[u8], depth: usize) -> bool {
    depth < MAX_DEPTH && data.len() > 1 && tlv::check(data).is_ok()
}

fn tree(data: &[u8], depth: usize, text: &mut String) {
    for object in tlv::Reader::new(data).flatten() {
        let indent = "  ".repeat(depth);
        let tag = object.tag;
        if object.is_constructed() && is_tree(object.value, depth) {
            let _ = writeln!(text, "{indent}{tag:02X}");
            tree(object.value, depth + 1, text);
        } else {
            let _ = writeln!(
                text,
                "{indent}{tag:02X} {}{}",
                hex::encode_upper(object.value),
                printable(object.value)
            );
        }
    }
}

fn printable(value: &[u8]) -> String {
    match str::from_utf8(value) {
        Ok(text) if value.len() > 3 && text.chars().all(|c| c.is_ascii_graphic() || c == ' ') => {
            format!("  {text:?}")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_a_tree_and_status_words_are_in_words() {
        let told =
            answer(&hex::decode("6F158408F047545341505001A509C10101C20103C3010F9000").unwrap());
        let lines: Vec<_> = told.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "  6F",
                "    84 F047545341505001",
                "    A5",
                "      C1 01",
                "      C2 03",
                "      C3 0F",
                "9000 (done)"
            ]
        );
        assert_eq!(
            answer(&[0x98, 0x62]),
            "9862 (the response is not authentic)\n"
        );
        assert_eq!(answer(&[0x90]), "90  no status word\n");
    }

    proptest::proptest! {
        #[test]
        fn no_answer_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            drop(answer(&bytes));
        }
    }
}
