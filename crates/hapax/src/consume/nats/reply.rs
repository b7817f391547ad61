//! What the subject says by which a message is acknowledged.
//!
//! `$JS.ACK.STREAM.CONSUMER.DELIVERED.SEQUENCE.CONSUMER_SEQUENCE.NANOSECONDS.PENDING`, or the same after a domain and an
//! account, with perhaps more behind it.

/// Where a message stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply<'a> {
    stream: &'a str,
    sequence: u64,
    /// Deliveries so far, this one included.
    pub(super) delivered: u64,
    /// In nanoseconds.
    pub(super) published: i128,
}

impl<'a> Reply<'a> {
    pub(super) fn parse(subject: &'a str) -> Option<Self> {
        let tokens: Vec<_> = subject.strip_prefix("$JS.ACK.")?.split('.').collect();
        let tokens = match tokens.len() {
            7 => &tokens[..],
            9.. => &tokens[2..],
            _ => return None,
        };
        Some(Self {
            stream: tokens[0],
            sequence: tokens[3].parse().ok()?,
            delivered: tokens[2].parse().ok()?,
            published: tokens[5].parse().ok()?,
        })
    }

    /// The message's place in the log.
    pub(super) fn position(&self) -> String {
        format!("{}/{}", self.stream, self.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let told = Reply {
            stream: "ORDERS",
            sequence: 17,
            delivered: 2,
            published: 1_700_000_000_000_000_000,
        };
        let short = "$JS.ACK.ORDERS.points.2.17.5.1700000000000000000.3";
        assert_eq!(Reply::parse(short), Some(told));
        for long in [
            "$JS.ACK._.hash.ORDERS.points.2.17.5.1700000000000000000.3",
            "$JS.ACK.hub.hash.ORDERS.points.2.17.5.1700000000000000000.3.random.more",
        ] {
            assert_eq!(Reply::parse(long), Reply::parse(short));
        }
        assert_eq!(Reply::parse(short).unwrap().position(), "ORDERS/17");
        for other in [
            "",
            "$JS.ACK.ORDERS",
            "$JS.FC.a.b",
            "$JS.ACK.a.b.c.d.e.f.g",
            "$JS.ACK.a.b.1.1.1.1.1.1",
        ] {
            assert_eq!(Reply::parse(other), None, "{other}");
        }
    }
}
