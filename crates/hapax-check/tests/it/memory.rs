//! The reference model.

use std::sync::{Arc, Mutex, PoisonError};

use hapax_check::{Backend, history};
use hapax_core::{BoxFuture, Store, StoreError};
use hapax_store::MemoryStore;

/// One set of records: closing a handle does not lose it.
fn memory() -> impl Backend {
    let opened: Mutex<Option<MemoryStore>> = Mutex::default();
    move |clock| -> BoxFuture<'static, Result<Arc<dyn Store>, StoreError>> {
        let mut opened = opened.lock().unwrap_or_else(PoisonError::into_inner);
        let store = opened.get_or_insert_with(|| MemoryStore::new(clock, [7; 32])).clone();
        Box::pin(std::future::ready(Ok(Arc::new(store) as Arc<dyn Store>)))
    }
}

mod conformance {
    hapax_check::conformance_tests!(super::memory());
}

#[test]
fn histories() {
    let regressions = concat!(env!("CARGO_MANIFEST_DIR"), "/regressions/memory.txt");
    if let Err(failure) = history::run(256, regressions, memory) {
        panic!("{failure}");
    }
}
