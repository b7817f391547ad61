//! Entries of a stream.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, RedisError, RedisResult, Value, cmd};
use futures_util::FutureExt;
use hapax_core::BoxFuture;
use hapax_store::Clock;
use tokio::time::{Instant, sleep_until};

use super::entry::{Entries, Entry};
use super::settle::RedisSettle;
use super::shared::{Shared, keep};
use super::{Redis, RedisOptions, RedisSetupError, fault, group};
use crate::consume::{Delivery, Lag, Source, SourceError};

/// How long the server has for an answer.
const ANSWER: Duration = Duration::from_secs(5);
/// The longest that a read waits at the server. A pause takes as long at most.
const BLOCK: Duration = Duration::from_secs(1);
/// The longest between two looks for what others left behind.
const LOOK: Duration = Duration::from_secs(5);
/// The shortest time without a word.
const SHORTEST: Duration = Duration::from_secs(1);
/// Where a look begins.
const START: &str = "0-0";
/// The most that is read at a time.
const MOST: usize = 4096;

/// A stream of Redis, as a consumer group sees it. Its members, in whatever processes, share the entries.
///
/// [`Message::position`](crate::consume::Message::position) is `STREAM/ID`, and `published` is the ID's time, where it
/// is one. Needs Redis 6.2 or Valkey; how far behind a group is costs least from Redis 7.0 on.
///
/// How long a message can come again is bounded by no time: trimming bounds a stream by its length. So
/// [`redelivers_for`](Source::redelivers_for) says nothing, and
/// [`ConsumerOptions::redelivers_for`](crate::consume::ConsumerOptions::redelivers_for) is the place to say it.
///
/// ```no_run
/// use hapax::consume::{Redis, RedisOptions, RedisSource};
///
/// let source = RedisSource::new(
///     Redis::new("redis://127.0.0.1:6379")?,
///     RedisOptions {
///         dead_letters: Some("orders.dead".to_owned()),
///         ..RedisOptions::new("orders", "points")
///     },
/// )?;
/// # Ok::<_, hapax::consume::RedisSetupError>(())
/// ```
pub struct RedisSource {
    redis: Redis,
    session: Option<Session>,
    joining: Option<BoxFuture<'static, Result<Session, SourceError>>>,
    read: Option<Asked>,
    claim: Option<Asked>,
    /// What came and was not given yet: no more than was asked for.
    ready: VecDeque<Came>,
    /// Where the next look for what was left behind begins, and when.
    cursor: String,
    look: Instant,
    is_kept: bool,
    shared: Arc<Shared>,
    clock: Clock,
}

struct Session {
    /// Waits at the server, so that it is of no use for anything else.
    reader: MultiplexedConnection,
    link: MultiplexedConnection,
}

/// A command on its way, kept by the source: whoever drops a call does not drop what it was to give.
struct Asked {
    /// Not later than the server gave what it gives.
    since: Instant,
    answer: BoxFuture<'static, RedisResult<Value>>,
}

struct Came {
    entry: Entry,
    redelivered: bool,
    since: Instant,
}

impl RedisSource {
    /// A source that is not connected yet, and a member of its own.
    ///
    /// # Errors
    /// [`RedisSetupError`] if options make no sense.
    pub fn new(redis: Redis, options: RedisOptions) -> Result<Self, RedisSetupError> {
        let RedisOptions { stream, group, .. } = &options;
        for (name, what) in [
            (stream, "stream"),
            (group, "group"),
            (&options.payload, "payload's field"),
        ] {
            if name.is_empty() {
                return Err(RedisSetupError::Empty(what));
            }
        }
        if options.min_idle < SHORTEST {
            return Err(RedisSetupError::MinIdle(options.min_idle));
        }
        if let Some(dead_letters) = options
            .dead_letters
            .as_ref()
            .filter(|dead_letters| *dead_letters == stream)
        {
            return Err(RedisSetupError::DeadLetters(dead_letters.clone()));
        }
        let label = format!("{} {stream}/{group}", redis.label());
        let random = getrandom::u64().unwrap_or_default();
        let name = format!("hapax-{}-{random:016x}", std::process::id());
        Ok(Self {
            redis,
            session: None,
            joining: None,
            read: None,
            claim: None,
            ready: VecDeque::new(),
            cursor: START.to_owned(),
            look: Instant::now(),
            is_kept: false,
            shared: Arc::new(Shared::new(label, name, options)),
            clock: Clock::default(),
        })
    }

    async fn next(&mut self, most: usize) -> Result<Vec<Delivery>, SourceError> {
        let most = most.clamp(1, MOST);
        loop {
            let given = self.give(most);
            if !given.is_empty() {
                return Ok(given);
            }
            self.session().await?;
            self.ask(most);
            self.hear().await?;
        }
    }

    /// Asks for what others left behind whenever its time has come, and for what is new.
    fn ask(&mut self, most: usize) {
        let now = Instant::now();
        let Some(session) = &self.session else { return };
        if self.claim.is_none() && self.when() <= now {
            self.shared.forget(now);
            self.claim = Some(Asked::new(session.link.clone(), self.claiming(most)));
        }
        // Who has many pending looks through them beside the new ones.
        let is_free = self.claim.is_none() || self.cursor != START;
        if is_free && self.read.is_none() {
            self.read = Some(Asked::new(session.reader.clone(), self.reading(most)));
        }
    }

    fn reading(&self, most: usize) -> Cmd {
        let RedisOptions {
            stream,
            group,
            min_idle,
            ..
        } = &self.shared.options;
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP")
            .arg(group)
            .arg(&self.shared.name)
            .arg("COUNT")
            .arg(most);
        let block = BLOCK.min(*min_idle / 4);
        read.arg("BLOCK")
            .arg(block.as_millis() as u64)
            .arg("STREAMS")
            .arg(stream)
            .arg(">");
        read
    }

    fn claiming(&self, most: usize) -> Cmd {
        let RedisOptions {
            stream,
            group,
            min_idle,
            ..
        } = &self.shared.options;
        let mut claim = cmd("XAUTOCLAIM");
        claim
            .arg(stream)
            .arg(group)
            .arg(&self.shared.name)
            .arg(min_idle.as_millis() as u64);
        claim.arg(&self.cursor).arg("COUNT").arg(most);
        claim
    }

    /// When to look again for what was left behind.
    fn when(&self) -> Instant {
        self.shared.next().map_or(self.look, |due| due.min(self.look))
    }

    /// Waits for an answer, or until it is time to ask for something else.
    async fn hear(&mut self) -> Result<(), SourceError> {
        let (when, is_claiming) = (self.when(), self.claim.is_some());
        let (is_claim, since, answer) = tokio::select! {
            biased;
            (since, answer) = heard(&mut self.claim) => (true, since, answer),
            (since, answer) = heard(&mut self.read) => (false, since, answer),
            () = sleep_until(when), if !is_claiming => return Ok(()),
            () = self.shared.due.notified() => return Ok(()),
        };
        match answer {
            Ok(answer) if is_claim => self.claimed(since, answer).await,
            Ok(answer) => {
                let entries = Entries::read(answer);
                self.take(entries, false, since).await
            }
            Err(error) => Err(self.failed("give messages", error)),
        }
    }

    async fn claimed(&mut self, since: Instant, answer: Value) -> Result<(), SourceError> {
        let (cursor, entries) = Entries::claimed(answer);
        // From the front again after the end; at once where there is more.
        let pause = if cursor == START {
            self.pause_between()
        } else {
            Duration::ZERO
        };
        (self.cursor, self.look) = (cursor, Instant::now() + pause);
        self.take(entries, true, since).await
    }

    fn pause_between(&self) -> Duration {
        LOOK.min(self.shared.options.min_idle / 4)
    }

    async fn take(&mut self, entries: Entries, redelivered: bool, since: Instant) -> Result<(), SourceError> {
        self.ready.extend(entries.there.into_iter().map(|entry| Came {
            entry,
            redelivered,
            since,
        }));
        let trimmed = entries.trimmed;
        if trimmed.is_empty() {
            return Ok(());
        }
        tracing::warn!(
            source = self.shared.label,
            ids = ?trimmed,
            "messages were trimmed from the stream or deleted before they were done with, and are lost: let it keep more"
        );
        let RedisOptions { stream, group, .. } = &self.shared.options;
        let mut away = cmd("XACK");
        away.arg(stream).arg(group).arg(&trimmed);
        let doing = "put away what was trimmed";
        self.shared
            .run(doing, async |link| away.query_async::<Value>(link).await)
            .await
            .map(|_| ())
    }

    fn give(&mut self, most: usize) -> Vec<Delivery> {
        let (min_idle, mut given) = (self.shared.options.min_idle, Vec::new());
        while given.len() < most
            && let Some(came) = self.ready.pop_front()
        {
            // Nobody asked for so long that it is another's by now, or comes again.
            if came.since.elapsed() < min_idle {
                given.push(self.delivery(came));
            }
        }
        given
    }

    fn delivery(&self, came: Came) -> Delivery {
        let RedisOptions { stream, payload, .. } = &self.shared.options;
        let message = came.entry.message(stream, payload);
        let Entry { id, fields } = came.entry;
        Delivery {
            message,
            redelivered: came.redelivered,
            settle: Box::new(RedisSettle::new(&self.shared, id, came.since, fields)),
        }
    }

    /// Connects, if it is not connected.
    async fn session(&mut self) -> Result<(), SourceError> {
        if self.shared.is_broken() {
            self.leave();
        }
        if self.session.is_some() {
            return Ok(());
        }
        let (redis, options) = (&self.redis, &self.shared.options);
        // Kept, so that callers without patience get there together.
        let joining = self
            .joining
            .get_or_insert_with(|| Session::join(redis.clone(), options.clone()).boxed());
        let joined = joining.await;
        self.joining = None;
        let session = joined?;
        self.shared.join(Some(session.link.clone()));
        self.session = Some(session);
        if !self.is_kept {
            keep(&self.shared);
            self.is_kept = true;
        }
        Ok(())
    }

    /// Leaves a connection. What it was giving comes again when its time is over.
    fn leave(&mut self) {
        self.shared.join(None);
        (self.session, self.read, self.claim) = (None, None, None);
    }

    fn failed(&mut self, doing: &str, error: RedisError) -> SourceError {
        self.leave();
        fault::error(&self.shared.label, doing, error)
    }

    /// Waits until nothing more can come, and gives back what came.
    async fn give_back(&mut self) {
        while self.session.is_some() && (self.read.is_some() || self.claim.is_some()) {
            // Its error is the next call's, which finds it again.
            let _ = self.hear().await;
        }
        let min_idle = self.shared.options.min_idle;
        let fresh = self.ready.iter().filter(|came| came.since.elapsed() < min_idle);
        let back: Vec<_> = fresh.map(|came| (came.entry.id.clone(), Duration::ZERO)).collect();
        // Whoever is not connected cannot: they come again when their time is over.
        let _ = self.shared.give_back(&back).await;
        self.ready.clear();
    }

    /// Takes this member out of its group, which would lose whatever it still holds.
    async fn resign(&mut self) {
        let RedisOptions { stream, group, .. } = self.shared.options.clone();
        let name = self.shared.name.clone();
        let Some(session) = &mut self.session else { return };
        let mut pending = cmd("XPENDING");
        pending.arg(&stream).arg(&group).arg("-").arg("+").arg(1).arg(&name);
        if let Ok(Value::Array(held)) = pending.query_async(&mut session.link).await
            && held.is_empty()
        {
            let mut resign = cmd("XGROUP");
            resign.arg("DELCONSUMER").arg(stream).arg(group).arg(name);
            let _ = resign.query_async::<Value>(&mut session.link).await;
        }
    }
}

impl Asked {
    fn new(mut link: MultiplexedConnection, command: Cmd) -> Self {
        Self {
            since: Instant::now(),
            answer: async move { command.query_async(&mut link).await }.boxed(),
        }
    }
}

/// An answer, if one is awaited; it is taken when it comes.
async fn heard(asked: &mut Option<Asked>) -> (Instant, RedisResult<Value>) {
    let Some(Asked { since, answer }) = asked else {
        return std::future::pending().await;
    };
    let heard = (*since, answer.await);
    *asked = None;
    heard
}

impl Session {
    async fn join(redis: Redis, options: RedisOptions) -> Result<Self, SourceError> {
        let at = redis.label();
        let failed = |error| fault::error(&at, "be connected to", error);
        let mut link = redis.connect(ANSWER).await.map_err(failed)?;
        group::find(&mut link, &at, &options).await?;
        let reader = redis.connect(BLOCK + ANSWER).await.map_err(failed)?;
        Ok(Self { reader, link })
    }
}

impl Source for RedisSource {
    fn label(&self) -> &str {
        &self.shared.label
    }

    fn receive(&mut self, most: usize) -> BoxFuture<'_, Result<Vec<Delivery>, SourceError>> {
        Box::pin(self.next(most))
    }

    fn pause(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(self.give_back())
    }

    fn lag(&mut self) -> BoxFuture<'_, Result<Lag, SourceError>> {
        Box::pin(async move {
            self.session().await?;
            let (now, _) = self.clock.reading();
            let options = &self.shared.options;
            let doing = "say how far the group is behind";
            self.shared
                .run(doing, async |link| group::lag(link, options, now).await)
                .await
        })
    }

    fn redelivers_for(&mut self) -> BoxFuture<'_, Result<Option<Duration>, SourceError>> {
        Box::pin(async move { self.session().await.map(|()| None) })
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.give_back().await;
            let _ = self.shared.release().await;
            // No settle says a word after this.
            self.shared.join(None);
            self.resign().await;
            self.leave();
        })
    }
}

impl fmt::Debug for RedisSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisSource").field(&self.shared.label).finish()
    }
}
