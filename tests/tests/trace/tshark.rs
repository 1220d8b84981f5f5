//! tshark, with the dissector in Lua.

use std::path::{Path, PathBuf};

use e2e::process::Program;

/// The dissector.
pub(crate) fn dissector() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../reader-bridge/wireshark/gts.lua")
}

/// What tshark prints with these arguments, having read the file twice, so that it knows what follows a packet.
/// Nothing that it complains of: neither of the file nor of Lua.
pub(crate) fn tshark(file: &Path, arguments: &[&str]) -> Vec<String> {
    let script = format!("lua_script:{}", dissector().display());
    let finished = Program::system("tshark")
        .args(["-2", "-X", &script, "-r"])
        .arg(file)
        .args(arguments.iter().copied())
        .run();
    let complaints: Vec<_> = finished
        .stderr
        .iter()
        .filter(|line| !line.starts_with("Running as user"))
        .collect();
    assert!(
        finished.status.success() && complaints.is_empty(),
        "{complaints:?}"
    );
    finished.stdout
}

/// These fields of each packet; several values of one are joined by commas.
pub(crate) fn fields(file: &Path, options: &[&str], fields: &[&str]) -> Vec<Vec<String>> {
    let mut arguments = vec!["-T", "fields", "-E", "separator=|"];
    arguments.extend(options);
    for field in fields {
        arguments.extend(["-e", field]);
    }
    tshark(file, &arguments)
        .iter()
        .map(|line| line.split('|').map(str::to_owned).collect())
        .collect()
}
