//! The PostgreSQL database, past the store.

use tokio_postgres::{Client, NoTls};

use super::{Age, times};
use crate::error::Result;
use crate::{machine, work};

const RECORDS: &str = "INSERT INTO hapax_record (
        fence, recipe, tries, crashes, created, since, replay_for, remember_for, look_at, status,
        id, attempt, fingerprint, scope, name, key, state, headers, body
    )
    SELECT nextval('hapax_fence'), 1, 0, 0, i.since, i.since, i.replay_for, i.remember_for, i.look_at, $1,
        i.id, i.id, $2, $3, $4, i.key, 'done', $5, $6
    FROM unnest($7::bytea[], $8::text[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[])
        AS i(id, key, since, look_at, replay_for, remember_for)";

/// Records in one statement.
const CHUNK: u64 = 5_000;

/// A connection of its own.
pub(crate) async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The first process of a database server: all others are its children.
pub(crate) async fn server_of(url: &str) -> Result<u32> {
    // Kept until its session has been looked at, which ends with it.
    let client = connect(url).await?;
    let ours: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await?.try_get(0)?;
    let server = machine::parent(u32::try_from(ours)?);
    drop(client);
    server
}

pub(super) async fn load(url: &str, count: u64, age: Age) -> Result<()> {
    let client = connect(url).await?;
    client.batch_execute("SET synchronous_commit = off").await?;
    // The pages of records that came by claim and finish are full in the end; so are these.
    let options = client
        .query_one(
            "SELECT array_to_string(reloptions, ', ') FROM pg_class WHERE relname = 'hapax_record'",
            &[],
        )
        .await?
        .get::<_, Option<String>>(0);
    client
        .batch_execute("ALTER TABLE hapax_record SET (fillfactor = 100)")
        .await?;
    let insert = client.prepare(RECORDS).await?;
    let headers = work::answer().encode_headers();
    let mut number = 0;
    while number < count {
        let chunk = number..count.min(number + CHUNK);
        number = chunk.end;
        let mut rows = Rows::default();
        for number in chunk {
            rows.push(number, age)?;
        }
        client
            .execute(
                &insert,
                &[
                    &i32::from(work::STATUS),
                    &work::FINGERPRINT.as_slice(),
                    &work::SCOPE,
                    &work::NAME,
                    &&headers[..],
                    &work::BODY,
                    &rows.ids,
                    &rows.keys,
                    &rows.since,
                    &rows.look_at,
                    &rows.replay_for,
                    &rows.remember_for,
                ],
            )
            .await?;
    }
    if let Some(options) = options {
        client
            .batch_execute(&format!("ALTER TABLE hapax_record SET ({options})"))
            .await?;
    }
    client.batch_execute("VACUUM (ANALYZE) hapax_record").await?;
    client.batch_execute("CHECKPOINT").await?;
    Ok(())
}

#[derive(Default)]
struct Rows {
    ids: Vec<Vec<u8>>,
    keys: Vec<String>,
    since: Vec<i64>,
    look_at: Vec<i64>,
    replay_for: Vec<i64>,
    remember_for: Vec<i64>,
}

impl Rows {
    fn push(&mut self, number: u64, age: Age) -> Result<()> {
        let key = work::loaded_key(number);
        let (since, look_at, replay_for, remember_for) = times(age, i64::try_from(number)?);
        self.ids.push(work::operation(key.clone())?.id().as_bytes().to_vec());
        self.keys.push(key);
        self.since.push(since);
        self.look_at.push(look_at);
        self.replay_for.push(replay_for);
        self.remember_for.push(remember_for);
        Ok(())
    }
}

pub(super) async fn number(url: &str, sql: &str) -> Result<i64> {
    Ok(connect(url).await?.query_one(sql, &[]).await?.try_get(0)?)
}

pub(crate) async fn settle(url: &str) -> Result<()> {
    let client = connect(url).await?;
    client.batch_execute("VACUUM (ANALYZE)").await?;
    client.batch_execute("CHECKPOINT").await?;
    Ok(())
}

pub(super) async fn cut_back(url: &str, position: i64) -> Result<()> {
    let client = connect(url).await?;
    client
        .execute("DELETE FROM hapax_record WHERE position > $1", &[&position])
        .await?;
    client.batch_execute("VACUUM hapax_record").await?;
    Ok(())
}
