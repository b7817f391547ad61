//! A shop's checkout in four steps: it ends with all of them done, or with all that was done undone, whatever happens to
//! the process.
//!
//! ```text
//! cargo run -p hapax --example checkout -- /tmp/shop
//! buy 1 ann@example.org tea 450
//! buy 1 ann@example.org tea 450
//! buy 2 bob@example.org teapot 250000
//! buy 3 nowhere mug 900
//! ```
//!
//! Each line of standard input is an order: its number, whom the receipt goes to, what is bought, for how many cents. The
//! second line is the first once more, and is told its answer. The bank declines the third order, and its teapot goes
//! back to the shelf; the post knows no `nowhere`, so that the money of the fourth goes back as well. Kill the process
//! and start it again: what was under way goes on where it was. What the shop, the bank and the post know is in
//! `town.db`. After the directory come the length of a lease (30,000 ms) and, if the records are to be kept in
//! PostgreSQL, its address.

#![allow(clippy::print_stdout, reason = "a program talks to its user")]

mod town;

use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hapax::core::policy::FailureClass;
use hapax::core::{BoxFuture, Key, Record, Scope, Store, derive_key};
use hapax::retry::Destination;
use hapax::steps::{Call, Came, Saga, SagaOptions, Step, StepError, Steps, Undo};
use hapax::store::postgres::{PostgresOptions, PostgresStore};
use hapax::store::sqlite::{SqliteOptions, SqliteStore};
use hapax::{
    Engine, EngineOptions, Event, Failure, Found, Observer, Reply, ResolveError, Resolver, Runner, RunnerOptions,
    Sweeper,
};
use tokio::sync::mpsc;

use town::Town;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments
        .next()
        .ok_or("usage: checkout DIRECTORY [LEASE_MS] [POSTGRES_URL]")?;
    let directory = Path::new(&directory);
    let lease = Duration::from_millis(arguments.next().map_or(Ok(30_000), |text| text.parse())?);
    fs::create_dir_all(directory)?;
    let store: Arc<dyn Store> = match arguments.next() {
        Some(url) => Arc::new(PostgresStore::connect(&url, PostgresOptions::default()).await?),
        None => Arc::new(SqliteStore::open(directory.join("hapax.db"), SqliteOptions::default())?),
    };
    let town = Arc::new(Town::open(&directory.join("town.db"))?);

    let engine = Engine::shared(store, EngineOptions::default(), Arc::new(Log));
    tokio::spawn(Sweeper::default().run(engine.store().clone(), Arc::new(())));
    let checkout = checkout(&engine, &town, lease).await?;
    let options = RunnerOptions {
        poll: lease.min(Duration::from_secs(1)),
        ..RunnerOptions::default()
    };
    let runner = checkout.equip(Runner::new(&engine, options));
    let mut orders = lines();
    let end_of_input = async {
        while let Some(line) = orders.recv().await {
            let checkout = checkout.clone();
            tokio::spawn(async move {
                let said = buy(&checkout, &line).await.unwrap_or_else(|error| error.to_string());
                println!("{said}");
            });
        }
    };
    runner.run(end_of_input).await;
    Ok(())
}

/// The checkout: its steps, what undoes them, and the order in which it asks for them.
async fn checkout(engine: &Engine, town: &Arc<Town>, lease: Duration) -> Result<Saga, Box<dyn Error>> {
    let options = SagaOptions {
        lease,
        // It only asks others to do something: none of its orders can take the process down.
        crashes_count: false,
        ..SagaOptions::default()
    };
    let mut policy = Step::undo_policy();
    policy.backoff.base = lease.min(policy.backoff.base);
    let undoing = Destination::new(policy)?;
    let undone = |step: Step| {
        let town = Arc::clone(town);
        step.undo_destination(undoing.clone()).undone_by(move |undo: Undo| {
            let town = Arc::clone(&town);
            async move {
                town.undo(&undo.step, &undo.step_key, order_of(&undo.operation))?;
                println!("undone {} of {}", undo.step, order_of(&undo.operation));
                Ok(Bytes::new())
            }
        })
    };
    let post = Post(Arc::clone(town));
    let steps = [
        undone(Step::at_least_once("reserve")),
        undone(Step::at_least_once("charge")),
        undone(Step::at_least_once("points")),
        // The post does not look at keys, but can be asked.
        Step::at_most_once("email").resolver(Arc::new(post)),
    ];
    let steps = steps.map(|step| step.lease(lease).settle(lease));
    let town = Arc::clone(town);
    let handler = move |steps: Steps, order: Bytes| take(Arc::clone(&town), steps, order);
    Ok(Saga::open(engine, "checkout", options, steps, handler).await?)
}

/// Takes one order through its steps. Run again, those that are done give their answers again.
async fn take(town: Arc<Town>, steps: Steps, order: Bytes) -> Result<Bytes, StepError> {
    let order =
        Order::read(&order).ok_or_else(|| Failure::new(FailureClass::Final, "an order is: EMAIL ITEM CENTS"))?;
    let number: Box<str> = order_of(steps.operation()).into();
    let step = |name, detail: String| {
        let (town, number) = (Arc::clone(&town), number.clone());
        steps.step(name, move |call: Call| async move {
            town.act(name, &call.key, &number, &detail)
        })
    };
    step("reserve", order.item).await?;
    let payment = step("charge", order.cents.to_string()).await?;
    step("points", (order.cents / 100).to_string()).await?;
    step("email", order.email).await?;
    Ok(payment)
}

struct Order {
    email: String,
    item: String,
    cents: u64,
}

impl Order {
    fn read(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let [email, item, cents] = text.split(' ').collect::<Vec<_>>().try_into().ok()?;
        Some(Self {
            email: email.to_owned(),
            item: item.to_owned(),
            cents: cents.parse().ok()?,
        })
    }
}

/// The order's number: its key.
fn order_of(operation: &hapax::core::Operation) -> &str {
    operation.key().as_str()
}

async fn buy(checkout: &Saga, line: &str) -> Result<String, Box<dyn Error>> {
    let (number, order) = line
        .strip_prefix("buy ")
        .and_then(|rest| rest.split_once(' '))
        .ok_or("an order is: buy NUMBER EMAIL ITEM CENTS")?;
    let (scope, key) = (Scope::new("shop")?, Key::new(number)?);
    let reply = checkout
        .run(scope, key, order.to_owned(), Duration::from_secs(5))
        .await?;
    Ok(match reply {
        Reply::Ran(Came::Done(payment)) => format!("order {number}: {}", String::from_utf8_lossy(&payment)),
        Reply::Ran(Came::Waits { after, why }) => {
            let why = why.map_or(String::new(), |why| why.to_string());
            format!("order {number}: again in {after:?}: {why}")
        }
        Reply::Ran(Came::Dead { last_error, .. }) => {
            let why = last_error.map_or(String::new(), |error| error.to_string());
            format!("order {number}: failed, what was done is undone: {why}")
        }
        Reply::Refused(refusal) => format!("order {number}: known: {refusal:?}"),
    })
}

/// Asks the post whether it has sent the receipt of an order.
struct Post(Arc<Town>);

impl Resolver for Post {
    fn name(&self) -> &str {
        "post"
    }

    fn resolve<'a>(&'a self, record: &'a Record) -> BoxFuture<'a, Result<Found, ResolveError>> {
        Box::pin(async {
            // A step's group is the operation that it is a step of.
            let key = record.group.map(|operation| derive_key(&operation, "email"));
            let sent = key.map_or(Ok(false), |key| self.0.has_sent(&key));
            let sent = sent.map_err(|error| ResolveError::new("the post cannot be asked").caused_by(error))?;
            let outcome = hapax::core::Outcome::Answer(hapax::core::Answer {
                status: 0,
                headers: Vec::new(),
                body: Bytes::new(),
            });
            Ok(match sent {
                true => Found::Done {
                    outcome,
                    saw: "it was sent".to_owned(),
                },
                false => Found::NotFound {
                    saw: "nothing was sent".to_owned(),
                },
            })
        })
    }
}

/// Says what a supervisor should hear of.
struct Log;

impl Observer for Log {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Died { operation, reason } => println!("dead {} {}: {reason}", operation.name(), operation.key()),
            Event::UndoBegun { operation } => println!("undoing {}", operation.key()),
            Event::Fenced { operation, .. } => println!("fenced {} {}", operation.name(), operation.key()),
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
