//! Opening and closing the shop: the database file, its settings and the writer thread.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::command::{Ask, Refusal, Row};
use crate::writer::{self, Command, Job};

/// How a shop behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Careful instead of naive: a second order with the same `(customer, client_order_id)` is
    /// answered 409 with the first one. Orders without a `client_order_id` stay unprotected.
    pub natural_keys: bool,
    /// Obey the `X-Shop-Delay`, `X-Shop-Delay-After` and `X-Shop-Fail` request headers.
    pub test_knobs: bool,
    /// What a fresh database has in stock, in pieces. Items that are there already keep their
    /// count.
    pub stock: Vec<(String, u32)>,
    /// Folders whose files are served where no endpoint is: the first one that has the file counts.
    pub pages: Vec<PathBuf>,
}

impl Default for Options {
    /// Naive, without test knobs, `tea` and `mug` in plenty, three of `teapot`.
    fn default() -> Options {
        let stock = [("tea", 100_000_000), ("mug", 100_000_000), ("teapot", 3)];
        Options {
            natural_keys: false,
            test_knobs: false,
            stock: stock.map(|(item, n)| (item.to_owned(), n)).into(),
            pages: Vec::new(),
        }
    }
}

/// Why a shop or a ledger could not be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite refused.
    #[error("the shop's database {path}: {doing}: {source}; check the path, its rights and the space left")]
    Database {
        /// The file.
        path: PathBuf,
        /// What was being done with it.
        doing: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// Natural keys were asked for, but the file holds orders that break them.
    #[error(
        "the shop's database {path} holds orders with the same (customer, client_order_id), so natural keys cannot be switched on; start with a fresh file"
    )]
    NotUnique {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused the writer thread.
    #[error("could not start the shop's writer thread: {0}; check the limit on threads")]
    Thread(std::io::Error),
}

/// An open shop. Clones share one database and one writer; the writer stops when the last clone
/// is gone or at [`Shop::close`].
#[derive(Debug, Clone)]
pub struct Shop {
    commands: mpsc::Sender<Command>,
    pub(crate) options: Arc<Options>,
}

impl Shop {
    /// Opens the database at `path`, creating it where there is none, and starts the writer.
    ///
    /// # Errors
    /// Where the file cannot be opened or prepared, and where `natural_keys` is asked for on a
    /// file whose orders already break them.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Shop, Error> {
        let path = path.as_ref();
        let conn = prepare(path, &options)?;
        let (commands, inbox) = mpsc::channel();
        let natural_keys = options.natural_keys;
        std::thread::Builder::new()
            .name("shop-writer".into())
            .spawn(move || writer::run(conn, &inbox, natural_keys))
            .map_err(Error::Thread)?;
        Ok(Shop {
            commands,
            options: Arc::new(options),
        })
    }

    /// Commits what was accepted so far and closes the database. Later requests are answered 503.
    pub async fn close(self) {
        let (done, closed) = oneshot::channel();
        // Both errors mean that the writer is gone already, which is what was asked for.
        if self.commands.send(Command::Close(done)).is_ok() {
            let _ = closed.await;
        }
    }

    /// What is asked for has been committed, flush included, when this returns `Ok`. Dropping the
    /// future does not undo it.
    pub(crate) async fn ask(&self, ask: Ask) -> Result<Row, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(Command::Do(Job { ask, reply }))
            .map_err(|_| Refusal::Closed)?;
        answer.await.unwrap_or(Err(Refusal::Closed))
    }
}

fn prepare(path: &Path, options: &Options) -> Result<Connection, Error> {
    let failed = |doing| {
        move |source| Error::Database {
            path: path.to_owned(),
            doing,
            source,
        }
    };
    let mut conn = Connection::open(path).map_err(failed("opening"))?;
    // FULL, so that an answered effect survives a power cut too. A larger checkpoint interval
    // than SQLite's 1,000 pages keeps checkpoints out of most batches.
    conn.execute_batch(
        "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON; PRAGMA wal_autocheckpoint = 8000;",
    )
    .map_err(failed("setting WAL mode"))?;
    conn.execute_batch(include_str!("schema.sql"))
        .map_err(failed("creating tables"))?;
    let index = if options.natural_keys {
        "CREATE UNIQUE INDEX IF NOT EXISTS orders_natural_key ON orders (customer, client_order_id)"
    } else {
        "DROP INDEX IF EXISTS orders_natural_key"
    };
    conn.execute_batch(index)
        .map_err(|source| match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::ConstraintViolation) => Error::NotUnique { path: path.into() },
            _ => failed("setting natural keys")(source),
        })?;
    fill_stock(&mut conn, &options.stock).map_err(failed("filling the stock"))?;
    Ok(conn)
}

fn fill_stock(conn: &mut Connection, stock: &[(String, u32)]) -> rusqlite::Result<()> {
    let tx = conn.transaction()?;
    for (item, on_hand) in stock {
        tx.execute(
            "INSERT OR IGNORE INTO stock (item, on_hand) VALUES (?1, ?2)",
            (item, on_hand),
        )?;
    }
    tx.commit()
}
