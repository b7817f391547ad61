//! From a request to what it wants, or to the answer that says what is wrong with it.

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::command::{NewOrder, NewPayment, NewPoints, Origin, Wanted};

const MAX_TEXT_CHARS: usize = 200;
const MAX_QUANTITY: u32 = 10_000;
const MAX_AMOUNT_CENTS: u32 = 1_000_000_000;
const MAX_POINTS: u32 = 1_000_000;

/// A request that got no row, as its client sees it.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) error: &'static str,
    pub(crate) detail: String,
}

impl Problem {
    pub(crate) fn new(status: u16, error: &'static str, detail: impl Into<String>) -> Problem {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Problem {
            status,
            error,
            detail: detail.into(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "error": self.error, "detail": self.detail });
        (self.status, axum::Json(body)).into_response()
    }
}

/// A JSON document that becomes an effect once its values are in range.
pub(crate) trait Input: DeserializeOwned {
    fn check(self) -> Result<Wanted, Problem>;
}

impl Input for NewOrder {
    fn check(self) -> Result<Wanted, Problem> {
        text("customer", &self.customer)?;
        text("item", &self.item)?;
        if let Some(id) = &self.client_order_id {
            text("client_order_id", id)?;
        }
        number("quantity", self.quantity, MAX_QUANTITY)?;
        Ok(Wanted::Order(self))
    }
}

impl Input for NewPayment {
    fn check(self) -> Result<Wanted, Problem> {
        if self.order_id.is_some() == self.intent.is_some() {
            return Err(invalid("give either order_id or intent".into()));
        }
        if let Some(intent) = &self.intent {
            text("intent", intent)?;
        }
        number("amount_cents", self.amount_cents, MAX_AMOUNT_CENTS)?;
        Ok(Wanted::Payment(self))
    }
}

impl Input for NewPoints {
    fn check(self) -> Result<Wanted, Problem> {
        text("customer", &self.customer)?;
        number("points", self.points, MAX_POINTS)?;
        Ok(Wanted::Points(self))
    }
}

pub(crate) fn parse<T: Input>(headers: &HeaderMap, body: &[u8]) -> Result<Wanted, Problem> {
    let media_type = headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        let detail = "send the body as application/json";
        return Err(Problem::new(415, "unsupported-media-type", detail));
    }
    let new: T = serde_json::from_slice(body).map_err(|e| match e.classify() {
        Category::Data => invalid(e.to_string()),
        _ => Problem::new(400, "not-json", e.to_string()),
    })?;
    new.check()
}

pub(crate) fn origin(headers: &HeaderMap) -> Origin {
    Origin {
        key: received(headers, "idempotency-key"),
        operation: received(headers, "hapax-operation"),
        fence: received(headers, "hapax-fence"),
    }
}

/// All values of a header in one text, so that a header sent twice shows in the database.
fn received(headers: &HeaderMap, name: &str) -> Option<String> {
    let values = headers
        .get_all(name)
        .iter()
        .map(|v| String::from_utf8_lossy(v.as_bytes()));
    let values: Vec<_> = values.collect();
    (!values.is_empty()).then(|| values.join(", "))
}

fn text(field: &str, value: &str) -> Result<(), Problem> {
    let chars = value.chars().count();
    if chars == 0 || chars > MAX_TEXT_CHARS {
        return Err(invalid(format!(
            "{field} takes 1 to {MAX_TEXT_CHARS} characters, not {chars}"
        )));
    }
    Ok(())
}

fn number(field: &str, value: u32, max: u32) -> Result<(), Problem> {
    if value == 0 || value > max {
        return Err(invalid(format!("{field} takes 1 to {max}, not {value}")));
    }
    Ok(())
}

fn invalid(detail: String) -> Problem {
    Problem::new(422, "invalid", detail)
}
