//! The whole way: operator, triggering server, lossy link, terminal, pcscd's virtual reader, card, OTA server.

use e2e::pcscd::Pcscd;
use e2e::relay::{Loss, Plan};
use serde_json::json;

use crate::parts::inserted::inserted;
use crate::parts::terminal::Terminal;
use crate::parts::wire::Wire;
use crate::rig::{Rig, command};

#[test]
fn a_message_to_a_card_in_a_reader_ends_in_commands_executed_on_it() {
    let select_manager = "00a4040008a00000015100000000".to_owned();
    let scripts: [&[String]; 2] = [&[select_manager, "80ca006600".to_owned()], &[command(9)]];
    let mut rig = Rig::with("whole", &scripts, &json!({ "2": "reset-after" }));
    let pcscd = Pcscd::start(1);
    let slot = &pcscd.slots()[0];
    let _card = inserted(&rig.image, slot);
    let wire = Wire::to(
        rig.gts.address(),
        Plan {
            up: Loss::of_numbers([2]),
            down: Loss::of_numbers([3]),
        },
    );
    let place = format!("pcsc:{}", slot.reader);
    let program = crate::parts::terminal::every_second(&place, wire.address(), &rig.state())
        .args(["--ota-url", &rig.ota.url, "--ota-retry", "0.3s", "--ota-ca"])
        .arg(&rig.ota.ca);
    let mut terminal = Terminal::start(pcscd.client(program));
    terminal.expect_exchange();
    let url = rig.ota.url.clone();
    let id = rig.send(&["open-http", &url]);
    let done = terminal.expect("ota-done");
    assert_eq!(
        (&done["message_id"], &done["result"]),
        (&json!(id), &json!("done"))
    );
    rig.ota.expect("session");
    let scripts = rig.ota.all("script");
    assert!(
        scripts.iter().all(|script| script["answers"]
            .as_array()
            .unwrap()
            .iter()
            .all(|answer| answer.as_str().unwrap().ends_with("9000"))),
        "{scripts:?}"
    );
    assert_eq!(
        scripts
            .iter()
            .filter(|script| script["again"] == true)
            .count(),
        1
    );
    // SecApp is found by the polls, though a command has selected something else.
    terminal.expect_exchange();
    terminal.expect_exchange();
    assert!(
        terminal
            .events()
            .iter()
            .all(|event| event["event"] != "card-failed")
    );
}
