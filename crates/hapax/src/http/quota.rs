//! What one scope may take, so that one tenant cannot fill the store or the waiters of another.
//!
//! Counted by each process for itself; only `records` sees what others do, as of the last census.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hapax_core::Scope;
use tokio::time::Instant;

use super::problem::{Details, Problem};
use crate::engine::Engine;

/// What one scope may take. `None` is no limit; what is already known (duplicates) is never refused.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Quota {
    /// Operations that it may start a second, on average; at once as many, but at least one. Above 0.
    pub new_per_second: Option<f64>,
    /// Its requests that run, or wait for a run, at a time. At least 1.
    pub in_flight: Option<u32>,
    /// Its records in the store, in all states. At least 1. Counted every 30 s; what this process adds meanwhile
    /// counts at once.
    pub records: Option<u64>,
}

/// Which limit of a [`Quota`] was hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QuotaLimit {
    /// [`Quota::new_per_second`].
    NewPerSecond,
    /// [`Quota::in_flight`].
    InFlight,
    /// [`Quota::records`].
    Records,
}

impl QuotaLimit {
    /// Every limit.
    pub const ALL: [Self; 3] = [Self::NewPerSecond, Self::InFlight, Self::Records];

    /// The limit's name in the answer, in the configuration and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NewPerSecond => "quota.new_per_second",
            Self::InFlight => "quota.in_flight",
            Self::Records => "quota.records",
        }
    }
}

impl Quota {
    pub(super) fn nonsense(&self) -> Option<String> {
        if let Some(rate) = self.new_per_second
            && !(rate.is_finite() && rate > 0.0)
        {
            return Some(format!(
                "quota.new_per_second is {rate}: give a number above 0, or leave it out"
            ));
        }
        let zero =
            |name: &str| format!("quota.{name} is 0, which lets nothing through: give at least 1, or leave it out");
        match self {
            Self { in_flight: Some(0), .. } => Some(zero("in_flight")),
            Self { records: Some(0), .. } => Some(zero("records")),
            _ => None,
        }
    }

    /// Operations that may start at once.
    fn burst(rate: f64) -> f64 {
        rate.max(1.0)
    }
}

/// A limit that was hit, and when to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) limit: QuotaLimit,
    retry_after: Duration,
}

impl Hit {
    pub(super) fn is_records(self) -> bool {
        self.limit == QuotaLimit::Records
    }

    pub(super) fn details(self) -> Details {
        let name = self.limit.as_str();
        let what = match self.limit {
            QuotaLimit::NewPerSecond => "starts more operations a second than it may",
            QuotaLimit::InFlight => "has as many requests in flight as it may",
            QuotaLimit::Records => "has as many records as it may; the oldest are forgotten with time",
        };
        let detail = format!(
            "This caller {what} ({name}), and nothing ran. Send the same request again later, with the same key."
        );
        Details::new(Problem::TooManyRequests, detail)
            .with("limit", name)
            .retry_after(self.retry_after)
    }
}

/// How often records are counted.
const CENSUS: Duration = Duration::from_secs(30);
/// Scopes whose count of records is kept: the fullest ones.
const COUNTED: usize = 1 << 16;
/// Scopes that are kept before idle ones are dropped.
const SCOPES: usize = 1 << 12;

/// The scopes of the routes with one quota.
#[derive(Debug)]
pub(super) struct Quotas {
    pub(super) quota: Quota,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    scopes: HashMap<Scope, Taken>,
    /// Records of the fullest scopes, as of the last census.
    counted: HashMap<Scope, u64>,
    next_census: Instant,
    /// How many scopes make it worth to look for idle ones.
    full: usize,
}

/// What a scope has taken.
#[derive(Debug, Clone, Copy)]
struct Taken {
    tokens: f64,
    at: Instant,
    in_flight: u32,
    /// Records made here since the last census was begun, and before that.
    added: u64,
    adding: u64,
}

/// A place within a quota: given back when dropped, but for what [`Place::used`] has spent.
#[derive(Debug)]
pub(super) struct Place {
    quotas: Arc<Quotas>,
    scope: Scope,
    used: bool,
    /// Whether it is counted as a new record.
    adds: bool,
}

impl Quotas {
    pub(super) fn new(quota: Quota) -> Self {
        let table = Table {
            scopes: HashMap::new(),
            counted: HashMap::new(),
            next_census: Instant::now(),
            full: SCOPES,
        };
        Self {
            quota,
            table: Mutex::new(table),
        }
    }

    /// A place for one more operation of a scope. Counts records first, in the background, if it is time to.
    pub(super) fn enter(self: &Arc<Self>, scope: &Scope, engine: &Engine) -> Result<Place, Hit> {
        let now = Instant::now();
        let mut table = self.table();
        if self.quota.records.is_some() && now >= table.next_census {
            table.next_census = now + CENSUS;
            tokio::spawn(Arc::clone(self).census(engine.clone()));
        }
        table.enter(&self.quota, scope, now)?;
        drop(table);
        Ok(self.place(scope, self.quota.records.is_some()))
    }

    /// A place that only another limit than `records` can refuse: the operation has its record.
    pub(super) fn enter_known(self: &Arc<Self>, scope: &Scope) -> Result<Place, Hit> {
        let quota = Quota {
            records: None,
            ..self.quota
        };
        self.table().enter(&quota, scope, Instant::now())?;
        Ok(self.place(scope, false))
    }

    fn place(self: &Arc<Self>, scope: &Scope, adds: bool) -> Place {
        Place {
            quotas: Arc::clone(self),
            scope: scope.clone(),
            used: false,
            adds,
        }
    }

    async fn census(self: Arc<Self>, engine: Engine) {
        for taken in self.table().scopes.values_mut() {
            // What is in flight may not be in the store yet.
            let coming = taken.added.min(u64::from(taken.in_flight));
            taken.adding += taken.added - coming;
            taken.added = coming;
        }
        // Without a count, the last one stands.
        let Ok(census) = engine.store().census(true).await else {
            return;
        };
        let mut fullest = census.scopes;
        if fullest.len() > COUNTED {
            fullest.select_nth_unstable_by_key(COUNTED, |(_, records)| std::cmp::Reverse(*records));
            fullest.truncate(COUNTED);
        }
        let mut table = self.table();
        table.counted = fullest.into_iter().collect();
        for taken in table.scopes.values_mut() {
            taken.adding = 0;
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Its numbers are numbers after any panic.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn enter(&mut self, quota: &Quota, scope: &Scope, now: Instant) -> Result<(), Hit> {
        if !self.scopes.contains_key(scope) {
            self.make_room(quota, now);
            let fresh = Taken {
                tokens: f64::INFINITY,
                at: now,
                in_flight: 0,
                added: 0,
                adding: 0,
            };
            self.scopes.insert(scope.clone(), fresh);
        }
        let counted = match quota.records {
            Some(_) => self.counted.get(scope).copied().unwrap_or_default(),
            None => 0,
        };
        // It was just put there.
        let Some(taken) = self.scopes.get_mut(scope) else {
            return Ok(());
        };
        taken.enter(quota, counted, now)
    }

    /// Drops idle scopes, once there are as many again as were not idle last time.
    fn make_room(&mut self, quota: &Quota, now: Instant) {
        if self.scopes.len() < self.full {
            return;
        }
        self.scopes.retain(|_, taken| !taken.is_idle(quota, now));
        self.full = SCOPES.max(2 * self.scopes.len());
    }
}

impl Taken {
    fn enter(&mut self, quota: &Quota, counted: u64, now: Instant) -> Result<(), Hit> {
        let hit = |limit, retry_after| Err(Hit { limit, retry_after });
        if let Some(most) = quota.records
            && counted.saturating_add(self.added).saturating_add(self.adding) >= most
        {
            return hit(QuotaLimit::Records, CENSUS);
        }
        if quota.in_flight.is_some_and(|most| self.in_flight >= most) {
            return hit(QuotaLimit::InFlight, Duration::from_secs(1));
        }
        if let Some(rate) = quota.new_per_second {
            let earned = now.saturating_duration_since(self.at).as_secs_f64() * rate;
            self.tokens = (self.tokens + earned).min(Quota::burst(rate));
            self.at = now;
            if self.tokens < 1.0 {
                let wait = Duration::try_from_secs_f64((1.0 - self.tokens) / rate);
                return hit(QuotaLimit::NewPerSecond, wait.unwrap_or(CENSUS));
            }
            self.tokens -= 1.0;
        }
        self.in_flight += 1;
        self.added += u64::from(quota.records.is_some());
        Ok(())
    }

    /// Whether it is as if it had never been seen. What it added is in the next census.
    fn is_idle(&self, quota: &Quota, now: Instant) -> bool {
        let refilled = quota.new_per_second.is_none_or(|rate| {
            let earned = now.saturating_duration_since(self.at).as_secs_f64() * rate;
            self.tokens + earned >= Quota::burst(rate)
        });
        self.in_flight == 0 && refilled && self.added + self.adding == 0
    }
}

impl Place {
    /// The operation starts, or is stored: what it spent is not given back.
    pub(super) fn used(&mut self) {
        self.used = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.quotas.table();
        // A scope with a place is never idle.
        let Some(taken) = table.scopes.get_mut(&self.scope) else {
            return;
        };
        taken.in_flight = taken.in_flight.saturating_sub(1);
        if !self.used {
            taken.added = taken.added.saturating_sub(u64::from(self.adds));
            taken.tokens += 1.0;
        }
    }
}

#[cfg(test)]
mod tests;
