//! Acting on messages: sessions with an OTA server, and what else is to be done because a message says so.
//!
//! Owns every decision of such a session (`docs/ota.md`): what is asked, what is executed, what is answered, what is
//! on disk before each of them, when it is tried again. [`Agent`] does no I/O: it is told what happened and the time,
//! and says what to do; [`crate::terminal`] does it. Only [`http`] knows sockets and TLS. The bytes are
//! [`protocol::remote`]'s.
//!
//! ```text
//!  message ─▶ Agenda (disk) ─▶ POST ─▶ 401 ─▶ SIGN-SESSION ─▶ POST ─▶ 204 done
//!                               ▲        200 │
//!                               │            ▼
//!                      answers (disk) ◀── card, each command (disk)
//! ```

mod agenda;
mod agent;
mod attempt;
mod call;
mod channel;
mod event;
mod exchange;
mod hook;
pub mod http;
mod io;
mod keys;
mod policy;
mod strand;

pub use agenda::{Agenda, Carried, Hex, HookCall, Job, Journal, KeyMade, Running};
pub use agent::Agent;
pub use call::{Request, Response};
pub use event::{Deed, Ended};
pub use hook::HookResult;
pub use io::{Action, Input, KeyRead, Options, Signed, Wanted, Wish};
pub use policy::{Allowed, Policy, Refused, is_loopback, parse as parse_url};
