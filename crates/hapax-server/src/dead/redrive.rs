//! `hapax dead redrive` and `hapax dead discard`: what is asked for, and what would be done.

use std::collections::HashSet;
use std::io::{self, Write};

use clap::Args;
use hapax::core::{Amend, DeadReason, Store};
use serde_json::Value;

use super::choice::{Choice, Chosen};
use super::pace::{Pace, Rate};
use super::progress::Progress;
use super::stop::Stop;
use super::tally::{Step, Tally, UNDONE};
use super::walk::{Cut, Walk};
use crate::audit::Why;
use crate::cli::StoreArg;
use crate::config::values::Period;
use crate::exit::{Exit, Failure};
use crate::store;

#[derive(Debug, Args)]
pub(crate) struct Redrive {
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    why: Why,
    /// Say how many would run and how many would be skipped, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Redrive so many first, and go on only if all of them are done
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    canary: Option<u32>,
    /// With --canary: how long they may take
    #[arg(long, value_name = "TIME", default_value_t = Period::seconds(60))]
    canary_wait: Period,
    /// So many a second
    #[arg(long, value_name = "N/s", default_value_t = Rate::DEFAULT)]
    rate: Rate,
    /// One JSON object a line: each record, then what was done in all
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Discard {
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    why: Why,
    /// Say how many would be closed, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// One JSON object a line: each record, then what was done in all
    #[arg(long)]
    json: bool,
}

pub(super) async fn redrive(args: Redrive) -> Result<(), Failure> {
    let job = Job {
        amend: Amend::Redrive,
        rate: Some(args.rate),
        canaries: args.canary.map(|canaries| (canaries as usize, args.canary_wait)),
        dry_run: args.dry_run,
        json: args.json,
    };
    job.run(&args.store, &args.choice, &args.why).await
}

pub(super) async fn discard(args: Discard) -> Result<(), Failure> {
    let job = Job {
        amend: Amend::Discard,
        rate: None,
        canaries: None,
        dry_run: args.dry_run,
        json: args.json,
    };
    job.run(&args.store, &args.choice, &args.why).await
}

struct Job {
    amend: Amend,
    rate: Option<Rate>,
    canaries: Option<(usize, Period)>,
    dry_run: bool,
    json: bool,
}

impl Job {
    async fn run(self, store: &StoreArg, choice: &Choice, why: &Why) -> Result<(), Failure> {
        choice.check()?;
        let audit = (!self.dry_run).then(|| why.audit()).transpose()?;
        let store = store::open_existing(&store.store).await?;
        let (now, _) = store.time(false).await?;
        let chosen = choice.chosen(&*store, now).await?;
        let plan = self.plan(&*store, &chosen).await?;
        let Some(audit) = audit else {
            return self.tell(&plan, None);
        };
        let mut walk = Walk {
            store: &*store,
            amend: self.amend.clone(),
            audit,
            pace: Pace::new(self.rate),
            stop: Stop::new()?,
            progress: Progress::new(plan.changed()),
            tally: Tally::default(),
            json: self.json,
        };
        let ended = self.walk(&mut walk, &chosen).await;
        walk.progress.end();
        let tally = walk.tally;
        let before = choice.before(now).map_or_else(String::new, |before| {
            format!(", with --before {before} to leave out what has died since")
        });
        let go_on = format!("to go on, give the same command again{before}; what is no longer dead is not touched");
        let (cut, failure) = match ended {
            Ok(()) => return self.tell(&tally, None),
            Err(Cut::Failed(failure)) if tally.is_empty() => return Err(failure),
            Err(Cut::Failed(failure)) => ("failure", failure.and(go_on)),
            Err(Cut::Stopped) => (
                "interrupt",
                Failure::new(Exit::Failed, "stopped between two records").and(go_on),
            ),
            Err(Cut::Canary(failure)) => ("canary", failure),
        };
        self.tell(&tally, Some(cut))?;
        Err(failure)
    }

    /// What would become of what is chosen.
    async fn plan(&self, store: &dyn Store, chosen: &Chosen) -> Result<Tally, Failure> {
        let mut plan = Tally::default();
        let mut pages = chosen.pages();
        while let Some(page) = pages.next(store).await? {
            for summary in &page {
                plan.add(match (&self.amend, summary.dead, summary.has_input) {
                    (Amend::Discard, ..) => Step::Discard,
                    (_, Some(DeadReason::Undone), _) => Step::Skip(UNDONE),
                    (.., true) => Step::Run,
                    (.., false) => Step::Release,
                });
            }
        }
        if plan.changed() == 0 && !plan.is_empty() {
            return Err(Failure::new(
                Exit::Failed,
                "compensation has begun for all that fit, so that none can be redriven: what they did is being undone; \
                 close them with hapax dead discard, and ask for what is still wanted with a new key",
            ));
        }
        if plan.changed() == 0 {
            return Err(Failure::new(
                Exit::Failed,
                "no dead letter fits, so there is nothing to do; hapax dead ls lists what there is, and takes the same \
                 filters",
            ));
        }
        for other in &chosen.others {
            plan.add(Step::Skip(other.state.as_str()));
        }
        Ok(plan)
    }

    async fn walk(&self, walk: &mut Walk<'_>, chosen: &Chosen) -> Result<(), Cut> {
        for other in &chosen.others {
            walk.note(other, Step::Skip(other.state.as_str()))?;
        }
        let mut first = HashSet::new();
        if let Some((limit, wait)) = self.canaries {
            walk.canaries(chosen, limit, wait, &mut first).await?;
        }
        walk.all(chosen, &first).await
    }

    /// What was done, or would be; `cut` says why it ended early.
    fn tell(&self, tally: &Tally, cut: Option<&str>) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        if self.json {
            let mut value = tally.json();
            value["event"] = "summary".into();
            value["dry_run"] = self.dry_run.into();
            value["cut_short_by"] = cut.map_or(Value::Null, Value::from);
            writeln!(out, "{value}")?;
        } else {
            writeln!(out, "{}", tally.sentence(self.amend == Amend::Discard, self.dry_run))?;
        }
        out.flush()?;
        Ok(())
    }
}
