//! What librdkafka's errors mean: whether waiting helps, and what a person is to do.

use rdkafka::types::RDKafkaErrorCode as Code;

use crate::consume::{SourceError, SourceErrorKind};

/// What keeps a client from its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) kind: SourceErrorKind,
    pub(super) text: String,
    /// Whether it is about the group: over when the group was joined, whatever else works.
    pub(super) of_group: bool,
}

impl Trouble {
    pub(super) fn unreachable(text: impl Into<String>) -> Self {
        Self {
            kind: SourceErrorKind::Unreachable,
            text: text.into(),
            of_group: false,
        }
    }

    pub(super) fn refused(text: impl Into<String>) -> Self {
        Self {
            kind: SourceErrorKind::Refused,
            ..Self::unreachable(text)
        }
    }

    /// What an error of the client means, with librdkafka's words for it; `None` if it goes on by itself.
    pub(super) fn of(code: Code, reason: &str, label: &str) -> Option<Self> {
        let refused = |advice: &str| Some(Self::refused(format!("{label}: {reason}: {advice}")));
        match code {
            Code::AllBrokersDown => Some(Self::unreachable(format!(
                "{label}: no broker can be reached: {reason}"
            ))),
            Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::IllegalSASLState => refused("look at the user, the password and the SASL mechanism"),
            Code::SSL => refused("look at the authority (ca), and whether that listener speaks TLS"),
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => refused(CREATE),
            Code::InvalidTopic => refused("no topic can have that name"),
            Code::TopicAuthorizationFailed => refused("allow this user to describe and read the topic (kafka-acls.sh)"),
            Code::ClusterAuthorizationFailed => refused("allow this user what it asks of the cluster (kafka-acls.sh)"),
            Code::GroupAuthorizationFailed => of_group(refused("allow this user to read the group (kafka-acls.sh)")),
            Code::InvalidGroupId => of_group(refused("choose another group")),
            Code::InconsistentGroupProtocol => of_group(refused(
                "the other members of the group share partitions out in another way: set \
                 partition.assignment.strategy as they do",
            )),
            Code::InvalidSessionTimeout => of_group(refused(
                "choose a session within the broker's group.min.session.timeout.ms and group.max.session.timeout.ms",
            )),
            Code::GroupMaxSizeReached => of_group(refused("the group is full (group.max.size)")),
            Code::FencedInstanceId => of_group(refused(
                "another process runs under this group.instance.id: give each its own",
            )),
            Code::UnsupportedFeature | Code::UnsupportedVersion => refused("this broker is too old for it"),
            Code::BadCompression | Code::NotImplemented | Code::BadMessage | Code::InvalidMessage => refused(
                "a message cannot be read, and nothing behind it is given: see how it was compressed, or move the \
                 group past it (kafka-consumer-groups.sh --reset-offsets)",
            ),
            Code::KafkaStorageError => refused("the broker cannot use its disk"),
            _ => None,
        }
    }

    pub(super) fn error(&self) -> SourceError {
        SourceError::new(self.kind, self.text.clone())
    }
}

/// What to do about a topic that is not there.
pub(super) const CREATE: &str =
    "create the topic: kafka-topics.sh --bootstrap-server BROKER --create --topic NAME --partitions N";

/// Whether an error says why a single broker cannot be reached, which is worth telling if none can.
pub(super) fn is_transport(code: Code) -> bool {
    matches!(
        code,
        Code::BrokerTransportFailure | Code::Resolve | Code::OperationTimedOut | Code::NetworkException
    )
}

fn of_group(trouble: Option<Trouble>) -> Option<Trouble> {
    trouble.map(|trouble| Trouble {
        of_group: true,
        ..trouble
    })
}
