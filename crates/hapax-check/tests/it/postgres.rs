//! PostgreSQL: one database of a real server, each handle with connections of its own.

use std::sync::Arc;

use hapax_check::{Backend, history};
use hapax_core::{BoxFuture, Store, StoreError};
use hapax_store::postgres::{PostgresOptions, PostgresStore};
use hapax_testbed::Postgres;

fn postgres() -> impl Backend {
    let database = Postgres::shared().database();
    move |clock| -> BoxFuture<'static, Result<Arc<dyn Store>, StoreError>> {
        let url = database.url().to_owned();
        Box::pin(async move {
            let options = PostgresOptions {
                clock,
                ..PostgresOptions::default()
            };
            let store = PostgresStore::connect(&url, options).await?;
            Ok(Arc::new(store) as Arc<dyn Store>)
        })
    }
}

mod conformance {
    hapax_check::conformance_tests!(super::postgres());
}

#[test]
fn histories() {
    let regressions = concat!(env!("CARGO_MANIFEST_DIR"), "/regressions/postgres.txt");
    if let Err(failure) = history::run(24, regressions, postgres) {
        panic!("{failure}");
    }
}
