//! The example as a program of its own.

use std::process::Command;

use crate::program::example;

#[test]
fn what_is_committed_is_delivered_and_known_by_its_key_when_it_comes_again() {
    let ended = Command::new(example("outbox")).output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    let expected = "\
order 1 is rolled back
order 2 is committed
the partner takes {\"order\":2}, and breaks off
the partner is sent {\"order\":2} again, and knows its key
nothing is left
";
    assert_eq!(String::from_utf8(ended.stdout).unwrap(), expected);
}
