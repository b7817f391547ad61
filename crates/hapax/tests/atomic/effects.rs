//! Effects that a handler enqueues in its transaction: delivered if that commits, and once.

use std::time::Duration;

use futures_util::future::BoxFuture;
use hapax::atomic::{AtomicOptions, Database, Decision};
use hapax::core::{Name, NotKept, Outcome};
use hapax::outbox::{Delivery, Effect, Entered, Outbox, OutboxOptions, SinkOptions};
use hapax::store::joined::{Connection, Joint};
use hapax::{Attempted, Reply, Run, Runner, RunnerOptions};

use crate::world::{BoxError, World, answer, arrival};

const LONG: Duration = Duration::from_secs(20);
/// The largest payload.
const MOST: usize = 16;

/// How a handler ends that has enqueued its effect.
#[derive(Clone, Copy)]
enum End {
    Done,
    Rejected,
    Failed,
}

type Lent<W> = <<W as World>::Database as Database>::Connection;

/// Inserts an order and enqueues an effect with that key and payload.
fn order<'t, W: World>(
    connection: &'t mut Lent<W>,
    run: &'t Run,
    (outbox, joint): (Outbox, Joint),
    (key, payload, end): (&'static str, &'static str, End),
) -> BoxFuture<'t, Result<Decision<Entered>, BoxError>>
where
    Lent<W>: Connection,
{
    Box::pin(async move {
        W::order(connection, run.operation.key().as_str()).await?;
        let effect = Effect::new("paid", key, payload)?;
        let entered = outbox.enqueue(&joint, connection, &effect).await?;
        match end {
            End::Done => Ok(Decision::done(answer(201), entered)),
            End::Rejected => Ok(Decision::rejected(answer(409), entered)),
            End::Failed => Err("no stock".into()),
        }
    })
}

pub(crate) async fn belong_to_the_handlers_transaction<W: World>(world: W)
where
    Lent<W>: Connection,
{
    let (sent, mut told) = tokio::sync::mpsc::unbounded_channel();
    let send = move |delivery: Delivery| {
        sent.send(String::from_utf8(delivery.payload.to_vec()).unwrap())
            .unwrap();
        async { Attempted::Done(Outcome::NotKept(NotKept::Discarded)) }
    };
    let options = OutboxOptions {
        payload_bytes: MOST,
        ..OutboxOptions::default()
    };
    let outbox = Outbox::open(world.engine(), options).await.unwrap();
    let outbox = outbox.sink(Name::new("paid").unwrap(), send, SinkOptions::default());
    let atomic = world.atomic(AtomicOptions::default());
    let with = (outbox.clone(), world.joint());
    let run = |key: &'static str, what: (&'static str, &'static str, End)| {
        let with = with.clone();
        atomic.run(arrival(key, LONG), move |connection, run| {
            order::<W>(connection, run, with.clone(), what)
        })
    };
    let failed = run("failed", ("a", "failed", End::Failed)).await.unwrap_err();
    assert!(failed.is_rolled_back(), "{failed}");
    run("rejected", ("a", "rejected", End::Rejected)).await.unwrap();
    let large = run("large", ("a", "seventeen letters", End::Done)).await.unwrap_err();
    assert!(
        large.to_string().contains("17 bytes") && large.is_rolled_back(),
        "{large}"
    );
    let done = run("done", ("a", "done", End::Done)).await.unwrap();
    assert!(matches!(done, Reply::Ran(Entered::New)), "{done:?}");
    let again = run("again", ("a", "done", End::Done)).await.unwrap();
    assert!(matches!(again, Reply::Ran(Entered::Before)), "{again:?}");
    let reused = run("reused", ("a", "other", End::Done)).await.unwrap_err();
    assert!(
        reused.to_string().contains("used before for something else"),
        "{reused}"
    );
    for (key, orders) in [
        ("failed", 0),
        ("rejected", 0),
        ("large", 0),
        ("done", 1),
        ("again", 1),
        ("reused", 0),
    ] {
        assert_eq!(world.orders(key).await, orders, "{key}");
    }

    run("last", ("b", "last", End::Done)).await.unwrap();
    let relay = outbox.equip(Runner::new(world.engine(), RunnerOptions::default()));
    let mut heard = Vec::new();
    relay
        .run(async {
            for _ in 0..2 {
                heard.push(told.recv().await.unwrap());
            }
        })
        .await;
    heard.sort();
    assert_eq!(heard, ["done", "last"]);
    assert!(told.try_recv().is_err(), "nothing else was sent");
}
