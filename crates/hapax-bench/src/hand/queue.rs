//! A queue in PostgreSQL: some loops that each claim jobs with `SKIP LOCKED`, run them, and mark them done by one
//! statement.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinSet;
use tokio_postgres::{Client, Statement};

use crate::error::Result;
use crate::place::connect;
use crate::work;

/// What a queue needs, and an index for its claims.
const TABLE: &str = "CREATE TABLE hand_job (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        due timestamptz NOT NULL DEFAULT now(),
        deadline timestamptz,
        done timestamptz,
        tries integer NOT NULL DEFAULT 0,
        state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'done', 'dead')),
        input bytea NOT NULL
    ) WITH (fillfactor = 70);
    CREATE INDEX hand_job_due ON hand_job (due, id) WHERE state = 'waiting';";

const CLAIM: &str = "UPDATE hand_job
    SET state = 'running', tries = tries + 1, deadline = now() + interval '30 seconds'
    WHERE id IN (
        SELECT id FROM hand_job WHERE state = 'waiting' AND due <= now()
        ORDER BY due, id LIMIT $1 FOR UPDATE SKIP LOCKED
    )
    RETURNING id, input";

const DONE: &str = "UPDATE hand_job SET state = 'done', done = now(), deadline = NULL
    WHERE id = ANY ($1) AND state = 'running'";

/// Makes the table and fills it.
pub(crate) async fn create(url: &str, jobs: u64) -> Result<()> {
    let client = connect(url).await?;
    client.batch_execute(TABLE).await?;
    client
        .execute(
            "INSERT INTO hand_job (input) SELECT $1 FROM generate_series(1, $2::bigint)",
            &[&work::INPUT, &i64::try_from(jobs)?],
        )
        .await?;
    Ok(())
}

/// Some loops, each with a connection and its share of the jobs that may be in hand at a time.
pub(crate) struct Loops(Vec<Session>);

struct Session {
    client: Client,
    claim: Statement,
    done: Statement,
    share: i64,
}

impl Loops {
    pub(crate) async fn open(url: &str, loops: usize, concurrency: usize) -> Result<Self> {
        let mut all = Vec::new();
        for _ in 0..loops {
            let client = connect(url).await?;
            all.push(Session {
                claim: client.prepare(CLAIM).await?,
                done: client.prepare(DONE).await?,
                client,
                share: i64::try_from(concurrency.div_ceil(loops))?,
            });
        }
        Ok(Self(all))
    }

    /// Runs jobs until none is left. How many it ran.
    pub(crate) async fn run(self) -> Result<u64> {
        let ran = Arc::new(AtomicU64::new(0));
        let mut loops = JoinSet::new();
        for session in self.0 {
            loops.spawn(session.run(Arc::clone(&ran)));
        }
        while let Some(ended) = loops.join_next().await {
            ended??;
        }
        Ok(ran.load(Ordering::Relaxed))
    }
}

impl Session {
    async fn run(self, ran: Arc<AtomicU64>) -> Result<()> {
        loop {
            let claimed = self.client.query(&self.claim, &[&self.share]).await?;
            if claimed.is_empty() {
                return Ok(());
            }
            let mut jobs = JoinSet::new();
            for row in claimed {
                let (id, input, ran) = (row.try_get(0)?, row.try_get(1)?, Arc::clone(&ran));
                jobs.spawn(async move {
                    job(input, &ran).await;
                    id
                });
            }
            let ids: Vec<i64> = jobs.join_all().await;
            if self.client.execute(&self.done, &[&ids]).await? != ids.len() as u64 {
                return Err("a job was not marked done".into());
            }
        }
    }
}

/// Does nothing.
async fn job(_input: Vec<u8>, ran: &AtomicU64) {
    ran.fetch_add(1, Ordering::Relaxed);
}
