//! The connection to the reader: the card keeps it up over restarts of the reader until told to stop.

use std::{
    fmt,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream, ToSocketAddrs as _},
    sync::Arc,
    time::{Duration, Instant},
};

use socket2::{SockRef, TcpKeepalive};

use super::{Event, Frames, Stop, handle};
use crate::{nvm::TearHandle, runtime::Card};

/// The first pause after a connection failed; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long an attempt to connect may take.
const CONNECT: Duration = Duration::from_secs(5);
/// After how long a silence the peer is asked whether it is still there: a reader may be silent for days.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// A reader gives power to a card that it finds. One that asks for the ATR for so long and gives none has missed that
/// another card left before this one came: pcscd looks every 400 ms.
const POWER_DUE: Duration = Duration::from_secs(2);
/// For how long the card then comes out, so that the reader sees it leave.
const OUT: Duration = Duration::from_secs(1);
/// Bytes read at once: several commands of the usual length; a longer one comes in several reads.
const CHUNK: usize = 4096;

/// Where a reader waits for its card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    host: String,
    port: u16,
}

impl Socket {
    /// `HOST:PORT`; an IPv6 address in brackets.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (host, port) = text
            .rsplit_once(':')
            .ok_or_else(|| format!("{text:?}: expected HOST:PORT, such as 127.0.0.1:35963"))?;
        let port = port
            .parse()
            .map_err(|_| format!("{port:?} is not a port (0 to 65535)"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(format!(
                "{text:?}: the host is missing, as in 127.0.0.1:{port}"
            ));
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }

    /// The socket of the slot that is this far from the first: pcscd gives each slot a port of its own.
    pub fn slot(&self, number: u16) -> Option<Self> {
        Some(Self {
            host: self.host.clone(),
            port: self.port.checked_add(number)?,
        })
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match connect_to(&address) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

fn connect_to(address: &SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(address, CONNECT)?;
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

/// Why a card is in the reader no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to stop.
    Stopped,
    /// Its memory's power was torn, as `tear` was set to do. The last answer was not sent.
    Torn,
}

/// Puts a card into the reader and keeps it there until told to stop.
pub fn insert(
    card: &mut Card,
    reader: &Socket,
    tear: Option<&TearHandle>,
    stop: &Stop,
    mut tell: impl FnMut(Event),
) -> End {
    let mut pause = FIRST_PAUSE;
    loop {
        let mut reached = false;
        let end = reader.connect().and_then(|stream| {
            reached = true;
            tell(Event::Connected);
            serve(card, stream, tear, stop, &mut tell)
        });
        card.power_off();
        let why = match end {
            Ok(End::Torn) => return End::Torn,
            _ if stop.is_stopped() => return End::Stopped,
            Ok(End::Stopped) => io::Error::new(io::ErrorKind::UnexpectedEof, "the reader hung up"),
            Err(error) => error,
        };
        pause = match why.kind() {
            _ if !reached => (pause * 2).min(LONGEST_PAUSE),
            io::ErrorKind::TimedOut => OUT,
            _ => FIRST_PAUSE,
        };
        tell(Event::Disconnected {
            why,
            again_in: pause,
        });
        if stop.pause(pause) {
            return End::Stopped;
        }
    }
}

/// Until the reader hangs up, which a stop makes it look like.
fn serve(
    card: &mut Card,
    stream: TcpStream,
    tear: Option<&TearHandle>,
    stop: &Stop,
    tell: &mut impl FnMut(Event),
) -> io::Result<End> {
    let stream = Arc::new(stream);
    let _watched = stop.watch(Arc::clone(&stream));
    let mut frames = Frames::default();
    let mut chunk = vec![0; CHUNK];
    let mut out = Vec::new();
    let mut power = PowerDue::default();
    loop {
        // The reader sends length and body apart and waits for the first one's acknowledgement, which the
        // system would delay by 40 ms. Linux forgets the option, so it is set each time.
        SockRef::from(&*stream).set_tcp_quickack(true)?;
        match (&*stream).read(&mut chunk)? {
            0 => return Ok(End::Stopped),
            len => frames.add(&chunk[..len]),
        }
        while let Some(body) = frames.next() {
            let event = handle(card, body, &mut out);
            if tear.is_some_and(TearHandle::is_torn) {
                return Ok(End::Torn);
            }
            event.into_iter().for_each(&mut *tell);
            power.check(card)?;
            let wait = card.take_delay();
            if !wait.is_zero() && stop.pause(wait) {
                return Ok(End::Stopped);
            }
            (&*stream).write_all(&out)?;
        }
    }
}

/// Whether the reader has given power in time.
#[derive(Default)]
enum PowerDue {
    #[default]
    NothingCame,
    Since(Instant),
    Given,
}

impl PowerDue {
    /// After each frame; fails when power is overdue.
    fn check(&mut self, card: &Card) -> io::Result<()> {
        match self {
            _ if card.is_powered() => *self = Self::Given,
            Self::NothingCame => *self = Self::Since(Instant::now()),
            Self::Since(first) if first.elapsed() > POWER_DUE => {
                let why = "the reader gives no power: it has not noticed a new card";
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            Self::Since(_) | Self::Given => {}
        }
        Ok(())
    }
}
