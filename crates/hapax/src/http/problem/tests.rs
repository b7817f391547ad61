use std::collections::BTreeSet;
use std::path::Path;

use super::*;

fn answer(details: Details, profile: Profile) -> (Response<Bytes>, Value) {
    let response: Response<Bytes> = details.response(profile);
    let json = serde_json::from_slice(response.body()).unwrap();
    (response, json)
}

#[test]
fn every_problem_has_its_page_and_every_page_its_problem() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/problems");
    let pages: BTreeSet<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let named: BTreeSet<String> = Problem::ALL.iter().map(|problem| format!("{problem}.md")).collect();
    assert_eq!(pages, named);
    for problem in Problem::ALL {
        let page = std::fs::read_to_string(folder.join(format!("{problem}.md"))).unwrap();
        let (name, status) = (problem.name(), problem.status().as_u16());
        assert!(
            page.starts_with(&format!("# {name}\n\n**{status} {}**", problem.title())),
            "{name}: first lines"
        );
        for heading in [
            "## Did it run?",
            "## What the client should do",
            "## What the operator can do",
        ] {
            assert!(page.contains(&format!("\n{heading}\n\n")), "{name}: {heading}");
        }
    }
}

#[test]
fn a_problem_says_type_title_status_detail_and_when() {
    let details = Details::new(Problem::InProgress, "Wait.")
        .retry_after(Duration::from_millis(1001))
        .with("since", "then");
    let (response, json) = answer(details, Profile::Ietf);
    assert_eq!(response.status(), 409);
    assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
    assert_eq!(response.headers()[RETRY_AFTER], "2");
    assert_eq!(response.headers().get(STRIPE_SHOULD_RETRY), None);
    assert_eq!(
        json,
        serde_json::json!({
            "type": "urn:hapax:problem:in-progress", "title": "Operation in progress", "status": 409,
            "detail": "Wait.", "retry_after": 2, "since": "then",
        })
    );
}

#[test]
fn the_stripe_profile_speaks_as_its_clients_listen() {
    let (response, json) = answer(Details::new(Problem::KeyReused, "Other."), Profile::Stripe);
    assert_eq!(response.status(), 400);
    assert_eq!(json["error"]["type"], "idempotency_error");
    assert_eq!(json["error"]["message"], "Other.");
    assert_eq!(response.headers()[STRIPE_SHOULD_RETRY], "false");
    let (response, json) = answer(Details::new(Problem::InProgress, "Wait."), Profile::Stripe);
    assert_eq!(
        (response.status().as_u16(), &json["error"]["code"]),
        (409, &"idempotency_key_in_use".into())
    );
    assert_eq!(response.headers()[STRIPE_SHOULD_RETRY], "true");
    for problem in Problem::ALL {
        let (response, json) = answer(Details::new(*problem, "x"), Profile::Stripe);
        assert!(
            json["error"]["type"].is_string() && json["error"]["code"].is_string(),
            "{problem}"
        );
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    }
}

#[test]
fn unauthorized_comes_with_a_challenge() {
    for problem in [Problem::ScopeMissing, Problem::ScopeUnstable] {
        let (response, _) = answer(Details::new(problem, "x"), Profile::Ietf);
        assert_eq!(
            (response.status().as_u16(), &response.headers()[WWW_AUTHENTICATE]),
            (401, &HeaderValue::from_static("Bearer"))
        );
    }
}

#[test]
fn seconds_are_rounded_up_and_at_least_one() {
    for (millis, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (59_999, 60)] {
        assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds);
    }
    assert_eq!(whole_seconds(Duration::MAX), u64::MAX);
}
