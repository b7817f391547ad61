//! Which dead letters are meant.

use clap::Args;
use hapax::core::{Cursor, DeadReason, Filter, StateName, Store, Summary, Timestamp};

use super::groups;
use super::moment::Moment;
use crate::config::values::Period;
use crate::exit::{Exit, Failure};
use crate::records::{print, which};

/// What all of them must be like.
#[derive(Debug, Args)]
pub(super) struct Filters {
    /// Only of this route
    #[arg(long, value_name = "NAME", visible_alias = "name")]
    route: Option<String>,
    /// Only of this scope
    #[arg(long)]
    scope: Option<String>,
    /// Only dead for this reason: exhausted, poison, mismatch, refused or undone
    #[arg(long, value_name = "WHY", value_parser = dead_reason)]
    dead_reason: Option<DeadReason>,
    /// Only with this error, as `hapax dead ls --group` shows it
    #[arg(long, value_name = "TEXT")]
    signature: Option<String>,
    /// Only dead for longer than this, such as 2h
    #[arg(long, value_name = "TIME")]
    older_than: Option<Period>,
    /// Only dead for less than this, such as 30m
    #[arg(long, value_name = "TIME")]
    newer_than: Option<Period>,
}

fn dead_reason(text: &str) -> Result<DeadReason, String> {
    DeadReason::parse(text).ok_or_else(|| {
        let known: Vec<&str> = DeadReason::ALL.iter().map(|reason| reason.as_str()).collect();
        format!("nothing is dead for that reason; give one of {}", known.join(", "))
    })
}

impl Filters {
    /// Whether any is given.
    pub(super) fn narrow(&self) -> bool {
        self.route.is_some() || self.scope.is_some() || self.choose_among_all()
    }

    /// Whether one is given that says nothing of a key.
    fn choose_among_all(&self) -> bool {
        self.dead_reason.is_some() || self.signature.is_some() || self.older_than.is_some() || self.newer_than.is_some()
    }
}

/// Some by their keys, or all that fit.
#[derive(Debug, Args)]
pub(super) struct Choice {
    /// These keys (after `--` if one begins with a dash)
    #[arg(value_name = "KEY")]
    keys: Vec<String>,
    /// All dead letters that fit
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filters: Filters,
    /// With --all: only what was dead before this time, such as 2026-01-31T08:00:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    before: Option<Moment>,
}

impl Choice {
    /// # Errors
    /// If nothing is chosen, or both keys and all.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let message = match (self.keys.is_empty(), self.all) {
            (true, false) => {
                "say which: give keys, or --all, which --route, --dead-reason, --signature, --older-than, --newer-than \
                 and --scope narrow; with --dry-run nothing is changed"
            }
            (false, true) => "give either keys or --all, not both",
            (false, false) if self.filters.choose_among_all() || self.before.is_some() => {
                "--dead-reason, --signature, --older-than, --newer-than and --before choose among all: leave out the \
                 key and give --all, or leave them out"
            }
            _ => return Ok(()),
        };
        Err(Failure::new(Exit::Usage, message))
    }

    /// # Errors
    /// If a key has no record, or none of the records is dead.
    pub(super) async fn chosen(&self, store: &dyn Store, now: Timestamp) -> Result<Chosen, Failure> {
        if self.all {
            return Ok(Chosen {
                dead: Dead::Matching(Matching::new(&self.filters, self.before(now), now)),
                others: Vec::new(),
            });
        }
        let (mut dead, mut others) = (Vec::new(), Vec::new());
        for key in &self.keys {
            let (scope, route) = (self.filters.scope.as_deref(), self.filters.route.as_deref());
            let found = which::find(store, key, scope, route).await?;
            let kind = if found.state == StateName::Dead {
                &mut dead
            } else {
                &mut others
            };
            if !kind.iter().any(|known: &Summary| known.operation == found.operation) {
                kind.push(found);
            }
        }
        if let (true, Some(other)) = (dead.is_empty(), others.first()) {
            return Err(not_dead(other));
        }
        Ok(Chosen {
            dead: Dead::Given(dead),
            others,
        })
    }

    /// The time that fixes the set, for a command that goes on later.
    pub(super) fn before(&self, now: Timestamp) -> Option<Timestamp> {
        self.all.then(|| self.before.map_or(now, |moment| moment.0))
    }
}

fn not_dead(other: &Summary) -> Failure {
    let (key, state) = (print::word(other.operation.key().as_str()), other.state);
    let next = match state {
        StateName::Done => format!("it is settled and never runs again: hapax records show {key}"),
        StateName::Waiting => format!("it is to be tried already: hapax records show {key} says when it is due"),
        StateName::Running => "its end tells what became of it".to_owned(),
        StateName::Unknown | StateName::Dead => {
            format!("look whether it happened, then say so: hapax records resolve {key} --done | --not-done")
        }
    };
    Failure::new(Exit::Failed, format!("{key} is {state}, not dead; {next}"))
}

/// Dead letters that are meant.
pub(super) struct Chosen {
    dead: Dead,
    /// Named by their keys, but not dead.
    pub(super) others: Vec<Summary>,
}

enum Dead {
    Given(Vec<Summary>),
    Matching(Matching),
}

impl Chosen {
    /// From the first one on.
    pub(super) fn pages(&self) -> Pages {
        match &self.dead {
            Dead::Given(given) => Pages::Given(Some(given.clone())),
            Dead::Matching(matching) => Pages::Matching(matching.clone()),
        }
    }
}

/// Dead letters, page by page.
pub(super) enum Pages {
    Given(Option<Vec<Summary>>),
    Matching(Matching),
}

impl Pages {
    /// The next page, which may be empty; `None` at the end.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn next(&mut self, store: &dyn Store) -> Result<Option<Vec<Summary>>, Failure> {
        match self {
            Self::Given(given) => Ok(given.take()),
            Self::Matching(matching) => matching.next(store).await,
        }
    }
}

/// All dead letters that fit, page by page.
#[derive(Clone)]
pub(super) struct Matching {
    filter: Filter,
    signature: Option<String>,
    after: Option<Cursor>,
    over: bool,
}

impl Matching {
    pub(super) fn new(filters: &Filters, before: Option<Timestamp>, now: Timestamp) -> Self {
        let ago = |period: Period| Timestamp::from_millis(now.as_millis().saturating_sub_unsigned(millis(period)));
        let old_enough = filters.older_than.map(ago);
        let filter = Filter {
            state: Some(StateName::Dead),
            scope: filters.scope.clone(),
            name: filters.route.clone(),
            key: None,
            dead: filters.dead_reason,
            since: filters.newer_than.map(ago),
            before: [before, old_enough].into_iter().flatten().min(),
            group: None,
        };
        Self {
            filter,
            signature: filters.signature.clone(),
            after: None,
            over: false,
        }
    }

    /// The next page, which may be empty; `None` at the end.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn next(&mut self, store: &dyn Store) -> Result<Option<Vec<Summary>>, Failure> {
        if self.over {
            return Ok(None);
        }
        let mut page = store.list(self.filter.clone(), self.after, 500).await?;
        self.after = page.next;
        self.over = page.next.is_none();
        if let Some(signature) = &self.signature {
            page.records.retain(|summary| groups::signature(summary) == *signature);
        }
        Ok(Some(page.records))
    }
}

fn millis(period: Period) -> u64 {
    u64::try_from(period.0.as_millis()).unwrap_or(u64::MAX)
}
