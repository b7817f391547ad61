//! Answers that go wrong, or grow large, on order.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde_json::json;

use super::row_headers;
use crate::command::Row;
use crate::input::Problem;
use crate::knobs::Ending;
use crate::serve::Hangup;

const CHUNK_BYTES: usize = 16 << 10;

/// `row` is what was committed, if anything was.
pub(super) async fn answer(ending: Ending, row: Option<&Row>, hangup: Hangup) -> Response {
    let mut response = match ending {
        Ending::Status(status) => with_status(status, row),
        Ending::RetryAfter => {
            let problem = Problem::new(503, "ordered", "nothing was committed; try again");
            ([(RETRY_AFTER, "1")], problem).into_response()
        }
        Ending::Reset => {
            hangup.reset();
            std::future::pending().await
        }
        Ending::Cut => cut(row, hangup),
        Ending::Big(size) => json_response(Body::from(padded(row, size))),
        Ending::Stream(Some(size)) => {
            let body = Bytes::from(padded(row, size));
            let pieces = (0..size).step_by(CHUNK_BYTES);
            let pieces = pieces.map(move |at| body.slice(at..size.min(at + CHUNK_BYTES)));
            json_response(Body::from_stream(stream::iter(pieces.map(Ok::<_, std::io::Error>))))
        }
        Ending::Stream(None) => {
            let piece = Bytes::from(vec![b' '; CHUNK_BYTES]);
            let pieces = stream::iter(std::iter::repeat(piece));
            json_response(Body::from_stream(pieces.map(Ok::<_, std::io::Error>)))
        }
    };
    if let Some(row) = row {
        response.headers_mut().extend(row_headers(row));
    }
    response
}

fn with_status(status: StatusCode, row: Option<&Row>) -> Response {
    let bodiless = [
        StatusCode::NO_CONTENT,
        StatusCode::RESET_CONTENT,
        StatusCode::NOT_MODIFIED,
    ];
    if bodiless.contains(&status) {
        return status.into_response();
    }
    let body = json!({ "error": "ordered", "detail": "x-shop-fail asked for it", "row": row });
    (status, axum::Json(body)).into_response()
}

/// Half of a body whose whole length was announced; then the connection ends.
fn cut(row: Option<&Row>, hangup: Hangup) -> Response {
    let mut body = Bytes::from(padded(row, 1024));
    let length = HeaderValue::from(body.len());
    body.truncate(body.len() / 2);
    let end = stream::once(async move {
        // hyper writes out the first half before it lets the connection task see this.
        hangup.close();
        std::future::pending().await
    });
    let pieces = stream::iter([Ok::<_, std::io::Error>(body)]).chain(end);
    let mut response = json_response(Body::from_stream(pieces));
    response.headers_mut().insert(CONTENT_LENGTH, length);
    response
}

/// The row as JSON with white space behind it: exactly `size` bytes, or the bare JSON where it is
/// longer than that.
fn padded(row: Option<&Row>, size: usize) -> Vec<u8> {
    // A row has string keys and no floats, which always become JSON.
    let mut body = serde_json::to_vec(&row).unwrap_or_default();
    body.resize(size.max(body.len()), b' ');
    body
}

fn json_response(body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::CREATED;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
