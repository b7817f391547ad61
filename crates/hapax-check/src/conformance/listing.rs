//! Cases: list.

use std::sync::Arc;

use hapax_core::{Cursor, DeadReason, Filter, Page, StateName, Store, Summary, Timestamp};

use super::Failure;
use super::exam::*;

fn all() -> Filter {
    Filter::default()
}

fn in_state(state: StateName) -> Filter {
    Filter {
        state: Some(state),
        ..all()
    }
}

fn keys(page: &Page) -> Vec<&str> {
    page.records
        .iter()
        .map(|summary| summary.operation.key().as_str())
        .collect()
}

/// All pages of `limit` records each.
async fn pages(store: &Arc<dyn Store>, filter: Filter, limit: usize) -> Checked<Vec<Page>> {
    let mut pages: Vec<Page> = Vec::new();
    let mut after: Option<Cursor> = None;
    while pages.len() < 100 {
        let page = store.list(filter.clone(), after, limit).await?;
        after = page.next;
        pages.push(page);
        if after.is_none() {
            return Ok(pages);
        }
    }
    Err(Failure("the listing does not end".into()))
}

pub(super) async fn pages_come_oldest_first_and_end(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let empty = store.list(all(), None, 10).await?;
    ensure_eq!(
        empty,
        Page {
            now: exam.now(),
            records: vec![],
            next: None
        },
        "the listing of an empty store"
    );
    // Not in the order of names.
    let expected: Vec<String> = (0..25).map(|number| format!("k{}", number * 7 % 25)).collect();
    for key in &expected {
        exam.win(&store, key).await?;
        exam.time.pass(TICK);
    }
    for (limit, sizes) in [(10, vec![10, 10, 5]), (25, vec![25]), (5, vec![5; 5]), (1000, vec![25])] {
        let pages = pages(&store, all(), limit).await?;
        let got: Vec<usize> = pages.iter().map(|page| page.records.len()).collect();
        ensure_eq!(got, sizes, "sizes of pages of {limit}");
        let got: Vec<&str> = pages.iter().flat_map(keys).collect();
        ensure_eq!(got, expected, "keys in pages of {limit}");
    }
    Ok(())
}

pub(super) async fn a_page_holds_one_to_a_thousand(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let claims = (0..1001).map(|number| store.claim(exam.ask(&format!("k{number}"))));
    for claim in claims.collect::<Vec<_>>() {
        won(claim.await?)?;
    }
    let page = store.list(all(), None, 0).await?;
    ensure_eq!(page.records.len(), 1, "records in a page of 0");
    let page = store.list(all(), None, usize::MAX).await?;
    ensure_eq!(page.records.len(), 1000, "records in the largest page");
    let rest = store.list(all(), page.next, usize::MAX).await?;
    ensure_eq!((rest.records.len(), rest.next), (1, None), "the rest after a thousand");
    Ok(())
}

pub(super) async fn each_filter_holds(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let mut every = Vec::new();
    for scope in ["s", "t"] {
        for name in ["m", "n"] {
            for key in ["k", "l"] {
                exam.time.pass(TICK);
                let operation = operation(scope, name, key).map_err(|error| Failure(error.to_string()))?;
                let lease = won(store.claim(exam.ask_for(operation.clone())).await?)?;
                if key == "l" {
                    let finish = match (scope, name) {
                        ("s", _) => done(b"made"),
                        ("t", "m") => dead(DeadReason::Poison),
                        _ => dead(DeadReason::Refused),
                    };
                    applied(store.finish(operation.id(), lease.fence, finish).await?)?;
                }
                every.push(operation);
            }
        }
    }
    let text = |text: &str| Some(text.to_owned());
    let none = || all();
    let middle = Some(Timestamp::from_millis(exam.now().as_millis() - 3));
    let filters = [
        Filter {
            dead: Some(DeadReason::Poison),
            ..none()
        },
        Filter {
            dead: Some(DeadReason::Exhausted),
            ..none()
        },
        Filter {
            dead: Some(DeadReason::Refused),
            ..in_state(StateName::Done)
        },
        Filter {
            since: middle,
            ..none()
        },
        Filter {
            before: middle,
            ..none()
        },
        Filter {
            since: middle,
            before: middle,
            ..none()
        },
        Filter {
            dead: Some(DeadReason::Refused),
            since: middle,
            before: Some(exam.now().after(TICK)),
            scope: text("t"),
            ..in_state(StateName::Dead)
        },
        Filter {
            scope: text("s"),
            ..none()
        },
        Filter {
            name: text("n"),
            ..none()
        },
        Filter {
            key: text("l"),
            ..none()
        },
        in_state(StateName::Done),
        in_state(StateName::Dead),
        Filter {
            scope: text("t"),
            name: text("m"),
            ..none()
        },
        Filter {
            scope: text("t"),
            key: text("k"),
            ..in_state(StateName::Running)
        },
        Filter {
            scope: text("t"),
            key: text("k"),
            ..in_state(StateName::Done)
        },
        Filter {
            scope: text("s"),
            name: text("n"),
            key: text("l"),
            ..in_state(StateName::Done)
        },
        Filter {
            scope: text("S"),
            ..none()
        },
        Filter {
            key: text("%"),
            ..none()
        },
        Filter {
            key: text(""),
            ..none()
        },
        Filter {
            name: text("a\0b"),
            ..none()
        },
    ];
    for filter in filters {
        let mut expected: Vec<Summary> = Vec::new();
        for operation in &every {
            let summary = Summary::of(&must_read(&store, operation.id()).await?, exam.now());
            expected.extend(filter.holds(&summary).then_some(summary));
        }
        for limit in [1, 2, 100] {
            let pages = pages(&store, filter.clone(), limit).await?;
            let got: Vec<Summary> = pages.into_iter().flat_map(|page| page.records).collect();
            ensure_eq!(got, expected, "{filter:?} in pages of {limit}");
        }
    }
    Ok(())
}

pub(super) async fn a_lapsed_claim_is_listed_as_unknown(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let lease = exam.win(&store, "hold").await?;
    won(store.claim(exam.ask_retried("retry")).await?)?;
    exam.time.pass(LEASE - TICK);
    let running = store.list(in_state(StateName::Running), None, 10).await?;
    ensure_eq!(keys(&running), ["hold", "retry"], "running before the deadline");
    exam.time.pass(TICK);
    let running = store.list(in_state(StateName::Running), None, 10).await?;
    ensure_eq!(keys(&running), ["retry"], "running after the deadline");
    let unknown = store.list(in_state(StateName::Unknown), None, 10).await?;
    ensure_eq!(keys(&unknown), ["hold"], "unknown after the deadline");
    let summary = &unknown.records[0];
    ensure_eq!(
        (summary.state, summary.since),
        (StateName::Unknown, lease.deadline),
        "as the listing shows it"
    );
    ensure_eq!(summary.until, None, "an unknown record's end");
    let state = must_read(&store, id("hold")).await?.state.name();
    ensure_eq!(
        state,
        StateName::Running,
        "a listing writes nothing: the state as it stands"
    );
    Ok(())
}

pub(super) async fn a_summary_tells_the_record(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let situations = exam.every_state(&store, "k").await?;
    let page = store.list(all(), None, 100).await?;
    ensure_eq!(page.records.len(), situations.len(), "records listed");
    ensure_eq!(page.now, exam.now(), "the page's time");
    for (summary, situation) in page.records.iter().zip(&situations) {
        let record = must_read(&store, situation.id()).await?;
        ensure_eq!(
            summary,
            &Summary::of(&record, exam.now()),
            "the summary of what is {}",
            situation.name
        );
    }
    Ok(())
}

pub(super) async fn a_change_moves_no_record_to_another_page(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let mut fences = Vec::new();
    for key in ["a", "b", "c", "d"] {
        fences.push(exam.win(&store, key).await?.fence);
    }
    let first = store.list(all(), None, 2).await?;
    ensure_eq!(keys(&first), ["a", "b"], "the first page");
    applied(store.finish(id("d"), fences[3], release()).await?)?;
    exam.time.pass(TICK);
    exam.win(&store, "d").await?;
    exam.win(&store, "e").await?;
    applied(store.finish(id("b"), fences[1], dead(DeadReason::Refused)).await?)?;
    store.amend(id("b"), amendment(FORGET)).await?;
    let second = store.list(all(), first.next, 10).await?;
    ensure_eq!(
        keys(&second),
        ["c", "d", "e"],
        "after changes, and with the cursor's own record forgotten"
    );
    Ok(())
}
