//! When a consumer does not start.

use std::time::Duration;

use hapax::RunOptions;
use hapax::consume::{
    Consumer, ConsumerError, ConsumerOptions, Delivery, Identity, Lag, MemorySource, Source, SourceError,
    SourceErrorKind,
};
use hapax::core::{BoxFuture, Name};
use tokio::time::{sleep, timeout};

use super::{MINUTE, World, at_once, done, options};

/// A source that says how long its broker keeps messages, and fails at first.
struct Keeping(MemorySource, Option<Duration>, u32);

impl Source for Keeping {
    fn label(&self) -> &str {
        "keeping"
    }

    fn receive(&mut self, most: usize) -> BoxFuture<'_, Result<Vec<Delivery>, SourceError>> {
        self.0.receive(most)
    }

    fn pause(&mut self) -> BoxFuture<'_, ()> {
        self.0.pause()
    }

    fn lag(&mut self) -> BoxFuture<'_, Result<Lag, SourceError>> {
        self.0.lag()
    }

    fn redelivers_for(&mut self) -> BoxFuture<'_, Result<Option<Duration>, SourceError>> {
        let said = match self.2 {
            0 => Ok(self.1),
            _ => {
                self.2 -= 1;
                let kind = SourceErrorKind::Unreachable;
                Err(SourceError::new(kind, "planted"))
            }
        };
        Box::pin(std::future::ready(said))
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        self.0.close()
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_taken_from_a_broker_that_remembers_longer() {
    let world = World::new();
    world.publish("a", "one");
    let day = Duration::from_secs(24 * 3600);
    for (broker, said, starts) in [
        (Some(31 * day), None, false),
        (Some(30 * day), None, true),
        (None, Some(31 * day), false),
        (None, None, true),
    ] {
        let options = ConsumerOptions {
            redelivers_for: said,
            ..options(3)
        };
        let source = Keeping(world.queue.source(), broker, 3);
        let consumer = world.consumer_of(source, options, at_once(|_, _| done()));
        let before = world.queue.acknowledged();
        // One that is refused ends by itself.
        let stopped = async {
            match starts {
                true => sleep(MINUTE).await,
                false => std::future::pending().await,
            }
        };
        let ended = timeout(60 * MINUTE, consumer.run(stopped)).await.unwrap();
        match starts {
            true => assert_eq!((ended, world.queue.left()), (Ok(0), 0), "{broker:?} {said:?}"),
            false => {
                let error = ended.unwrap_err();
                assert!(matches!(error, ConsumerError::Retention { .. }), "{error}");
                assert_eq!(world.queue.acknowledged(), before);
            }
        }
    }
    assert_eq!(world.seen.count("failed limits"), 12);
}

#[tokio::test(start_paused = true)]
async fn options_that_contradict_each_other_are_refused() {
    let world = World::new();
    let usual = || options(3);
    for (options, says) in [
        (
            ConsumerOptions {
                concurrency: 0,
                ..usual()
            },
            "concurrency is 0",
        ),
        (ConsumerOptions { batch: 0, ..usual() }, "batch is 0"),
        (
            ConsumerOptions {
                prefetch: 10,
                ..usual()
            },
            "prefetch is less",
        ),
        (
            ConsumerOptions {
                remember_for: Duration::ZERO,
                ..usual()
            },
            "remember_for is 0",
        ),
    ] {
        let refused = Consumer::leased(
            Name::new("points").unwrap(),
            world.queue.source(),
            Identity::Position,
            &world.engine,
            RunOptions::default(),
            options,
            |_, _| std::future::ready(done()),
        );
        let error = refused.unwrap_err().to_string();
        assert!(
            error.starts_with("consumer points: ") && error.contains(says),
            "{error}"
        );
    }
}
