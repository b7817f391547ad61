//! A backend that stops in the middle of its transaction, for longer than its claim lasts.

use rustix::process::Signal;

use super::process::Shop;
use super::until_settled;
use crate::support::{Ask, Gateway};

#[test]
fn a_stopped_backend_cannot_commit_once_another_attempt_began() {
    let (shop, directory) = (Shop::new(), tempfile::tempdir().unwrap());
    let (mut stopped, other) = (shop.backend(), shop.backend());
    let before = |backend| {
        let arguments = ["--receipts", shop.url(), "--receipts-required", "--lease", "1s"];
        Gateway::before(backend, directory.path(), &arguments)
    };
    let mut gateway = before(stopped.addr);
    let first = Ask::order("k", 1).header("X-Pause", "1").start(gateway.addr);
    stopped.process.wait_for_output("written");
    stopped.process.signal(Signal::STOP);
    gateway.process.kill();
    drop(first);

    let gateway = before(other.addr);
    let answer = until_settled(&gateway, &Ask::order("k", 1));
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!((shop.orders(), shop.attempts()), (1, 2));

    stopped.process.signal(Signal::CONT);
    stopped.process.tell("go on");
    stopped.process.wait_for_output("refused: ERROR: hapax: receipt of ");
    assert_eq!(shop.orders(), 1);
    let replay = gateway.send(&Ask::order("k", 1));
    assert!(replay.is_replay() && replay.body == answer.body, "{replay:?}");
}
