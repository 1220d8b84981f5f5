//! Import of subscriptions from CSV: all of a file or nothing of it, and every bad line named.
//!
//! ```text
//! reference,iccid,key,mode,first_identity
//! meter-17,8988374172470184089,2b7e151628aed2a6abf7158809cf4f3c,3,concealed
//! ```

use std::{collections::HashMap, fmt};

use protocol::{
    chain::concealed_uid,
    identity::{Iccid, Mode, Uid},
    key::Key,
};
use zeroize::Zeroizing;

use crate::{
    engine::Engine,
    server::{Core, OperatorError},
    store::{ChainRecord, IdentityRecord},
};

/// The header line.
const COLUMNS: [&str; 5] = ["reference", "iccid", "key", "mode", "first_identity"];
/// Longest reference in bytes.
const MAX_REFERENCE: usize = 128;
/// How many bad lines are named.
const NAMED_LINES: usize = 20;

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file does not begin with the header line.
    #[error("line 1: the header must be `{}`", COLUMNS.join(","))]
    Header,
    /// Nothing but a header.
    #[error("the file holds no subscription")]
    Empty,
    /// Lines that cannot be taken.
    #[error("nothing was imported:\n{0}")]
    Lines(BadLines),
    /// They could not be stored, or not synced.
    #[error(transparent)]
    Stored(#[from] OperatorError),
}

/// The first bad lines with their reasons, and how many there are.
#[derive(Debug, Default)]
pub struct BadLines {
    named: Vec<(u64, String)>,
    count: usize,
}

impl BadLines {
    fn note(&mut self, line: u64, reason: impl fmt::Display) {
        self.count += 1;
        if self.named.len() < NAMED_LINES {
            self.named.push((line, reason.to_string()));
        }
    }
}

impl fmt::Display for BadLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (line, reason) in &self.named {
            writeln!(f, "  line {line}: {reason}")?;
        }
        match self.count - self.named.len() {
            0 => write!(
                f,
                "{} bad line(s); mend them and import the file again",
                self.count
            ),
            more => write!(f, "  and {more} more bad line(s)"),
        }
    }
}

/// Imports a file into a running server; returns how many subscriptions were taken.
pub fn import(core: &Core, csv: &[u8]) -> Result<usize, ImportError> {
    core.import(|engine| read(engine, csv))
}

fn read(engine: &Engine, csv: &[u8]) -> Result<Vec<(IdentityRecord, ChainRecord)>, ImportError> {
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(csv);
    let header = reader.byte_headers().map_err(|_| ImportError::Header)?;
    if header.iter().ne(COLUMNS.iter().map(|name| name.as_bytes())) {
        return Err(ImportError::Header);
    }
    let mut lines = Lines {
        engine,
        bad: BadLines::default(),
        taken: Vec::new(),
        seen: HashMap::new(),
    };
    for record in reader.byte_records() {
        lines.take(record);
    }
    lines.finish()
}

/// What was read of a file so far.
struct Lines<'a> {
    engine: &'a Engine,
    bad: BadLines,
    taken: Vec<(IdentityRecord, ChainRecord)>,
    /// References and first identities of this file, with their lines.
    seen: HashMap<Seen, u64>,
}

#[derive(PartialEq, Eq, Hash)]
enum Seen {
    Reference(Box<str>),
    Identity(Uid),
}

impl Lines<'_> {
    fn take(&mut self, record: csv::Result<csv::ByteRecord>) {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                return self.bad.note(line, "not CSV");
            }
        };
        let line = record.position().map_or(0, csv::Position::line);
        let id = self.engine.next_id() + u32::try_from(self.taken.len()).unwrap_or(u32::MAX);
        match parse(&record, id).and_then(|identity| self.check(identity, line)) {
            Ok(identity) => {
                let chain = self.engine.first_chain(&identity);
                self.taken.push((identity, chain));
            }
            Err(reason) => self.bad.note(line, reason),
        }
    }

    fn check(&mut self, identity: IdentityRecord, line: u64) -> Result<IdentityRecord, String> {
        if let Some(clash) = self.engine.clash(&identity.reference, &identity.uid_1) {
            return Err(clash.to_string());
        }
        let reference = Seen::Reference(identity.reference.clone());
        if let Some(first) = self.seen.insert(reference, line) {
            return Err(format!(
                "reference {:?} stands on line {first} already",
                identity.reference
            ));
        }
        if let Some(first) = self.seen.insert(Seen::Identity(identity.uid_1), line) {
            return Err(format!("its first identity stands on line {first} already"));
        }
        Ok(identity)
    }

    fn finish(self) -> Result<Vec<(IdentityRecord, ChainRecord)>, ImportError> {
        match (self.bad.count, self.taken.is_empty()) {
            (0, false) => Ok(self.taken),
            (0, true) => Err(ImportError::Empty),
            _ => Err(ImportError::Lines(self.bad)),
        }
    }
}

fn parse(record: &csv::ByteRecord, id: u32) -> Result<IdentityRecord, String> {
    if record.len() != COLUMNS.len() {
        return Err(format!(
            "{} fields, {} are expected",
            record.len(),
            COLUMNS.len()
        ));
    }
    let field = |at: usize| {
        std::str::from_utf8(&record[at]).map_err(|_| format!("{} is not UTF-8", COLUMNS[at]))
    };
    let reference = reference(field(0)?)?;
    let iccid: Iccid = field(1)?
        .parse()
        .map_err(|error| format!("iccid: {error}"))?;
    let key = Zeroizing::new(field(2)?.to_owned());
    let k = Key::from_hex(&key).map_err(|error| format!("key: {error}"))?;
    let mode = mode(field(3)?)?;
    let uid_1 = first_identity(field(4)?, &k, &iccid, mode)?;
    Ok(IdentityRecord {
        id,
        reference,
        iccid,
        k,
        mode,
        uid_1,
    })
}

fn reference(text: &str) -> Result<Box<str>, String> {
    if text.is_empty() || text.len() > MAX_REFERENCE {
        return Err(format!(
            "reference: 1 to {MAX_REFERENCE} bytes are expected, there are {}",
            text.len()
        ));
    }
    if text.chars().any(char::is_control) {
        return Err("reference: control characters are not allowed".into());
    }
    Ok(text.into())
}

fn mode(text: &str) -> Result<Mode, String> {
    let byte: u8 = text
        .parse()
        .map_err(|_| format!("mode: {text:?} is not a number from 0 to 3"))?;
    Mode::from_byte(byte).map_err(|error| error.to_string())
}

fn first_identity(text: &str, k: &Key, iccid: &Iccid, mode: Mode) -> Result<Uid, String> {
    match text {
        "iccid" => Ok((*iccid).into()),
        "concealed" => Ok(concealed_uid(k, iccid, mode)),
        _ => match text.strip_prefix("uid:") {
            Some(hex) => Uid::from_hex(hex).map_err(|error| format!("first_identity: {error}")),
            None => Err(format!(
                "first_identity: {text:?} is none of `iccid`, `concealed`, `uid:HEX`"
            )),
        },
    }
}
