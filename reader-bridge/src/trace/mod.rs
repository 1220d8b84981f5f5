//! `--trace FILE.pcapng`: what passes between card, terminal and server, for Wireshark.
//!
//! Owns the file: commands and answers as GSMTAP (SIM), datagrams as they were, HTTP as it was before TLS, each
//! with a comment that names the card and the exchange. Refuses to know what they mean. Holds no key: what the card and the
//! server say to each other stays encrypted in it. The form is pcapng (draft-ietf-opsawg-pcapng).

pub mod annotate;
pub mod capture;
mod http;
pub mod ladder;
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

pub use http::HttpMessage;
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

/// The interfaces of the file, by their numbers.
#[derive(Clone, Copy)]
enum Interface {
    Card = 0,
    Network = 1,
    Http = 2,
}

/// Of longer packets only the beginning is kept: Wireshark takes none above this (`WTAP_MAX_PACKET_SIZE_STANDARD`).
const LONGEST_PACKET: usize = 262_144;
/// A packet with its header and comment, in bytes.
const LONGEST_BLOCK: usize = LONGEST_PACKET + 8192;

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
        // A block leaves in one piece: whenever the process is killed, the file ends with a whole one.
        let out = BufWriter::with_capacity(LONGEST_BLOCK, file);
        let mut writer = PcapNgWriter::new(out).map_err(io_error)?;
        for (name, link, description) in [
            (
                "card",
                DataLink::RAW,
                "commands and answers of cards, GSMTAP (SIM)",
            ),
            ("network", DataLink::RAW, "polls and responses"),
            (
                "http",
                DataLink::Unknown(http::EXPORTED_PDU.into()),
                "calls of the OTA server, before TLS",
            ),
        ] {
            let interface = interface(name, link, description).into_block();
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
            data: Cow::Borrowed(&packet[..packet.len().min(LONGEST_PACKET)]),
            options: vec![EnhancedPacketOption::Comment(Cow::Borrowed(comment))],
        };
        self.writer
            .write_block(&block.into_block())
            .map_err(io_error)?;
        // Whatever ends this process, what has happened is in the file.
        self.writer.get_mut().flush()
    }
}

/// `DataLink::RAW` is IPv4 and IPv6 without a link layer.
fn interface(
    name: &'static str,
    link: DataLink,
    description: &'static str,
) -> InterfaceDescriptionBlock<'static> {
    InterfaceDescriptionBlock {
        linktype: link,
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

    /// An HTTP message that passes between the terminal and an OTA server, whole, as it is before TLS. Told
    /// when it was sent or has come, so that the time between the two is right.
    pub fn http(&self, from: SocketAddr, to: SocketAddr, message: HttpMessage<'_>) {
        let packet = http::exported(from, to, message);
        let comment = self.comment();
        self.trace.lock().write(Interface::Http, &packet, &comment);
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
