use std::time::Duration;

use hapax::core::StateName;
use hapax::http::{Problem, QuotaLimit, Verdict};

use super::destinations::Destinations;
use super::prometheus::{Now, render};
use super::{BUCKETS_US, Metrics, STEPS, TOLD};

#[test]
fn a_histogram_puts_each_time_into_its_bucket() {
    let metrics = Metrics::default();
    for us in [0, BUCKETS_US[0], BUCKETS_US[0] + 1, 60_000_000] {
        metrics.run_time.record(Duration::from_micros(us));
    }
    let page = render(&metrics, Now::default(), &Destinations::default());
    for line in [
        r#"hapax_run_seconds_bucket{le="0.0005"} 2"#,
        r#"hapax_run_seconds_bucket{le="0.001"} 3"#,
        r#"hapax_run_seconds_bucket{le="30"} 3"#,
        r#"hapax_run_seconds_bucket{le="+Inf"} 4"#,
        "hapax_run_seconds_count 4",
        "hapax_run_seconds_sum 60.001001",
    ] {
        assert!(page.lines().any(|found| found == line), "no {line}: {page}");
    }
}

#[test]
fn every_verdict_has_a_counter() {
    let metrics = Metrics::default();
    let verdicts = [
        Verdict::Done,
        Verdict::Released,
        Verdict::Ambiguous,
        Verdict::Replayed,
        Verdict::Repeated,
        Verdict::Unprotected,
        Verdict::Status,
        Verdict::Accepted,
        Verdict::BreakerOpen,
    ];
    let problems = Problem::ALL.iter().map(|problem| Verdict::Refused(*problem));
    let limits = QuotaLimit::ALL.into_iter().map(Verdict::OverQuota);
    for verdict in verdicts
        .into_iter()
        .chain(limits)
        .chain(problems)
        .map(Some)
        .chain([None])
    {
        metrics.http.answered(verdict, 200, Duration::ZERO);
        let word = verdict.map_or("passed", Verdict::as_str);
        let line = format!("hapax_requests_total{{verdict=\"{word}\"}} 1");
        assert!(
            render(&metrics, Now::default(), &Destinations::default()).contains(&line),
            "no {line}"
        );
    }
}

#[test]
fn labels_are_different() {
    let states = StateName::ALL.iter().map(|state| state.as_str());
    for words in [TOLD.to_vec(), STEPS.to_vec(), states.collect()] {
        let distinct: std::collections::HashSet<_> = words.iter().collect();
        assert_eq!(distinct.len(), words.len(), "{words:?}");
    }
}
