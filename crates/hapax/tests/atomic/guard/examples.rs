//! The examples as programs of their own.

use std::process::Command;

/// Runs it, and gives what it says.
fn said(program: &mut Command) -> String {
    let output = program
        .output()
        .unwrap_or_else(|error| panic!("cannot run {program:?}: {error}: install it"));
    let text = |bytes| String::from_utf8(bytes).unwrap();
    assert!(output.status.success(), "{program:?}: {}", text(output.stderr));
    text(output.stdout)
}

#[test]
fn the_rust_one_handles_each_message_once() {
    let tests = std::env::current_exe().unwrap();
    let program = tests.ancestors().nth(2).unwrap().join("examples/guards");
    assert!(
        program.exists(),
        "{} is missing: cargo build --examples",
        program.display()
    );
    let expected = "\
an order: Applied Integer(1)
the same again: AlreadyApplied Integer(1)
another under its number: Rejected Integer(1)
delivered, before it is shipped: Rejected Text(\"paid\")
shipped: Applied Text(\"shipped\")
shipped, redelivered: AlreadyApplied Text(\"shipped\")
delivered: Applied Text(\"delivered\")
shipped, a day late: Stale Text(\"delivered\")
shipped, of no order: Rejected, there is no such row
the second price: Applied Integer(2)
the first price: Stale Integer(2)
4 letters
";
    assert_eq!(said(&mut Command::new(program)), expected);
}

#[test]
fn the_python_one_handles_each_message_once() {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/guards/guards.py");
    let expected = "\
an order: applied (1)
the same again: already-applied (1)
another under its number: rejected (1)
paid: applied (paid)
paid, redelivered: already-applied (paid)
delivered: applied (delivered)
paid, a day late: stale (delivered)
paid, of no order: rejected
3 letters
";
    assert_eq!(said(Command::new("python3").arg(program)), expected);
}
