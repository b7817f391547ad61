//! What holds for every broker, and how the tests talk to them.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::shared::led_by_parent;
use crate::{Holder, eventually};

const LIMIT: Duration = Duration::from_secs(30);

/// Sends `question` and gives the answer up to where `enough` holds.
pub(crate) fn ask(port: u16, question: &[u8], enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(question).unwrap();
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    while !enough(&answer) {
        let read = stream.read(&mut part).unwrap();
        assert!(read > 0, "it hung up after {:?}", String::from_utf8_lossy(&answer));
        answer.extend(&part[..read]);
    }
    answer
}

/// The same for a protocol of text.
pub(crate) fn ask_text(port: u16, question: &str, end: &str) -> String {
    let enough = |answer: &[u8]| String::from_utf8_lossy(answer).contains(end);
    String::from_utf8_lossy(&ask(port, question.as_bytes(), enough)).into_owned()
}

pub(crate) fn is_up(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

fn port_of(url: &str) -> u16 {
    let rest = url.rsplit_once(':').unwrap().1;
    rest.split('/').next().unwrap().parse().unwrap()
}

/// The living processes that run in a directory or below, and where.
fn processes_in(inside: impl Fn(&Path) -> bool) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| {
            let id = entry.file_name().into_string().ok()?;
            let place = fs::read_link(entry.path().join("cwd")).ok()?;
            // What the system says of a directory that is gone.
            let place = PathBuf::from(place.to_str()?.trim_end_matches(" (deleted)"));
            inside(&place).then_some((id, place))
        })
        .collect()
}

fn is_child_of(mut id: u32, ancestor: u32) -> bool {
    while id > 1 && id != ancestor {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1));
        id = parent.and_then(|parent| parent.parse().ok()).unwrap_or(0);
    }
    id == ancestor
}

/// A server of its own, held by the testbed's program, leaves nothing when that is killed.
pub(crate) fn a_killed_owner_leaves_nothing(kind: &str) {
    let mut holder = Holder::start(&[kind], |_| {});
    let prefix = format!("hapax-{kind}-");
    let is_kind = |place: &Path| {
        place
            .components()
            .any(|part| part.as_os_str().to_string_lossy().starts_with(&prefix))
    };
    let (_, place) = processes_in(is_kind)
        .into_iter()
        .find(|(id, _)| is_child_of(id.parse().unwrap(), holder.process.id()))
        .expect("a server in a directory of its own");
    assert!(is_up(port_of(&holder.url)));

    holder.process.kill().unwrap();
    let left = || processes_in(|inside| inside.starts_with(&place));
    eventually("the end of the server and its helpers", LIMIT, || left().is_empty());
    eventually("the end of its directory", LIMIT, || !place.exists());
    assert!(!is_up(port_of(&holder.url)));
}

/// Two processes of a run get the same server, which ends with the run's leader.
pub(crate) fn a_run_shares_one_server(kind: &str) {
    // The shell is the leader: it asks twice, says both answers, and waits.
    let program = env!("CARGO_BIN_EXE_hapax-testbed");
    let ask = format!("{program} shared {kind} </dev/null");
    let mut leader = Command::new("/bin/sh");
    leader.args(["-c", &format!("{ask}; {ask}; read end; exit 0")]);
    led_by_parent(&mut leader);
    leader.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut leader = leader.spawn().unwrap();
    let mut lines = BufReader::new(leader.stdout.take().unwrap()).lines();
    let mut line = || lines.next().expect("an answer").unwrap();
    let (first, second) = (line(), line());
    assert_eq!(first, second);
    assert!(is_up(port_of(&first)), "the server lives while its leader does");
    let run = format!("run-{}-", leader.id());
    let is_of_run = |place: &Path| {
        place
            .components()
            .any(|part| part.as_os_str().to_string_lossy().starts_with(&run))
    };
    let (_, place) = processes_in(is_of_run).pop().expect("a server in the run's directory");

    leader.kill().unwrap();
    leader.wait().unwrap();
    eventually("the end of the shared server and its helpers", LIMIT, || {
        processes_in(is_of_run).is_empty()
    });
    eventually("the end of its directory", LIMIT, || !place.exists());
    assert!(!is_up(port_of(&first)));
}
