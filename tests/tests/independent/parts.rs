//! Both makes of everything, as processes: the programs of this workspace and the scripts of `tests/independent`.
//!
//! Owns starting them and reading what they print. Refuses to know the wire format: neither side is asked about it here.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;

use e2e::ports::Reservation;
use e2e::process::{Process, Program};
use serde_json::{Value, json};
use tempfile::TempDir;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/independent");

/// A script of the second implementation.
pub(crate) fn script(name: &str) -> Program {
    Program::system("/usr/bin/python3")
        .arg("-B")
        .arg(format!("{SCRIPTS}/{name}"))
}

/// The scripts' own check against the worked examples of the document.
pub(crate) fn examples() -> Program {
    Program::system("/usr/bin/python3")
        .env("PYTHONPATH", SCRIPTS)
        .args(["-B", "-m", "unittest", "test_examples"])
}

/// What both sides of one subscription are given.
pub(crate) struct Profile {
    pub(crate) reference: String,
    iccid: String,
    key: String,
    pub(crate) mode: u8,
    first_identity: String,
}

impl Profile {
    /// One of the eight kinds: mode in bits 0 and 1 of `number`, AES-256 in bit 2.
    pub(crate) fn number(number: u8) -> Self {
        let key_length = if number & 4 == 0 { 16 } else { 32 };
        Self {
            reference: format!("kind-{number}"),
            iccid: format!("898837417247018400{number}"),
            key: hex::encode([0xA0 | number].repeat(key_length)),
            mode: number & 3,
            first_identity: match number % 3 {
                0 => "iccid".to_owned(),
                1 => "concealed".to_owned(),
                _ => format!("uid:0011223344556677880{number}"),
            },
        }
    }

    pub(crate) fn all() -> Vec<Self> {
        (0..8).map(Self::number).collect()
    }

    fn json(&self) -> Value {
        json!({"reference": self.reference, "iccid": self.iccid, "key": self.key, "mode": self.mode,
            "first_identity": self.first_identity})
    }

    /// Its JSON file, for a script.
    pub(crate) fn file(&self, directory: &Path) -> PathBuf {
        let path = directory.join(format!("{}.json", self.reference));
        fs::write(&path, self.json().to_string()).unwrap();
        path
    }

    /// Makes its card image with our program.
    pub(crate) fn image(&self, directory: &Path) -> PathBuf {
        let (key, image) = (
            directory.join(format!("{}.key", self.reference)),
            directory.join(format!("{}.img", self.reference)),
        );
        fs::write(&key, &self.key).unwrap();
        let mut new = Program::built("secapp")
            .args([
                "new",
                "--mode",
                &self.mode.to_string(),
                "--iccid",
                &self.iccid,
                "--key-file",
            ])
            .arg(key)
            .arg("--out")
            .arg(&image);
        new = match self.first_identity.strip_prefix("uid:") {
            Some(uid) => new.args(["--uid", uid]),
            None if self.first_identity == "concealed" => new.arg("--concealed"),
            None => new,
        };
        let made = new.run();
        assert!(made.status.success(), "{made:?}");
        image
    }
}

/// Checks each of them at the same time.
pub(crate) fn each(profiles: &[Profile], check: impl Fn(&Profile) + Sync) {
    thread::scope(|scope| {
        for profile in profiles {
            scope.spawn(|| check(profile));
        }
    });
}

/// The next line of `process` that is a JSON object of which `pick` makes something.
#[track_caller]
pub(crate) fn next<T>(
    process: &mut Process,
    what: &str,
    mut pick: impl FnMut(&Value) -> Option<T>,
) -> T {
    process.expect(what, |line| pick(&serde_json::from_str(line).ok()?))
}

/// The next JSON object with the member `name`.
#[track_caller]
pub(crate) fn with(process: &mut Process, name: &str) -> Value {
    next(process, name, |line| {
        line.get(name).is_some().then(|| line.clone())
    })
}

/// The members of `whole` that `part` has, to compare the two.
pub(crate) fn same_members(whole: &Value, part: &Value) -> Value {
    let names = part.as_object().unwrap().keys();
    names
        .map(|name| (name.clone(), whole[name].clone()))
        .collect()
}

/// Asks a terminal in Python for an exchange; returns what it tells of it.
#[track_caller]
pub(crate) fn exchange(terminal: &mut Process, losses: &str) -> Value {
    terminal.send_line(&format!("exchange {losses}"));
    with(terminal, "polls")
}

/// Our server.
pub(crate) struct Gts {
    process: Process,
    pub(crate) address: SocketAddr,
    directory: TempDir,
    // Kept over restarts.
    _port: Reservation,
}

impl Gts {
    /// Starts one that has these subscriptions.
    #[track_caller]
    pub(crate) fn start(profiles: &[Profile]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = Reservation::of(1);
        let address = SocketAddr::from(([127, 0, 0, 1], port.first()));
        let process = Self::launch(directory.path(), address, &[]);
        let gts = Self {
            process,
            address,
            directory,
            _port: port,
        };
        let lines = profiles.iter().map(|one| {
            let Profile {
                reference,
                iccid,
                key,
                mode,
                first_identity,
            } = one;
            format!("{reference},{iccid},{key},{mode},{first_identity}\n")
        });
        let fleet = gts.directory.path().join("fleet.csv");
        let header = "reference,iccid,key,mode,first_identity\n";
        fs::write(&fleet, header.to_owned() + &lines.collect::<String>()).unwrap();
        gts.command(&["subscriptions", "import", fleet.to_str().unwrap()]);
        gts
    }

    fn launch(directory: &Path, address: SocketAddr, more: &[&str]) -> Process {
        let mut process = Program::built("gts-mock")
            .args(["serve", "--log-format", "json", "--listen"])
            .arg(address.to_string())
            .arg("--socket")
            .arg(directory.join("admin.sock"))
            .arg("--store")
            .arg(directory.join("store"))
            .args(more.iter().copied())
            .start();
        process.expect_line("answering polls");
        process
    }

    #[track_caller]
    fn command(&self, arguments: &[&str]) -> String {
        let done = Program::built("gts-mock")
            .env("GTS_MOCK_SOCKET", self.directory.path().join("admin.sock"))
            .args(arguments.iter().copied())
            .run();
        assert!(done.status.success(), "{arguments:?}: {done:?}");
        done.stdout.concat()
    }

    /// What `arguments` with `--json` answer.
    #[track_caller]
    pub(crate) fn ask(&self, arguments: &[&str]) -> Value {
        let answer = self.command(&[arguments, &["--json"]].concat());
        serde_json::from_str(&answer).unwrap()
    }

    /// Queues a message; returns its id.
    #[track_caller]
    pub(crate) fn send(&self, reference: &str, message: &[&str]) -> u64 {
        let to = ["message", "send", "--json", "--to", reference];
        let queued = self.command(&[&to[..], message].concat());
        let queued: Value = serde_json::from_str(&queued).unwrap();
        queued["id"].as_u64().unwrap()
    }

    /// What became of the messages of a subscription, oldest first.
    #[track_caller]
    pub(crate) fn fates(&self, reference: &str) -> Vec<(u64, String)> {
        let messages = self.ask(&["message", "list", "--to", reference]);
        let messages = messages.as_array().unwrap().iter();
        messages
            .map(|one| {
                (
                    one["id"].as_u64().unwrap(),
                    one["state"].as_str().unwrap().to_owned(),
                )
            })
            .collect()
    }

    /// Stops, copies the store, starts again.
    #[track_caller]
    pub(crate) fn back_up(&mut self) {
        self.process.terminate();
        copy(&self.place("store"), &self.place("backup"));
        self.process = Self::launch(self.directory.path(), self.address, &[]);
    }

    /// Stops, puts the copy in the place of the store, starts again.
    #[track_caller]
    pub(crate) fn restore(&mut self, more: &[&str]) {
        self.process.terminate();
        fs::remove_dir_all(self.place("store")).unwrap();
        copy(&self.place("backup"), &self.place("store"));
        self.process = Self::launch(self.directory.path(), self.address, more);
    }

    fn place(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Our terminal, over a reader of its own on `port` (0: any), at the home server `gts`. It waits `timeout` for each answer.
pub(crate) fn bridge(port: u16, gts: SocketAddr, state: &Path, timeout: &str) -> Program {
    Program::built("reader-bridge")
        .args(["run", "--json", "--seed", "1"])
        .args(["--interval", "1s", "--jitter", "0", "--floor", "1s"])
        .args(["--timeout", timeout, "--min-timeout", timeout])
        .args(["--max-timeout", timeout, "--card"])
        .arg(format!("vpcd:{port}"))
        .args(["--gts", &gts.to_string(), "--state"])
        .arg(state)
}

/// Starts our terminal over a reader on any port; returns that port too.
#[track_caller]
pub(crate) fn bridge_anywhere(gts: SocketAddr, state: &Path, timeout: &str) -> (Process, u16) {
    let mut bridge = bridge(0, gts, state, timeout).start();
    let waiting = event(&mut bridge, "waiting-for-card");
    let port = waiting["card"].as_str().unwrap().strip_prefix("vpcd:");
    (bridge, port.unwrap().parse().unwrap())
}

/// The next event of this name from our terminal.
#[track_caller]
pub(crate) fn event(bridge: &mut Process, name: &str) -> Value {
    next(bridge, name, |line| {
        (line["event"] == name).then(|| line.clone())
    })
}

/// A server in Python, of one subscription.
pub(crate) struct OtherServer {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

impl OtherServer {
    #[track_caller]
    pub(crate) fn start(profile: &Profile, directory: &Path) -> Self {
        let file = directory.join(format!("{}.server.json", profile.reference));
        fs::write(&file, Value::from(vec![profile.json()]).to_string()).unwrap();
        let server = script("server.py").arg("--subscriptions").arg(file);
        let mut process = server.talkative().start();
        let listening = with(&mut process, "listening");
        let address = listening["listening"].as_str().unwrap().parse().unwrap();
        Self { process, address }
    }

    /// Queues a message of these objects, in hexadecimal; returns its id.
    #[track_caller]
    pub(crate) fn send(&mut self, reference: &str, objects: &str) -> u64 {
        self.process
            .send_line(&format!("send {reference} {objects}"));
        with(&mut self.process, "queued")["queued"]
            .as_u64()
            .unwrap()
    }
}
