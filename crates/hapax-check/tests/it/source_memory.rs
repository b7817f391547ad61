//! The queue in memory: what can be asked of it.

use std::time::Duration;

use bytes::Bytes;
use hapax::consume::{MemoryQueue, Message, Source};
use hapax_check::Failure;
use hapax_check::conformance::source::Broker;
use hapax_core::BoxFuture;

struct Memory(MemoryQueue);

impl Broker for Memory {
    fn source(&self) -> Box<dyn Source> {
        Box::new(self.0.source())
    }

    fn publish(&self, messages: Vec<Message>) -> BoxFuture<'_, Result<(), Failure>> {
        messages.into_iter().for_each(|message| self.0.publish(message));
        Box::pin(std::future::ready(Ok(())))
    }

    fn restart(&self) -> Option<BoxFuture<'_, Result<(), Failure>>> {
        None
    }

    fn exported(&self) -> BoxFuture<'_, Result<Vec<Bytes>, Failure>> {
        let dead = self.0.dead().into_iter().map(|(message, _)| message.payload);
        Box::pin(std::future::ready(Ok(dead.collect())))
    }

    fn missing(&self) -> Option<Box<dyn Source>> {
        None
    }

    fn stranger(&self) -> Option<Box<dyn Source>> {
        None
    }

    fn nobody(&self) -> Option<Box<dyn Source>> {
        None
    }

    fn abandoned(&self) -> Duration {
        Duration::from_millis(100)
    }

    fn ordered(&self) -> bool {
        true
    }

    fn large(&self) -> usize {
        10_000_000
    }
}

hapax_check::source_tests!(|| -> BoxFuture<'static, Result<Box<dyn Broker>, Failure>> {
    Box::pin(std::future::ready(Ok(
        Box::new(Memory(MemoryQueue::new())) as Box<dyn Broker>
    )))
});
