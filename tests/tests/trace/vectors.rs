//! The test vectors of the wire format.

use std::path::Path;

use serde_json::Value;

/// All cases.
pub(crate) fn cases() -> Vec<Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/tests/vectors/wire-v1.json");
    let text = std::fs::read_to_string(file).expect("the vectors are in the tree");
    let vectors: Value = serde_json::from_str(&text).expect("the vectors are JSON");
    vectors["cases"].as_array().expect("a list").clone()
}

/// The exchanges of a case, with those of its recovery identities.
pub(crate) fn exchanges(case: &Value) -> impl Iterator<Item = &Value> {
    ["steps", "recovery"]
        .into_iter()
        .flat_map(|list| case[list].as_array().expect("a list"))
}

/// A field in hexadecimal.
pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(text(value)).expect("hexadecimal")
}

/// A field as it is written.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}
