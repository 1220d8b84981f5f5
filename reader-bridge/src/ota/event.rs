//! What is told of acting on messages: OTA sessions, keys, the hook.
//!
//! Owns the fields (`docs/terminal.md`, Events) and their words. Never holds what commands and answers say, only how
//! many there were and their status words.

use std::fmt;

use serde::Serialize;

/// Something that happened while a message was acted on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Deed {
    /// A session with an OTA server begins, or goes on after it was cut.
    OtaOpened {
        /// The message that asked for it.
        message_id: u32,
        /// Where it goes.
        url: String,
        /// Attempt since the last answer that took it further, from 1.
        attempt: u32,
        /// It goes on where it was cut.
        resumed: bool,
    },
    /// The server wants the card's proof.
    OtaChallenged {
        /// The message that asked for the session.
        message_id: u32,
    },
    /// A command string was executed, as far as `executed` says.
    OtaScript {
        /// The message that asked for the session.
        message_id: u32,
        /// Number of the string in this session, from 1.
        script: u32,
        /// The application it was for, in hexadecimal.
        target: String,
        /// How many commands it has.
        commands: usize,
        /// How many the card has answered.
        executed: usize,
        /// Their status words, four hexadecimal digits each.
        status_words: Vec<String>,
        /// The command, from 1, that the card had when the way to it broke: nobody knows whether it was executed.
        cut: Option<usize>,
        /// Why none or not all of it was executed, other than for a command that failed.
        #[serde(skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// An attempt failed.
    OtaFailed {
        /// The message that asked for the session.
        message_id: u32,
        /// Where the request went.
        url: String,
        /// Why.
        why: String,
        /// Attempt since the last answer that took it further.
        attempt: u32,
        /// When it is tried again; absent if it is not.
        retry_in_ms: Option<u64>,
    },
    /// A session is over.
    OtaDone {
        /// The message that asked for it.
        message_id: u32,
        /// How it ended.
        result: Ended,
        /// Command strings in it.
        scripts: u32,
        /// Commands that the card has answered in it.
        commands: u32,
    },
    /// A key pair was made on the card; this is its public half.
    PublicKey {
        /// The message that asked for it.
        message_id: u32,
        /// `p256` or `ed25519`.
        algorithm: &'static str,
        /// Where the card keeps the private key.
        slot: u8,
        /// The point in hexadecimal; absent if it cannot be read.
        key: Option<String>,
        /// Why it cannot be read.
        #[serde(skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// The hook program has done its work.
    HookDone {
        /// The message it was started for; absent where it cannot be read.
        message_id: Option<u32>,
        /// How long it took.
        took_ms: u64,
    },
    /// The hook program failed. It is not started again for this message.
    HookFailed {
        /// The message it was started for; absent where it cannot be read.
        message_id: Option<u32>,
        /// Why.
        why: String,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// What was noted of messages to act on cannot be read; it was set aside.
    AgendaDamaged {
        /// The file that it was moved to.
        kept: String,
        /// What is wrong with it.
        why: String,
    },
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// The server had nothing more.
    Done,
    /// The server will not have it, or it may not go where it should.
    Refused,
    /// Too many attempts failed.
    GivenUp,
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtaOpened {
                message_id,
                url,
                attempt,
                resumed,
            } => {
                let how = if *resumed { "goes on" } else { "begins" };
                write!(
                    f,
                    "OTA session of message {message_id} {how} at {url}, attempt {attempt}"
                )
            }
            Self::OtaChallenged { message_id } => {
                write!(
                    f,
                    "OTA session of message {message_id}: the server wants the card's proof"
                )
            }
            Self::OtaScript { .. } => self.script(f),
            Self::OtaFailed {
                message_id,
                why,
                retry_in_ms,
                ..
            } => {
                write!(f, "OTA session of message {message_id} fails: {why}")?;
                match retry_in_ms {
                    Some(ms) => write!(f, "; again in {} s", ms / 1000),
                    None => Ok(()),
                }
            }
            Self::OtaDone {
                message_id,
                result,
                scripts,
                commands,
            } => {
                let result = match result {
                    Ended::Done => "is done",
                    Ended::Refused => "was refused",
                    Ended::GivenUp => "was given up",
                };
                write!(
                    f,
                    "OTA session of message {message_id} {result}: {scripts} command strings, {commands} commands"
                )
            }
            Self::PublicKey {
                slot,
                algorithm,
                key,
                why,
                ..
            } => match (key, why) {
                (Some(key), _) => write!(f, "public key in slot {slot}, {algorithm}: {key}"),
                (None, why) => write!(
                    f,
                    "no public key in slot {slot}: {}",
                    why.as_deref().unwrap_or_default()
                ),
            },
            Self::HookDone { took_ms, .. } => write!(f, "the hook program is done, {took_ms} ms"),
            Self::HookFailed { why, stderr, .. } => {
                let said = if stderr.is_empty() { "" } else { "; it said: " };
                write!(f, "the hook program failed: {why}{said}{stderr}")
            }
            Self::AgendaDamaged { kept, why } => {
                write!(
                    f,
                    "what was still to be done is damaged ({why}); kept as {kept}"
                )
            }
        }
    }
}

impl Deed {
    fn script(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::OtaScript {
            message_id,
            script,
            commands,
            executed,
            status_words,
            cut,
            why,
            ..
        } = self
        else {
            return Ok(());
        };
        write!(
            f,
            "OTA session of message {message_id}, command string {script}: {executed} of {commands} commands executed"
        )?;
        if !status_words.is_empty() {
            write!(f, " ({})", status_words.join(" "))?;
        }
        if let Some(cut) = cut {
            write!(f, "; cut at command {cut}, which may have been executed")?;
        }
        why.as_ref().map_or(Ok(()), |why| write!(f, "; {why}"))
    }
}
