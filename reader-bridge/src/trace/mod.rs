//! `--trace FILE.pcapng`: what passes between card, terminal and server, for Wireshark.
//!
//! Owns the file: commands and answers as GSMTAP (SIM), datagrams as they were, each with a comment that
//! names the card and the exchange. Refuses to know what they mean. Holds no key: what the card and the
//! server say to each other stays encrypted in it. The form is pcapng (draft-ietf-opsawg-pcapng).

mod packet;
mod port;

use std::{
    borrow::Cow,
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use pcap_file::{
    DataLink, PcapError,
    pcapng::{
        PcapNgBlock, PcapNgWriter,
        blocks::{
            enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption},
            interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption},
        },
    },
};

pub use port::TracedPort;

/// One file for all cards of a process.
pub struct Trace {
    inner: Mutex<Inner>,
}

struct Inner {
    writer: PcapNgWriter<BufWriter<File>>,
    /// Nothing more is written after the first failure, so that the file stays whole.
    failure: Option<io::Error>,
    failed: bool,
}

/// The two interfaces of the file, by their numbers.
#[derive(Clone, Copy)]
enum Interface {
    Card = 0,
    Network = 1,
}

/// `if_tsresol`: nanoseconds. `pcap-file` 2.0 counts in them whatever this option says.
const NANOSECONDS: u8 = 9;

impl Trace {
    /// Makes the file, for its owner only; one that is there already is replaced.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        let mut writer = PcapNgWriter::new(BufWriter::new(file)).map_err(io_error)?;
        for (name, description) in [
            ("card", "commands and answers of cards, GSMTAP (SIM)"),
            ("network", "polls and responses"),
        ] {
            let interface = interface(name, description).into_block();
            writer.write_block(&interface).map_err(io_error)?;
        }
        writer.get_mut().flush()?;
        Ok(Self {
            inner: Mutex::new(Inner {
                writer,
                failure: None,
                failed: false,
            }),
        })
    }

    /// The view of one card, called as in `--card`.
    pub fn of_card(self: &Arc<Self>, card: String) -> CardTrace {
        CardTrace {
            trace: Arc::clone(self),
            card: card.into(),
            exchange: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A block that a panic cut off was not written: blocks leave as a whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn write(&mut self, interface: Interface, packet: &[u8], comment: &str) {
        if self.failed {
            return;
        }
        if let Err(error) = self.try_write(interface, packet, comment) {
            self.failed = true;
            self.failure = Some(error);
        }
    }

    fn try_write(&mut self, interface: Interface, packet: &[u8], comment: &str) -> io::Result<()> {
        let block = EnhancedPacketBlock {
            interface_id: interface as u32,
            timestamp: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
            original_len: u32::try_from(packet.len()).unwrap_or(u32::MAX),
            data: Cow::Borrowed(packet),
            options: vec![EnhancedPacketOption::Comment(Cow::Borrowed(comment))],
        };
        self.writer
            .write_block(&block.into_block())
            .map_err(io_error)?;
        // Whatever ends this process, what has happened is in the file.
        self.writer.get_mut().flush()
    }
}

fn interface(name: &'static str, description: &'static str) -> InterfaceDescriptionBlock<'static> {
    InterfaceDescriptionBlock {
        // IPv4 and IPv6 packets without a link layer.
        linktype: DataLink::RAW,
        snaplen: 0,
        options: vec![
            InterfaceDescriptionOption::IfName(name.into()),
            InterfaceDescriptionOption::IfDescription(description.into()),
            InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
        ],
    }
}

fn io_error(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}

/// What happens at one card.
#[derive(Clone)]
pub struct CardTrace {
    trace: Arc<Trace>,
    card: Arc<str>,
    /// The exchange under way, 0 before the first.
    exchange: Arc<AtomicU64>,
}

impl CardTrace {
    /// What follows belongs to the exchange with this number.
    pub fn set_exchange(&self, number: u64) {
        self.exchange.store(number, Ordering::Relaxed);
    }

    /// A command, and its answer or why there is none.
    pub fn command(&self, command: &[u8], answer: Result<&[u8], String>) {
        let (answer, comment) = match answer {
            Ok(answer) => (answer, self.comment()),
            Err(why) => (&[][..], format!("{}, no answer: {why}", self.comment())),
        };
        let packet = packet::gsmtap(command, answer);
        self.trace.lock().write(Interface::Card, &packet, &comment);
    }

    /// A datagram.
    pub fn datagram(&self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let packet = packet::udp(from, to, bytes);
        let comment = self.comment();
        self.trace
            .lock()
            .write(Interface::Network, &packet, &comment);
    }

    /// Why the file could not be written any more; told once.
    pub fn take_failure(&self) -> Option<io::Error> {
        self.trace.lock().failure.take()
    }

    fn comment(&self) -> String {
        match self.exchange.load(Ordering::Relaxed) {
            0 => self.card.to_string(),
            number => format!("{}, exchange {number}", self.card),
        }
    }
}
