//! A virtual card of one answer, on vpcd's side of the wire.
//!
//! vpcd's frames: length:2 big-endian, body. A body of one byte is a control (00 power off, 01 power
//! on, 02 reset, 04 ATR, the only one answered); any other is a command APDU.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::thread::JoinHandle;

/// TS, T0 with 5 historical bytes, the bytes: T=0 (ISO/IEC 7816-3:2006, 8.2).
pub(crate) const ATR: [u8; 7] = [0x3B, 0x05, b'p', b'l', b'a', b'i', b'n'];

const GIVE_ATR: [u8; 1] = [4];

/// A card in the slot that listens on a port, until the reader hangs up or the card is pulled out.
pub(crate) struct PlainCard {
    stream: TcpStream,
    life: Option<JoinHandle<io::Result<()>>>,
}

impl PlainCard {
    /// Inserts a card that answers every command with `answer`.
    pub(crate) fn insert(port: u16, answer: &'static [u8]) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .expect("vpcd listens on the slot's port");
        let served = stream.try_clone().expect("a socket can be shared");
        let life = std::thread::spawn(move || serve(served, answer));
        Self {
            stream,
            life: Some(life),
        }
    }

    /// Waits until the reader hangs up.
    pub(crate) fn await_end(mut self) {
        let life = self.life.take().expect("taken only here and in drop");
        let end = life.join().expect("the card does not panic");
        assert!(
            matches!(
                end.map_err(|error| error.kind()),
                Err(io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
            ),
            "the reader hung up"
        );
    }
}

impl Drop for PlainCard {
    fn drop(&mut self) {
        // Fails only if the reader hung up before.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        if let Some(life) = self.life.take() {
            let _ = life.join();
        }
    }
}

fn serve(mut stream: TcpStream, answer: &[u8]) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let body = receive(&mut stream)?;
        match body.as_slice() {
            control if *control == GIVE_ATR => send(&mut stream, &ATR)?,
            [_] => {}
            _apdu => send(&mut stream, answer)?,
        }
    }
}

fn receive(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut body = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut body)?;
    Ok(body)
}

fn send(stream: &mut TcpStream, body: &[u8]) -> io::Result<()> {
    let length = u16::try_from(body.len()).expect("the test's answers are short");
    stream.write_all(&[&length.to_be_bytes(), body].concat())
}
