//! What the shop can be asked to do, and what it answers: no HTTP and no SQL here.

use serde::{Deserialize, Serialize};

/// An effect that a request asks for.
#[derive(Debug, Clone)]
pub(crate) enum Wanted {
    Order(NewOrder),
    Payment(NewPayment),
    Points(NewPoints),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewOrder {
    pub(crate) customer: String,
    pub(crate) client_order_id: Option<String>,
    pub(crate) item: String,
    pub(crate) quantity: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPayment {
    pub(crate) order_id: Option<i64>,
    pub(crate) intent: Option<String>,
    pub(crate) amount_cents: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPoints {
    pub(crate) customer: String,
    pub(crate) points: u32,
}

/// One request to the database.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    Accept(Wanted, Origin),
    Find(Kind, i64),
    /// The order that this `Hapax-Operation` made.
    FindOrderOf(String),
}

/// The headers of the request behind an effect, as received; what the oracle counts by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origin {
    pub(crate) key: Option<String>,
    pub(crate) operation: Option<String>,
    pub(crate) fence: Option<String>,
}

/// Which table a row is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Order,
    Payment,
    Points,
}

impl Kind {
    /// The path of the collection that holds rows of this kind.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Kind::Order => "/orders",
            Kind::Payment => "/payments",
            Kind::Points => "/points",
        }
    }
}

/// A committed row, as answers show it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    #[serde(skip)]
    pub(crate) kind: Kind,
    pub(crate) id: i64,
    pub(crate) created_ms: i64,
    #[serde(flatten)]
    pub(crate) fields: Fields,
}

#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(crate) enum Fields {
    Order {
        customer: String,
        client_order_id: Option<String>,
        item: String,
        quantity: u32,
    },
    Payment {
        order_id: Option<i64>,
        intent: Option<String>,
        amount_cents: u32,
    },
    Points {
        customer: String,
        points: u32,
    },
}

/// Why there is no row to answer with; nothing was committed.
#[derive(Debug, Clone)]
pub(crate) enum Refusal {
    OutOfStock {
        item: String,
        on_hand: i64,
    },
    UnknownItem(String),
    UnknownOrder(i64),
    NotFound {
        kind: Kind,
        id: i64,
    },
    /// Natural keys only: this order is there already.
    Exists(Box<Row>),
    /// The database refused the whole batch and rolled it back.
    Database(String),
    /// The shop is closed, or its writer has stopped.
    Closed,
}
