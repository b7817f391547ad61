//! graphile_worker on the runner benchmark's work: `hapax-bench-graphile URL JOBS CONCURRENCY queue|batched` enqueues so
//! many jobs that do nothing in an empty database, lets a worker run them, and prints how many seconds that took.
//!
//! `queue` is a worker as the crate's own benchmarks set it up: it fetches many jobs at a time (without that it would run
//! one for each notification, and of a backlog no more than `CONCURRENCY` at each poll), and completes each by itself.
//! `batched` completes many at a time as well, by the crate's own option.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use graphile_worker::tokio_postgres::TokioPostgresDatabase;
use graphile_worker::{
    Database, IntoTaskHandlerResult, JobSpec, LocalQueueConfig, RawJobSpec, TaskHandler, WorkerContext, WorkerOptions,
    WorkerUtils,
};
use tokio_postgres::{Client, NoTls};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const SCHEMA: &str = "graphile_worker";
/// Jobs enqueued by one statement.
const CHUNK: u64 = 5_000;
const LEFT: &str = "SELECT count(*) FROM graphile_worker._private_jobs";

#[derive(serde::Serialize, serde::Deserialize)]
struct Nothing {
    job: u64,
    note: String,
}

#[derive(Clone, Debug, Default)]
struct Ran(Arc<AtomicU64>);

impl TaskHandler for Nothing {
    const IDENTIFIER: &'static str = "nothing";

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        if let Some(ran) = context.get_ext::<Ran>() {
            ran.0.fetch_add(1, Ordering::Relaxed);
        }
        Ok::<(), String>(())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, jobs, concurrency, how] = arguments.as_slice() else {
        return Err("usage: hapax-bench-graphile URL JOBS CONCURRENCY queue|batched".into());
    };
    let (jobs, concurrency) = (jobs.parse()?, concurrency.parse()?);
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    // As many connections as jobs at a time: nobody waits for one.
    let database: Database = TokioPostgresDatabase::from_url(url, concurrency + 4)?.into();
    enqueue(&database, jobs).await?;
    client.batch_execute("VACUUM (ANALYZE)").await?;
    client.batch_execute("CHECKPOINT").await?;

    let ran = Ran::default();
    let options = WorkerOptions::default()
        .database(database)
        .schema(SCHEMA)
        .concurrency(concurrency)
        .listen_os_shutdown_signals(false)
        .add_extension(ran.clone())
        .define_job::<Nothing>();
    let options = options
        .poll_interval(Duration::from_millis(10))
        .local_queue(LocalQueueConfig::default().with_size(500));
    let options = match how.as_str() {
        "queue" => options,
        "batched" => options.complete_job_batch_delay(Duration::from_millis(1)),
        other => return Err(format!("`{other}` is neither queue nor batched").into()),
    };
    let worker = Arc::new(options.init().await?);
    let start = Instant::now();
    let running = Arc::clone(&worker);
    let running = tokio::spawn(async move { running.run().await.map_err(|error| error.to_string()) });
    wait(&client, &ran, jobs).await?;
    println!("{}", start.elapsed().as_secs_f64());
    worker.request_shutdown();
    running.await??;
    match ran.0.load(Ordering::Relaxed) {
        right if right == jobs => Ok(()),
        wrong => Err(format!("{wrong} jobs ran instead of {jobs}").into()),
    }
}

async fn enqueue(database: &Database, jobs: u64) -> Result<()> {
    let utils = WorkerUtils::new(database.clone(), SCHEMA);
    utils.migrate().await?;
    let mut next = 0;
    while next < jobs {
        let chunk = next..jobs.min(next + CHUNK);
        next = chunk.end;
        let chunk: serde_json::Result<Vec<RawJobSpec>> = chunk.map(job).collect();
        utils.add_raw_jobs(&chunk?).await?;
    }
    Ok(())
}

fn job(job: u64) -> serde_json::Result<RawJobSpec> {
    let note = "x".repeat(100);
    Ok(RawJobSpec {
        identifier: Nothing::IDENTIFIER.to_owned(),
        payload: serde_json::to_value(Nothing { job, note })?,
        spec: JobSpec::default(),
    })
}

/// Until all have run and none is left in the table: the queue removes what is done.
async fn wait(client: &Client, ran: &Ran, jobs: u64) -> Result<()> {
    while ran.0.load(Ordering::Relaxed) < jobs {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    while client.query_one(LEFT, &[]).await?.try_get::<_, i64>(0)? > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}
