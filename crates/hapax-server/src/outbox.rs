//! `hapax outbox`: the staging table in the databases of applications.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use hapax::outbox::staging;
use hapax::receipts::{Dialect, Installed};
use serde_json::json;

use crate::config::outbox::DatabaseUrl;
use crate::exit::Failure;
use crate::store;

pub(crate) const HELP: &str = "\
Examples:
  hapax outbox sql --dialect postgres | psql shop
  hapax outbox install --database postgres://shop@db/shop
  hapax outbox ls --database postgres://shop@db/shop

Then, in the transaction of the business writes:
  SELECT hapax_enqueue('order-paid', 'order-7', '{\"order\":7}');            PostgreSQL
  CALL hapax_enqueue('order-paid', 'order-7', '{\"order\":7}', NULL, NULL);  MySQL, MariaDB
  INSERT INTO hapax_outbox (effect, key, payload)
      VALUES ('order-paid', 'order-7', '{\"order\":7}');                     SQLite

`hapax serve` with an [[outbox]] of that name delivers it. Dead letters: hapax dead ls.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the SQL that makes the table and the function
    Sql {
        /// postgres, mysql or sqlite
        #[arg(long)]
        dialect: Dialect,
    },
    /// Make the table and the function, or write the function again
    Install(Database),
    /// Count what waits, and show what cannot be taken over and why
    Ls {
        #[command(flatten)]
        database: Database,
        /// At most so many rows that cannot be taken over
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Database {
    /// postgres://USER@HOST/DATABASE, mysql://USER@HOST/DATABASE or sqlite:FILE
    #[arg(long, value_name = "URL", env = "HAPAX_DATABASE", hide_env_values = true)]
    database: DatabaseUrl,
}

pub(crate) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Sql { dialect } => Ok(io::stdout().write_all(staging::script(dialect).as_bytes())?),
        Command::Install(Database { database }) => store::runtime()?.block_on(async {
            let said = match staging::install(&database.0).await? {
                Installed::Fresh => "installed hapax_outbox and hapax_enqueue",
                Installed::Again => "hapax_outbox was there; wrote hapax_enqueue again",
            };
            Ok(writeln!(io::stdout().lock(), "{said}")?)
        }),
        Command::Ls { database, limit, json } => store::runtime()?.block_on(list(&database.database, limit, json)),
    }
}

async fn list(database: &DatabaseUrl, limit: u32, as_json: bool) -> Result<(), Failure> {
    let staging = staging::connect(&database.0).await?;
    let counts = staging.counts().await?;
    let refused = staging.refused(limit).await?;
    let mut out = io::stdout().lock();
    if as_json {
        let effects = counts.iter().map(|count| {
            json!({
                "effect": count.effect, "waiting": count.waiting, "refused": count.refused,
                "oldest_seconds": count.oldest.as_secs_f64(),
            })
        });
        let rows = refused
            .iter()
            .map(|row| json!({ "id": row.id, "effect": row.effect, "key": row.key, "error": row.error }));
        let page = json!({ "effects": effects.collect::<Vec<_>>(), "refused": rows.collect::<Vec<_>>() });
        return Ok(writeln!(out, "{page}")?);
    }
    if counts.is_empty() {
        writeln!(out, "nothing waits")?;
    }
    for count in counts {
        writeln!(
            out,
            "{}: {} waiting (the oldest for {:.0?}), {} that cannot be taken over",
            count.effect.escape_debug(),
            count.waiting,
            count.oldest,
            count.refused
        )?;
    }
    for row in &refused {
        let (effect, key) = (row.effect.escape_debug(), row.key.escape_debug());
        writeln!(out, "row {} of {effect}, key {key}: {}", row.id, row.error)?;
    }
    if !refused.is_empty() {
        writeln!(
            out,
            "correct such a row and set its error to NULL, or delete it: nothing else waits for it"
        )?;
    }
    Ok(())
}
