//! The schema's migrations. Each run is one transaction that locks `hapax_migration` first, so that several processes
//! can start at once.

use hapax_core::{StoreError, StoreErrorKind, Timestamp};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Transaction};

use super::failure::Failure;
use super::link::Link;
use crate::migration::{Applied, Migration, MigrationStatus, Step, plan, status};

pub(super) static MIGRATIONS: [Migration; 5] = [
    Migration {
        version: 1,
        name: "records",
        up: include_str!("migrations/0001_records.up.sql"),
        down: include_str!("migrations/0001_records.down.sql"),
    },
    Migration {
        version: 2,
        name: "one_check",
        up: include_str!("migrations/0002_one_check.up.sql"),
        down: include_str!("migrations/0002_one_check.down.sql"),
    },
    Migration {
        version: 3,
        name: "queue",
        up: include_str!("migrations/0003_queue.up.sql"),
        down: include_str!("migrations/0003_queue.down.sql"),
    },
    Migration {
        version: 4,
        name: "groups",
        up: include_str!("migrations/0004_groups.up.sql"),
        down: include_str!("migrations/0004_groups.down.sql"),
    },
    Migration {
        version: 5,
        name: "whole_row",
        up: include_str!("migrations/0005_whole_row.up.sql"),
        down: include_str!("migrations/0005_whole_row.down.sql"),
    },
];

const CREATE: &str = "CREATE TABLE IF NOT EXISTS hapax_migration (
    version    bigint PRIMARY KEY,
    name       text   NOT NULL,
    checksum   text   NOT NULL,
    applied_at bigint NOT NULL
)";
const READ: &str = "SELECT version, name, checksum, applied_at FROM hapax_migration ORDER BY version";
const RECORD: &str = "INSERT INTO hapax_migration (version, name, checksum, applied_at)
    VALUES ($1, $2, $3, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint)";

/// How often to try again when another process creates the first table at the same time.
const ROUNDS: usize = 20;

/// Where a database stands.
pub(super) async fn statuses(link: &mut Link) -> Result<Vec<MigrationStatus>, StoreError> {
    let label = link.target().label.clone();
    let applied = applied(&link.live().await?.client).await;
    let applied = applied.map_err(|error| Failure::of(&error, "cannot read the migrations", &label))?;
    Ok(status(&MIGRATIONS, &applied))
}

/// Whether a database's schema is this program's; an error if it is newer or someone else's.
pub(super) async fn is_current(link: &mut Link) -> Result<bool, StoreError> {
    let label = link.target().label.clone();
    let applied = applied(&link.live().await?.client).await;
    let applied = applied.map_err(|error| Failure::of(&error, "cannot read the migrations", &label))?;
    let steps = plan(&MIGRATIONS, &applied, None).map_err(|error| at(&label, error))?;
    Ok(steps.is_empty())
}

/// Brings a database to `target`, the newest schema if `None`.
pub(super) async fn migrate(link: &mut Link, target: Option<u32>) -> Result<Vec<MigrationStatus>, StoreError> {
    let label = link.target().label.clone();
    let failed = |error: tokio_postgres::Error| Failure::of(&error, "cannot migrate", &label);
    for _ in 0..ROUNDS {
        let transaction = link.live().await?.client.transaction().await.map_err(failed)?;
        // A migration of a large table takes its time.
        let begin = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0";
        transaction.batch_execute(begin).await.map_err(failed)?;
        match transaction.batch_execute(CREATE).await {
            Ok(()) => {}
            Err(error) if created_meanwhile(&error) => continue,
            Err(error) => return Err(failed(error).into()),
        }
        let lock = "LOCK TABLE hapax_migration IN ACCESS EXCLUSIVE MODE";
        transaction.batch_execute(lock).await.map_err(failed)?;
        let rows = transaction.query(READ, &[]).await.map_err(failed)?;
        let steps = plan(&MIGRATIONS, &rows.iter().map(read).collect::<Vec<_>>(), target);
        for step in steps.map_err(|error| at(&label, error))? {
            carry_out(&transaction, step).await.map_err(failed)?;
        }
        let rows = transaction.query(READ, &[]).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        return Ok(status(&MIGRATIONS, &rows.iter().map(read).collect::<Vec<_>>()));
    }
    Err(Failure::raced("create the table hapax_migration", &label).into())
}

async fn carry_out(transaction: &Transaction<'_>, step: Step) -> Result<(), tokio_postgres::Error> {
    match step {
        Step::Up(migration) => {
            transaction.batch_execute(migration.up).await?;
            let (version, checksum) = (i64::from(migration.version), migration.checksum());
            transaction
                .execute(RECORD, &[&version, &migration.name, &checksum])
                .await?;
        }
        Step::Down(migration) => {
            transaction.batch_execute(migration.down).await?;
            let delete = "DELETE FROM hapax_migration WHERE version = $1";
            transaction.execute(delete, &[&i64::from(migration.version)]).await?;
        }
    }
    Ok(())
}

/// `IF NOT EXISTS` does not see a table that another transaction is creating.
fn created_meanwhile(error: &tokio_postgres::Error) -> bool {
    let raced = [
        SqlState::UNIQUE_VIOLATION,
        SqlState::DUPLICATE_TABLE,
        SqlState::DUPLICATE_OBJECT,
    ];
    error.code().is_some_and(|code| raced.contains(code))
}

async fn applied(client: &Client) -> Result<Vec<Applied>, tokio_postgres::Error> {
    match client.query_typed(READ, &[]).await {
        Ok(rows) => Ok(rows.iter().map(read).collect()),
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn read(row: &tokio_postgres::Row) -> Applied {
    Applied {
        version: row.get::<_, i64>(0) as u32,
        name: row.get(1),
        checksum: row.get(2),
        applied_at: Timestamp::from_millis(row.get(3)),
    }
}

fn at(label: &str, error: StoreError) -> StoreError {
    StoreError::new(error.kind(), format!("{label}: {error}"))
}

/// What a store without the right to migrate says.
pub(super) fn not_current(label: &str) -> StoreError {
    let message = format!("{label} has no hapax schema, or an older one: run `hapax migrate`");
    StoreError::new(StoreErrorKind::Schema, message)
}
