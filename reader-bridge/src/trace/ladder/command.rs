//! Commands and HTTP messages in a few words.
//!
//! Owns taking a trace's GSMTAP and exported PDUs apart again; the forms are those that a trace is written in.

use protocol::card::{AID, Outcome, StatusWord, ins};

use crate::trace::capture::link::Datagram;

const GSMTAP_PORT: u16 = 4729;
/// GSMTAP's type for a SIM, and the words of its header.
const SIM: u8 = 4;
const P3: usize = 4;
const BODY: usize = 5;

/// The command and answer in a GSMTAP packet.
pub(super) fn gsmtap<'a>(datagram: &Datagram<'a>) -> Option<&'a [u8]> {
    let payload = datagram.payload;
    if datagram.to.port() != GSMTAP_PORT || *payload.get(2)? != SIM {
        return None;
    }
    payload.get(usize::from(*payload.get(1)?) * 4..)
}

/// What is asked, and what is answered.
pub(super) fn in_words(apdu: &[u8]) -> (String, Option<String>) {
    let (Some(code), Some(p3)) = (apdu.get(1), apdu.get(P3)) else {
        return (format!("{} (no command)", hex::encode_upper(apdu)), None);
    };
    let (name, sends) = match *code {
        ins::SELECT => ("SELECT", true),
        ins::GET_UID => ("GET-UID", false),
        ins::PROCESS_RESPONSE => ("PROCESS-RESPONSE", true),
        ins::SIGN_SESSION => ("SIGN-SESSION", true),
        ins::INITIALIZE_UPDATE => ("INITIALIZE UPDATE", true),
        ins::EXTERNAL_AUTHENTICATE => ("EXTERNAL AUTHENTICATE", true),
        ins::STORE_DATA => ("STORE DATA", true),
        ins::GET_DATA => ("GET DATA", false),
        ins::GET_RESPONSE => ("GET RESPONSE", false),
        _ => ("command", false),
    };
    let sent = if sends { usize::from(*p3) } else { 0 };
    let asked = match *code {
        ins::SELECT if apdu.get(BODY..BODY + sent) == Some(&AID) => "SELECT SecApp".into(),
        ins::GET_DATA => format!("GET DATA {}", hex::encode_upper(&apdu[2..P3])),
        ins::GET_UID if apdu[2] == 1 => "GET-UID, after silence".into(),
        _ if name == "command" => hex::encode_upper(&apdu[..P3]),
        _ if sent > 0 => format!("{name}, {sent} bytes"),
        _ => name.into(),
    };
    (asked, apdu.get(BODY + sent..).and_then(answer))
}

fn answer(answer: &[u8]) -> Option<String> {
    let (data, status) = answer.split_last_chunk::<2>()?;
    let status = StatusWord(u16::from_be_bytes(*status));
    if status != StatusWord::OK {
        return Some(format!("{:04X} {}", status.0, status.meaning()));
    }
    Some(match Outcome::decode(data) {
        Ok(outcome) => format!(
            "9000, Sent {}, lost {}↑ {}↓",
            outcome.sent,
            outcome.polls_lost(),
            outcome.answers_lost()
        ),
        Err(_) if data.is_empty() => "9000".into(),
        Err(_) => format!("9000, {} bytes", data.len()),
    })
}

/// The first line of the message in an exported PDU.
pub(super) fn http_line(packet: &[u8]) -> Option<String> {
    let mut at = 0;
    loop {
        let head = packet.get(at..at + 4)?;
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        at += 4 + length;
        if head[..2] == [0, 0] {
            break;
        }
    }
    let line = packet.get(at..)?.split(|byte| *byte == b'\r').next()?;
    Some(String::from_utf8_lossy(line).into_owned())
}
