//! Effects into a stream.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Value, cmd};
use hapax_core::policy::FailureClass;
use hapax_core::{Answer, BoxFuture, Outcome};
use tokio::sync::Mutex;

use super::{PAYLOAD, Redis, RedisSetupError, fault};
use crate::outbox::{Delivery, Sink};
use crate::runner::{Attempted, Failure};

/// How long the server has for an answer.
const ANSWER: Duration = Duration::from_secs(5);

/// A sink that adds each effect to a stream. Cheap to clone; clones share the connection.
///
/// The fields are `payload`, `Idempotency-Key` (the derived key), `Content-Type` and `Effect` (its name). Redis drops no
/// duplicates: whoever reads the stream must know keys, as a consumer of [`RedisSource`](super::RedisSource) does that
/// identifies its messages by `Idempotency-Key`. Added is added for good only where Redis flushes before it answers:
/// `appendonly yes` and `appendfsync always`.
///
/// | the server | proves |
/// |---|---|
/// | says the entry's ID | it is delivered |
/// | cannot be reached, or refuses the login | it is not |
/// | answers with an error | it is not |
/// | breaks off or says nothing | nothing |
///
/// ```
/// use hapax::consume::{Redis, RedisSink};
///
/// let sink = RedisSink::new(Redis::new("redis://127.0.0.1")?, "orders")?.max_len(1_000_000);
/// # Ok::<_, hapax::consume::RedisSetupError>(())
/// ```
#[derive(Clone)]
pub struct RedisSink {
    inner: Arc<Inner>,
    max_len: Option<u64>,
}

struct Inner {
    redis: Redis,
    stream: String,
    link: Mutex<Option<MultiplexedConnection>>,
}

impl RedisSink {
    /// All effects to one stream, which is made by the first if there is none.
    ///
    /// # Errors
    /// [`RedisSetupError::Empty`] if it has no name.
    pub fn new(redis: Redis, stream: &str) -> Result<Self, RedisSetupError> {
        if stream.is_empty() {
            return Err(RedisSetupError::Empty("stream"));
        }
        Ok(Self {
            inner: Arc::new(Inner {
                redis,
                stream: stream.to_owned(),
                link: Mutex::new(None),
            }),
            max_len: None,
        })
    }

    /// Lets the stream keep about this many of the latest entries (all). What consumers have not done by then is lost.
    #[must_use]
    pub fn max_len(mut self, entries: u64) -> Self {
        self.max_len = Some(entries);
        self
    }

    async fn add(self, delivery: Delivery) -> Attempted {
        let mut link = match self.inner.link().await {
            Ok(link) => link,
            // Nothing was sent.
            Err(error) => return self.failed(FailureClass::Unsent, error),
        };
        let mut add = cmd("XADD");
        add.arg(&self.inner.stream);
        if let Some(entries) = self.max_len {
            add.arg("MAXLEN").arg("~").arg(entries);
        }
        add.arg("*").arg(PAYLOAD).arg(&delivery.payload[..]);
        add.arg("Idempotency-Key").arg(&delivery.key);
        add.arg("Content-Type").arg(&*delivery.content_type);
        add.arg("Effect").arg(delivery.name.as_str());
        match add.query_async::<Value>(&mut link).await {
            Ok(_) => Attempted::Done(Outcome::Answer(added())),
            Err(error) if fault::is_answer(&error) => self.failed(FailureClass::Unsent, error),
            Err(error) => {
                *self.inner.link.lock().await = None;
                self.failed(FailureClass::Ambiguous, error)
            }
        }
    }

    fn failed(&self, class: FailureClass, error: ::redis::RedisError) -> Attempted {
        let Inner { redis, stream, .. } = &*self.inner;
        let error = fault::error(&redis.label(), &format!("add an entry to {stream}"), error);
        Attempted::Failed(Failure::new(class, &error.to_string()))
    }
}

impl Inner {
    async fn link(&self) -> ::redis::RedisResult<MultiplexedConnection> {
        let mut link = self.link.lock().await;
        match &*link {
            Some(link) => Ok(link.clone()),
            None => Ok(link.insert(self.redis.connect(ANSWER).await?).clone()),
        }
    }
}

/// There is no more to say than that.
fn added() -> Answer {
    Answer {
        status: 202,
        headers: Vec::new(),
        body: bytes::Bytes::new(),
    }
}

impl Sink for RedisSink {
    fn deliver(&self, delivery: Delivery) -> BoxFuture<'static, Attempted> {
        Box::pin(self.clone().add(delivery))
    }
}

impl fmt::Debug for RedisSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSink")
            .field("redis", &self.inner.redis)
            .field("stream", &self.inner.stream)
            .finish_non_exhaustive()
    }
}
