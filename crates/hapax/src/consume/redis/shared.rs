//! What a source and its settles have in common, and the word that is said for those who wait.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, RedisResult, Value, cmd};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::{RedisOptions, fault};
use crate::consume::{SourceError, SourceErrorKind};

/// Moments at which something is due are looked at one by one; of more, only now and then.
const MOMENTS: usize = 1024;
/// Messages that wait for longer than Redis can be told. More come sooner than they were to.
const WAITING: usize = 1 << 16;
/// IDs in one command.
const CHUNK: usize = 512;

pub(super) struct Shared {
    pub(super) label: String,
    /// This member's name.
    pub(super) name: String,
    pub(super) options: RedisOptions,
    state: Mutex<State>,
    /// Told when something is due earlier than it was.
    pub(super) due: Notify,
}

#[derive(Default)]
struct State {
    link: Option<MultiplexedConnection>,
    /// Whether a command on it has failed since.
    broken: bool,
    moments: BTreeSet<Instant>,
    /// Whose time is further off than `min_idle`.
    waiting: HashMap<String, Waiting>,
}

struct Waiting {
    until: Instant,
    /// When a word was last said about it.
    said: Instant,
}

impl Shared {
    pub(super) fn new(label: String, name: String, options: RedisOptions) -> Self {
        Self {
            label,
            name,
            options,
            state: Mutex::default(),
            due: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in there panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn join(&self, link: Option<MultiplexedConnection>) {
        let mut state = self.state();
        (state.link, state.broken) = (link, false);
    }

    pub(super) fn is_broken(&self) -> bool {
        self.state().broken
    }

    pub(super) fn gone(&self) -> SourceError {
        let what = format!(
            "there is no connection to {} at the moment: what is not settled comes again",
            self.label
        );
        SourceError::new(SourceErrorKind::Unreachable, what)
    }

    /// Runs something on the source's connection.
    pub(super) async fn run<T>(
        &self,
        doing: &str,
        run: impl AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>,
    ) -> Result<T, SourceError> {
        let link = self.state().link.clone();
        let mut link = link.ok_or_else(|| self.gone())?;
        run(&mut link).await.map_err(|error| {
            if fault::is_lost(&error) {
                self.state().broken = true;
            }
            fault::error(&self.label, doing, error)
        })
    }

    /// The command by which this member says a word about a message that it holds: as if nobody had for `idle`.
    pub(super) fn word(&self, id: &str, idle: Duration) -> Cmd {
        let RedisOptions { stream, group, .. } = &self.options;
        let mut word = cmd("XCLAIM");
        word.arg(stream).arg(group).arg(&self.name).arg(0).arg(id);
        word.arg("IDLE").arg(idle.as_millis() as u64).arg("JUSTID");
        word
    }

    /// Gives messages back, each to be claimed at its time by whichever member; those whose time is further off than
    /// Redis can be told, as far off as it can.
    pub(super) async fn give_back(&self, each: &[(String, Duration)]) -> Result<(), SourceError> {
        self.tell(each).await?;
        // Not before Redis was told, whose clock has whole milliseconds.
        let now = Instant::now() + Duration::from_millis(2);
        each.iter().for_each(|(_, left)| self.remember(now + *left));
        Ok(())
    }

    async fn tell(&self, each: &[(String, Duration)]) -> Result<(), SourceError> {
        if each.is_empty() {
            return Ok(());
        }
        self.run("give messages back", async |link| {
            for chunk in each.chunks(CHUNK) {
                let mut words = ::redis::pipe();
                for (id, left) in chunk {
                    words.add_command(self.word(id, self.options.min_idle.saturating_sub(*left)));
                }
                let _: Value = words.query_async(link).await?;
            }
            Ok(())
        })
        .await
    }

    /// Keeps a message, of which a word was just said, from the others for longer than Redis can be told, for as long as
    /// this process lives.
    pub(super) fn wait(&self, id: &str, until: Instant, said: Instant) {
        let mut state = self.state();
        if state.waiting.len() < WAITING {
            state.waiting.insert(id.to_owned(), Waiting { until, said });
        }
    }

    /// Those who wait, and are ours for certain.
    fn waiting(&self) -> Vec<(String, Duration)> {
        let (now, min_idle) = (Instant::now(), self.options.min_idle);
        let mut state = self.state();
        state.waiting.retain(|_, waiting| now - waiting.said < min_idle);
        let left = |waiting: &Waiting| waiting.until.saturating_duration_since(now);
        state
            .waiting
            .iter()
            .map(|(id, waiting)| (id.clone(), left(waiting)))
            .collect()
    }

    /// Leaves all who wait to the other members.
    pub(super) async fn release(&self) -> Result<(), SourceError> {
        let waiting = self.waiting();
        self.state().waiting.clear();
        self.give_back(&waiting).await
    }

    /// Something can be claimed at that time.
    fn remember(&self, at: Instant) {
        let mut state = self.state();
        if state.moments.len() < MOMENTS {
            state.moments.insert(at);
        }
        drop(state);
        self.due.notify_one();
    }

    /// When the next message can be claimed that is known of.
    pub(super) fn next(&self) -> Option<Instant> {
        self.state().moments.first().copied()
    }

    /// Claims what is due by now: its moments are over.
    pub(super) fn forget(&self, now: Instant) {
        let mut state = self.state();
        let later = state.moments.split_off(&now);
        state.moments = later;
    }

    /// Says a word for all who wait, and leaves to Redis those whose time is near enough.
    async fn keep(&self) {
        let (now, min_idle) = (Instant::now(), self.options.min_idle);
        let (near, far): (Vec<_>, Vec<_>) = self.waiting().into_iter().partition(|(_, left)| *left < min_idle);
        let told = self.tell(&far).await;
        if told.is_ok() {
            let mut state = self.state();
            for (id, _) in &far {
                if let Some(waiting) = state.waiting.get_mut(id) {
                    waiting.said = now;
                }
            }
        }
        // Those who could not be told are told next time, for as long as they are ours.
        if self.give_back(&near).await.is_ok() {
            let mut state = self.state();
            near.iter().for_each(|(id, _)| {
                state.waiting.remove(id);
            });
        }
    }
}

/// Keeps those who wait, for as long as the source or one of its settles is there.
pub(super) fn keep(shared: &Arc<Shared>) {
    let (shared, every) = (Arc::downgrade(shared), shared.options.min_idle / 3);
    tokio::spawn(async move {
        loop {
            sleep(every).await;
            match Weak::upgrade(&shared) {
                Some(shared) => shared.keep().await,
                None => return,
            }
        }
    });
}
