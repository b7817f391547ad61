//! What a request's head says when it leaves the listener: nothing of hapax's own from outside,
//! and who the client is.

use http::{HeaderName, HeaderValue, Request};

use super::Peer;
use crate::gateway::limits::Forwarded;
use crate::gateway::upstream::strip_hapax;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The same for all requests of one connection.
#[derive(Debug)]
pub(super) struct Forward {
    mode: Forwarded,
    address: String,
    address_value: HeaderValue,
    proto: HeaderValue,
}

impl Forward {
    pub(super) fn new(peer: Peer, mode: Forwarded) -> Self {
        let address = peer.address.ip().to_canonical().to_string();
        // An address has no byte that a header may not have.
        let address_value = HeaderValue::from_str(&address).unwrap_or(HeaderValue::from_static("unknown"));
        Forward {
            mode,
            address,
            address_value,
            proto: HeaderValue::from_static(if peer.is_tls { "https" } else { "http" }),
        }
    }

    pub(super) fn apply<B>(&self, request: &mut Request<B>) {
        let headers = request.headers_mut();
        strip_hapax(headers);
        match self.mode {
            Forwarded::Off => {}
            Forwarded::Replace => {
                headers.insert(FORWARDED_FOR, self.address_value.clone());
                headers.insert(FORWARDED_PROTO, self.proto.clone());
            }
            Forwarded::Append => {
                let value = self.appended(headers.get_all(&FORWARDED_FOR).iter());
                headers.insert(FORWARDED_FOR, value);
                headers.entry(FORWARDED_PROTO).or_insert_with(|| self.proto.clone());
            }
        }
    }

    fn appended<'a>(&self, before: impl Iterator<Item = &'a HeaderValue>) -> HeaderValue {
        let mut list = Vec::new();
        for value in before {
            list.extend_from_slice(value.as_bytes());
            list.extend_from_slice(b", ");
        }
        if list.is_empty() {
            return self.address_value.clone();
        }
        list.extend_from_slice(self.address.as_bytes());
        // Joined header values are a header value.
        HeaderValue::from_maybe_shared(bytes::Bytes::from(list)).unwrap_or_else(|_| self.address_value.clone())
    }
}
