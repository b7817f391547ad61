//! How long an operation can come back, and whether it is remembered for as long.
//!
//! What is forgotten runs again. So every way back has a length that the configuration gives, and the longest must
//! not be longer than `remember_for`.

use std::fmt;
use std::time::Duration;

use hapax::core::RetryPolicy;

use super::check::Mistakes;
use super::consume::Consume;
use super::outbox::Outbox;
use super::retry::policy;
use super::source::Step::{Index, Key};
use super::values::Period;
use super::{Config, Route};

/// A way in which an operation can come back, and how long after its start it still can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WayBack {
    /// Who brings it back.
    pub(crate) who: &'static str,
    /// What its length is made of, in the words of the configuration.
    pub(crate) made_of: String,
    pub(crate) length: Period,
}

impl fmt::Display for WayBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}: {})", self.length, self.who, self.made_of)
    }
}

/// The longest pause between two probes of the same operation.
const LONGEST_PROBE_PAUSE: Duration = Duration::from_secs(600);

/// What holds for a route, or for what no route matches.
struct Times<'a> {
    config: &'a Config,
    route: Option<&'a Route>,
    policy: RetryPolicy,
}

macro_rules! either {
    ($times:ident, $field:ident) => {
        $times
            .route
            .and_then(|route| route.$field)
            .unwrap_or($times.config.$field)
    };
}

macro_rules! either_option {
    ($times:ident, $field:ident) => {
        $times
            .route
            .and_then(|route| route.$field.as_ref())
            .or($times.config.$field.as_ref())
    };
}

/// The longest that any record of the gateway is remembered.
pub(crate) fn longest(config: &Config) -> Duration {
    let own = config.routes.iter().filter_map(|route| route.remember_for);
    let consumers = config.consumers.iter().map(|consume| consume.remember_for(config));
    own.chain(consumers)
        .chain([config.remember_for])
        .map(|period| period.0)
        .max()
        .unwrap_or_default()
}

impl<'a> Times<'a> {
    fn of(config: &'a Config, route: Option<&'a Route>) -> Self {
        let policy = policy(config, route);
        Self { config, route, policy }
    }

    fn remember_for(&self) -> Period {
        either!(self, remember_for)
    }

    /// Every way back. There always is one: clients.
    fn ways(&self) -> Vec<WayBack> {
        let mut ways = vec![self.clients()];
        if either!(self, respond_async) {
            ways.push(self.accepted());
        }
        ways.extend(self.probed());
        ways.extend(self.redriven());
        ways
    }

    fn clients(&self) -> WayBack {
        let (length, made_of) = match either_option!(self, client_retries_for) {
            Some(given) => (*given, "client_retries_for".to_owned()),
            None => (
                either!(self, replay_for),
                "client_retries_for, by default replay_for".to_owned(),
            ),
        };
        WayBack {
            who: "a client that asks again",
            made_of,
            length,
        }
    }

    /// How long the runner goes on with an operation whose input is stored.
    fn schedule(&self) -> (Duration, String) {
        let (elapsed, max_run) = (self.policy.limits.elapsed, either!(self, max_run).0);
        let made_of = format!("retry.elapsed {} + max_run {}", Period(elapsed), Period(max_run));
        (elapsed.saturating_add(max_run), made_of)
    }

    fn accepted(&self) -> WayBack {
        let (length, made_of) = self.schedule();
        WayBack {
            who: "the retry schedule of a request accepted with respond-async",
            made_of,
            length: Period(length),
        }
    }

    /// The last try is unknown, and the probe sends it back to its next start.
    fn probed(&self) -> Option<WayBack> {
        let probe = either_option!(self, probe)?;
        let settle = settle(self.config, self.route);
        let (before, made_of) = match either!(self, respond_async) {
            true => self.schedule(),
            false => {
                let max_run = either!(self, max_run);
                (max_run.0, format!("max_run {max_run}"))
            }
        };
        let length = [settle.0, LONGEST_PROBE_PAUSE, probe.timeout.0]
            .into_iter()
            .fold(before, Duration::saturating_add);
        Some(WayBack {
            who: "a probe that finds that it did not happen",
            made_of: format!(
                "{made_of} + settle {settle} + pause between probes {} + probe.timeout {}",
                Period(LONGEST_PROBE_PAUSE),
                probe.timeout
            ),
            length: Period(length),
        })
    }

    fn redriven(&self) -> Option<WayBack> {
        let redrive_for = either_option!(self, redrive_for)?;
        let (schedule, made_of) = self.schedule();
        Some(WayBack {
            who: "a dead letter that is redriven",
            made_of: format!("redrive_for {redrive_for} + {made_of}"),
            length: Period(redrive_for.0.saturating_add(schedule)),
        })
    }

    fn longest(&self) -> Option<WayBack> {
        self.ways().into_iter().max_by_key(|way| way.length)
    }
}

/// How long after an attempt was cut off "not found" counts.
pub(crate) fn settle(config: &Config, route: Option<&Route>) -> Period {
    route
        .and_then(|route| route.settle)
        .or(config.settle)
        .unwrap_or(config.timeouts.upstream)
}

pub(super) fn check(config: &Config, mistakes: &mut Mistakes) {
    effects(config, mistakes);
    messages(config, mistakes);
    let all = std::iter::once(None).chain(config.routes.iter().enumerate().map(Some));
    for one in all {
        let times = Times::of(config, one.map(|(_, route)| route));
        let remembered = times.remember_for();
        let Some(longest) = times.longest().filter(|way| way.length > remembered) else {
            continue;
        };
        // A route that says nothing of its own is wrong because what is above all routes is.
        if one.is_some() && Times::of(config, None).longest().as_ref() == Some(&longest) && times.inherits() {
            continue;
        }
        let (at, of) = match one {
            Some((index, route)) if route.remember_for.is_some() => (
                vec![Key("route"), Index(index), Key("remember_for")],
                format!(" of the route {:?}", route.name.to_string()),
            ),
            Some((index, route)) => (
                vec![Key("route"), Index(index)],
                format!(" of the route {:?}", route.name.to_string()),
            ),
            None => (vec![Key("remember_for")], String::new()),
        };
        mistakes.add(
            &at,
            format!(
                "remember_for ({remembered}){of} is shorter than the longest way back of an operation: {longest}. \
                 Forgotten too early, it would run again"
            ),
            format!("raise remember_for to {} or more, or shorten that way", longest.length),
        );
    }
}

impl Times<'_> {
    fn inherits(&self) -> bool {
        self.route.is_none_or(|route| route.remember_for.is_none())
    }
}

/// The longest way back of an effect: the schedule; what may have arrived is settled by a person at the latest when the
/// receiver has forgotten it; a dead letter that is redriven.
fn effect(config: &Config, outbox: &Outbox) -> WayBack {
    let schedule = outbox.policy(config).longest();
    let mut made_of = format!("outbox.retry, all tries and pauses, {}", Period(schedule));
    let mut length = schedule;
    if let Some(remembers) = outbox.receiver_remembers_for {
        made_of = format!("{made_of} + receiver_remembers_for {remembers}");
        length = length.saturating_add(remembers.0);
    }
    if let Some(redrive_for) = config.redrive_for {
        made_of = format!("{made_of} + redrive_for {redrive_for}");
        length = length.saturating_add(redrive_for.0);
    }
    WayBack {
        who: "the relay that delivers it again",
        made_of,
        length: Period(length),
    }
}

fn effects(config: &Config, mistakes: &mut Mistakes) {
    for (index, outbox) in config.outboxes.iter().enumerate() {
        let (remembered, way) = (outbox.remember_for(config), effect(config, outbox));
        if way.length > remembered {
            mistakes.add(
                &[Key("outbox"), Index(index), Key("remember_for")],
                format!(
                    "remember_for ({remembered}) of the outbox {:?} is shorter than the longest way back of an effect: \
                     {way}. Forgotten too early, it would be delivered again",
                    outbox.name.to_string()
                ),
                format!("raise remember_for to {} or more, or shorten that way", way.length),
            );
        }
    }
}

/// The longest way back of a message, as far as the configuration says it: its broker, the schedule, a redrive. What the
/// broker itself says is asked when the consumer starts.
fn message(config: &Config, consume: &Consume) -> WayBack {
    let schedule = consume.policy(config).longest();
    let mut made_of = format!("consume.retry, all tries and pauses, {}", Period(schedule));
    let mut length = schedule;
    if let Some(redrive_for) = config.redrive_for {
        made_of = format!("{made_of} + redrive_for {redrive_for}");
        length = length.saturating_add(redrive_for.0);
    }
    let schedule = WayBack {
        who: "the relay that sends it again",
        made_of,
        length: Period(length),
    };
    let broker = consume.redelivers_for.map(|length| WayBack {
        who: "the broker that delivers it again",
        made_of: "redelivers_for".to_owned(),
        length,
    });
    match broker {
        Some(broker) if broker.length > schedule.length => broker,
        _ => schedule,
    }
}

fn messages(config: &Config, mistakes: &mut Mistakes) {
    for (index, consume) in config.consumers.iter().enumerate() {
        let (remembered, way) = (consume.remember_for(config), message(config, consume));
        if way.length > remembered {
            mistakes.add(
                &[Key("consume"), Index(index), Key("remember_for")],
                format!(
                    "remember_for ({remembered}) of the consumer {:?} is shorter than the longest way back of a message: \
                     {way}. Forgotten too early, it would be handled again",
                    consume.name.to_string()
                ),
                format!("raise remember_for to {} or more, or shorten that way", way.length),
            );
        }
    }
}

/// For each route, its longest way back and how long it is remembered: one line each.
pub(crate) fn report(config: &Config) -> String {
    let all = config.routes.iter().map(Some).chain([None]);
    let mut lines = String::new();
    for route in all {
        let times = Times::of(config, route);
        let Some(longest) = times.longest() else { continue };
        let name = route.map_or("default".to_owned(), |route| route.name.to_string());
        lines.push_str(&format!(
            "route {name}: remembered for {}; longest way back {longest}\n",
            times.remember_for()
        ));
    }
    for outbox in &config.outboxes {
        let (remembered, way) = (outbox.remember_for(config), effect(config, outbox));
        lines.push_str(&format!(
            "outbox {}: remembered for {remembered}; longest way back {way}\n",
            outbox.name
        ));
    }
    for consume in &config.consumers {
        let (remembered, way) = (consume.remember_for(config), message(config, consume));
        lines.push_str(&format!(
            "consumer {}: remembered for {remembered}; longest way back {way}\n",
            consume.name
        ));
    }
    lines
}
