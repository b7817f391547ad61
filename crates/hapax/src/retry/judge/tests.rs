use http::HeaderValue;
use http::header::RETRY_AFTER;

use super::*;
use crate::http::MAX_RETRY_AFTER;

fn headers(pairs: &[(http::HeaderName, &'static str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
        .collect()
}

fn judged(method: Method, status: u16, retry_after: Option<&'static str>) -> Judgement {
    let headers = retry_after.map(|value| (RETRY_AFTER, value));
    judge(
        &method,
        StatusCode::from_u16(status).unwrap(),
        &self::headers(headers.as_slice()),
    )
}

#[test]
fn an_answer_proves_what_it_proves() {
    use FailureClass::{Ambiguous, Final, Throttled, Unsent};
    for (status, advice, class, health) in [
        (200, None, Final, Health::Success),
        (302, None, Final, Health::Success),
        (400, None, Final, Health::Success),
        (401, None, Final, Health::Success),
        (403, None, Final, Health::Success),
        (404, Some("3"), Final, Health::Success),
        (408, None, Unsent, Health::Success),
        (409, Some("3"), Final, Health::Success),
        (425, None, Unsent, Health::Success),
        (429, None, Throttled, Health::Success),
        (429, Some("3"), Throttled, Health::Success),
        (499, None, Final, Health::Success),
        (500, None, Ambiguous, Health::Failure),
        (500, Some("3"), Ambiguous, Health::Failure),
        (502, None, Ambiguous, Health::Failure),
        (503, None, Ambiguous, Health::Failure),
        (503, Some("soon"), Ambiguous, Health::Failure),
        (503, Some("3"), Throttled, Health::Failure),
        (504, None, Ambiguous, Health::Failure),
        (599, None, Ambiguous, Health::Failure),
        (600, None, Ambiguous, Health::Failure),
        (101, None, Ambiguous, Health::Failure),
    ] {
        let judgement = judged(Method::POST, status, advice);
        assert_eq!(
            (judgement.class, judgement.health),
            (class, health),
            "{status} {advice:?}"
        );
        let named = advice.filter(|text| *text == "3").map(|_| Duration::from_secs(3));
        assert_eq!(judgement.retry_after, named, "{status} {advice:?}");
    }
}

#[test]
fn a_safe_method_leaves_no_doubt() {
    for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
        assert_eq!(
            judged(method.clone(), 500, None).class,
            FailureClass::Unsent,
            "{method}"
        );
    }
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
        assert_eq!(
            judged(method.clone(), 500, None).class,
            FailureClass::Ambiguous,
            "{method}"
        );
    }
}

#[test]
fn retry_after_is_seconds_or_a_date_and_bounded() {
    let dated = |text| {
        let headers = headers(&[(RETRY_AFTER, text), (DATE, "Sun, 06 Nov 1994 08:49:37 GMT")]);
        judge(&Method::POST, StatusCode::TOO_MANY_REQUESTS, &headers).retry_after
    };
    for (text, seconds) in [
        ("0", Some(0)),
        (" 120 ", Some(120)),
        ("7200", Some(3600)),
        ("99999999999999999999999", Some(3600)),
        ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
        ("Sun, 06 Nov 1994 08:49:30 GMT", Some(0)),
        ("Sat, 06 Nov 2094 08:49:30 GMT", Some(3600)),
        ("-1", None),
        ("1.5", None),
        ("", None),
        ("soon", None),
    ] {
        assert_eq!(dated(text), seconds.map(Duration::from_secs), "{text}");
    }
    let undated = |text| judged(Method::POST, 429, Some(text)).retry_after;
    assert_eq!(undated("Sun, 06 Nov 1994 08:49:47 GMT"), Some(Duration::ZERO));
    assert_eq!(undated("Sat, 06 Nov 2094 08:49:30 GMT"), Some(MAX_RETRY_AFTER));
}
