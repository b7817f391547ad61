//! An upstream goes down for a while under steady traffic, in several ways, and comes back: what reaches it meanwhile,
//! and how the traffic returns.

mod clients;
mod seen;
mod upstream;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hapax_testbed::FreePort;

use super::World;
use super::http::Gateway;
use crate::chart::{Chart, Kind, Series};
use crate::error::Result;
use crate::options::Options;
use crate::report::{Figure, Report, Target};
use seen::{Seen, Times};
use upstream::{Mood, Upstream};

/// The most that reaches the upstream in any second, as a share of what is offered.
const MOST_FORWARDED: f64 = 1.25;
/// The longest time between two probes, and until the usual rate is back.
const LONGEST: f64 = 10.0;
/// The most that comes down in any second after the first good answer, as a share of what is offered.
const MOST_AFTER: f64 = 1.5;

/// The ways to be down.
const TROUBLES: [Mood; 4] = [Mood::Refuses, Mood::Closes, Mood::Fails, Mood::Busy];

pub(super) async fn run(options: &Options, report: &mut Report) -> Result<()> {
    let world = Arc::new(World::new(options)?);
    let mut scenarios = Vec::new();
    // All at once: each has an upstream and a gateway of its own, and little to do.
    for trouble in TROUBLES {
        let scenario = Scenario::start(options, &world, trouble).await?;
        scenarios.push((trouble, tokio::spawn(scenario.play())));
    }
    for (trouble, scenario) in scenarios {
        let seen = scenario.await??;
        figures(report, trouble, &seen);
        draw(report, trouble, &seen)?;
    }
    let storm = options.plan.storm;
    report.note(format!(
        "{} clients, each offers one request a second with a key of its own, whatever became of the last one; {} s well, \
         {} s down, {} s well again; the gateway with its defaults",
        storm.clients,
        storm.before.as_secs_f64(),
        storm.down.as_secs_f64(),
        storm.after.as_secs_f64()
    ));
    report.note(
        "a second is any second, not one of the clock. What reaches an upstream is counted by it; where it refuses \
         connections, which it cannot see, by the gateway's metrics",
    );
    Ok(())
}

struct Scenario {
    upstream: Upstream,
    gateway: Gateway,
    admin: FreePort,
    trouble: Mood,
    plan: crate::plan::Storm,
    _world: Arc<World>,
}

impl Scenario {
    async fn start(options: &Options, world: &Arc<World>, trouble: Mood) -> Result<Self> {
        let upstream = Upstream::start(FreePort::try_take()?).await?;
        let admin = FreePort::try_take()?;
        let arguments = ["--admin", &admin.address().to_string()];
        let place = world.sqlite(trouble.label());
        Ok(Self {
            gateway: Gateway::before(options, world, upstream.address(), &place, &arguments).await?,
            upstream,
            admin,
            trouble,
            plan: options.plan.storm,
            _world: Arc::clone(world),
        })
    }

    async fn play(mut self) -> Result<Seen> {
        let start = Instant::now();
        let since = |at: Instant| at.saturating_duration_since(start).as_secs_f64();
        let time = self.plan.before + self.plan.down + self.plan.after;
        let traffic = tokio::spawn(clients::offer(self.gateway.address(), self.plan.clients, start, time));
        sleep_until(start + self.plan.before).await;
        let refused = clients::watch_refusals(self.admin.address());
        self.upstream.change(self.trouble).await?;
        let down = Instant::now();
        println!("   {}: down", self.trouble.label());
        sleep_until(start + self.plan.before + self.plan.down).await;
        self.upstream.change(Mood::Well).await?;
        let up = Instant::now();
        println!("   {}: up", self.trouble.label());
        let offered = traffic.await??;
        let mut forwarded = self.upstream.arrivals();
        let refused = refused.end().await?;
        // The other ones it has seen itself.
        if self.trouble == Mood::Refuses {
            forwarded.extend(refused);
        }
        Ok(Seen {
            clients: f64::from(self.plan.clients),
            offered: Times::new(offered.iter().map(|one| since(one.at))),
            answered: Times::new(offered.iter().filter_map(|one| Some(since(one.well?)))),
            forwarded: Times::new(forwarded.into_iter().map(since)),
            down: since(down),
            up: since(up),
            end: time.as_secs_f64(),
        })
    }
}

async fn sleep_until(at: Instant) {
    tokio::time::sleep_until(at.into()).await;
}

fn figures(report: &mut Report, trouble: Mood, seen: &Seen) {
    let how = trouble.label();
    let share = |rate: f64| rate / seen.clients;
    let offered = format!("{:.0} offered a second", seen.clients);
    let mut figure = |what: &str, (measured, beside): (String, String), (value, unit), target| {
        report.figure(Figure {
            what: format!("upstream {how}: {what}"),
            measured,
            beside,
            value,
            unit,
            target: Some(target),
        });
    };
    figure(
        "most forwarded : offered in any second",
        (
            format!("{} in all while down", seen.forwarded_while_down()),
            offered.clone(),
        ),
        (seen.most_forwarded(), ""),
        Target::AtMost(MOST_FORWARDED),
    );
    figure(
        "longest time without a probe while down",
        (format!("down for {:.1} s", seen.up - seen.down), String::new()),
        (seen.longest_gap(), "s"),
        Target::AtMost(LONGEST),
    );
    let back = match seen.back() {
        Some(seconds) => (
            seconds,
            "from the first good answer to 0.95 of what is offered".to_owned(),
        ),
        None => (seen.end - seen.up, "NOT BACK when the run ended".to_owned()),
    };
    figure(
        "usual rate is back after",
        (back.1, offered.clone()),
        (back.0, "s"),
        Target::AtMost(LONGEST),
    );
    let after = seen.most_after();
    figure(
        "most forwarded after it : offered, in any second",
        (format!("{after:.0}"), offered),
        (share(after), ""),
        Target::AtMost(MOST_AFTER),
    );
}

/// One place a second.
fn draw(report: &Report, trouble: Mood, seen: &Seen) -> Result<()> {
    let seconds = Duration::from_secs_f64(seen.end).as_secs().max(1);
    let step = (seconds / 12).max(1);
    let label = |second: u64| {
        if second.is_multiple_of(step) {
            second.to_string()
        } else {
            String::new()
        }
    };
    let series = |label: &str, times: &Times| Series {
        label: label.to_owned(),
        values: (0..seconds)
            .map(|second| times.within(second as f64, second as f64 + 1.0) as f64)
            .collect(),
    };
    let chart = Chart {
        kind: Kind::Lines,
        title: format!(
            "Upstream {} from {:.0} s to {:.0} s",
            trouble.label(),
            seen.down,
            seen.up
        ),
        unit: "requests a second".to_owned(),
        axis: "seconds".to_owned(),
        places: (0..seconds).map(label).collect(),
        series: vec![
            series("offered by clients", &seen.offered),
            series("forwarded to the upstream", &seen.forwarded),
            series("answered well", &seen.answered),
        ],
    };
    report.chart(&format!("storm-{}", trouble.label()), &chart)
}
