//! `[receipts]`: the database in which the backend proves what it committed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::outbox::DatabaseUrl;

/// Where the backend writes receipts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Receipts {
    /// The backend's own database, where `hapax receipts install` was run. Nothing rests on receipts if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) database: Option<DatabaseUrl>,
    /// Look for a receipt before any run: after the store was restored or failed over, and may have lost records.
    pub(crate) recovering: bool,
}

impl Receipts {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
