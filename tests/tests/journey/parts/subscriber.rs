//! A subscription as its operator knows it: on the server as a line of CSV, with the user as a card.

use std::fs;
use std::path::{Path, PathBuf};

use e2e::process::Program;
use protocol::chain::{Link, concealed_uid};
use protocol::identity::{Iccid, Mode, Uid};
use protocol::key::{Key, Prf};

/// How the first identity is chosen.
#[derive(Clone, Copy)]
enum First {
    Iccid,
    Concealed,
    Uid(Uid),
}

/// One subscription. All of it follows from its name.
#[derive(Clone)]
pub(crate) struct Subscriber {
    pub(crate) reference: String,
    k: Vec<u8>,
    mode: Mode,
    first: First,
}

impl Subscriber {
    /// AES-128, mode 3, the ICCID as first identity.
    pub(crate) fn named(reference: &str) -> Self {
        Self {
            reference: reference.to_owned(),
            k: bytes_of(reference, "k").to_vec(),
            mode: Mode::DEFAULT,
            first: First::Iccid,
        }
    }

    pub(crate) fn mode(self, byte: u8) -> Self {
        let mode = Mode::from_byte(byte).expect("a mode of version 1");
        Self { mode, ..self }
    }

    pub(crate) fn aes256(self) -> Self {
        let k = [
            bytes_of(&self.reference, "k0"),
            bytes_of(&self.reference, "k1"),
        ]
        .concat();
        Self { k, ..self }
    }

    pub(crate) fn concealed(self) -> Self {
        let first = First::Concealed;
        Self { first, ..self }
    }

    pub(crate) fn own_uid(self) -> Self {
        let mut uid = Uid([0; 10]);
        uid.0
            .copy_from_slice(&bytes_of(&self.reference, "uid")[..10]);
        let first = First::Uid(uid);
        Self { first, ..self }
    }

    /// 19 digits.
    pub(crate) fn iccid(&self) -> Iccid {
        let digits = bytes_of(&self.reference, "iccid");
        let digits: String = digits[..15]
            .iter()
            .map(|byte| char::from(b'0' + byte % 10))
            .collect();
        format!("8988{digits}").parse().expect("19 digits")
    }

    pub(crate) fn k(&self) -> Key {
        Key::from_bytes(&self.k).expect("16 or 32 bytes")
    }

    pub(crate) fn uid_1(&self) -> Uid {
        match self.first {
            First::Iccid => self.iccid().into(),
            First::Concealed => concealed_uid(&self.k(), &self.iccid(), self.mode),
            First::Uid(uid) => uid,
        }
    }

    /// The first link of its chain.
    pub(crate) fn link(&self) -> Link {
        Link::first(&self.k(), self.uid_1(), self.mode)
    }

    /// Its line of the CSV that is imported.
    pub(crate) fn csv(&self) -> String {
        let (reference, iccid, mode) = (&self.reference, self.iccid(), self.mode.byte());
        format!(
            "{reference},{iccid},{},{mode},{}\n",
            hex::encode(&self.k),
            self.first_identity()
        )
    }

    /// Its profile for `reader-bridge personalise`, with the key in a file of this name beside it.
    pub(crate) fn profile(&self, key_file: &str) -> String {
        let (iccid, mode, first) = (self.iccid(), self.mode.byte(), self.first_identity());
        format!(
            "iccid = \"{iccid}\"\nkey_file = \"{key_file}\"\nmode = {mode}\nfirst_identity = \"{first}\"\n"
        )
    }

    fn first_identity(&self) -> String {
        match self.first {
            First::Iccid => "iccid".to_owned(),
            First::Concealed => "concealed".to_owned(),
            First::Uid(uid) => format!("uid:{uid}"),
        }
    }

    /// Has `secapp new` make its card in `directory`; returns the image's path.
    pub(crate) fn make_card(&self, directory: &Path) -> PathBuf {
        self.make_card_with(directory, &[])
    }

    /// The same with further options and their files.
    pub(crate) fn make_card_with(&self, directory: &Path, options: &[(&str, &Path)]) -> PathBuf {
        let (image, key) = (
            directory.join(format!("{}.img", self.reference)),
            directory.join(format!("{}.key", self.reference)),
        );
        fs::write(&key, hex::encode(&self.k)).expect("the directory is ours");
        let program = self.secapp_new(&image).arg("--key-file").arg(&key);
        let program = options.iter().fold(program, |program, (option, file)| {
            program.arg(*option).arg(*file)
        });
        let made = program.run();
        assert!(made.status.success(), "{made:?}");
        image
    }

    /// `secapp new` for its card, without the key.
    fn secapp_new(&self, image: &Path) -> Program {
        let program = Program::built("secapp")
            .args(["new", "--iccid", &self.iccid().to_string()])
            .args(["--mode", &self.mode.byte().to_string(), "--out"])
            .arg(image);
        match self.first {
            First::Iccid => program,
            First::Concealed => program.arg("--concealed"),
            First::Uid(uid) => program.args(["--uid", &uid.to_string()]),
        }
    }
}

/// Sixteen bytes that depend on the name and on what they are for.
fn bytes_of(name: &str, purpose: &str) -> [u8; 16] {
    let key = Key::from_bytes(&[0x5A; 16]).expect("16 bytes");
    Prf::new(&key).mac(&[purpose.as_bytes(), b" of ", name.as_bytes()])
}
