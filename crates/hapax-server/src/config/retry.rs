//! `[retry]` and `[route.retry]`: the retry policy by its names in TOML. `docs/retry.md` says what each does.

use hapax::core::RetryPolicy;
use hapax::core::policy::{
    Backoff, BreakerPolicy, BudgetPolicy, Classes, FailureClass, Limits as PolicyLimits, PolicyError,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Mistakes;
use super::source::Step::{self, Index, Key};
use super::values::Period;
use super::{AfterFailure, Config, Route, Timeouts};

/// A class of failures that can be retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Class {
    /// Nothing happened.
    Unsent,
    /// Nothing happened, and: slow down.
    Throttled,
    /// It may have happened.
    Ambiguous,
}

/// The same fields twice: with defaults, and as what overrides them.
macro_rules! retry {
    ($($(#[doc = $doc:literal])+ $field:ident: $type:ty,)+) => {
        /// When the backend is asked again, and when it is left alone.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        pub(crate) struct Retry {
            $($(#[doc = $doc])+ pub(crate) $field: $type,)+
            /// The longest that one try may take; as long as the time-outs of the backend let it (and `total`) if absent.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub(crate) per_try: Option<Period>,
            /// The longest that one call may take with all tries and pauses; 60 s, or `per_try` if longer, if absent.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub(crate) total: Option<Period>,
        }

        /// What a route says otherwise.
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        pub(crate) struct RouteRetry {
            $($(#[doc = $doc])+
            #[serde(skip_serializing_if = "Option::is_none")]
            pub(crate) $field: Option<$type>,)+
            /// The longest that one try may take.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub(crate) per_try: Option<Period>,
            /// The longest that one call may take with all tries and pauses.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub(crate) total: Option<Period>,
        }

        impl Retry {
            /// This one, with what a route says otherwise.
            pub(super) fn but(&self, route: &RouteRetry) -> Self {
                let mut merged = self.clone();
                $(if let Some(value) = &route.$field {
                    merged.$field = value.clone();
                })+
                merged.per_try = route.per_try.or(self.per_try);
                merged.total = route.total.or(self.total);
                merged
            }
        }
    };
}

retry! {
    /// Which failures are retried. `ambiguous` goes with `after_failure = "retry"`.
    classes: Vec<Class>,
    /// Starts in all, the first one included; 1 means no retries.
    tries: u32,
    /// The longest first pause; it doubles with each try.
    base: Period,
    /// The same after the backend said to slow down.
    throttle_base: Period,
    /// No pause is longer.
    cap: Period,
    /// The longest from the first start of an operation to its last, over all calls and restarts.
    elapsed: Period,
    /// Retries for each first try, 0 to 1.
    budget_share: f64,
    /// Retries a second beside that.
    budget_floor: f64,
    /// The backend is left alone when this share of calls failed, above 0, at most 1…
    breaker_failure_rate: f64,
    /// …of at least so many…
    breaker_minimum_calls: u32,
    /// …in this time.
    breaker_window: Period,
    /// The pause before it is asked whether it is back; it doubles each time that it is not…
    breaker_open: Period,
    /// …up to this.
    breaker_open_at_most: Period,
    /// How long the traffic takes to return.
    breaker_ramp: Period,
}

impl Default for Retry {
    fn default() -> Self {
        Self::of(&RetryPolicy::default())
    }
}

impl Retry {
    /// A policy by its names; how long one try and one call may take is left open.
    pub(super) fn of(policy: &RetryPolicy) -> Self {
        let classes = [Class::Unsent, Class::Throttled, Class::Ambiguous];
        Self {
            classes: classes
                .into_iter()
                .filter(|class| policy.retry.contains(class.proves()))
                .collect(),
            tries: policy.limits.tries,
            base: Period(policy.backoff.base),
            throttle_base: Period(policy.backoff.throttle_base),
            cap: Period(policy.backoff.cap),
            per_try: None,
            total: None,
            elapsed: Period(policy.limits.elapsed),
            budget_share: policy.budget.share,
            budget_floor: policy.budget.floor,
            breaker_failure_rate: policy.breaker.failure_rate,
            breaker_minimum_calls: policy.breaker.minimum_calls,
            breaker_window: Period(policy.breaker.window),
            breaker_open: Period(policy.breaker.open),
            breaker_open_at_most: Period(policy.breaker.open_at_most),
            breaker_ramp: Period(policy.breaker.ramp),
        }
    }
}

impl Class {
    fn proves(self) -> FailureClass {
        match self {
            Self::Unsent => FailureClass::Unsent,
            Self::Throttled => FailureClass::Throttled,
            Self::Ambiguous => FailureClass::Ambiguous,
        }
    }
}

impl Retry {
    /// The policy. A route in retry mode retries ambiguous failures whatever `classes` says, and no other does.
    pub(super) fn policy(&self, after_failure: AfterFailure, timeouts: &Timeouts) -> RetryPolicy {
        let defaults = PolicyLimits::default();
        let patience = timeouts.upstream_connect.0 + timeouts.upstream.0 + timeouts.answer.0;
        // What is not given gives way to what is.
        let most = self.total.map_or(self.elapsed.0, |total| total.0.min(self.elapsed.0));
        let per_try = self.per_try.map_or(patience.min(most), |period| period.0);
        let total = defaults.total.max(per_try).min(self.elapsed.0);
        RetryPolicy {
            retry: Classes {
                unsent: self.classes.contains(&Class::Unsent),
                throttled: self.classes.contains(&Class::Throttled),
                ambiguous: after_failure == AfterFailure::Retry,
            },
            backoff: Backoff {
                base: self.base.0,
                throttle_base: self.throttle_base.0,
                cap: self.cap.0,
            },
            limits: PolicyLimits {
                tries: self.tries,
                elapsed: self.elapsed.0,
                per_try,
                total: self.total.map_or(total, |period| period.0),
            },
            budget: BudgetPolicy {
                share: self.budget_share,
                floor: self.budget_floor,
                ..BudgetPolicy::default()
            },
            breaker: BreakerPolicy {
                failure_rate: self.breaker_failure_rate,
                minimum_calls: self.breaker_minimum_calls,
                window: self.breaker_window.0,
                open: self.breaker_open.0,
                open_at_most: self.breaker_open_at_most.0,
                ramp: self.breaker_ramp.0,
            },
        }
    }
}

/// The policy of a route, or of what no route matches.
pub(crate) fn policy(config: &Config, route: Option<&Route>) -> RetryPolicy {
    let after_failure = route
        .and_then(|route| route.after_failure)
        .unwrap_or(config.after_failure);
    let own = route.and_then(|route| route.retry.as_ref());
    match own {
        Some(own) => config.retry.but(own).policy(after_failure, &config.timeouts),
        None => config.retry.policy(after_failure, &config.timeouts),
    }
}

/// Finds policies that make no sense: the one of all routes, and those that a route changes.
pub(super) fn check(config: &Config, mistakes: &mut Mistakes) {
    promised(&config.retry.classes, config.after_failure, &[], mistakes);
    if let Err(error) = policy(config, None).check() {
        add(&[], &error, mistakes);
        return;
    }
    for (index, route) in config.routes.iter().enumerate() {
        let Some(own) = &route.retry else { continue };
        let at = [Key("route"), Index(index)];
        let after_failure = route.after_failure.unwrap_or(config.after_failure);
        promised(own.classes.as_deref().unwrap_or_default(), after_failure, &at, mistakes);
        if let Err(error) = policy(config, Some(route)).check() {
            add(&at, &error, mistakes);
        }
    }
}

fn promised(classes: &[Class], after_failure: AfterFailure, at: &[Step], mistakes: &mut Mistakes) {
    if classes.contains(&Class::Ambiguous) && after_failure == AfterFailure::Hold {
        mistakes.add(
            &[at, &[Key("retry"), Key("classes")]].concat(),
            "classes names \"ambiguous\", but with after_failure = \"hold\" nothing runs again that may have happened",
            "leave it out, or write after_failure = \"retry\" if the backend does nothing twice for the same key",
        );
    }
}

fn add(at: &[Step], error: &PolicyError, mistakes: &mut Mistakes) {
    mistakes.add(
        &[at, &[Key("retry"), Key(error.field())]].concat(),
        format!("retry.{} {}", error.field(), error.problem()),
        error.write(),
    );
}
