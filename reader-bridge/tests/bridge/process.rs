//! The binary under test, a server on UDP, and cards for its virtual reader.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    path::Path,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard},
    thread,
};

use serde_json::Value;

use crate::{card::Subscription, server::Server};

/// A running `reader-bridge run`, ended when dropped.
pub(crate) struct Bridge {
    child: Child,
    lines: BufReader<ChildStdout>,
    /// Everything that it has told so far.
    pub(crate) told: Vec<Value>,
}

impl Bridge {
    /// Starts it with a state directory and JSON lines.
    pub(crate) fn run(state: &Path, arguments: &[&str]) -> Self {
        Self::run_with(
            Command::new(env!("CARGO_BIN_EXE_reader-bridge")),
            state,
            arguments,
        )
    }

    /// The same, as a client of the pcscd behind this socket.
    pub(crate) fn run_with_pcscd(socket: &Path, state: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reader-bridge"));
        command.env("PCSCLITE_CSOCK_NAME", socket);
        Self::run_with(command, state, arguments)
    }

    /// The same, by way of a command that takes the bridge's arguments.
    pub(crate) fn run_with(mut command: Command, state: &Path, arguments: &[&str]) -> Self {
        let mut child = command
            .arg("run")
            .arg("--json")
            .arg("--state")
            .arg(state)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            lines,
            told: Vec::new(),
        }
    }

    /// The next event of this name; what comes before it is kept in `told`.
    pub(crate) fn expect(&mut self, event: &str) -> Value {
        loop {
            let Some(value) = self.next() else {
                let errors = self.errors();
                panic!("ended without {event}: {:#?}; {errors}", self.told);
            };
            if value["event"] == event {
                return value;
            }
        }
    }

    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        if self.lines.read_line(&mut line).unwrap() == 0 {
            return None;
        }
        let value: Value = serde_json::from_str(&line).unwrap();
        self.told.push(value.clone());
        Some(value)
    }

    /// Reads to the end; the exit code and what was written to standard error.
    pub(crate) fn end(mut self) -> (Option<i32>, String, Vec<Value>) {
        while self.next().is_some() {}
        let errors = self.errors();
        let status: ExitStatus = self.child.wait().unwrap();
        (status.code(), errors, std::mem::take(&mut self.told))
    }

    fn errors(&mut self) -> String {
        let mut errors = String::new();
        let stderr = self.child.stderr.as_mut().unwrap();
        stderr.read_to_string(&mut errors).unwrap();
        errors
    }

    /// Sends an empty line to the process's standard input.
    pub(crate) fn send_line(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill")
            .args(["-s", name, &id])
            .status()
            .unwrap();
        assert!(sent.success());
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server on a UDP port of its own.
pub(crate) struct UdpServer {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<Answering>>,
}

/// What the server's thread works with.
pub(crate) struct Answering {
    pub(crate) server: Server,
    /// Datagrams that are not answered, from the first on.
    pub(crate) ignore: usize,
    /// Source ports in the order of their datagrams.
    pub(crate) ports: Vec<u16>,
}

impl UdpServer {
    pub(crate) fn new(subscription: &Subscription) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let state = Arc::new(Mutex::new(Answering {
            server: Server::new(subscription),
            ignore: 0,
            ports: Vec::new(),
        }));
        let server = Self {
            address: socket.local_addr().unwrap(),
            state: Arc::clone(&state),
        };
        thread::spawn(move || serve(&socket, &state));
        server
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Answering> {
        self.state.lock().unwrap()
    }
}

impl Drop for UdpServer {
    fn drop(&mut self) {
        // An empty datagram ends the thread.
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.send_to(&[], self.address).unwrap();
    }
}

fn serve(socket: &UdpSocket, state: &Mutex<Answering>) {
    let mut buffer = [0; 512];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        if length == 0 {
            return;
        }
        let mut state = state.lock().unwrap();
        state.ports.push(from.port());
        if state.ports.len() > state.ignore
            && let Some(answer) = state.server.answer(&buffer[..length])
        {
            socket.send_to(&answer, from).unwrap();
        }
    }
}

/// A virtual card that answers every command with what `answer` says, until its reader hangs up.
pub(crate) fn virtual_card(
    port: u16,
    mut answer: impl FnMut(&[u8]) -> Vec<u8> + Send + 'static,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let mut length = [0; 2];
        while stream.read_exact(&mut length).is_ok() {
            let mut body = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut body).unwrap();
            let answer = match body[..] {
                [4] => vec![0x3B, 0x80, 0x01, 0x81],
                [_] => continue,
                _ => answer(&body),
            };
            let mut frame = u16::try_from(answer.len()).unwrap().to_be_bytes().to_vec();
            frame.extend_from_slice(&answer);
            if stream.write_all(&frame).is_err() {
                return;
            }
        }
    })
}

/// The TCP port of a bridge that was started with `vpcd:0`.
pub(crate) fn port_of(event: &Value) -> u16 {
    let card = event["card"].as_str().unwrap();
    card.strip_prefix("vpcd:").unwrap().parse().unwrap()
}
