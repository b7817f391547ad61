//! A relay of an outbox in PostgreSQL as one writes it by hand: some loops that each lock a batch of effects, send them
//! side by side, mark them sent, and commit. One commit for a batch; a crash sends the whole batch again. No retry
//! schedule, no dead letters, no lease.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hapax::Attempted;
use hapax::core::{Name, Timestamp};
use hapax::outbox::{Delivery, Sink};
use tokio::task::JoinSet;
use tokio_postgres::{Client, Row, Statement};

use crate::error::Result;
use crate::place::connect;
use crate::work;

const TABLE: &str = "CREATE TABLE hand_outbox (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        effect text NOT NULL,
        key text NOT NULL UNIQUE,
        payload bytea NOT NULL,
        content_type text NOT NULL,
        at timestamptz NOT NULL DEFAULT now(),
        sent timestamptz
    ) WITH (fillfactor = 70);
    CREATE INDEX hand_outbox_waiting ON hand_outbox (id) WHERE sent IS NULL;";

const LOCK: &str = "SELECT key, payload, content_type, id FROM hand_outbox
    WHERE sent IS NULL ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED";

const SENT: &str = "UPDATE hand_outbox SET sent = now() WHERE id = ANY ($1)";

/// Makes the table and fills it.
pub(crate) async fn create(url: &str, effects: u64) -> Result<()> {
    let client = connect(url).await?;
    client.batch_execute(TABLE).await?;
    client
        .execute(
            "INSERT INTO hand_outbox (effect, key, payload, content_type)
            SELECT $1, gen_random_uuid(), $2, 'application/json' FROM generate_series(1, $3::bigint)",
            &[&work::EFFECT, &work::INPUT, &i64::try_from(effects)?],
        )
        .await?;
    Ok(())
}

/// Some loops, each with a connection and its share of the deliveries that may be under way at a time.
pub(crate) struct Relay {
    sessions: Vec<Session>,
    sink: Arc<dyn Sink>,
}

struct Session {
    client: Client,
    lock: Statement,
    sent: Statement,
    share: i64,
}

impl Relay {
    pub(crate) async fn open(url: &str, sink: Arc<dyn Sink>, (loops, concurrency): (usize, usize)) -> Result<Self> {
        let mut sessions = Vec::new();
        for _ in 0..loops {
            let client = connect(url).await?;
            sessions.push(Session {
                lock: client.prepare(LOCK).await?,
                sent: client.prepare(SENT).await?,
                client,
                share: i64::try_from(concurrency.div_ceil(loops))?,
            });
        }
        Ok(Self { sessions, sink })
    }

    /// Delivers until nothing is left. How many.
    pub(crate) async fn run(self) -> Result<u64> {
        let sent = Arc::new(AtomicU64::new(0));
        let mut loops = JoinSet::new();
        for session in self.sessions {
            loops.spawn(session.run(Arc::clone(&self.sink), Arc::clone(&sent)));
        }
        while let Some(ended) = loops.join_next().await {
            ended??;
        }
        Ok(sent.load(Ordering::Relaxed))
    }
}

impl Session {
    async fn run(mut self, sink: Arc<dyn Sink>, sent: Arc<AtomicU64>) -> Result<()> {
        loop {
            let transaction = self.client.transaction().await?;
            let rows = transaction.query(&self.lock, &[&self.share]).await?;
            if rows.is_empty() {
                return Ok(());
            }
            let mut deliveries = JoinSet::new();
            let mut ids: Vec<i64> = Vec::new();
            for row in rows {
                ids.push(row.try_get(3)?);
                deliveries.spawn(sink.deliver(delivery(&row)?));
            }
            for attempted in deliveries.join_all().await {
                if !matches!(attempted, Attempted::Done(_)) {
                    return Err(format!("a delivery failed: {attempted:?}").into());
                }
            }
            transaction.execute(&self.sent, &[&ids]).await?;
            transaction.commit().await?;
            sent.fetch_add(ids.len() as u64, Ordering::Relaxed);
        }
    }
}

fn delivery(row: &Row) -> Result<Delivery> {
    Ok(Delivery {
        name: Name::new(work::EFFECT)?,
        key: row.try_get(0)?,
        content_type: row.try_get::<_, String>(2)?.into(),
        payload: row.try_get::<_, Vec<u8>>(1)?.into(),
        // What is signed has a time; here any will do.
        now: Timestamp::from_millis(1_700_000_000_000),
        tries: 1,
    })
}
