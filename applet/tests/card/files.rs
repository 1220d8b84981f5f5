//! Image files and the program around them: modes, locks, exit codes, and no key where it does not belong.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use applet::{
    InsertError, Protocol,
    image::{Image, ImageError},
};

pub(crate) const KEY: &str = "000102030405060708090a0b0c0d0e0f";
const ICCID: &str = "8988374172470184089";

/// A folder with a key file, gone at the end of the test.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = Self(tempfile::tempdir().expect("a temporary folder"));
        fs::write(folder.path("k.hex"), format!("{KEY}\n")).expect("a key file");
        folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs `secapp` in the folder.
    fn secapp(&self, arguments: &[&str]) -> Output {
        self.command(arguments)
            .output()
            .expect("the program starts")
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_secapp"));
        command.args(arguments).current_dir(self.0.path());
        command
    }

    /// Makes `card.img`.
    pub(crate) fn new_card(&self, more: &[&str]) -> PathBuf {
        let arguments = [
            "new",
            "--iccid",
            ICCID,
            "--key-file",
            "k.hex",
            "--out",
            "card.img",
        ];
        let made = self.secapp(&[&arguments, more].concat());
        assert_eq!(code(&made), 0, "{}", stderr(&made));
        self.path("card.img")
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("not killed")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn open(path: &Path) -> Result<applet::Card, InsertError> {
    applet::open_image(path, None, Protocol::T1)
}

#[test]
fn an_image_is_for_its_owner_only() {
    let folder = Folder::new();
    let image = folder.new_card(&[]);
    let mode = fs::metadata(&image)
        .expect("the image")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let names: Vec<_> = fs::read_dir(folder.0.path())
        .expect("the folder")
        .flatten()
        .map(|f| f.file_name())
        .collect();
    assert_eq!(names.len(), 2, "key and image, no draft: {names:?}");
}

#[test]
fn a_card_in_use_is_refused_and_its_holder_named() {
    let folder = Folder::new();
    let path = folder.new_card(&[]);
    let card = open(&path).expect("a card");
    match open(&path).err() {
        Some(InsertError::Image(ImageError::InUse { pid, .. })) => {
            assert_eq!(pid, Some(std::process::id()))
        }
        other => panic!("{other:?}"),
    }
    let second = folder.secapp(&["insert", "card.img", "--vpcd", "127.0.0.1:1"]);
    assert_eq!(code(&second), 4);
    assert!(stderr(&second).contains(&format!("in use by process {}", std::process::id())));
    let replaced = folder.secapp(&[
        "new",
        "--iccid",
        ICCID,
        "--key-file",
        "k.hex",
        "--out",
        "card.img",
        "--force",
    ]);
    assert_eq!(code(&replaced), 4, "not even by force");
    let looked_at = folder.secapp(&["inspect", "card.img"]);
    assert_eq!(
        code(&looked_at),
        0,
        "looking is allowed: {}",
        stderr(&looked_at)
    );
    drop(card);
    open(&path).expect("free again");
}

#[test]
fn an_existing_file_is_replaced_by_force_only() {
    let folder = Folder::new();
    let path = folder.new_card(&[]);
    let before = fs::read(&path).expect("the image");
    let arguments = [
        "new",
        "--iccid",
        ICCID,
        "--key-file",
        "k.hex",
        "--mode",
        "1",
        "--out",
        "card.img",
    ];
    let refused = folder.secapp(&arguments);
    assert_eq!(code(&refused), 5);
    assert!(stderr(&refused).contains("--force"), "{}", stderr(&refused));
    assert_eq!(fs::read(&path).expect("the image"), before);
    folder.new_card(&["--mode", "1", "--force"]);
    assert_ne!(fs::read(&path).expect("the image"), before);
}

#[test]
fn a_key_comes_from_standard_input_too() {
    let folder = Folder::new();
    let arguments = [
        "new",
        "--iccid",
        ICCID,
        "--key-file",
        "-",
        "--concealed",
        "--out",
        "c.img",
    ];
    let mut command = folder.command(&arguments);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(KEY.as_bytes()).expect("it reads");
    drop(input);
    let made = child.wait_with_output().expect("it ends");
    assert_eq!(code(&made), 0);
    assert!(
        !stdout(&made).contains("98887314277410488"),
        "concealed: {}",
        stdout(&made)
    );
}

#[test]
fn a_bad_key_file_is_told_without_its_content() {
    let folder = Folder::new();
    for (content, why) in [
        ("00112233", "has 8"),
        ("0001020304050607zz090a0b0c0d0e0f", "character 17"),
        (&"00".repeat(300), "longer than a key"),
    ] {
        fs::write(folder.path("bad.hex"), content).expect("a file");
        let refused = folder.secapp(&[
            "new",
            "--iccid",
            ICCID,
            "--key-file",
            "bad.hex",
            "--out",
            "x.img",
        ]);
        assert_eq!(code(&refused), 6);
        let told = stderr(&refused);
        assert!(told.contains("bad.hex") && told.contains(why), "{told}");
        assert!(
            !told.contains("0001020304") && !told.contains("00112233"),
            "{told}"
        );
        assert!(!folder.path("x.img").exists());
    }
}

#[test]
fn wrong_words_on_the_command_line_have_code_2() {
    let folder = Folder::new();
    for arguments in [
        &[
            "new",
            "--iccid",
            "12ab",
            "--key-file",
            "k.hex",
            "--out",
            "x",
        ][..],
        &[
            "new",
            "--iccid",
            ICCID,
            "--key-file",
            "k.hex",
            "--mode",
            "4",
            "--out",
            "x",
        ],
        &[
            "new",
            "--iccid",
            ICCID,
            "--key-file",
            "k.hex",
            "--uid",
            "00",
            "--out",
            "x",
        ],
        &["insert", "card.img", "--vpcd", "nowhere"],
        &["insert", "card.img", "--protocol", "t2"],
        &[],
    ] {
        assert_eq!(code(&folder.secapp(arguments)), 2, "{arguments:?}");
    }
}

#[test]
fn inspect_prints_no_secret() {
    let folder = Folder::new();
    let path = folder.new_card(&["--uid", "00112233445566778899"]);
    let shown = folder.secapp(&["inspect", "card.img"]);
    let text = stdout(&shown);
    assert!(
        text.contains("00112233445566778899") && text.contains("wear"),
        "{text}"
    );
    let bytes = fs::read(path).expect("the image");
    let secrets = bytes
        .windows(16)
        .filter(|window| window.iter().filter(|byte| **byte != 0).count() > 12);
    for secret in secrets {
        assert!(!text.contains(&hex::encode(secret)), "{text}");
    }
}

#[test]
fn a_blank_card_says_that_it_is_and_which_keys_it_has() {
    let folder = Folder::new();
    for (more, made_as, versions) in [
        (&[][..], "for tests only", "FF"),
        (
            &["--card-key-file", "k.hex", "--scp", "71"],
            "a blank card",
            "30",
        ),
    ] {
        let made = folder.secapp(&[&["new", "--out", "blank.img", "--force"], more].concat());
        assert!(
            code(&made) == 0 && stdout(&made).contains(made_as),
            "{}",
            stderr(&made)
        );
        let text = stdout(&folder.secapp(&["inspect", "blank.img"]));
        for row in ["OP_READY", "INSTALLED", versions] {
            assert!(text.contains(row), "{row}: {text}");
        }
        assert!(!text.contains("ICCID"), "{text}");
    }
    folder.new_card(&[]);
    let text = stdout(&folder.secapp(&["inspect", "card.img"]));
    assert!(
        text.contains("none: nobody can open a secure channel"),
        "{text}"
    );
    let half = folder.secapp(&["new", "--iccid", ICCID, "--out", "half.img"]);
    assert_eq!(code(&half), 2, "an ICCID without a key");
}

#[test]
fn a_damaged_image_is_told_with_its_name() {
    let folder = Folder::new();
    fs::write(folder.path("no.img"), "#!/bin/sh\n").expect("a file");
    for command in ["inspect", "insert"] {
        let refused = folder.secapp(&[command, "no.img"]);
        assert_eq!(code(&refused), 3);
        assert!(
            stderr(&refused).contains("no.img: not a card image"),
            "{}",
            stderr(&refused)
        );
        assert_eq!(code(&folder.secapp(&[command, "absent.img"])), 1);
    }
}

#[test]
fn an_image_that_cannot_be_completed_leaves_nothing_behind() {
    let folder = Folder::new();
    let path = folder.path("half.img");
    let made = Image::create(&path, false, |_| Err(applet::nvm::NvmError::Full(1)));
    assert!(matches!(made, Err(ImageError::Content { .. })));
    assert_eq!(
        fs::read_dir(folder.0.path()).expect("the folder").count(),
        1,
        "the key file"
    );
}

#[test]
fn completions_are_printed_for_each_shell() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish"] {
        let printed = folder.secapp(&["completions", shell]);
        assert!(code(&printed) == 0 && stdout(&printed).contains("insert"));
    }
}
