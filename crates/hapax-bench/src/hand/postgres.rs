//! Two loops with PostgreSQL: one statement and one commit for each step, over a pool of connections; and one for all
//! that waits, over as many connections as the store has.

use std::collections::HashMap;
use std::sync::Arc;

use hapax::store::postgres::PostgresStore;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_postgres::{Client, Statement};

use crate::error::Result;
use crate::place::connect;
use crate::work;

/// The store's table under another name: its columns, indexes and checks, and its room for updates.
const TABLE: &str = "CREATE SEQUENCE hand_fence; ALTER TABLE hapax_record RENAME TO hand";

/// What a table this young would otherwise be scanned with.
const SETTINGS: &str = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off;
    SET plan_cache_mode = force_generic_plan";

macro_rules! claim {
    ($id:literal, $attempt:literal, $key:literal, $from:literal) => {
        concat!(
            "INSERT INTO hand (fence, recipe, tries, created, since, replay_for, remember_for, look_at, deadline, \
             run_until, fingerprint, scope, name, state, after_failure, starter, id, attempt, key) \
             SELECT nextval('hand_fence'), 1, 0, now, now, 86400000, 2592000000, now + 87300000, now + 30000, \
             now + 900000, $1, $2, $3, 'running', 'hold', 'caller', ",
            $id,
            ", ",
            $attempt,
            ", ",
            $key,
            " FROM (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now) AS clock",
            $from,
            " ON CONFLICT (id) DO NOTHING RETURNING id, fence"
        )
    };
}

macro_rules! finish {
    ($id:literal, $fence:literal, $from:literal) => {
        concat!(
            "UPDATE hand SET state = 'done', since = floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint, \
             deadline = NULL, run_until = NULL, after_failure = NULL, starter = NULL, status = $1, headers = $2, \
             body = ",
            $from,
            " WHERE hand.id = ",
            $id,
            " AND hand.fence = ",
            $fence,
            " AND state = 'running' RETURNING hand.id"
        )
    };
}

const CLAIM_ONE: &str = claim!("$4", "$5", "$6", "");
const CLAIM_MANY: &str = claim!(
    "i.id",
    "i.attempt",
    "i.key",
    ", unnest($4::bytea[], $5::bytea[], $6::text[]) AS i(id, attempt, key)"
);
const FINISH_ONE: &str = finish!("$3", "$4", "$5");
const FINISH_MANY: &str = finish!(
    "i.id",
    "i.fence",
    "i.body FROM unnest($3::bytea[], $4::bigint[], $5::bytea[]) AS i(id, fence, body)"
);

/// Makes the table in a database, beside the store's empty one.
pub(crate) async fn create(url: &str) -> Result<()> {
    PostgresStore::migrate(url, None).await?;
    Ok(connect(url).await?.batch_execute(TABLE).await?)
}

struct Session {
    client: Client,
    claim: Statement,
    finish: Statement,
    headers: Vec<u8>,
}

impl Session {
    async fn open(url: &str, claim: &str, finish: &str) -> Result<Self> {
        let client = connect(url).await?;
        client.batch_execute(SETTINGS).await?;
        Ok(Self {
            claim: client.prepare(claim).await?,
            finish: client.prepare(finish).await?,
            headers: work::answer().encode_headers().to_vec(),
            client,
        })
    }
}

/// One statement and one commit for each step. A caller holds a connection for one step only.
pub(crate) struct Single {
    free: Mutex<mpsc::UnboundedReceiver<Session>>,
    give_back: mpsc::UnboundedSender<Session>,
}

impl Single {
    pub(crate) async fn open(url: &str, connections: usize) -> Result<Self> {
        let (give_back, free) = mpsc::unbounded_channel();
        for _ in 0..connections {
            give_back.send(Session::open(url, CLAIM_ONE, FINISH_ONE).await?)?;
        }
        Ok(Self {
            free: Mutex::new(free),
            give_back,
        })
    }

    pub(crate) async fn cycle(&self) -> Result<()> {
        let (id, attempt, key) = (work::random_id(), work::random_id(), work::fresh_key());
        let session = self.session().await?;
        let claimed = session
            .client
            .query_one(
                &session.claim,
                &[
                    &work::FINGERPRINT.as_slice(),
                    &work::SCOPE,
                    &work::NAME,
                    &id.as_slice(),
                    &attempt.as_slice(),
                    &key,
                ],
            )
            .await?;
        self.give_back.send(session)?;
        let fence: i64 = claimed.try_get(1)?;
        let session = self.session().await?;
        session
            .client
            .query_one(
                &session.finish,
                &[
                    &i32::from(work::STATUS),
                    &session.headers,
                    &id.as_slice(),
                    &fence,
                    &work::BODY,
                ],
            )
            .await?;
        Ok(self.give_back.send(session)?)
    }

    async fn session(&self) -> Result<Session> {
        let free = self.free.lock().await.recv().await;
        free.ok_or_else(|| "the pool is closed".into())
    }
}

enum Asked {
    Claim {
        id: [u8; 16],
        attempt: [u8; 16],
        key: String,
    },
    Finish {
        id: [u8; 16],
        fence: i64,
    },
}

type Job = (Asked, oneshot::Sender<i64>);

/// The store's limit too.
const MOST_IN_A_BATCH: usize = 256;

/// One statement and one commit for all steps of a kind that wait.
pub(crate) struct Batched {
    jobs: mpsc::UnboundedSender<Job>,
}

/// What waits. Behind a lock, so that a connection takes all there is while another is busy.
struct Waiting {
    jobs: mpsc::UnboundedReceiver<Job>,
    /// Taken from the channel, but of the other kind.
    left: Vec<Job>,
}

impl Waiting {
    /// Waits for work and takes what waits of the oldest one's kind; nothing at the end.
    async fn take(&mut self) -> Vec<Job> {
        if self.left.is_empty() {
            self.left.extend(self.jobs.recv().await);
        }
        while let Ok(job) = self.jobs.try_recv() {
            self.left.push(job);
        }
        let Some((first, _)) = self.left.first() else {
            return Vec::new();
        };
        let kind = std::mem::discriminant(first);
        let mut taken = 0;
        let same = self.left.extract_if(.., |(asked, _)| {
            let take = taken < MOST_IN_A_BATCH && std::mem::discriminant(asked) == kind;
            taken += usize::from(take);
            take
        });
        same.collect()
    }
}

impl Batched {
    pub(crate) async fn open(url: &str, connections: usize) -> Result<Self> {
        let (jobs, waiting) = mpsc::unbounded_channel();
        let waiting = Arc::new(Mutex::new(Waiting {
            jobs: waiting,
            left: Vec::new(),
        }));
        for _ in 0..connections {
            let session = Session::open(url, CLAIM_MANY, FINISH_MANY).await?;
            let waiting = Arc::clone(&waiting);
            tokio::spawn(async move {
                if let Err(why) = serve(&session, &waiting).await {
                    eprintln!("the hand-written loop ended: {why}");
                }
            });
        }
        Ok(Self { jobs })
    }

    pub(crate) async fn cycle(&self) -> Result<()> {
        let (id, attempt, key) = (work::random_id(), work::random_id(), work::fresh_key());
        let fence = self.ask(Asked::Claim { id, attempt, key }).await?;
        self.ask(Asked::Finish { id, fence }).await?;
        Ok(())
    }

    async fn ask(&self, asked: Asked) -> Result<i64> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send((asked, reply)).map_err(|_| "the loop has ended")?;
        Ok(answer.await?)
    }
}

async fn serve(session: &Session, waiting: &Mutex<Waiting>) -> Result<()> {
    loop {
        let jobs = waiting.lock().await.take().await;
        match jobs.first() {
            None => return Ok(()),
            Some((Asked::Claim { .. }, _)) => claim(session, jobs).await?,
            Some((Asked::Finish { .. }, _)) => finish(session, jobs).await?,
        }
    }
}

async fn claim(session: &Session, mut jobs: Vec<Job>) -> Result<()> {
    // In one order everywhere, so that two statements never wait for each other.
    jobs.sort_by_key(|(asked, _)| id_of(asked));
    let (mut ids, mut attempts, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    for (asked, _) in &jobs {
        if let Asked::Claim { id, attempt, key } = asked {
            ids.push(id.as_slice());
            attempts.push(attempt.as_slice());
            keys.push(key.as_str());
        }
    }
    let rows = session
        .client
        .query(
            &session.claim,
            &[
                &work::FINGERPRINT.as_slice(),
                &work::SCOPE,
                &work::NAME,
                &ids,
                &attempts,
                &keys,
            ],
        )
        .await?;
    let fences: HashMap<&[u8], i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    for (asked, reply) in jobs {
        let fence = fences.get(id_of(&asked).as_slice()).ok_or("a claim wrote nothing")?;
        // A caller whose time is over needs no answer.
        let _ = reply.send(*fence);
    }
    Ok(())
}

async fn finish(session: &Session, mut jobs: Vec<Job>) -> Result<()> {
    jobs.sort_by_key(|(asked, _)| id_of(asked));
    let (mut ids, mut fences, mut bodies) = (Vec::new(), Vec::new(), Vec::new());
    for (asked, _) in &jobs {
        if let Asked::Finish { id, fence } = asked {
            ids.push(id.as_slice());
            fences.push(*fence);
            bodies.push(work::BODY);
        }
    }
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
        [&i32::from(work::STATUS), &session.headers, &ids, &fences, &bodies];
    if session.client.query(&session.finish, &values).await?.len() != jobs.len() {
        return Err("a finish wrote nothing".into());
    }
    for (_, reply) in jobs {
        let _ = reply.send(0);
    }
    Ok(())
}

fn id_of(asked: &Asked) -> [u8; 16] {
    match asked {
        Asked::Claim { id, .. } | Asked::Finish { id, .. } => *id,
    }
}
