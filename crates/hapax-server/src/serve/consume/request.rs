//! A message as a request: CloudEvents in binary mode, with the keys that make its handling idempotent.

use bytes::Bytes;
use hapax::Run;
use hapax::consume::Message;
use hapax::http::IDEMPOTENCY_KEY;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::config::consume::Consume;

/// Headers of a message that mean something else to HTTP, or to a proxy on its way.
const NOT_SENT: [&str; 18] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "expect",
    "host",
    "idempotency-key",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// The prefixes of CloudEvents' attributes in the bindings of the brokers.
const CLOUD_EVENTS: [&str; 4] = ["ce-", "ce_", "cloudevents:", "cloudevents_"];

/// What a consumer's requests have in common.
pub(super) struct Request {
    path: PathAndQuery,
    host: Option<HeaderValue>,
    source: String,
}

impl Request {
    pub(super) fn new(one: &Consume) -> Self {
        let authority = one.to.origin.0.authority();
        Self {
            path: one.to.path.clone(),
            host: authority.and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()),
            source: format!("urn:hapax:consumer:{}", one.name),
        }
    }

    /// The request of a message.
    pub(super) fn of(&self, run: &Run, message: &Message) -> http::Request<Bytes> {
        let key = run.operation.key().as_str();
        let mut request = http::Request::new(message.payload.clone());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.clone().into();
        let headers = request.headers_mut();
        if let Some(host) = &self.host {
            headers.insert(HOST, host.clone());
        }
        headers.insert(CONTENT_LENGTH, message.payload.len().into());
        for (name, value) in &message.headers {
            pass(headers, name, value);
        }
        headers.insert(CONTENT_TYPE, content_type(message));
        headers.insert(IDEMPOTENCY_KEY, header_key(key).unwrap_or_else(|| hex(run)));
        self.cloud_event(headers, key, message);
        request
    }

    /// What the message does not say of itself as a CloudEvent.
    fn cloud_event(&self, headers: &mut HeaderMap, key: &str, message: &Message) {
        if is_structured(message) {
            return;
        }
        let published = message.published.map(|published| published.to_string());
        let attributes = [
            ("ce-specversion", Some("1.0")),
            ("ce-id", Some(key)),
            ("ce-source", Some(self.source.as_str())),
            ("ce-type", Some(&*message.subject)),
            ("ce-time", published.as_deref()),
        ];
        for (name, value) in attributes {
            let name = HeaderName::from_static(name);
            if let (Some(value), false) = (value, headers.contains_key(&name))
                && let Ok(value) = HeaderValue::from_str(&percent_encoded(value))
            {
                headers.insert(name, value);
            }
        }
    }
}

fn pass(headers: &mut HeaderMap, name: &str, value: &Bytes) {
    let lower = name.to_ascii_lowercase();
    let attribute = CLOUD_EVENTS.iter().find_map(|prefix| lower.strip_prefix(prefix));
    let (name, value) = match attribute {
        Some(attribute) => (
            format!("ce-{attribute}"),
            percent_encoded(&String::from_utf8_lossy(value)).into_bytes().into(),
        ),
        None if NOT_SENT.contains(&lower.as_str()) || lower.starts_with("hapax-") => return,
        None => (lower, value.clone()),
    };
    // What is no header is not sent as one.
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_maybe_shared(value)) {
        headers.append(name, value);
    }
}

fn is_structured(message: &Message) -> bool {
    let own = message.text("content-type").unwrap_or_default();
    own.trim().to_ascii_lowercase().starts_with("application/cloudevents")
}

/// What the message says of itself, or what it looks like.
fn content_type(message: &Message) -> HeaderValue {
    let own = message
        .text("content-type")
        .and_then(|own| HeaderValue::from_str(own).ok());
    own.unwrap_or_else(|| match message.payload.trim_ascii_start().first() {
        Some(b'{' | b'[') => HeaderValue::from_static("application/json"),
        _ => HeaderValue::from_static("application/octet-stream"),
    })
}

/// A key as every known client sends one: bare, visible ASCII.
fn header_key(key: &str) -> Option<HeaderValue> {
    let is_bare = key
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !b",;\"".contains(&byte));
    is_bare.then(|| HeaderValue::from_str(key).ok()).flatten()
}

#[allow(clippy::expect_used, reason = "hexadecimal digits are a header value")]
fn hex(run: &Run) -> HeaderValue {
    HeaderValue::from_str(&run.operation.id().to_string()).expect("hexadecimal digits are a header value")
}

/// As CloudEvents' HTTP binding has it (1.0.2, section 3.1.3.2): what is not visible ASCII, quotes and percent signs.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'"' | b'%' => out.push_str(&format!("%{byte:02X}")),
            0x21..=0x7e => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use hapax::core::{Fence, Key, Name, Operation, Scope, Timestamp};

    use super::*;

    fn request(key: &str, message: &Message) -> http::Request<Bytes> {
        let request = Request {
            path: PathAndQuery::from_static("/points?v=1"),
            host: Some(HeaderValue::from_static("shop:9000")),
            source: "urn:hapax:consumer:points".to_owned(),
        };
        let (scope, name) = (Scope::new("messages").unwrap(), Name::new("points").unwrap());
        let run = Run {
            operation: Operation::new(scope, name, Key::new(key).unwrap()),
            fence: Fence::new(7),
            tries: 1,
        };
        request.of(&run, message)
    }

    fn header<'r>(request: &'r http::Request<Bytes>, name: &str) -> Option<&'r str> {
        request.headers().get(name).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn a_plain_message_becomes_a_cloud_event() {
        let message = Message {
            published: Some(Timestamp::from_millis(0)),
            ..Message::new("orders.paid", r#"{"a":1}"#)
        };
        let request = request("order-7", &message);
        assert_eq!(
            (request.method(), request.uri().to_string()),
            (&Method::POST, "/points?v=1".to_owned())
        );
        for (name, value) in [
            ("idempotency-key", "order-7"),
            ("content-type", "application/json"),
            ("content-length", "7"),
            ("host", "shop:9000"),
            ("ce-specversion", "1.0"),
            ("ce-id", "order-7"),
            ("ce-source", "urn:hapax:consumer:points"),
            ("ce-type", "orders.paid"),
            ("ce-time", "1970-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(header(&request, name), Some(value), "{name}");
        }
        assert_eq!(request.body(), &message.payload);
    }

    #[test]
    fn what_a_message_says_of_itself_counts() {
        let message = Message::new("t", "x")
            .header("ce_id", "e 1")
            .header("cloudEvents:source", "/shop%")
            .header("Content-Type", "text/plain")
            .header("traceparent", "00-1-2-03");
        let request = request("k", &message);
        for (name, value) in [
            ("ce-id", "e%201"),
            ("ce-source", "/shop%25"),
            ("ce-type", "t"),
            ("content-type", "text/plain"),
            ("traceparent", "00-1-2-03"),
        ] {
            assert_eq!(header(&request, name), Some(value), "{name}");
        }
        let structured = Message::new("t", "{}").header("content-type", "application/cloudevents+json; charset=utf-8");
        assert_eq!(header(&super::tests::request("k", &structured), "ce-id"), None);
    }

    #[test]
    fn no_message_sets_what_is_not_its_own() {
        let message = NOT_SENT
            .into_iter()
            .chain(["Hapax-Fence", "hapax-operation", "a b", "ü"])
            .fold(Message::new("t", "x"), |message, name| message.header(name, "forged"))
            .header("split", "a\r\nb: c");
        let request = request("k", &message);
        for (name, value) in request.headers() {
            let allowed = name == "content-type";
            assert!(allowed || !value.as_bytes().starts_with(b"forged"), "{name}");
        }
        assert_eq!(header(&request, "split"), None);
    }

    #[test]
    fn a_key_that_is_no_bare_key_is_sent_as_the_operations_identity() {
        let message = Message::new("t", "");
        for key in ["ü", "a b", "a,b", "a;b", "a\"b"] {
            let sent = request(key, &message);
            let sent = header(&sent, "idempotency-key").unwrap();
            assert!(
                sent.len() == 32 && sent.bytes().all(|byte| byte.is_ascii_hexdigit()),
                "{key}: {sent}"
            );
        }
    }
}
