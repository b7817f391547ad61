//! What Redis's errors mean.

use std::io;

use ::redis::{ErrorKind, RedisError};

use crate::consume::{SourceError, SourceErrorKind};

/// An error that says what was being done, and what to do.
pub(super) fn error(at: &str, doing: &str, error: RedisError) -> SourceError {
    let (kind, why) = judge(&error);
    SourceError::new(kind, format!("{at} cannot {doing}: {why}")).caused_by(error)
}

/// Whether the connection is of no more use.
pub(super) fn is_lost(error: &RedisError) -> bool {
    error.is_io_error() || error.is_timeout() || error.is_connection_dropped() || error.kind() == ErrorKind::Parse
}

/// Whether the server itself has answered, and so has not done what was asked.
pub(super) fn is_answer(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

fn judge(error: &RedisError) -> (SourceErrorKind, String) {
    use SourceErrorKind::{Refused, Unreachable};
    let advice = match (error.code(), error.kind()) {
        (Some("NOAUTH" | "WRONGPASS"), _) | (_, ErrorKind::AuthenticationFailed) => {
            "it refuses the login; give a user and password that it knows (`redis://USER:PASSWORD@HOST`, `ACL LIST`)"
        }
        (Some("NOPERM"), _) => {
            "allow it by `ACL SETUSER`: +@stream +@connection +@transaction +type, on the keys of the stream and of its \
             dead letters"
        }
        (Some("WRONGTYPE"), _) => "the key holds something else than a stream; name another, or `DEL` it",
        (Some("MOVED" | "ASK" | "CROSSSLOT"), _) => "it is a cluster, which this does not do; use a Redis of one node",
        // Replicas, fail-overs, starts, scripts, no memory or disk: for as long as they last.
        (
            Some(
                "LOADING" | "MASTERDOWN" | "TRYAGAIN" | "CLUSTERDOWN" | "READONLY" | "BUSY" | "OOM" | "MISCONF"
                | "NOGROUP",
            ),
            _,
        ) => return (Unreachable, error.to_string()),
        (_, ErrorKind::Server(_) | ErrorKind::Extension) if error.to_string().contains("unknown command") => {
            "it is too old; use Redis 6.2 or later, or Valkey"
        }
        (_, ErrorKind::Server(_) | ErrorKind::Extension) => return (Refused, error.to_string()),
        (_, ErrorKind::InvalidClientConfig) => "its options make no sense",
        _ if is_tls(error) => "give the file of the authority that signed its certificate, and the name that is in it",
        _ => return (Unreachable, error.to_string()),
    };
    (Refused, format!("{error}; {advice}"))
}

/// What the client library calls an I/O error and is none.
fn is_tls(error: &RedisError) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(io, Some(io::ErrorKind::InvalidData | io::ErrorKind::NotFound)) {
            return true;
        }
        next = error.source();
    }
    false
}
