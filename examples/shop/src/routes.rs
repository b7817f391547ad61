//! Routes and answers.

mod ending;

use axum::Router;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http::header::{LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};

use crate::command::{Ask, Kind, NewOrder, NewPayment, NewPoints, Origin, Refusal, Row, Wanted};
use crate::input::{self, Input, Problem};
use crate::knobs::{Fail, Knobs};
use crate::pages;
use crate::serve::Hangup;
use crate::shop::Shop;

pub(crate) fn router(shop: Shop) -> Router {
    Router::new()
        .route("/orders", post(create::<NewOrder>))
        .route("/payments", post(create::<NewPayment>))
        .route("/points", post(create::<NewPoints>))
        .route("/orders/{id}", get(|s, id| find(Kind::Order, s, id)))
        .route("/orders/by-operation/{operation}", get(find_order_of))
        .route("/payments/{id}", get(|s, id| find(Kind::Payment, s, id)))
        .route("/points/{id}", get(|s, id| find(Kind::Points, s, id)))
        .route("/healthz", get(|| async { axum::Json(json!({ "status": "ok" })) }))
        .fallback(pages::find)
        .method_not_allowed_fallback(|| async {
            Problem::new(405, "method-not-allowed", "POST to a collection, GET one of its rows")
        })
        .with_state(shop)
}

async fn create<T: Input>(
    State(shop): State<Shop>,
    Extension(hangup): Extension<Hangup>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let body = body.map_err(|e| Problem::new(e.status().as_u16(), "bad-body", e.body_text()))?;
    let knobs = if shop.options.test_knobs {
        Knobs::parse(&headers)?
    } else {
        Knobs::default()
    };
    let wanted = input::parse::<T>(&headers, &body)?;
    // A task of its own, because a real backend does not stop half-way when its client hangs up.
    let work = tokio::spawn(work(shop, wanted, input::origin(&headers), knobs));
    let row = match work.await {
        Ok(Ok(row)) => row,
        Ok(Err(refusal)) => return Ok(refused(refusal)),
        Err(_) => return Err(Problem::new(500, "bug", "the shop failed on this request")),
    };
    match (knobs.fail, row) {
        (Some(Fail::Before(ending) | Fail::After(ending)), row) => {
            Ok(ending::answer(ending, row.as_ref(), hangup).await)
        }
        (None, Some(row)) => Ok(created(&row)),
        (None, None) => Err(Problem::new(500, "bug", "nothing was done, and nothing asked for it")),
    }
}

/// Commits the effect, unless the knobs say to fail before: then there is no row.
async fn work(shop: Shop, wanted: Wanted, origin: Origin, knobs: Knobs) -> Result<Option<Row>, Refusal> {
    if !knobs.delay_before.is_zero() {
        tokio::time::sleep(knobs.delay_before).await;
    }
    if let Some(Fail::Before(_)) = knobs.fail {
        return Ok(None);
    }
    let row = shop.ask(Ask::Accept(wanted, origin)).await?;
    if !knobs.delay_after.is_zero() {
        tokio::time::sleep(knobs.delay_after).await;
    }
    Ok(Some(row))
}

async fn find(kind: Kind, State(shop): State<Shop>, id: Result<Path<i64>, PathRejection>) -> Response {
    let Ok(Path(id)) = id else {
        return Problem::new(404, "not-found", "an id is a whole number").into_response();
    };
    match shop.ask(Ask::Find(kind, id)).await {
        Ok(row) => axum::Json(row).into_response(),
        Err(refusal) => refused(refusal),
    }
}

/// Whether an operation had its effect, for a probe.
async fn find_order_of(State(shop): State<Shop>, Path(operation): Path<String>) -> Response {
    match shop.ask(Ask::FindOrderOf(operation)).await {
        Ok(row) => axum::Json(row).into_response(),
        Err(refusal) => refused(refusal),
    }
}

fn created(row: &Row) -> Response {
    (StatusCode::CREATED, row_headers(row), axum::Json(row)).into_response()
}

/// Headers that differ from run to run, as those of real servers do.
fn row_headers(row: &Row) -> HeaderMap {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let session = RandomState::new().build_hasher().finish();
    let cookie = format!("shop_session={session:016x}; Path=/; HttpOnly");
    let location = format!("{}/{}", row.kind.path(), row.id);
    [(SET_COOKIE, cookie), (LOCATION, location)]
        .into_iter()
        .filter_map(|(name, value)| Some((name, HeaderValue::try_from(value).ok()?)))
        .collect()
}

fn refused(refusal: Refusal) -> Response {
    match refusal {
        Refusal::OutOfStock { item, on_hand } => {
            let detail = format!("{on_hand} of {item} left; order fewer");
            Problem::new(409, "out-of-stock", detail).into_response()
        }
        Refusal::UnknownItem(item) => Problem::new(422, "unknown-item", format!("no item {item}")).into_response(),
        Refusal::UnknownOrder(id) => {
            Problem::new(422, "unknown-order", format!("no order {id} to pay")).into_response()
        }
        Refusal::NotFound { kind, id } => {
            let detail = format!("no {}/{id}", kind.path());
            Problem::new(404, "not-found", detail).into_response()
        }
        Refusal::Exists(row) => exists(&row),
        Refusal::Database(detail) => {
            let detail = format!("{detail}; nothing was committed, so try again");
            Problem::new(500, "database", detail).into_response()
        }
        Refusal::Closed => Problem::new(503, "closed", "the shop is closing").into_response(),
    }
}

fn exists(row: &Row) -> Response {
    let body: Value = json!({
        "error": "exists",
        "detail": "this customer has an order with this client_order_id",
        "existing": row,
    });
    (StatusCode::CONFLICT, row_headers(row), axum::Json(body)).into_response()
}
