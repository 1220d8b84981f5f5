//! The key file: which cards' datagrams can be read.
//!
//! Owns its form, CSV with a header line: what `gts-mock subscriptions import` takes, and more columns for a capture
//! that begins in the middle of a chain. Never repeats a key: errors name lines and columns.

use protocol::{
    chain::{Link, RecoveryLink, concealed_uid},
    identity::{Iccid, Mode, Uid},
    key::Key,
};

use crate::personalise::FirstIdentity;

/// All columns that there may be.
const COLUMNS: [&str; 7] = [
    "reference",
    "iccid",
    "key",
    "mode",
    "first_identity",
    "identity",
    "identity_key",
];

/// One card.
pub struct CardKeys {
    /// What it is called.
    pub(super) name: String,
    /// Its first link and first recovery link, from K.
    pub(super) first: Option<(Link, RecoveryLink)>,
    /// A link somewhere in its chain.
    pub(super) middle: Option<Link>,
}

/// What is wrong with a key file.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct KeysError {
    line: u64,
    why: String,
}

/// Reads a key file.
pub fn read(csv: &[u8]) -> Result<Vec<CardKeys>, KeysError> {
    let failed = |line, why: String| KeysError { line, why };
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(csv);
    let header = reader
        .headers()
        .map_err(|_| failed(1, "this is not CSV".into()))?
        .clone();
    if let Some(other) = header.iter().find(|name| !COLUMNS.contains(name)) {
        // It may be a key that stands where the header should be.
        let known = COLUMNS.join(",");
        let shown = if other.len() < 20 { other } else { "one" };
        return Err(failed(
            1,
            format!("the header has {shown:?}; it names columns of {known}"),
        ));
    }
    let mut cards = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| {
            let line = error.position().map_or(0, csv::Position::line);
            failed(
                line,
                "another number of columns than the header, or not UTF-8".into(),
            )
        })?;
        let line = record.position().map_or(0, csv::Position::line);
        let field = |name: &str| {
            let at = header.iter().position(|column| column == name)?;
            record.get(at).filter(|text| !text.is_empty())
        };
        cards.push(card(&field).map_err(|why| failed(line, why))?);
    }
    Ok(cards)
}

fn card<'a>(field: &impl Fn(&str) -> Option<&'a str>) -> Result<CardKeys, String> {
    let mode = match field("mode") {
        None => Mode::DEFAULT,
        Some(text) => text
            .parse()
            .ok()
            .and_then(|byte| Mode::from_byte(byte).ok())
            .ok_or("mode: 0, 1, 2 or 3")?,
    };
    let key = |name: &str| {
        let parse = |text| Key::from_hex(text).map_err(|error| format!("{name}: {error}"));
        field(name).map(parse).transpose()
    };
    let first = match key("key")? {
        Some(k) => Some(from_k(&k, mode, field)?),
        None => None,
    };
    let middle = match (field("identity"), key("identity_key")?) {
        (None, None) => None,
        (Some(uid), Some(key)) => {
            let uid = Uid::from_hex(uid).map_err(|error| format!("identity: {error}"))?;
            Some(Link::restore(uid, key, mode))
        }
        _ => return Err("identity and identity_key go together".into()),
    };
    let uid = first.as_ref().map(|(link, _)| link.uid());
    let uid = uid.or(middle.as_ref().map(Link::uid));
    let Some(uid) = uid else {
        return Err("neither key nor identity_key".into());
    };
    let name = field("reference").or(field("iccid"));
    Ok(CardKeys {
        name: name.map_or_else(|| uid.short(), str::to_owned),
        first,
        middle,
    })
}

fn from_k<'a>(
    k: &Key,
    mode: Mode,
    field: &impl Fn(&str) -> Option<&'a str>,
) -> Result<(Link, RecoveryLink), String> {
    let first: FirstIdentity = field("first_identity")
        .unwrap_or("iccid")
        .parse()
        .map_err(|error| format!("first_identity: {error}"))?;
    let iccid = || -> Result<Iccid, String> {
        let text = field("iccid").ok_or("iccid: it is needed with key")?;
        text.parse().map_err(|error| format!("iccid: {error}"))
    };
    let uid = match first {
        FirstIdentity::Uid(uid) => uid,
        FirstIdentity::Iccid => iccid()?.into(),
        FirstIdentity::Concealed => concealed_uid(k, &iccid()?, mode),
    };
    let link = Link::first(k, uid, mode);
    Ok((link, RecoveryLink::first(k, uid, mode)))
}
