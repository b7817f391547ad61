use super::*;
use crate::answer::NotKept;
use crate::record::AfterFailure;
use crate::sample::*;

fn resume() -> Verdict {
    Verdict::Resume(Lease {
        fence: crate::Fence::new(7),
        deadline: at(50),
        run_until: at(100),
        tries: 3,
    })
}

fn in_progress() -> Verdict {
    Verdict::Refuse(Refusal::InProgress {
        since: at(0),
        deadline: at(50),
    })
}

fn lapse() -> Verdict {
    let state = State::Unknown {
        cause: Cause::Lapsed,
        answer: None,
    };
    Verdict::Lapse(Box::new(record(state, 50)))
}

fn done(outcome: Outcome) -> Verdict {
    Verdict::Refuse(Refusal::Done { at: at(0), outcome })
}

/// One row of the table: a record, moments, and what each attempt gets at them.
struct Row {
    record: Record,
    at: &'static [i64],
    same_attempt: Verdict,
    other_attempt: Verdict,
}

impl Row {
    fn alike(record: Record, at: &'static [i64], verdict: Verdict) -> Self {
        Self {
            record,
            at,
            same_attempt: verdict.clone(),
            other_attempt: verdict,
        }
    }
}

fn running_rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for after_failure in [AfterFailure::Hold, AfterFailure::Retry] {
        rows.push(Row {
            record: running(after_failure),
            at: &[-1, 0, 1, 49],
            same_attempt: resume(),
            other_attempt: in_progress(),
        });
    }
    let past: &[i64] = &[50, 51, 99, 100, 101, i64::MAX];
    rows.push(Row::alike(running(AfterFailure::Hold), past, lapse()));
    rows.push(Row::alike(running(AfterFailure::Retry), past, Verdict::Run));
    rows
}

fn waiting_rows() -> Vec<Row> {
    let waiting = record(State::Waiting { due: at(50) }, 0);
    let over = || Verdict::Refuse(Refusal::AttemptOver);
    vec![
        Row {
            record: waiting.clone(),
            at: &[0, 49],
            same_attempt: over(),
            other_attempt: Verdict::Refuse(Refusal::Later { due: at(50) }),
        },
        Row {
            record: waiting,
            at: &[50, 51, 100_050, i64::MAX],
            same_attempt: over(),
            other_attempt: Verdict::Run,
        },
    ]
}

fn ended_rows() -> Vec<Row> {
    const ALWAYS: &[i64] = &[0, 1, REPLAY_MS - 1, REPLAY_MS, REMEMBER_MS, i64::MAX];
    let mut rows = Vec::new();
    for cause in Cause::ALL {
        for answer in [None, Some(answer(502))] {
            let state = State::Unknown {
                cause: *cause,
                answer: answer.clone(),
            };
            let refusal = Refusal::Unknown {
                since: at(0),
                cause: *cause,
                answer,
            };
            rows.push(Row::alike(record(state, 0), ALWAYS, Verdict::Refuse(refusal)));
        }
    }
    for reason in DeadReason::ALL {
        for answer in [None, Some(answer(500))] {
            let state = State::Dead {
                reason: *reason,
                answer: answer.clone(),
            };
            let refusal = Refusal::Dead {
                since: at(0),
                reason: *reason,
                answer,
            };
            rows.push(Row::alike(record(state, 0), ALWAYS, Verdict::Refuse(refusal)));
        }
    }
    for not_kept in NotKept::ALL {
        let outcome = Outcome::NotKept(*not_kept);
        let record = record(State::Done(outcome.clone()), 0);
        rows.push(Row::alike(record, ALWAYS, done(outcome)));
    }
    let outcome = Outcome::Answer(answer(201));
    let answered = record(State::Done(outcome.clone()), 0);
    rows.push(Row::alike(answered.clone(), &[0, 1, REPLAY_MS - 1], done(outcome)));
    rows.push(Row::alike(
        answered,
        &[REPLAY_MS, REPLAY_MS + 1, REMEMBER_MS, i64::MAX],
        done(Outcome::NotKept(NotKept::Expired)),
    ));
    rows
}

#[test]
fn every_state_attempt_fingerprint_and_moment() {
    let rows = [running_rows(), waiting_rows(), ended_rows()];
    let mut checked = 0;
    for row in rows.iter().flatten() {
        for now in row.at {
            for (number, verdict) in [(1, &row.same_attempt), (2, &row.other_attempt)] {
                check(&row.record, number, at(*now), verdict);
                checked += 1;
            }
        }
    }
    assert!(checked > 200, "{checked} combinations");
}

fn check(record: &Record, number: u8, now: Timestamp, verdict: &Verdict) {
    let place = format!("attempt {number} at {} on {record:?}", now.as_millis());
    let mut claim = claim();
    claim.attempt = attempt(number);
    assert_eq!(&decide(Some(record), &claim, now), verdict, "{place}");
    // Whatever the state and the attempt: another fingerprint is told first, and tells nothing of the state.
    claim.fingerprint = fingerprint(1, 2);
    assert_eq!(
        decide(Some(record), &claim, now),
        Verdict::Refuse(Refusal::Mismatch),
        "{place}"
    );
    for digest in [1, 2] {
        claim.fingerprint = fingerprint(2, digest);
        let other = Verdict::Refuse(Refusal::OtherRecipe(RecipeId::new(1)));
        assert_eq!(decide(Some(record), &claim, now), other, "{place}");
    }
}

#[test]
fn an_operation_never_asked_for_runs() {
    for now in [i64::MIN, 0, i64::MAX] {
        assert_eq!(decide(None, &claim(), at(now)), Verdict::Run);
    }
}
