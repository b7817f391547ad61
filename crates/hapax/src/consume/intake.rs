//! From the broker to the workers: as many messages as there are places, none while what the handler calls is away.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use hapax_core::DeadReason;
use hapax_core::policy::{Backoff, BreakerState, FailureClass};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::bury::stand_in;
use super::error::Time;
use super::perform::{Desk, Perform, Task};
use super::source::{Delivery, Source, SourceError, SourceErrorKind};
use super::worker::{Held, Sure, Worker};
use super::{ConsumerError, Identity};
use crate::event::Event;

/// Pauses between two tries to reach a broker.
const PAUSES: Backoff = Backoff {
    base: Duration::from_millis(100),
    throttle_base: Duration::from_millis(100),
    cap: Duration::from_secs(10),
};
/// The longest pause between two looks at a breaker.
const LOOK: Duration = Duration::from_millis(500);

pub(super) struct Intake {
    pub(super) source: Box<dyn Source>,
    pub(super) clerk: Clerk,
    pub(super) desk: Arc<Desk>,
    pub(super) perform: Arc<dyn Perform>,
    pub(super) stopped: watch::Receiver<bool>,
}

/// Who looks at messages before anybody works on them.
#[derive(Clone)]
pub(super) struct Clerk {
    pub(super) identity: Identity,
    pub(super) desk: Arc<Desk>,
}

impl Intake {
    /// Until it is stopped. How many messages were still in work when the drain was over.
    pub(super) async fn run(mut self) -> Result<usize, ConsumerError> {
        let result = match self.check().await {
            Ok(true) => Ok(self.serve().await),
            Ok(false) => Ok(0),
            Err(error) => Err(error),
        };
        let drain = self.desk.options.drain;
        // A broker that is away needs no goodbye.
        let _ = timeout(drain, self.source.close()).await;
        result
    }

    async fn serve(&mut self) -> usize {
        let options = &self.desk.options;
        let (hand, places) = (Arc::new(Semaphore::new(options.prefetch)), options.prefetch);
        let (mut workers, queues) = (JoinSet::new(), self.start(places));
        for worker in queues.1 {
            workers.spawn(worker.run());
        }
        let queues = queues.0;
        self.take(&hand, &queues).await;
        drop(queues);
        let drain = self.desk.options.drain;
        let _ = timeout(drain, async { while workers.join_next().await.is_some() {} }).await;
        // They go on for as long as the runtime does.
        workers.detach_all();
        places - hand.available_permits()
    }

    /// Queues and who works on them: one for all, or one each where an order is kept.
    fn start(&self, places: usize) -> (Vec<mpsc::Sender<Held>>, Vec<Worker>) {
        let options = &self.desk.options;
        let at_handler = Arc::new(Semaphore::new(options.concurrency));
        let worker = |queue: &Arc<Mutex<mpsc::Receiver<Held>>>| Worker {
            desk: Arc::clone(&self.desk),
            perform: Arc::clone(&self.perform),
            queue: Arc::clone(queue),
            places: Arc::clone(&at_handler),
            stopped: self.stopped.clone(),
        };
        let queue = || {
            // As many as there are places, so that nobody waits to put in.
            let (sender, receiver) = mpsc::channel(places);
            (sender, Arc::new(Mutex::new(receiver)))
        };
        if options.order_by.is_some() {
            let queues: Vec<_> = (0..options.concurrency).map(|_| queue()).collect();
            let workers = queues.iter().map(|(_, queue)| worker(queue)).collect();
            (queues.into_iter().map(|(sender, _)| sender).collect(), workers)
        } else {
            let (sender, queue) = queue();
            let workers = self.perform.workers(options.concurrency);
            let workers = (0..workers).map(|_| worker(&queue)).collect();
            (vec![sender], workers)
        }
    }

    /// Takes messages until it is stopped.
    async fn take(&mut self, hand: &Arc<Semaphore>, queues: &[mpsc::Sender<Held>]) {
        let (desk, clerk) = (Arc::clone(&self.desk), self.clerk.clone());
        let mut stopped = self.stopped.clone();
        let (mut failures, mut paused, mut asked) = (0, false, None::<Instant>);
        let every = desk.options.lag_every;
        while !*stopped.borrow_and_update() {
            // During an outage, too: that is when it grows.
            if asked.is_none_or(|asked| asked.elapsed() >= every) {
                self.tell_lag().await;
                asked = Some(Instant::now());
            }
            if let Some(open_for) = desk.options.destination.open_for() {
                if !paused {
                    self.source.pause().await;
                    desk.engine.inner.emit(&Event::IntakePaused { name: &desk.name });
                    paused = true;
                }
                wait(&mut stopped, open_for.min(LOOK)).await;
                continue;
            }
            if paused {
                desk.engine.inner.emit(&Event::IntakeResumed { name: &desk.name });
                paused = false;
            }
            let due = asked.map_or(Duration::ZERO, |asked| every.saturating_sub(asked.elapsed()));
            let mut places = tokio::select! {
                _ = stopped.changed() => continue,
                () = sleep(due) => continue,
                // The semaphore is never closed.
                place = Arc::clone(hand).acquire_owned() => match place { Ok(place) => place, Err(_) => return },
            };
            // One at a time while nobody knows whether what the handler calls is back.
            if desk.options.destination.state() == BreakerState::Closed
                && let Ok(more) = Arc::clone(hand).try_acquire_many_owned(hand.available_permits() as u32)
            {
                places.merge(more);
            }
            let received = tokio::select! {
                _ = stopped.changed() => continue,
                () = sleep(due) => continue,
                received = self.source.receive(places.num_permits()) => received,
            };
            match received {
                Ok(deliveries) => {
                    failures = 0;
                    clerk.hand_out(deliveries, places, queues).await;
                }
                Err(error) => {
                    drop(places);
                    failures += 1;
                    self.failed("receive", &error);
                    wait(&mut stopped, pause(failures)).await;
                }
            }
        }
    }

    /// Whether messages are remembered for as long as the broker can deliver them again. False if it was stopped before
    /// the broker could be asked.
    async fn check(&mut self) -> Result<bool, ConsumerError> {
        let (mut stopped, mut failures) = (self.stopped.clone(), 0);
        let remember_for = self.desk.options.remember_for;
        while !*stopped.borrow_and_update() {
            let asked = tokio::select! {
                _ = stopped.changed() => continue,
                asked = self.source.redelivers_for() => asked,
            };
            match asked {
                Ok(said) => match said.or(self.desk.options.redelivers_for) {
                    Some(redelivers_for) if redelivers_for > remember_for => {
                        return Err(ConsumerError::Retention {
                            name: self.desk.name.clone(),
                            redelivers_for,
                            remember_for,
                        });
                    }
                    _ => return Ok(true),
                },
                Err(error) => {
                    failures += 1;
                    self.failed("limits", &error);
                    wait(&mut stopped, pause(failures)).await;
                }
            }
        }
        Ok(false)
    }

    async fn tell_lag(&mut self) {
        match self.source.lag().await {
            Ok(lag) => self.desk.engine.inner.emit(&Event::Lag {
                name: &self.desk.name,
                messages: lag.messages,
                oldest: lag.oldest,
            }),
            Err(error) => self.failed("lag", &error),
        }
    }

    fn failed(&self, doing: &'static str, error: &SourceError) {
        self.desk.failed(doing, error);
    }
}

impl Clerk {
    async fn hand_out(
        &self,
        deliveries: Vec<Delivery>,
        mut places: OwnedSemaphorePermit,
        queues: &[mpsc::Sender<Held>],
    ) {
        let desk = &self.desk;
        desk.engine.inner.emit(&Event::Received {
            name: &desk.name,
            messages: deliveries.len(),
            redelivered: deliveries.iter().filter(|delivery| delivery.redelivered).count(),
        });
        for Delivery {
            message,
            redelivered,
            settle,
        } in deliveries
        {
            let order = desk.options.order_by.as_ref().and_then(|of| of(&message));
            let (key, sure) = match self.identity.of(&message) {
                Ok(key) => (key, self.sure(&message)),
                Err(error) => (stand_in(&message), Sure::Dead(DeadReason::Refused, error.to_string())),
            };
            let at = match (queues.len(), &order) {
                (1, _) => 0,
                (queues, Some(order)) => (hash(order) % queues as u64) as usize,
                // Copies of one message meet at one worker.
                (queues, None) => (hash(&key) % queues as u64) as usize,
            };
            let held = Held {
                task: Task {
                    message,
                    key,
                    redelivered,
                },
                sure,
                settle,
                since: Instant::now(),
                // A source that gives more than it was asked for goes without places.
                _place: places.split(1),
            };
            // A worker ends only after the queues.
            let _: Result<(), _> = queues[at].send(held).await;
        }
    }

    /// Whether a message can be run for certain.
    fn sure(&self, message: &super::Message) -> Sure {
        let desk = &self.desk;
        let (bytes, most) = (message.payload.len(), desk.options.message_bytes);
        if bytes > most {
            let why = format!(
                "the payload has {bytes} bytes, and this consumer takes {most} at most: store it elsewhere and send its \
                 address, or raise message_bytes"
            );
            return Sure::Dead(DeadReason::Refused, why);
        }
        let age = message
            .published
            .zip(desk.engine.store_time())
            .map(|(published, now)| now.since(published));
        match age {
            Some(age) if age >= desk.options.remember_for => Sure::IfKnown(format!(
                "it was published {} ago, and messages are remembered for {}: whether it was handled before cannot be \
                 told any more; redrive it if it was not",
                Time(age),
                Time(desk.options.remember_for)
            )),
            _ => Sure::Yes,
        }
    }
}

impl Desk {
    pub(super) fn failed(&self, doing: &'static str, error: &SourceError) {
        self.engine.inner.emit(&Event::SourceFailed {
            name: &self.name,
            doing,
            error,
            refused: error.kind() == SourceErrorKind::Refused,
        });
    }
}

fn pause(failures: u32) -> Duration {
    PAUSES.pause(
        FailureClass::Unsent,
        failures,
        None,
        getrandom::u64().unwrap_or(u64::MAX),
    )
}

async fn wait(stopped: &mut watch::Receiver<bool>, time: Duration) {
    tokio::select! {
        _ = stopped.changed() => {}
        () = sleep(time) => {}
    }
}

fn hash(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}
