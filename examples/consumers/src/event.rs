//! What the shop tells.

use hapax::consume::Message;
use serde::{Deserialize, Serialize};

/// An event of the shop, as JSON. Its identity stands in the headers (CloudEvents).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Event {
    /// An order is paid.
    Paid {
        /// Which.
        order: String,
        /// Whose.
        customer: String,
        /// In cents: as many points.
        amount: i64,
    },
    /// An order has left the shop. May come before the order does.
    Shipped {
        /// Which.
        order: String,
    },
    /// How much of an item there is. May come later than a newer count.
    Stock {
        /// Which.
        item: String,
        /// Counted by the warehouse: the larger, the newer.
        version: i64,
        /// Pieces.
        pieces: i64,
    },
}

impl Event {
    /// What a message says.
    ///
    /// # Errors
    /// Why it makes no sense, for whoever reads the dead letter.
    pub fn of(message: &Message) -> Result<Self, String> {
        let event: Self =
            serde_json::from_slice(&message.payload).map_err(|error| format!("no event of the shop: {error}"))?;
        match &event {
            Self::Paid { amount, .. } if *amount < 0 => Err(format!("an order cannot cost {amount} cents")),
            _ => Ok(event),
        }
    }
}
