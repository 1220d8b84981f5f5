//! Test scripts for cards: commands, expected answers, and what stands around them (`docs/scripts.md`).
//!
//! ```text
//! files ─ [`load`] ─▶ script ─ [`Machine`] decides ─▶ commands ─ [`run`] carries them ─▶ card
//!           errors with a caret         ◀─ answers                    └─▶ [`report`]
//! ```
//!
//! [`Machine`] is without I/O: commands out, answers in, a verdict in the end.

mod ast;
mod blocks;
mod check;
pub mod compare;
mod cursor;
pub mod decode;
mod eval;
mod exchange;
mod execute;
mod expr;
mod files;
mod functions;
pub mod import;
mod machine;
mod parse;
mod pattern;
mod place;
pub mod record;
pub mod relay;
pub mod report;
mod request;
mod rounds;
mod run;
mod secure;
mod state;
mod statement;
pub mod tap;
mod template;
mod value;
mod worker;

pub use ast::{Case, Script};
pub use files::{Files, LoadError, SystemFiles};
pub use functions::function_names;
pub use machine::{COMMAND_LIMIT, Machine};
pub use parse::{load, load_after};
pub use place::{Place, ScriptError, Source};
pub use request::{Failure, Powered, Reply, Request, Setting, Verdict};
pub use run::{CaseResult, Finish, Outcome, Plan, Runner};
pub use state::State;
pub use statement::WORDS;
pub use value::{Value, Variables};

/// A value from a command line or file: hexadecimal digits.
pub fn parse_value(text: &str) -> Result<Value, String> {
    functions::decode_hex(text)
}

#[cfg(test)]
mod tests;
