//! A watched process tells what it says, and ends.

use e2e::process::{Program, Signal};

#[test]
fn lines_are_found_in_order_and_none_twice() {
    let script = "echo one; echo two >&2; echo one more";
    let mut process = Program::system("sh").args(["-c", script]).start();
    assert_eq!(process.expect_line("one"), "one");
    assert_eq!(process.expect_line("one"), "one more");
    assert!(process.expect_exit().success());
    assert_eq!(process.count("one"), 2);
}

#[test]
#[should_panic(expected = "sh never printed a line with \"ready\": it has closed its output")]
fn a_process_that_ends_without_the_line_fails_the_test_at_once() {
    let mut process = Program::system("sh")
        .args(["-c", "echo not yet; exit 3"])
        .start();
    process.expect_line("ready");
}

#[test]
fn a_finished_program_tells_status_and_both_outputs() {
    let finished = Program::system("sh")
        .args(["-c", "echo out; echo err >&2; exit 7"])
        .run();
    assert_eq!(finished.status.code(), Some(7));
    assert_eq!(
        (finished.stdout, finished.stderr),
        (vec!["out".to_owned()], vec!["err".to_owned()])
    );
}

#[test]
fn a_process_that_ignores_sigterm_can_be_killed() {
    let mut process = Program::system("sh").args([
        "-c",
        "trap '' TERM; echo ready; while read -r _; do :; done",
    ]);
    process = process.talkative();
    let mut process = process.start();
    process.expect_line("ready");
    process.signal(Signal::SIGTERM);
    process.send_line("still there");
    assert!(process.is_running());
    let status = process.kill();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(9)
    );
}

#[test]
fn a_child_outlives_the_thread_that_started_it_but_not_its_owner() {
    let process = std::thread::spawn(|| Program::system("cat").talkative().start())
        .join()
        .unwrap();
    let mut process = process;
    process.send_line("echo");
    process.expect_line("echo");
    let id = process.id();
    drop(process);
    assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
}
