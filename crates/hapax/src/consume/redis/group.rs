//! The stream and its group: found or made, and how far behind.

use ::redis::aio::MultiplexedConnection;
use ::redis::{RedisError, RedisResult, Value, cmd};
use hapax_core::Timestamp;

use super::RedisOptions;
use super::entry::{Entries, pairs, published, text};
use super::fault;
use crate::consume::{Lag, SourceError, SourceErrorKind};

/// Where Redis does not say how many entries follow a place, as many are counted.
const COUNTED: usize = 1000;

/// What Redis says about a group.
#[derive(Debug)]
struct Group {
    pending: u64,
    lag: Option<u64>,
    last: String,
}

/// Finds the stream and its group. Makes the group if there is none, and the stream if that is allowed.
pub(super) async fn find(
    link: &mut MultiplexedConnection,
    at: &str,
    options: &RedisOptions,
) -> Result<(), SourceError> {
    let RedisOptions { stream, group, .. } = options;
    let failed = |error| fault::error(at, &format!("look at the stream {stream}"), error);
    let found = match look(link, options).await {
        Ok(found) => found.is_some(),
        Err(error) if is_missing(&error) && !options.create => {
            let what = format!(
                "{at} cannot be used: there is no stream {stream}; make it with its group by `XGROUP CREATE {stream} \
                 {group} 0 MKSTREAM`, or set create"
            );
            return Err(SourceError::new(SourceErrorKind::Refused, what).caused_by(error));
        }
        Err(error) if is_missing(&error) => false,
        Err(error) => return Err(failed(error)),
    };
    if !found {
        let mut make = cmd("XGROUP");
        make.arg("CREATE").arg(stream).arg(group).arg("0");
        if options.create {
            make.arg("MKSTREAM");
        }
        match make.query_async::<Value>(link).await {
            Err(error) if error.code() != Some("BUSYGROUP") => return Err(failed(error)),
            // Another process makes it at the same time, the same way.
            _ => {}
        }
    }
    if let Some(dead_letters) = &options.dead_letters {
        // Its step with the acknowledgement has no way back.
        let kind: String = cmd("TYPE").arg(dead_letters).query_async(link).await.map_err(failed)?;
        if kind != "stream" && kind != "none" {
            let what =
                format!("{at}: dead letters go to {dead_letters}, which is a {kind} and no stream; name another key");
            return Err(SourceError::new(SourceErrorKind::Refused, what));
        }
    }
    Ok(())
}

/// How far the group is behind.
pub(super) async fn lag(link: &mut MultiplexedConnection, options: &RedisOptions, now: Timestamp) -> RedisResult<Lag> {
    let stream = &options.stream;
    let Some(group) = look(link, options).await? else {
        // Somebody took it away. The next read says so, and it is made again.
        return Ok(Lag::default());
    };
    let waiting = match group.lag {
        Some(lag) => lag,
        // Older than 7.0, or it has lost count because entries were deleted.
        None => count(link, stream, &group.last).await?,
    };
    let mut oldest = None;
    if group.pending > 0 {
        let answer: Value = cmd("XPENDING")
            .arg(stream)
            .arg(&options.group)
            .query_async(link)
            .await?;
        if let Value::Array(parts) = answer {
            oldest = parts.into_iter().nth(1).and_then(text).and_then(|id| published(&id));
        }
    }
    if oldest.is_none() && waiting > 0 {
        let next = after(link, stream, &group.last, 1).await?.there;
        oldest = next.first().and_then(|entry| published(&entry.id));
    }
    Ok(Lag {
        messages: waiting + group.pending,
        oldest: oldest.map(|published| now.since(published)),
    })
}

async fn look(link: &mut MultiplexedConnection, options: &RedisOptions) -> RedisResult<Option<Group>> {
    let answer: Value = cmd("XINFO")
        .arg("GROUPS")
        .arg(&options.stream)
        .query_async(link)
        .await?;
    let Value::Array(groups) = answer else { return Ok(None) };
    for group in groups {
        let Value::Array(group) = group else { continue };
        let fields = pairs(group);
        let field = |name: &str| {
            let found = fields.iter().find(|(had, _)| **had == *name.as_bytes());
            found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        };
        if field("name").as_ref() == Some(&options.group) {
            return Ok(Some(Group {
                pending: field("pending")
                    .and_then(|count| count.parse().ok())
                    .unwrap_or_default(),
                lag: field("lag").and_then(|count| count.parse().ok()),
                last: field("last-delivered-id").unwrap_or_else(|| "0-0".to_owned()),
            }));
        }
    }
    Ok(None)
}

/// Entries behind a place: exactly if they are few, and all of the stream's if they are not.
async fn count(link: &mut MultiplexedConnection, stream: &str, last: &str) -> RedisResult<u64> {
    let counted = after(link, stream, last, COUNTED).await?.there.len();
    match counted < COUNTED {
        true => Ok(counted as u64),
        false => cmd("XLEN").arg(stream).query_async(link).await,
    }
}

async fn after(link: &mut MultiplexedConnection, stream: &str, last: &str, most: usize) -> RedisResult<Entries> {
    let mut range = cmd("XRANGE");
    range
        .arg(stream)
        .arg(format!("({last}"))
        .arg("+")
        .arg("COUNT")
        .arg(most);
    let list: Value = range.query_async(link).await?;
    Ok(Entries::read(Value::Array(vec![Value::Array(vec![list])])))
}

fn is_missing(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("no such key"))
}
