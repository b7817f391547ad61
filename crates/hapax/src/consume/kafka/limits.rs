//! How long Kafka keeps a topic's messages, by the topic's own settings.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::outlet::Quiet;
use super::trouble::Trouble;
use crate::consume::SourceError;

/// The longest wait for a topic's settings.
const ASK: Duration = Duration::from_secs(5);
/// How often Kafka looks for segments that are too old, unless its operator changed that.
const CHECK: Duration = Duration::from_secs(300);

/// The largest age of what the topics keep; `None` if something is kept for ever, or the broker does not tell.
pub(super) async fn largest_age(
    label: &str,
    config: &ClientConfig,
    topics: &[std::sync::Arc<str>],
) -> Result<Option<Duration>, SourceError> {
    let admin: Result<AdminClient<Quiet>, _> = config.create_with_context(Quiet);
    let admin = admin.map_err(|error| Trouble::refused(format!("{label}: {error}")).error())?;
    let described = {
        let topics: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        let options = AdminOptions::new().request_timeout(Some(ASK));
        admin.describe_configs(&topics, &options).await
    };
    // It waits for its thread.
    tokio::task::spawn_blocking(move || drop(admin));
    let described = match described {
        Ok(described) => described,
        Err(ClientError::AdminOp(Code::UnsupportedFeature | Code::UnsupportedVersion | Code::InvalidRequest)) => {
            return Ok(None);
        }
        Err(error) => {
            let text = format!("{label}: no broker tells how long it keeps messages: {error}");
            return Err(Trouble::unreachable(text).error());
        }
    };
    let mut largest = Some(Duration::ZERO);
    for found in described {
        let age = match found {
            Ok(found) => age(|name| found.get(name)?.value.clone()),
            // Its settings can be hidden from those who may read it.
            Err(Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed) => None,
            Err(code) => match Trouble::of(code, &code.to_string(), label) {
                Some(trouble) => return Err(trouble.error()),
                None => None,
            },
        };
        largest = largest.zip(age).map(|(largest, age)| largest.max(age));
    }
    Ok(largest)
}

/// What is deleted is a segment, once its newest message is too old: its oldest is older by as much as the segment took
/// to fill.
fn age(setting: impl Fn(&str) -> Option<String>) -> Option<Duration> {
    let millis = |name| setting(name)?.parse::<u64>().ok().map(Duration::from_millis);
    if setting("cleanup.policy").is_some_and(|policy| policy.contains("compact")) {
        return None;
    }
    let retention = millis("retention.ms")?;
    Some(retention.saturating_add(millis("segment.ms").unwrap_or_default() + CHECK))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(settings: &[(&str, &str)]) -> Option<Duration> {
        age(|name| {
            let (_, value) = settings.iter().find(|(had, _)| *had == name)?;
            Some((*value).to_owned())
        })
    }

    #[test]
    fn a_message_lives_as_long_as_its_segment() {
        const WEEK: &str = "604800000";
        let weeks = |weeks: u64| Duration::from_secs(weeks * 7 * 86_400);
        let delete = ("cleanup.policy", "delete");
        assert_eq!(of(&[delete, ("retention.ms", WEEK)]), Some(weeks(1) + CHECK));
        let both = [delete, ("retention.ms", WEEK), ("segment.ms", WEEK)];
        assert_eq!(of(&both), Some(weeks(2) + CHECK));
    }

    #[test]
    fn what_is_kept_for_ever_has_no_age() {
        assert_eq!(of(&[("retention.ms", "-1"), ("segment.ms", "1000")]), None);
        assert_eq!(
            of(&[("cleanup.policy", "compact,delete"), ("retention.ms", "1000")]),
            None
        );
        assert_eq!(of(&[]), None);
    }
}
