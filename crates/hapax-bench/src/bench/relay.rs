//! Messages of NATS posted to a local HTTP server: the relay beside a consumer by hand that posts them with the same HTTP
//! client and remembers nothing.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, stream};
use hapax::Attempted;
use hapax::consume::{Nats as Broker, NatsOptions, NatsSource, Source};
use hapax::core::{Name, Timestamp};
use hapax::outbox::{Delivery, Sink, Webhook};
use hapax_testbed::Nats;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::World;
use super::consume::figure;
use super::http::{Gateway, Upstream};
use crate::chart::{Chart, Kind, Series};
use crate::error::Result;
use crate::measure::Laps;
use crate::options::Options;
use crate::place::Place;
use crate::report::{Report, Target};
use crate::{upstream, work};

/// A consumer by hand may take 1.25 times as long at most.
const TARGET: Target = Target::AtLeast(0.8);
const SUBJECTS: [&str; 3] = ["hapax relay, SQLite", "hapax relay, PostgreSQL", "consumer by hand"];
const HAND: usize = 2;
const LIMIT: Duration = Duration::from_secs(300);

pub(super) async fn run(options: &Options, report: &mut Report) -> Result<()> {
    let world = World::new(options)?;
    let (upstream, nats) = (Upstream::start(&world)?, Nats::try_start()?);
    let mut all = Vec::new();
    let works = format!("takes {} ms", upstream::WORK.as_millis());
    let receivers = [
        ("does nothing", "/points", None),
        (works.as_str(), upstream::WORKS, Some(TARGET)),
    ];
    let plans = receivers
        .iter()
        .flat_map(|one| options.plan.concurrency.iter().map(move |at| (one, *at)));
    for (&(receiver, path, target), concurrency) in plans {
        println!("  {concurrency} messages at a time, a receiver that {receiver}");
        let mut laps: Vec<Laps> = SUBJECTS.map(|one| Laps::new(one, "/s")).into_iter().collect();
        for round in 0..options.plan.rounds {
            for turn in 0..SUBJECTS.len() {
                let at = (turn + round) % SUBJECTS.len();
                let lap = Lap {
                    name: format!("lap{}_{concurrency}_{round}_{at}", path.replace('/', "_")),
                    path,
                    options,
                    world: &world,
                    upstream: &upstream,
                    nats: &nats,
                    concurrency,
                };
                laps[at].push(lap.run(at).await?);
            }
        }
        for at in 0..HAND {
            let what = format!("{}, {concurrency} at a time, a receiver that {receiver}", SUBJECTS[at]);
            report.figure(figure(what, &laps[at], &laps[HAND], target));
        }
        if target.is_some() {
            all.push(laps);
        }
    }
    report.note(format!(
        "{} messages of {} bytes in a new stream each time; the receiver is a process of its own and answers \
         with 300 bytes",
        options.plan.jobs,
        work::INPUT.len()
    ));
    draw(report, options, &all)
}

/// One subject, once around.
struct Lap<'a> {
    name: String,
    path: &'static str,
    options: &'a Options,
    world: &'a World,
    upstream: &'a Upstream,
    nats: &'a Nats,
    concurrency: usize,
}

impl Lap<'_> {
    /// Messages a second, from the first that is posted to the last.
    async fn run(&self, subject: usize) -> Result<f64> {
        self.publish().await?;
        let before = upstream::count(self.upstream.address())?;
        match subject {
            0 => {
                let _relay = self.relay(&self.world.sqlite(&self.name)).await?;
                self.rate(before).await
            }
            1 => {
                let _relay = self.relay(&self.world.postgres(&self.name)).await?;
                self.rate(before).await
            }
            _ => {
                let by_hand = tokio::spawn(by_hand(
                    self.source()?,
                    self.webhook()?,
                    self.concurrency,
                    self.options.plan.jobs,
                ));
                let rate = self.rate(before).await?;
                by_hand.await??;
                Ok(rate)
            }
        }
    }

    async fn publish(&self) -> Result<()> {
        let jetstream = jetstream::new(async_nats::connect(self.nats.url()).await?);
        let config = stream::Config {
            name: self.name.clone(),
            subjects: vec![self.name.clone()],
            ..stream::Config::default()
        };
        jetstream.create_stream(config).await?;
        for number in 0..self.options.plan.jobs {
            let mut headers = async_nats::HeaderMap::new();
            headers.append("Nats-Msg-Id", format!("{}-{number}", self.name));
            let stored = jetstream.publish_with_headers(self.name.clone(), headers, work::INPUT.into());
            let stored = stored.await?;
            // Some at a time.
            if number % 256 == 255 || number + 1 == self.options.plan.jobs {
                stored.await?;
            }
        }
        Ok(())
    }

    /// `hapax serve` with one consumer.
    async fn relay(&self, place: &Place) -> Result<Gateway> {
        let config = self.world.files.path().join(format!("{}.toml", self.name));
        let (name, nats, address) = (&self.name, self.nats.url(), self.upstream.address());
        let text = format!(
            "[[consume]]\nname = \"{name}\"\nfrom = \"{nats}\"\nstream = \"{name}\"\nidentity = \"header:Nats-Msg-Id\"\n\
             to = \"http://{address}{}\"\nconcurrency = {}\n",
            self.path, self.concurrency
        );
        fs::write(&config, text)?;
        let config = config.to_string_lossy();
        Gateway::before(self.options, self.world, address, place, &["--config", &config]).await
    }

    fn source(&self) -> Result<NatsSource> {
        let options = NatsOptions::new(&self.name, &self.name);
        Ok(NatsSource::new(Broker::new(&self.nats.url())?, options)?)
    }

    fn webhook(&self) -> Result<Webhook> {
        Ok(Webhook::new(&format!(
            "http://{}{}",
            self.upstream.address(),
            self.path
        ))?)
    }

    async fn rate(&self, before: u64) -> Result<f64> {
        let (deadline, mut first) = (Instant::now() + LIMIT, None);
        loop {
            let heard = upstream::count(self.upstream.address())? - before;
            let now = Instant::now();
            if heard > 0 && first.is_none() {
                first = Some((now, heard));
            }
            if let Some((since, had)) = first
                && heard >= self.options.plan.jobs
            {
                return Ok((heard - had) as f64 / (now - since).as_secs_f64());
            }
            if now > deadline {
                return Err(format!("the receiver heard {heard} messages of {}", self.options.plan.jobs).into());
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Posts what it is given, and acknowledges it.
async fn by_hand(mut source: NatsSource, webhook: Webhook, concurrency: usize, messages: u64) -> Result<()> {
    let (webhook, places) = (Arc::new(webhook), Arc::new(Semaphore::new(concurrency)));
    let (name, acknowledged) = (Name::new("points")?, Arc::new(AtomicU64::new(0)));
    let mut taken = 0;
    while taken < messages {
        for delivery in source.receive(4 * concurrency).await? {
            taken += 1;
            let place = Arc::clone(&places).acquire_owned().await?;
            let (webhook, acknowledged) = (Arc::clone(&webhook), Arc::clone(&acknowledged));
            let post = Delivery {
                name: name.clone(),
                key: delivery.message.text("Nats-Msg-Id").unwrap_or_default().to_owned(),
                content_type: "application/json".into(),
                payload: delivery.message.payload.clone(),
                now: Timestamp::from_millis(0),
                tries: 1,
            };
            tokio::spawn(async move {
                let posted = webhook.deliver(post).await;
                if matches!(posted, Attempted::Done(_)) && delivery.settle.ack().await.is_ok() {
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
                drop(place);
            });
        }
    }
    let _all = places.acquire_many(concurrency as u32).await?;
    match acknowledged.load(Ordering::Relaxed) {
        all if all == messages => Ok(()),
        some => Err(format!("{some} messages of {messages} were posted and acknowledged").into()),
    }
}

fn draw(report: &Report, options: &Options, all: &[Vec<Laps>]) -> Result<()> {
    let series = SUBJECTS.iter().enumerate().map(|(at, subject)| Series {
        label: (*subject).to_owned(),
        values: all.iter().map(|laps| laps[at].median()).collect(),
    });
    let chart = Chart {
        kind: Kind::Bars,
        title: "Messages posted".to_owned(),
        unit: "messages a second".to_owned(),
        axis: "messages at a time".to_owned(),
        places: options.plan.concurrency.iter().map(usize::to_string).collect(),
        series: series.collect(),
    };
    report.chart("relay", &chart)
}
