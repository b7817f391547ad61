//! The reference model.

use std::sync::{Arc, Mutex, PoisonError};

use hapax_check::Backend;
use hapax_core::Store;
use hapax_store::MemoryStore;

/// One set of records: closing a handle does not lose it.
pub(crate) fn memory() -> impl Backend {
    let opened: Mutex<Option<MemoryStore>> = Mutex::default();
    move |clock| -> hapax_core::BoxFuture<'static, _> {
        let mut opened = opened.lock().unwrap_or_else(PoisonError::into_inner);
        let store = opened.get_or_insert_with(|| MemoryStore::new(clock, [7; 32])).clone();
        Box::pin(std::future::ready(Ok(Arc::new(store) as Arc<dyn Store>)))
    }
}

mod conformance {
    hapax_check::conformance_tests!(super::memory());
}
