//! `hapax migrate`: the store's schema, to a version or as it stands.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use hapax::core::StoreError;
use hapax::store::migration::MigrationStatus;
use hapax::store::{PostgresStore, SqliteStore};

use crate::cli::StoreArg;
use crate::config::values::StoreUrl;
use crate::exit::{Exit, Failure};
use crate::store;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = false)]
pub(crate) struct Migrate {
    #[command(flatten)]
    store: StoreArg,
    /// The version to go to; 0 removes every record [default: the newest]
    #[arg(long, value_name = "N")]
    to: Option<u32>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(subcommand)]
    command: Option<MigrateCommand>,
}

#[derive(Debug, Subcommand)]
enum MigrateCommand {
    /// List the migrations, applied or not
    Status,
}

pub(crate) fn run(migrate: &Migrate) -> Result<(), Failure> {
    let url = &migrate.store.store;
    if *url == StoreUrl::Memory {
        return Err(Failure::new(
            Exit::Usage,
            "a memory: store has no schema; give sqlite:FILE or postgres://…",
        ));
    }
    store::runtime()?.block_on(async {
        if migrate.command.is_some() {
            if let StoreUrl::Sqlite(path) = url {
                store::must_exist(path)?;
            }
            return print_status(&statuses(url).await?);
        }
        let before = before(url).await?;
        if migrate.dry_run {
            return print_plan(&before, migrate.to);
        }
        let after = carry_out(url, migrate.to).await?;
        print_done(&before, &after)
    })
}

/// Each migration of the store, applied or not.
pub(crate) async fn statuses(url: &StoreUrl) -> Result<Vec<MigrationStatus>, StoreError> {
    match url {
        StoreUrl::Sqlite(path) => SqliteStore::migration_status(path),
        StoreUrl::Postgres(url) => PostgresStore::migrations(url).await,
        StoreUrl::Memory => Ok(Vec::new()),
    }
}

/// The same for a store that may not be there yet: then nothing is known of it.
async fn before(url: &StoreUrl) -> Result<Vec<MigrationStatus>, StoreError> {
    match url {
        StoreUrl::Sqlite(path) if !path.exists() => Ok(Vec::new()),
        _ => statuses(url).await,
    }
}

async fn carry_out(url: &StoreUrl, to: Option<u32>) -> Result<Vec<MigrationStatus>, StoreError> {
    match url {
        StoreUrl::Sqlite(path) => {
            SqliteStore::migrate(path, to)?;
            SqliteStore::migration_status(path)
        }
        StoreUrl::Postgres(url) => PostgresStore::migrate(url, to).await,
        StoreUrl::Memory => Ok(Vec::new()),
    }
}

fn print_status(lines: &[MigrationStatus]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    for line in lines {
        let applied = match line.applied_at {
            Some(at) => format!("applied {at}"),
            None => "not applied".to_owned(),
        };
        writeln!(out, "{:>4}  {:<24}  {applied}", line.version, line.name)?;
    }
    Ok(())
}

fn print_plan(before: &[MigrationStatus], to: Option<u32>) -> Result<(), Failure> {
    let newest = before.last().map_or(u32::MAX, |line| line.version);
    let to = to.unwrap_or(newest);
    let mut out = io::stdout().lock();
    if before.is_empty() {
        writeln!(out, "there is no store yet: it would be made")?;
        return Ok(());
    }
    if to > newest {
        let message = format!("there is no migration {to}: give a number from 0 to {newest}");
        return Err(Failure::new(Exit::Usage, message));
    }
    let ups = before
        .iter()
        .filter(|line| line.applied_at.is_none() && line.version <= to);
    let downs = before
        .iter()
        .rev()
        .filter(|line| line.applied_at.is_some() && line.version > to);
    let steps: Vec<String> = ups
        .map(|line| format!("would apply migration {} ({})", line.version, line.name))
        .chain(downs.map(|line| format!("would revert migration {} ({})", line.version, line.name)))
        .collect();
    if steps.is_empty() {
        writeln!(out, "nothing to do")?;
    }
    for step in steps {
        writeln!(out, "{step}")?;
    }
    Ok(())
}

fn print_done(before: &[MigrationStatus], after: &[MigrationStatus]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let mut changed = false;
    for line in after {
        let was = before
            .iter()
            .any(|old| old.version == line.version && old.applied_at.is_some());
        let word = match (was, line.applied_at.is_some()) {
            (false, true) => "applied",
            (true, false) => "reverted",
            _ => continue,
        };
        changed = true;
        writeln!(out, "{word} migration {} ({})", line.version, line.name)?;
    }
    if !changed {
        writeln!(out, "nothing to do")?;
    }
    Ok(())
}
