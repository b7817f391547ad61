//! A plain connection, for who wants to look at a server rather than keep records in it: no session settings, no
//! demands on the server, the same URLs and the same TLS.

use std::time::Duration;

use hapax_core::StoreError;
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

use super::failure::Failure;
use super::link::explain_connect;
use super::options::{PostgresOptions, Target};

/// How long a server may take to let one in.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects to `postgres://user:password@host:port/database` as [`PostgresStore::connect`](super::PostgresStore::connect)
/// does, replicas included, and changes nothing of the session. The second value names host and database for messages,
/// without the password. Must be called in a Tokio runtime, which then carries the connection until the client is
/// dropped.
///
/// # Errors
/// Says which host and database, why, and what to do.
pub async fn connect_plainly(url: &str) -> Result<(Client, String), StoreError> {
    let options = PostgresOptions {
        // With it come settings of the session.
        prepare: false,
        ..PostgresOptions::default()
    };
    let target = Target::new(url, &options)?;
    let failed = |error: tokio_postgres::Error| explain_connect(&error, &target);
    let connected = timeout(PATIENCE, async {
        match &target.tls {
            Some(tls) => {
                let (client, connection) = target.config.connect(tls.clone()).await.map_err(failed)?;
                tokio::spawn(drive(connection));
                Ok(client)
            }
            None => {
                let (client, connection) = target.config.connect(NoTls).await.map_err(failed)?;
                tokio::spawn(drive(connection));
                Ok(client)
            }
        }
    });
    let timed_out = |_| Failure::timed_out("cannot connect", &target.label, PATIENCE);
    let client: Result<Client, Failure> = connected.await.map_err(timed_out)?;
    Ok((client?, target.label.clone()))
}

async fn drive(connection: impl Future<Output = Result<(), tokio_postgres::Error>>) {
    // Its error also reaches whoever waits for an answer.
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a database connection ended");
    }
}
