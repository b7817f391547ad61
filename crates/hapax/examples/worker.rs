//! A service that does jobs in the background: what it accepted is done once, whatever happens to the process.
//!
//! ```text
//! cargo run -p hapax --example worker -- /tmp/jobs
//! letter 7f9c To Ada: hello
//! letter 7f9c To Ada: hello
//! report r-1 crash
//! ```
//!
//! Each line of standard input is a job: what, its key, its text. The second line is the first once more, and nothing
//! is sent twice. A text that is `crash` takes the process down. Start it again, as a supervisor would: what was under
//! way is done; and what has killed the process three times is a dead letter. Two numbers after the directory change
//! how long a letter's lease is (30,000 ms) and how long sending takes (1,000 ms).

#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hapax::core::policy::FailureClass;
use hapax::core::{
    AfterFailure, Fingerprint, Input, Key, Name, NotKept, Operation, Outcome, RecipeId, RetryPolicy, Scope,
};
use hapax::retry::Destination;
use hapax::store::sqlite::{SqliteOptions, SqliteStore};
use hapax::{
    Arrival, Attempted, Engine, EngineOptions, Event, Failure, Handling, Observer, Run, RunOptions, Runner,
    RunnerOptions, Sweeper,
};
use rusqlite::Connection;
use tokio::sync::mpsc;
use tokio::time::sleep;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments
        .next()
        .ok_or("usage: worker DIRECTORY [LEASE_MS] [SENDING_MS]")?;
    let directory = Path::new(&directory);
    let mut millis = |default| arguments.next().map_or(Ok(default), |text| text.parse());
    let (lease, sending) = (millis(30_000)?, Duration::from_millis(millis(1_000)?));
    fs::create_dir_all(directory)?;
    let store = SqliteStore::open(directory.join("hapax.db"), SqliteOptions::default())?;
    let post = Arc::new(Post::open(&directory.join("post.db"), sending)?);

    let engine = Engine::new(store, EngineOptions::default(), Log);
    tokio::spawn(Sweeper::default().run(engine.store().clone(), Arc::new(())));
    let mut runner = Runner::new(&engine, RunnerOptions::default());
    let mail = Destination::new(RetryPolicy::default())?;
    // A report may go for longer without a sign of life.
    for (name, lease) in [("letter", lease), ("report", 3 * lease)] {
        let mut handling = Handling::new(Name::new(name)?, mail.clone());
        handling.run = options(lease);
        let post = Arc::clone(&post);
        runner = runner.handle(handling, move |run, input| Arc::clone(&post).send(run, input));
    }

    let mut jobs = lines();
    let end_of_input = async {
        while let Some(line) = jobs.recv().await {
            let said = accept(&engine, &line).await.unwrap_or_else(|error| error.to_string());
            println!("{said}");
        }
    };
    runner.run(end_of_input).await;
    Ok(())
}

fn options(lease: u64) -> RunOptions {
    RunOptions {
        lease: Duration::from_millis(lease),
        // Run again after a crash: the effect is written under a unique key.
        after_failure: AfterFailure::Retry,
        ..RunOptions::default()
    }
}

/// Lays a job before the runner. Once this returns, the job is safe.
async fn accept(engine: &Engine, line: &str) -> Result<String, Box<dyn Error>> {
    let mut words = line.splitn(3, ' ');
    let mut word = || words.next().ok_or("a job has three parts: what, its key, its text");
    let (name, key, text) = (word()?, word()?, word()?);
    let recipe = engine.store().recipe("the text of a job".to_owned()).await?;
    let digest = blake3::keyed_hash(&engine.store().secret(), text.as_bytes());
    let arrival = Arrival {
        group: None,
        input: None,
        operation: Operation::new(Scope::new("me")?, Name::new(name)?, Key::new(key)?),
        fingerprint: Fingerprint::new(recipe, *digest.as_bytes()),
        refingerprint: Arc::new(|_: &str, _: RecipeId| None),
        options: RunOptions::default(),
        wait: Duration::ZERO,
    };
    let input = Input(text.to_owned().into());
    Ok(match engine.enqueue(arrival, input, Duration::ZERO).await?.refusal {
        None => format!("accepted {key}"),
        Some(refusal) => format!("known {key}: {refusal:?}"),
    })
}

/// What the jobs change: a database of its own, as a mail server would have.
struct Post {
    sent: Mutex<Connection>,
    sending: Duration,
}

impl Post {
    fn open(path: &Path, sending: Duration) -> rusqlite::Result<Self> {
        let sent = Connection::open(path)?;
        sent.execute_batch("CREATE TABLE IF NOT EXISTS sent (key TEXT PRIMARY KEY, text TEXT NOT NULL)")?;
        let sent = Mutex::new(sent);
        Ok(Self { sent, sending })
    }

    async fn send(self: Arc<Self>, run: Run, input: Input) -> Attempted {
        let key = run.operation.key().as_str();
        println!("started {key}, try {}", run.tries);
        if input.0 == "crash" {
            std::process::abort();
        }
        sleep(self.sending).await;
        let text = String::from_utf8_lossy(&input.0);
        match self.write(key, &text) {
            Ok(()) => {
                println!("sent {key}: {text}");
                Attempted::Done(Outcome::NotKept(NotKept::Discarded))
            }
            Err(error) => Attempted::Failed(Failure::new(FailureClass::Ambiguous, &error.to_string())),
        }
    }

    fn write(&self, key: &str, text: &str) -> rusqlite::Result<()> {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let insert = "INSERT INTO sent VALUES (?1, ?2) ON CONFLICT (key) DO NOTHING";
        sent.execute(insert, (key, text)).map(|_| ())
    }
}

/// Says what a supervisor should hear of.
struct Log;

impl Observer for Log {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Died { operation, reason } => println!("dead {}: {reason}", operation.key().as_str()),
            Event::Suspect { operation, .. } => println!("alone {}", operation.key().as_str()),
            _ => {}
        }
    }
}

/// Lines of standard input, as they come.
fn lines() -> mpsc::UnboundedReceiver<String> {
    let (tell, lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        io::stdin()
            .lines()
            .map_while(Result::ok)
            .try_for_each(|line| tell.send(line))
    });
    lines
}
