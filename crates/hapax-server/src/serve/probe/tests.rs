use bytes::Bytes;
use hapax::core::RetryPolicy;
use hapax::retry::Destination;
use http::Response;

use super::{MOST_BYTES, Probe, Says};
use crate::config::probe::Probe as Config;
use crate::gateway::limits::UpstreamLimits;
use crate::gateway::upstream::{Target, Upstream};

fn probe(config: &str) -> Probe {
    let config: Config = toml::from_str(&format!("request = \"GET /by/{{key}}\"\n{config}")).unwrap();
    let tls = crate::gateway::upstream::no_tls().unwrap();
    let upstream = Upstream::new(
        Target::parse("http://127.0.0.1:9").unwrap(),
        tls,
        UpstreamLimits::default(),
    );
    Probe {
        upstream,
        destination: Destination::new(RetryPolicy::default()).unwrap(),
        config,
        headers: Vec::new(),
    }
}

fn judged(probe: &Probe, status: u16, body: &str) -> (Says, String) {
    let answer = Response::builder().status(status).body(()).unwrap();
    probe.judge(&answer, Some(&Bytes::copy_from_slice(body.as_bytes())))
}

#[test]
fn statuses_are_judged_by_the_lists() {
    let probe = probe("found = [200, 410]\nnot_found = [404]\n");
    for (status, says) in [
        (200, Says::Found),
        (410, Says::Found),
        (404, Says::NotFound),
        (204, Says::Neither),
        (301, Says::Neither),
        (401, Says::Neither),
        (500, Says::Neither),
    ] {
        let (judged, saw) = judged(&probe, status, "");
        assert_eq!(judged, says, "{status}");
        assert!(saw.contains(&format!("status {status}")), "{saw}");
    }
}

#[test]
fn a_404_says_nothing_unless_the_configuration_says_so() {
    assert_eq!(judged(&probe(""), 404, "").0, Says::Neither);
}

#[test]
fn nonsense_says_nothing() {
    let probe = probe(
        "not_found = [404]\npointer = \"/order/status\"\nfound_values = [\"paid\", 1, true]\nnot_found_values = [\"none\", false]\n",
    );
    let secret = "x".repeat(33);
    for (status, body, says, saw) in [
        (
            200,
            r#"{"order":{"status":"paid"}}"#,
            Says::Found,
            "/order/status is \"paid\"",
        ),
        (200, r#"{"order":{"status":1}}"#, Says::Found, "/order/status is 1"),
        (
            200,
            r#"{"order":{"status":true}}"#,
            Says::Found,
            "/order/status is true",
        ),
        (
            200,
            r#"{"order":{"status":"none"}}"#,
            Says::NotFound,
            "/order/status is \"none\"",
        ),
        (
            200,
            r#"{"order":{"status":false}}"#,
            Says::NotFound,
            "/order/status is false",
        ),
        (404, "", Says::NotFound, "status 404"),
        (
            200,
            r#"{"order":{"status":"PAID"}}"#,
            Says::Neither,
            "\"PAID\", which is in neither list",
        ),
        (200, r#"{"order":{"status":1.0}}"#, Says::Neither, "is 1.0"),
        (200, r#"{"order":{"status":"1"}}"#, Says::Neither, "is \"1\""),
        (200, r#"{"order":{"status":null}}"#, Says::Neither, "is null"),
        (200, r#"{"order":{"status":{}}}"#, Says::Neither, "is an object"),
        (200, r#"{"order":{}}"#, Says::Neither, "nothing at /order/status"),
        (200, "<html>", Says::Neither, "a body of 6 bytes that is no JSON"),
        (200, "", Says::Neither, "no JSON"),
        (201, r#"{"order":{"status":"paid"}}"#, Says::Neither, "status 201"),
        (
            200,
            &format!(r#"{{"order":{{"status":"{secret}"}}}}"#),
            Says::Neither,
            "a text of 33 bytes",
        ),
    ] {
        let (judged, what) = judged(&probe, status, body);
        assert_eq!(judged, says, "{status} {body}: {what}");
        assert!(what.contains(saw), "{status} {body}: {what}");
        assert!(!what.contains(&secret), "{what}");
    }
    let answer = Response::new(());
    let (says, saw) = probe.judge(&answer, None);
    assert_eq!(says, Says::Neither);
    assert!(saw.contains(&MOST_BYTES.to_string()), "{saw}");
}
