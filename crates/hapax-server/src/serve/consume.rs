//! The consumers: messages of brokers, sent to the endpoints that handle them.

mod request;
mod sources;

use std::sync::Arc;

use hapax::Engine;
use hapax::consume::{Consumer, ConsumerError, ConsumerOptions, Identity, Message, TextOf};
use hapax::http::{Idempotency, Routes, SingleTenant};
use hapax::receipts::{ReceiptResolver, Receipts};
use hapax::retry::Destination;
use tokio::task::JoinSet;
use tower_layer::Layer;

use super::backend::Backend;
use super::door::{self, Maker};
use crate::config::Config;
use crate::config::consume::{Consume, OrderText};
use crate::exit::{Exit, Failure};
use crate::gateway::body::Body;
use crate::gateway::listener::Stop;
use crate::gateway::upstream::{AnswerBody, Target, Upstream};
use crate::observe::Metrics;
use request::Request;

/// Everything that handles messages, ready to run.
pub(super) struct Consumers {
    consumers: Vec<Consumer>,
    /// For metrics.
    pub(super) destinations: Vec<(String, Destination)>,
    /// Who knows by receipts.
    pub(super) resolvers: Vec<ReceiptResolver>,
}

impl Consumers {
    /// `None` if there are none.
    pub(super) fn new(
        config: &Config,
        engine: &Engine,
        metrics: &Arc<Metrics>,
        receipts: Option<Arc<dyn Receipts>>,
    ) -> Result<Option<Self>, Failure> {
        if config.consumers.is_empty() {
            return Ok(None);
        }
        let mut maker = Maker::new(config, receipts);
        let (mut consumers, mut destinations) = (Vec::new(), Vec::new());
        for one in &config.consumers {
            let made = consumer(config, one, engine, metrics, &mut maker);
            let (consumer, destination) = made.map_err(|error| {
                let text = format!("consumer {}: {error}", one.name);
                Failure::new(Exit::Usage, text)
            })?;
            destinations.push((format!("consumer {}", one.name), destination));
            consumers.push(consumer);
        }
        Ok(Some(Self {
            consumers,
            destinations,
            resolvers: maker.resolvers(),
        }))
    }

    /// Handles messages until a stop is asked for, then ends what is under way. Returns how many messages were in hand still.
    ///
    /// # Errors
    /// What a consumer may not do at its broker; then all of the process stops.
    pub(super) async fn run(self, stop: Stop) -> Result<usize, ConsumerError> {
        let mut running = JoinSet::new();
        for consumer in self.consumers {
            let stop = stop.clone();
            running.spawn(async move { consumer.run(stop.wait()).await });
        }
        let (mut left, mut wrong) = (0, None);
        while let Some(ended) = running.join_next().await {
            match ended {
                Ok(Ok(messages)) => left += messages,
                Ok(Err(error)) => {
                    stop.ask();
                    wrong.get_or_insert(error);
                }
                // It does not panic; if it did, its messages are delivered again.
                Err(_) => {}
            }
        }
        wrong.map_or(Ok(left), Err)
    }
}

fn consumer(
    config: &Config,
    one: &Consume,
    engine: &Engine,
    metrics: &Arc<Metrics>,
    maker: &mut Maker<'_>,
) -> Result<(Consumer, Destination), String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let destination = Destination::new(one.policy(config)).map_err(|error| said(&error))?;
    let route = one.route(config);
    let (door, resolvers) = maker.messages(&route, destination.clone())?;
    let target = Target::parse(&one.to.origin.to_string()).map_err(|error| said(&error))?;
    let tls = door::upstream_tls(config).map_err(|error| said(&error))?;
    let upstream = Upstream::new(target, tls, door::upstream(config));
    // The door's judgement of answers, its receipts and its time-outs; claims are the consumer's.
    let layer = Idempotency::with_limits(
        engine.clone(),
        SingleTenant::new(),
        Routes::new().fallback(door),
        &door::limits(config),
    );
    let service = layer.layer(Backend::new(upstream, Arc::clone(metrics)));
    let relay = service.relay::<Body, AnswerBody>();
    let request = Request::new(one);
    let options = ConsumerOptions {
        concurrency: one.concurrency() as usize,
        prefetch: one.prefetch() as usize,
        order_by: one.order_by.as_ref().map(order),
        remember_for: one.remember_for(config).0,
        redelivers_for: one.redelivers_for.map(|period| period.0),
        message_bytes: one.message(config).bytes(),
        drain: config.timeouts.drain.0,
        // A crash of the relay is never a message's fault: it only passes them on.
        crashes_count: false,
        seal: door::seal(config)?,
        resolvers,
        ..ConsumerOptions::new(destination.clone())
    };
    let consumer = Consumer::leased(
        one.name.0.clone(),
        sources::source(one)?,
        one.identity.0.clone(),
        engine,
        door::run_options(config, Some(&route)),
        options,
        move |run, message| {
            let request = request.of(&run, &message);
            relay(run, request)
        },
    );
    Ok((consumer.map_err(|error| said(&error))?, destination))
}

/// What keeps the order.
fn order(by: &OrderText) -> TextOf {
    match by.clone() {
        OrderText::Key => Arc::new(|message: &Message| {
            let key = message.key.as_ref()?;
            Some(String::from_utf8_lossy(key).into_owned())
        }),
        OrderText::Subject => Arc::new(|message: &Message| Some(message.subject.to_string())),
        OrderText::In(place) => {
            let place: Identity = place.0;
            Arc::new(move |message: &Message| place.of(message).ok().map(|key| key.as_str().to_owned()))
        }
    }
}
