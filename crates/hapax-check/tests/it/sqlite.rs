//! SQLite: one file, each handle with connections and a writer of its own.

use std::sync::Arc;

use hapax_check::{Backend, history};
use hapax_core::{BoxFuture, Store, StoreError};
use hapax_store::sqlite::{SqliteOptions, SqliteStore};

fn sqlite() -> impl Backend {
    let directory = tempfile::tempdir();
    move |clock| -> BoxFuture<'static, Result<Arc<dyn Store>, StoreError>> {
        let path = match &directory {
            Ok(directory) => directory.path().join("hapax.db"),
            Err(error) => panic!("no directory for the database: {error}"),
        };
        Box::pin(async move {
            let options = SqliteOptions {
                clock,
                ..SqliteOptions::default()
            };
            let store = SqliteStore::open(path, options)?;
            Ok(Arc::new(store) as Arc<dyn Store>)
        })
    }
}

mod conformance {
    hapax_check::conformance_tests!(super::sqlite());
}

#[test]
fn histories() {
    let regressions = concat!(env!("CARGO_MANIFEST_DIR"), "/regressions/sqlite.txt");
    if let Err(failure) = history::run(64, regressions, sqlite) {
        panic!("{failure}");
    }
}
