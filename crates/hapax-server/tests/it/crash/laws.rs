//! The laws, checked on what the clients saw and what is in the shop's database.

use std::collections::{BTreeMap, BTreeSet};

use hapax_shop::{Effect, Ledger};

use super::journal::{Name, Story};
use super::rig::{LEASE, Mode, RUNS};
use super::storm::ACTIVE;

/// The most that a kill can cut off.
const IN_FLIGHT: u64 = ACTIVE as u64 + RUNS;

/// The numbers of one configuration, or of its story so far.
#[derive(Debug, Default)]
pub(super) struct Sums {
    pub(super) effects: u64,
    /// Effects beyond the first of their operation.
    pub(super) doubles: u64,
    /// Successes without an effect.
    pub(super) lost: u64,
    /// Operations that ended as unknown, without and with an effect.
    pub(super) unknown: (u64, u64),
    /// Operations that were never accepted, of which a client learned by replays only that they are done.
    pub(super) recovered: u64,
    /// Operations with more doubles than kills while they ran: a live run that lost its lease.
    pub(super) stalled: u64,
}

/// Checks what must be true at any moment; `over` says that all clients know the end.
pub(super) fn check(story: &Story, ledger: &Ledger, mode: Mode, over: bool) -> (Sums, Vec<String>) {
    // The story was taken before: what it says must be in the ledger.
    let effects = ledger.effects().unwrap();
    let mut court = Court {
        story,
        mode,
        runs: BTreeMap::new(),
        sums: Sums {
            effects: effects.len() as u64,
            ..Sums::default()
        },
        complaints: story.violations.clone(),
    };
    court.gather(&effects);
    court.once();
    let owners = court.acknowledged(&effects);
    court.isolation();
    if over {
        court.ends(&owners);
    }
    (court.sums, court.complaints)
}

struct Court<'a> {
    story: &'a Story,
    mode: Mode,
    /// Effects by the operation that the shop was told.
    runs: BTreeMap<&'a str, Vec<&'a Effect>>,
    sums: Sums,
    complaints: Vec<String>,
}

impl<'a> Court<'a> {
    fn complain(&mut self, what: String) {
        self.complaints.push(what);
    }

    fn gather(&mut self, effects: &'a [Effect]) {
        for effect in effects {
            match &effect.operation {
                Some(operation) => self.runs.entry(operation).or_default().push(effect),
                None => self.complaints.push(format!("an effect of no operation: {effect:?}")),
            }
        }
    }

    /// Hold: one effect an operation. Retry: one effect a claim. Both: of one request only.
    fn once(&mut self) {
        let mut complaints = Vec::new();
        for (operation, effects) in &self.runs {
            let extra = effects.len() as u64 - 1;
            self.sums.doubles += extra;
            if self.mode == Mode::Hold && extra > 0 {
                complaints.push(format!("{operation} happened {} times: {effects:?}", effects.len()));
            }
            let fences: BTreeSet<_> = effects.iter().map(|effect| &effect.fence).collect();
            if fences.len() != effects.len() {
                complaints.push(format!("{operation} happened twice under one fence: {effects:?}"));
            }
            let requests: BTreeSet<_> = effects.iter().map(|effect| (&effect.kind, &effect.key)).collect();
            if requests.len() != 1 {
                complaints.push(format!("{operation} is two requests: {effects:?}"));
            }
        }
        self.complaints.append(&mut complaints);
    }

    /// Who saw success has the effect of the last fence behind it. Gives the operation of each.
    fn acknowledged(&mut self, effects: &'a [Effect]) -> BTreeMap<&'a Name, &'a str> {
        let rows: BTreeMap<_, _> = effects
            .iter()
            .map(|effect| (row(&effect.kind, effect.id), effect))
            .collect();
        let mut owners = BTreeMap::new();
        let mut owned = BTreeSet::new();
        for (name, seen) in &self.story.seen {
            let Some((_, answer)) = &seen.success else { continue };
            let location = answer.header("location").unwrap_or_default();
            let Some(effect) = rows.get(location).filter(|effect| effect.key.as_ref() == Some(&name.1)) else {
                self.sums.lost += 1;
                self.complain(format!("{name:?} saw success and has no effect: {answer:?}"));
                continue;
            };
            let operation = effect.operation.as_deref().unwrap_or_default();
            if !owned.insert(operation) {
                self.complain(format!("{name:?} got the effect of another scope, {effect:?}"));
            }
            owners.insert(name, operation);
            let last = self
                .runs
                .get(operation)
                .and_then(|effects| effects.iter().max_by_key(|effect| fence(effect)));
            if last.is_some_and(|last| fence(last) != fence(effect)) {
                self.complain(format!(
                    "{name:?} was answered with {effect:?}, but it ran again: {last:?}"
                ));
            }
        }
        owners
    }

    /// No key has more operations than scopes that asked for it.
    fn isolation(&mut self) {
        let mut asked: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, key) in self.story.seen.keys() {
            *asked.entry(key).or_default() += 1;
        }
        let mut ran: BTreeMap<&str, usize> = BTreeMap::new();
        for effects in self.runs.values() {
            *ran.entry(effects[0].key.as_deref().unwrap_or_default()).or_default() += 1;
        }
        for (key, count) in ran {
            let scopes = asked.get(key).copied().unwrap_or_default();
            if count > scopes {
                self.complain(format!(
                    "{key} was asked for by {scopes} scopes and is {count} operations"
                ));
            }
        }
    }

    /// Every operation has an end that its mode allows, and no second run came before its lease.
    fn ends(&mut self, owners: &BTreeMap<&Name, &str>) {
        for (name, seen) in &self.story.seen {
            let runs = owners
                .get(name)
                .and_then(|operation| self.runs.get(operation))
                .map_or(0, Vec::len) as u64;
            match (&seen.success, seen.ended) {
                (Some(_), Some(ended)) => {
                    self.sums.recovered += u64::from(seen.fresh == 0 && !seen.accepted);
                    let extra = runs.saturating_sub(1);
                    let leases = ended.duration_since(seen.first_sent).as_millis() / LEASE.as_millis();
                    if u128::from(extra) > leases {
                        self.complain(format!("{name:?} ran {runs} times within {leases} leases"));
                    }
                    self.sums.stalled += u64::from(extra > seen.kills.1 - seen.kills.0);
                }
                (None, Some(_)) if seen.unknown => {}
                _ => self.complain(format!("{name:?} has no end: {seen:?}")),
            }
        }
        self.unknowns(owners);
        if self.sums.doubles > self.story.kills * IN_FLIGHT + self.sums.stalled {
            self.complain(format!("{} doubles of {} kills", self.sums.doubles, self.story.kills));
        }
    }

    /// An unknown operation has at most one effect: those of its key that nobody saw succeed.
    fn unknowns(&mut self, owners: &BTreeMap<&Name, &str>) {
        let owned: BTreeSet<_> = owners.values().collect();
        let unclaimed = self.runs.keys().filter(|operation| !owned.contains(operation)).count() as u64;
        let unknown = self
            .story
            .seen
            .values()
            .filter(|seen| seen.unknown && seen.success.is_none())
            .count() as u64;
        if unclaimed > unknown {
            self.complain(format!(
                "{unclaimed} operations happened that {unknown} unknown ones do not explain"
            ));
        }
        self.sums.unknown = (unknown - unclaimed.min(unknown), unclaimed);
        if unknown > self.story.kills * IN_FLIGHT {
            self.complain(format!("{unknown} unknown of {} kills", self.story.kills));
        }
    }
}

fn fence(effect: &Effect) -> u64 {
    effect
        .fence
        .as_ref()
        .and_then(|fence| fence.parse().ok())
        .unwrap_or_else(|| panic!("no fence: {effect:?}"))
}

/// Where the shop says that a row is.
fn row(kind: &str, id: i64) -> String {
    let collection = if kind == "points" {
        kind.to_owned()
    } else {
        format!("{kind}s")
    };
    format!("/{collection}/{id}")
}
