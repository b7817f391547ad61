//! Routes that make no sense.

use std::time::Duration;

use http::Method;

use super::Route;
use crate::http::answer;
use crate::http::quota::Quota;
#[cfg(feature = "atomic")]
use crate::http::route::StoreDown;

/// No run or wait takes longer, and clocks can add it to their time.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

impl Route {
    /// What makes no sense of it, and what to write instead.
    pub(super) fn nonsense(&self) -> Option<String> {
        let (run, statuses) = (&self.run, &self.statuses);
        if self.methods.is_empty() {
            return Some("no methods: name at least one, such as POST".into());
        }
        if let Some(method) = self
            .methods
            .iter()
            .find(|method| method.is_safe() || **method == Method::CONNECT)
        {
            return Some(format!(
                "{method} changes nothing, so there is nothing to protect: leave it out"
            ));
        }
        #[cfg(feature = "atomic")]
        if self.transactions.is_some()
            && let Some(problem) = self.beside_transactions()
        {
            return Some(problem);
        }
        if run.lease < Duration::from_millis(100) || run.max_run < run.lease {
            return Some(format!(
                "lease {:?} and max_run {:?}: give a lease of at least 100ms and a max_run no shorter than it",
                run.lease, run.max_run
            ));
        }
        let times = [
            ("max_run", run.max_run),
            ("the longest wait", self.max_wait),
            ("the time of an answer", self.capture.time),
        ];
        if let Some((name, time)) = times.into_iter().find(|(_, time)| *time > LONGEST) {
            return Some(format!("{name} is {time:?}: give at most {LONGEST:?} (a year)"));
        }
        if run.retention.remember_for < run.retention.replay_for {
            return Some(format!(
                "remember_for {:?} is shorter than replay_for {:?}: an answer cannot outlive its record",
                run.retention.remember_for, run.retention.replay_for
            ));
        }
        if self.max_wait < self.wait {
            return Some(format!(
                "wait {:?} is longer than the longest wait {:?}",
                self.wait, self.max_wait
            ));
        }
        if let Some(problem) = self.quota.as_ref().and_then(Quota::nonsense) {
            return Some(problem);
        }
        if let Some(status) = statuses.no_effect.iter().find(|status| status.as_u16() < 400) {
            return Some(format!(
                "no_effect has {status}, which is no failure: list 4xx and 5xx only"
            ));
        }
        if let Some(status) = statuses.finals.iter().find(|status| status.as_u16() < 200) {
            return Some(format!("final has {status}, which ends nothing: list 2xx to 5xx only"));
        }
        if let Some(name) = self.headers.iter().find(|name| !answer::may_be_kept(name)) {
            return Some(format!(
                "{name} belongs to one message or one caller and is never stored: leave it out"
            ));
        }
        None
    }

    /// What does not go with transactions.
    #[cfg(feature = "atomic")]
    fn beside_transactions(&self) -> Option<String> {
        if !self.required {
            return Some("atomic without a required key: without a key there is no transaction".into());
        }
        let needless = [
            ("a sealer", self.sealer.is_some()),
            ("resolvers", !self.resolvers.0.is_empty()),
            ("a retry policy", self.retry.is_some()),
            ("respond_async", self.respond_async),
            (
                "running unprotected",
                self.when_store_is_down == StoreDown::RunUnprotected,
            ),
        ];
        let (name, _) = needless.into_iter().find(|(_, there)| *there)?;
        Some(format!(
            "atomic with {name}: its transaction says what happened, and only arrivals run it; leave that out"
        ))
    }
}
