//! The terminal as a service: what it tells its manager, the rights that it gives up, and the files of `packaging/`.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use e2e::process::{DEADLINE, Program};

use crate::parts::server::Server;
use crate::parts::subscriber::Subscriber;
use crate::parts::terminal::{self, Terminal};

fn packaging(name: &str) -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package
        .parent()
        .expect("in the workspace")
        .join("packaging")
        .join(name)
}

/// The unit with the program that was built here, as a file in `directory`.
fn unit(directory: &Path) -> PathBuf {
    let text = fs::read_to_string(packaging("reader-bridge.service")).unwrap();
    let built = e2e::binaries::built("reader-bridge");
    let text = text.replace("/usr/bin/reader-bridge", built.to_str().unwrap());
    let path = directory.join("reader-bridge.service");
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn systemd_understands_the_unit_and_finds_it_well_closed() {
    let directory = tempfile::tempdir().unwrap();
    let unit = unit(directory.path());
    let verified = Program::system("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .arg(&unit)
        .run();
    assert!(verified.status.success(), "{verified:?}");
    let said = [verified.stdout, verified.stderr].concat();
    let ours = said
        .iter()
        .filter(|line| line.contains("reader-bridge.service"));
    assert_eq!(ours.count(), 0, "{said:?}");
    // 0 is closed, 100 open; ten and more is what systemd calls "ok" at best.
    let secure = Program::system("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=20"])
        .arg(&unit)
        .run();
    assert!(secure.status.success(), "{secure:?}");
}

#[test]
fn the_configuration_of_the_package_can_be_used() {
    let checked = Program::built("reader-bridge")
        .arg("check-config")
        .arg(packaging("bridge.toml"))
        .run();
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn polkits_rule_is_for_the_user_of_the_unit() {
    let unit = fs::read_to_string(packaging("reader-bridge.service")).unwrap();
    let rule = fs::read_to_string(packaging("50-reader-bridge.rules")).unwrap();
    let user = unit
        .lines()
        .find_map(|line| line.strip_prefix("User="))
        .unwrap();
    assert!(rule.contains(&format!("subject.user == \"{user}\"")));
}

#[test]
fn the_service_manager_is_told_of_readiness_life_and_the_end() {
    let (one, directory) = (Subscriber::named("one"), tempfile::tempdir().unwrap());
    let server = Server::knowing(&[&one]);
    let card = format!("image:{}", one.make_card(directory.path()).display());
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    let program = terminal::run(&card, server.address(), directory.path());
    let program = program
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "200000");
    let mut terminal = Terminal::start(program);
    let await_state = |wanted: &str| loop {
        let mut state = [0; 64];
        let length = manager.recv(&mut state).unwrap();
        if &state[..length] == wanted.as_bytes() {
            return;
        }
    };
    await_state("READY=1");
    (0..3).for_each(|_| await_state("WATCHDOG=1"));
    terminal.process.terminate();
    await_state("STOPPING=1");
}

/// The numbers after this name in the process's status.
fn ids(status: &str, name: &str) -> Vec<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let numbers = line.expect("proc(5)").split_whitespace();
    numbers
        .map(|number| number.parse().expect("a number"))
        .collect()
}

/// As root the whole change is seen; as anybody else, that there is none.
#[test]
fn root_becomes_the_user_for_good_and_nobody_else_becomes_anybody() {
    let (one, directory) = (Subscriber::named("one"), tempfile::tempdir().unwrap());
    let server = Server::knowing(&[&one]);
    let card = format!("image:{}", one.make_card(directory.path()).display());
    // A directory that its user can reach: the terminal makes it as root, and gives it away.
    let reachable = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()
        .unwrap();
    let program = terminal::every_second(&card, server.address(), &reachable.path().join("state"));
    let mut terminal = Terminal::start(program.args(["--user", "nobody"]));
    if !nix::unistd::Uid::effective().is_root() {
        assert_eq!(terminal.process.expect_exit().code(), Some(2));
        return;
    }
    terminal.expect_exchange();
    terminal.expect_exchange();
    let status = fs::read_to_string(format!("/proc/{}/status", terminal.process.id())).unwrap();
    for name in ["Uid:", "Gid:"] {
        let ids = ids(&status, name);
        assert!(
            ids.len() == 4 && ids.iter().all(|id| *id == ids[0] && *id != 0),
            "{status}"
        );
    }
    assert!(!ids(&status, "Groups:").contains(&0), "{status}");
    let capabilities = status
        .lines()
        .find(|line| line.starts_with("CapEff:"))
        .unwrap();
    assert!(capabilities.ends_with("0000000000000000"), "{status}");
}
