//! The one thread that owns the database: it commits whatever has queued up as one transaction
//! (group commit), and only then answers.

mod apply;

use std::sync::mpsc::Receiver;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use crate::command::{Ask, Refusal, Row};

/// More than this in one transaction would only delay the first answers.
const MAX_BATCH: usize = 512;

/// One request to the database and the way back to who asked.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) ask: Ask,
    pub(crate) reply: oneshot::Sender<Result<Row, Refusal>>,
}

#[derive(Debug)]
pub(crate) enum Command {
    Do(Job),
    Close(oneshot::Sender<()>),
}

/// Works until every sender is gone or a `Close` arrives. What is queued behind a `Close` is
/// dropped, which its sender sees as [`Refusal::Closed`].
pub(crate) fn run(conn: Connection, inbox: &Receiver<Command>, natural_keys: bool) {
    let mut batch = Vec::new();
    while let Ok(first) = inbox.recv() {
        let mut close = None;
        for command in std::iter::once(first).chain(inbox.try_iter().take(MAX_BATCH - 1)) {
            match command {
                Command::Do(job) => batch.push(job),
                Command::Close(done) => {
                    close = Some(done);
                    break;
                }
            }
        }
        commit_and_answer(&conn, &mut batch, natural_keys);
        if let Some(done) = close {
            drop(conn);
            // Nobody waiting any more is no reason to stay.
            let _ = done.send(());
            return;
        }
    }
}

fn commit_and_answer(conn: &Connection, batch: &mut Vec<Job>, natural_keys: bool) {
    let mut answers = match commit(conn, batch, natural_keys) {
        Ok(answers) => answers,
        Err(e) => vec![Err(Refusal::Database(e.to_string())); batch.len()],
    };
    for (job, answer) in batch.drain(..).zip(answers.drain(..)) {
        // A receiver that is gone is a client that hung up: its effect stands all the same.
        let _ = job.reply.send(answer);
    }
}

/// The whole batch in one transaction: an SQL error rolls all of it back, a refusal only means
/// that this job wrote nothing.
fn commit(conn: &Connection, batch: &[Job], natural_keys: bool) -> rusqlite::Result<Vec<Result<Row, Refusal>>> {
    let tx = Transaction::new_unchecked(conn, TransactionBehavior::Immediate)?;
    let answers = batch
        .iter()
        .map(|job| apply::apply(&tx, &job.ask, natural_keys))
        .collect::<rusqlite::Result<_>>()?;
    tx.commit()?;
    Ok(answers)
}
