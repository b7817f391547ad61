//! What a duplicate is answered: the status table of the protocol, in one place.

use std::time::Duration;

use bytes::Bytes;
use hapax_core::{Answer, Cause, DeadReason, NotKept, Outcome, Refusal, Timestamp};
use http::{HeaderName, HeaderValue, Response};

use super::answer::{self, IDEMPOTENT_REPLAYED};
use super::problem::{Details, Problem, STRIPE_SHOULD_RETRY};
use super::profile::Profile;
use super::report::Verdict;
use crate::engine::RunError;

/// Says of an answer in which state its operation is, where the status does not.
pub const HAPAX_STATE: HeaderName = HeaderName::from_static("hapax-state");

/// A run may end at any moment.
const IN_PROGRESS: Duration = Duration::from_secs(1);
/// An unknown outcome is settled by a late finish, a resolver or a person.
const UNKNOWN: Duration = Duration::from_secs(30);
/// A store that restarts.
const STORE: Duration = Duration::from_secs(2);

/// The answer to an arrival that did not run. `now` is the store's time.
pub(super) fn refused<B: From<Bytes>>(
    refusal: Refusal,
    now: Option<Timestamp>,
    profile: Profile,
) -> (Response<B>, Verdict) {
    match refusal {
        Refusal::Done {
            outcome: Outcome::Answer(answer),
            ..
        } => {
            let mut response = given_again(answer, profile);
            response
                .headers_mut()
                .insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
            (response, Verdict::Replayed)
        }
        Refusal::Dead {
            answer: Some(answer), ..
        } => {
            let mut response = given_again(answer, profile);
            response
                .headers_mut()
                .insert(HAPAX_STATE, HeaderValue::from_static("dead"));
            (response, Verdict::Repeated)
        }
        Refusal::Unknown {
            answer: Some(answer), ..
        } if profile == Profile::Stripe => (given_again(answer, profile), Verdict::Repeated),
        refusal => problem(details(&refusal, now), profile),
    }
}

/// The answer to an arrival that the engine could not serve.
pub(super) fn failed<B: From<Bytes>>(error: &RunError, profile: Profile) -> (Response<B>, Verdict) {
    let details = match error {
        RunError::NotClaimed(_) => store_down(),
        RunError::NotFinished(_) => Details::new(
            Problem::StoreUnavailable,
            "The operation ran, but its end could not be recorded yet. Send the same request again, with the same key, to \
             learn what became of it.",
        )
        .retry_after(STORE),
        RunError::Panicked => Details::new(
            Problem::UpstreamReset,
            "The service failed in the middle; whether it did what was asked is not known. Ask again with the same key to \
             learn what became of it; do not send it with a new key.",
        ),
        RunError::Lost => unknown("The run was cut off before its end was recorded."),
    };
    problem(details, profile)
}

pub(super) fn store_down() -> Details {
    Details::new(
        Problem::StoreUnavailable,
        "The record of operations cannot be reached, so nothing ran. Send the same request again, with the same key.",
    )
    .retry_after(STORE)
}

pub(super) fn problem<B: From<Bytes>>(details: Details, profile: Profile) -> (Response<B>, Verdict) {
    let verdict = Verdict::Refused(details.problem());
    (details.response(profile), verdict)
}

/// An answer of the past. Stripe's clients would retry some of them unless told not to.
fn given_again<B: From<Bytes>>(answer: Answer, profile: Profile) -> Response<B> {
    let mut response = answer::replayed(answer);
    if let Some(value) = profile.should_retry(false) {
        response.headers_mut().insert(STRIPE_SHOULD_RETRY, value);
    }
    response
}

fn details(refusal: &Refusal, now: Option<Timestamp>) -> Details {
    match refusal {
        Refusal::Mismatch | Refusal::OtherRecipe(_) => Details::new(
            Problem::KeyReused,
            "This key was used before for another request (method, path, query, content type or body differ). Use a new \
             key for a new request, and send a retry unchanged.",
        ),
        Refusal::InProgress { since, .. } => Details::new(
            Problem::InProgress,
            "The first request with this key is still running. Send the same request again later, with the same key.",
        )
        .with("since", since.to_string())
        .retry_after(IN_PROGRESS),
        Refusal::Later { due } => Details::new(
            Problem::RetryLater,
            "It has not happened yet; the next attempt is due then. Send the same request again then, with the same key.",
        )
        .with("due", due.to_string())
        .retry_after(now.map_or(IN_PROGRESS, |now| due.since(now))),
        // A late repetition of a claim: its attempt ended without effect, a new one may run.
        Refusal::AttemptOver => Details::new(
            Problem::RetryLater,
            "The last attempt ended without effect. Send the same request again, with the same key.",
        )
        .retry_after(IN_PROGRESS),
        Refusal::Unknown { since, cause, answer } => {
            let details = unknown(match cause {
                Cause::Lapsed => "The process that ran it stopped before it could say what became of it.",
                Cause::Ambiguous => "The service behind failed in a way that proves nothing.",
            })
            .with("since", since.to_string())
            .with("cause", cause.as_str());
            match answer {
                Some(answer) => details.with("original_status", answer.status),
                None => details,
            }
        }
        Refusal::Done { at, outcome } => {
            let why = match outcome {
                Outcome::NotKept(why) => *why,
                // Replayed, not told of.
                Outcome::Answer(_) => NotKept::Expired,
            };
            not_kept(*at, why)
        }
        Refusal::Dead { since, reason, .. } => Details::new(
            Problem::DeadLetter,
            match reason {
                DeadReason::Exhausted => "It was tried as often as allowed and failed. Contact the operator.",
                DeadReason::Poison => "It crashes the service that runs it. Contact the operator.",
                DeadReason::Mismatch => "It came twice with different content. Contact the operator.",
                DeadReason::Undone => "It failed, and what it had done is being undone. Contact the operator.",
                DeadReason::Refused => "It cannot succeed. Contact the operator, or send a corrected one with a new key.",
            },
        )
        .with("since", since.to_string())
        .with("reason", reason.as_str()),
    }
}

fn unknown(what: &str) -> Details {
    Details::new(
        Problem::OutcomeUnknown,
        format!(
            "{what} It may have happened, so it is not run again by itself. Look at what it should have done, or ask \
             again later with the same key; do not send it with a new key."
        ),
    )
    .retry_after(UNKNOWN)
}

fn not_kept(at: Timestamp, why: NotKept) -> Details {
    let reason = match why {
        NotKept::Expired => "its answer is not kept for so long",
        NotKept::TooLarge => "its answer was a stream or too large to keep",
        NotKept::Discarded => "it was closed by hand, without an answer",
    };
    Details::new(
        Problem::AnswerNotKept,
        format!("This operation is done, but {reason}. Do not repeat it; look at what it did."),
    )
    .with("done_at", at.to_string())
    .with("reason", why.as_str())
}
