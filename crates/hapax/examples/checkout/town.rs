//! The others: the shop's shelf, the bank, the points and the post, in a database that is not the store's.
//!
//! All but the post look at the keys that they are given: a key that is known is told its answer again, and a key that
//! was undone is refused from then on, so that a call which comes late can do nothing.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hapax::Failure;
use hapax::core::policy::FailureClass;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    CREATE TABLE IF NOT EXISTS shelf (item TEXT PRIMARY KEY, pieces INTEGER NOT NULL CHECK (pieces >= 0));
    INSERT INTO shelf VALUES ('tea', 100000), ('mug', 100000), ('teapot', 3) ON CONFLICT DO NOTHING;
    CREATE TABLE IF NOT EXISTS effect (key TEXT PRIMARY KEY, what TEXT, number TEXT, detail TEXT, calls INTEGER);
    CREATE TABLE IF NOT EXISTS undone (key TEXT PRIMARY KEY, what TEXT, number TEXT, had INTEGER, calls INTEGER);
    CREATE TABLE IF NOT EXISTS mail (key TEXT, number TEXT, address TEXT);
    CREATE TABLE IF NOT EXISTS strike (what TEXT PRIMARY KEY);
";

pub(crate) struct Town {
    connection: Mutex<Connection>,
}

impl Town {
    pub(crate) fn open(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(30))?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self {
            connection: Mutex::new(connection),
        })
    }

    /// Does something for an order.
    pub(crate) fn act(&self, what: &str, key: &str, number: &str, detail: &str) -> Result<Bytes, Failure> {
        self.within(|town| match what {
            "email" => send(town, key, number, detail),
            _ => act(town, what, key, number, detail),
        })?
    }

    /// Undoes what was done under a key, if anything; nothing is done under it any more.
    pub(crate) fn undo(&self, what: &str, key: &str, number: &str) -> Result<(), Failure> {
        self.within(|town| {
            let known = "UPDATE undone SET calls = calls + 1 WHERE key = ?1";
            if town.execute(known, [key])? > 0 {
                return Ok(());
            }
            let item: Option<String> = town
                .query_row("SELECT detail FROM effect WHERE key = ?1", [key], |row| row.get(0))
                .optional()?;
            if let ("reserve", Some(item)) = (what, &item) {
                town.execute("UPDATE shelf SET pieces = pieces + 1 WHERE item = ?1", [item])?;
            }
            let undo = "INSERT INTO undone VALUES (?1, ?2, ?3, ?4, 1)";
            town.execute(undo, (key, what, number, item.is_some()))?;
            Ok(())
        })
    }

    pub(crate) fn has_sent(&self, key: &str) -> rusqlite::Result<bool> {
        let town = self.lock();
        town.query_row("SELECT EXISTS (SELECT 1 FROM mail WHERE key = ?1)", [key], |row| {
            row.get(0)
        })
    }

    /// Whatever fails here, something may have been done.
    fn within<T>(&self, work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, Failure> {
        let failed = |error: rusqlite::Error| Failure::new(FailureClass::Ambiguous, &error.to_string());
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let transaction = transaction.map_err(failed)?;
        let worked = work(&transaction).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        Ok(worked)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Told = Result<Bytes, Failure>;

fn act(town: &Transaction<'_>, what: &str, key: &str, number: &str, detail: &str) -> rusqlite::Result<Told> {
    let exists = |sql, value: &str| town.query_row(sql, [value], |row| row.get::<_, bool>(0));
    if exists("SELECT EXISTS (SELECT 1 FROM undone WHERE key = ?1)", key)? {
        return refused("this was undone");
    }
    let known = "UPDATE effect SET calls = calls + 1 WHERE key = ?1";
    if town.execute(known, [key])? == 0 {
        if exists("SELECT EXISTS (SELECT 1 FROM strike WHERE what = ?1)", what)? {
            return refused("on strike");
        }
        let take = "UPDATE shelf SET pieces = pieces - 1 WHERE item = ?1 AND pieces > 0";
        match what {
            "reserve" if town.execute(take, [detail])? == 0 => return refused("out of stock"),
            "charge" if detail.parse::<u64>().unwrap_or(u64::MAX) > 100_000 => return refused("the card is declined"),
            _ => {}
        }
        let insert = "INSERT INTO effect VALUES (?1, ?2, ?3, ?4, 1)";
        town.execute(insert, (key, what, number, detail))?;
    }
    Ok(Ok(format!("{what} {}", &key[..8]).into()))
}

fn send(town: &Transaction<'_>, key: &str, number: &str, address: &str) -> rusqlite::Result<Told> {
    if !address.contains('@') {
        return refused("no such address");
    }
    town.execute("INSERT INTO mail VALUES (?1, ?2, ?3)", (key, number, address))?;
    Ok(Ok(Bytes::new()))
}

fn refused(why: &str) -> rusqlite::Result<Told> {
    Ok(Err(Failure::new(FailureClass::Final, why)))
}
