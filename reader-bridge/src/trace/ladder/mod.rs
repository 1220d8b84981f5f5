//! `trace ladder`: the exchanges of a capture, drawn as the protocol's figures draw them.
//!
//! Owns what is drawn, in which order: who says what to whom, and which polls stay without an answer. [`text`] and
//! [`svg`] draw. Exchanges are those of the trace's comments; in a capture without them, one is an identity's polls
//! with their responses.

mod command;
pub mod svg;
pub mod text;

use std::{collections::HashMap, io::Read, net::SocketAddr, time::Duration};

use protocol::{poll::Poll, response::Response};

use super::{
    annotate::PREFIX,
    capture::{Capture, CaptureError, Packet, link},
    http::EXPORTED_PDU,
};

/// Who takes part, from left to right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// The card.
    Card,
    /// The terminal.
    Terminal,
    /// The triggering server.
    Server,
    /// The OTA server.
    Ota,
}

impl Party {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Card => "card",
            Self::Terminal => "terminal",
            Self::Server => "server",
            Self::Ota => "OTA server",
        }
    }
}

/// One line of a figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// Somebody says something to somebody.
    Arrow {
        /// Since the exchange began.
        at: Duration,
        /// Who.
        from: Party,
        /// To whom.
        to: Party,
        /// What.
        label: String,
    },
    /// Nobody answered.
    Lost {
        /// Whom.
        from: Party,
        /// Who was asked.
        to: Party,
        /// In words.
        label: String,
    },
    /// What a comment says.
    Note(String),
}

/// One exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Its number: the trace's own, or counted from 1.
    pub number: u64,
    /// Whose it is.
    pub of: String,
    /// Since 1970.
    pub begin: Duration,
    /// What happened.
    pub rows: Vec<Row>,
    /// A poll that was not answered yet.
    open: bool,
}

impl Exchange {
    /// Who takes part in it, from left to right.
    pub fn parties(&self) -> Vec<Party> {
        let mut parties: Vec<_> = self
            .rows
            .iter()
            .flat_map(|row| match row {
                Row::Arrow { from, to, .. } | Row::Lost { from, to, .. } => vec![*from, *to],
                Row::Note(_) => Vec::new(),
            })
            .collect();
        parties.sort_unstable();
        parties.dedup();
        parties
    }

    fn arrow(&mut self, time: Duration, from: Party, to: Party, label: String) {
        let at = time.saturating_sub(self.begin);
        self.rows.push(Row::Arrow {
            at,
            from,
            to,
            label,
        });
    }

    /// If a poll waits for its answer, none has come.
    fn give_up(&mut self) {
        if std::mem::take(&mut self.open) {
            self.lost(Party::Terminal, Party::Server, "no answer".into());
        }
    }

    fn lost(&mut self, from: Party, to: Party, label: String) {
        self.rows.push(Row::Lost { from, to, label });
    }
}

/// Reads a capture's exchanges, in the order in which they began; `only`: those with this number.
pub fn read(from: impl Read, only: Option<u64>) -> Result<Vec<Exchange>, CaptureError> {
    let mut capture = Capture::new(from);
    let mut ladder = Ladder::default();
    while let Some(block) = capture.next_block()? {
        if let Some(packet) = capture.packet(&block) {
            ladder.take(&packet);
        }
    }
    let mut exchanges = ladder.exchanges;
    exchanges.iter_mut().for_each(Exchange::give_up);
    exchanges.retain(|exchange| only.is_none_or(|only| exchange.number == only));
    Ok(exchanges)
}

/// What was read so far.
#[derive(Default)]
struct Ladder {
    exchanges: Vec<Exchange>,
    /// Where the exchange of a card and number, or of an identity, is.
    places: HashMap<(String, u64), usize>,
    /// Without comments: which identity polled last between two ends.
    flows: HashMap<(SocketAddr, SocketAddr), String>,
    counted: u64,
}

/// What a trace's own comment says: the card, the exchange, and why there is no answer.
struct Told<'a> {
    card: &'a str,
    number: u64,
    no_answer: Option<&'a str>,
}

fn told(comment: &str) -> Option<Told<'_>> {
    let (comment, no_answer) = match comment.split_once(", no answer: ") {
        Some((comment, why)) => (comment, Some(why)),
        None => (comment, None),
    };
    let (card, number) = comment.rsplit_once(", exchange ")?;
    Some(Told {
        card,
        number: number.parse().ok()?,
        no_answer,
    })
}

impl Ladder {
    fn take(&mut self, packet: &Packet<'_>) {
        let told = packet.comments.iter().find_map(|comment| told(comment));
        if packet.link == EXPORTED_PDU {
            return self.http(packet, told.as_ref());
        }
        let Some(datagram) = link::datagram(packet.link, packet.data) else {
            return;
        };
        if let (Some(apdu), Some(told)) = (command::gsmtap(&datagram), &told) {
            return self.command(packet.time, apdu, told);
        }
        let (from, to) = (datagram.from, datagram.to);
        if let Ok(poll) = Poll::parse(datagram.payload) {
            self.flows.insert((from, to), poll.uid.to_string());
            let of = self.exchange(told.as_ref(), &poll.uid.to_string(), packet.time);
            of.give_up();
            let plain = if poll.mac.is_some() { "" } else { ", plain" };
            let label = format!("poll {} #{}{plain}", poll.uid.short(), poll.resend_counter);
            of.arrow(packet.time, Party::Terminal, Party::Server, label);
            of.open = true;
        } else if Response::parse(datagram.payload).is_ok() {
            let Some(uid) = self.flows.get(&(to, from)).cloned() else {
                return;
            };
            let of = self.exchange(told.as_ref(), &uid, packet.time);
            of.open = false;
            let label = format!("response, {} bytes", datagram.payload.len());
            of.arrow(packet.time, Party::Server, Party::Terminal, label);
        } else {
            return;
        }
        self.notes(packet, told.as_ref(), (from, to));
    }

    /// What `trace annotate` has added.
    fn notes(
        &mut self,
        packet: &Packet<'_>,
        told: Option<&Told<'_>>,
        (from, to): (SocketAddr, SocketAddr),
    ) {
        let uid = self.flows.get(&(from, to)).or(self.flows.get(&(to, from)));
        let uid = uid.cloned().unwrap_or_default();
        let notes = packet
            .comments
            .iter()
            .filter_map(|comment| comment.strip_prefix(PREFIX));
        let notes: Vec<_> = notes.map(|note| Row::Note(note.to_owned())).collect();
        self.exchange(told, &uid, packet.time).rows.extend(notes);
    }

    /// The exchange that a packet belongs to, begun if it is new.
    fn exchange(&mut self, told: Option<&Told<'_>>, uid: &str, time: Duration) -> &mut Exchange {
        let (of, key) = match told {
            Some(told) => (told.card.to_owned(), told.number),
            None => (format!("identity {uid}"), 0),
        };
        let at = *self.places.entry((of.clone(), key)).or_insert_with(|| {
            self.counted += 1;
            self.exchanges.push(Exchange {
                number: if key == 0 { self.counted } else { key },
                of,
                begin: time,
                rows: Vec::new(),
                open: false,
            });
            self.exchanges.len() - 1
        });
        &mut self.exchanges[at]
    }

    fn command(&mut self, time: Duration, apdu: &[u8], told: &Told<'_>) {
        let (asked, answer) = command::in_words(apdu);
        let exchange = self.exchange(Some(told), "", time);
        exchange.arrow(time, Party::Terminal, Party::Card, asked);
        match (told.no_answer, answer) {
            (Some(why), _) => exchange.lost(Party::Terminal, Party::Card, why.to_owned()),
            (None, Some(answer)) => exchange.arrow(time, Party::Card, Party::Terminal, answer),
            (None, None) => {}
        }
    }

    fn http(&mut self, packet: &Packet<'_>, told: Option<&Told<'_>>) {
        let (Some(told), Some(line)) = (told, command::http_line(packet.data)) else {
            return;
        };
        let (from, to) = if line.starts_with("HTTP/") {
            (Party::Ota, Party::Terminal)
        } else {
            (Party::Terminal, Party::Ota)
        };
        let exchange = self.exchange(Some(told), "", packet.time);
        exchange.arrow(packet.time, from, to, line);
    }
}
