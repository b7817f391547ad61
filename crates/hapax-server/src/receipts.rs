//! `hapax receipts`: the table and the function in the databases of backends.

mod verify;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use hapax::receipts::{self, Dialect, Installed, VERSION};

use crate::config::outbox::DatabaseUrl;
use crate::exit::Failure;
use crate::store;

pub(crate) const HELP: &str = "\
Examples:
  hapax receipts sql --dialect postgres | psql shop
  hapax receipts install --database postgres://shop@db/shop

Then, as the last statement of the transaction of the business writes, with the headers
Hapax-Operation and Hapax-Fence of the request, and the status and the body of the answer:
  SELECT hapax_receipt($1, $2, 201, '{\"id\":7}');                               PostgreSQL
  CALL hapax_receipt(?, ?, 201, '{\"id\":7}', NULL);                             MySQL, MariaDB
  INSERT INTO hapax_receipt (operation, fence, status, body) VALUES (?, ?, ?, ?);  SQLite

then see that it holds: hapax receipts verify --help
and tell the gateway: hapax serve --receipts URL";

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
    /// See whether an endpoint commits nothing without its receipt
    #[command(after_help = verify::HELP)]
    Verify(Box<verify::Verify>),
}

#[derive(Debug, Args)]
pub(crate) struct Database {
    /// postgres://USER@HOST/DATABASE, mysql://USER@HOST/DATABASE or sqlite:FILE
    #[arg(long, value_name = "URL", env = "HAPAX_DATABASE", hide_env_values = true)]
    database: DatabaseUrl,
}

pub(crate) fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Sql { dialect } => io::stdout().write_all(dialect.script().as_bytes())?,
        Command::Verify(args) => return verify::run(&args),
        Command::Install(Database { database }) => {
            let said = match store::runtime()?.block_on(receipts::install(&database.0))? {
                Installed::Fresh => format!("installed hapax_receipt, version {VERSION}"),
                Installed::Again => format!("hapax_receipt was there; wrote its function again, version {VERSION}"),
            };
            writeln!(io::stdout().lock(), "{said}")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
