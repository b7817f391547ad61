use std::time::Duration;

use super::Config;
use super::source::Source;
use super::values::{Address, Period, Pointer, ScopeSource, Size, StoreUrl, UpstreamUrl, redact};

#[test]
fn periods_are_read_and_written() {
    for (text, ms, again) in [
        ("0s", 0, "0s"),
        ("500ms", 500, "500ms"),
        ("30s", 30_000, "30s"),
        ("90s", 90_000, "1m30s"),
        ("24h", 86_400_000, "1d"),
        ("1h30m", 5_400_000, "1h30m"),
        (" 2 d ", 172_800_000, "2d"),
        ("36500d", 36_500 * 86_400_000, "36500d"),
    ] {
        let period: Period = text.parse().unwrap();
        assert_eq!(
            (period.0, &*period.to_string()),
            (Duration::from_millis(ms), again),
            "{text}"
        );
        assert_eq!(again.parse::<Period>().unwrap(), period, "{text}");
    }
    for text in [
        "",
        "5",
        "s",
        "-1s",
        "1.5s",
        "5 min",
        "36501d",
        "18446744073709551616s",
        "99999999999999d",
        "1s-",
    ] {
        assert!(text.parse::<Period>().is_err(), "{text}");
    }
}

#[test]
fn sizes_are_read_and_written() {
    for (text, bytes, again) in [
        ("0", 0, "0 B"),
        ("1000", 1000, "1000 B"),
        ("64 KiB", 64 << 10, "64 KiB"),
        ("1024KiB", 1 << 20, "1 MiB"),
        ("1024 GiB", 1 << 40, "1024 GiB"),
    ] {
        let size: Size = text.parse().unwrap();
        assert_eq!((size.0, &*size.to_string()), (bytes, again), "{text}");
        assert_eq!(again.parse::<Size>().unwrap(), size, "{text}");
    }
    for text in ["", "MiB", "1 MB", "-1", "1.5 MiB", "1025 GiB", "99999999999999999999"] {
        assert!(text.parse::<Size>().is_err(), "{text}");
    }
}

#[test]
fn passwords_are_not_shown() {
    for (url, shown) in [
        ("postgres://u:p@h/d", "postgres://u:***@h/d"),
        ("postgres://u:p@ss:w@h/d", "postgres://u:***@h/d"),
        ("postgres://u@h/d", "postgres://u@h/d"),
        (
            "postgres://h/d?user=u&password=p&x=1",
            "postgres://h/d?user=u&password=***&x=1",
        ),
        ("sqlite:a@b:c.db", "sqlite:a@b:c.db"),
    ] {
        assert_eq!(redact(url), shown);
    }
    let error = "postgre://u:s3cret@h/d".parse::<StoreUrl>().unwrap_err();
    assert!(!error.contains("s3cret"), "{error}");
}

#[test]
fn values_have_one_meaning() {
    assert_eq!("sqlite:a.db".parse(), Ok(StoreUrl::Sqlite("a.db".into())));
    assert_eq!("sqlite:///a/b.db".parse(), Ok(StoreUrl::Sqlite("/a/b.db".into())));
    for text in ["sqlite:", "sqlite::memory:", "sqlite:a?mode=ro", "a.db", "memory"] {
        assert!(text.parse::<StoreUrl>().is_err(), "{text}");
    }
    assert_eq!("jwt:sub".parse(), Ok(ScopeSource::Jwt("sub".into())));
    for text in ["", "None", "header:", "header:a b", "jwt:", "jwt", "cookie:a"] {
        assert!(text.parse::<ScopeSource>().is_err(), "{text}");
    }
    assert_eq!("localhost:80".parse(), Ok(Address(([127, 0, 0, 1], 80).into())));
    for text in ["7700", ":7700", "example.com:80"] {
        assert!(text.parse::<Address>().is_err(), "{text}");
    }
    for text in ["/a", "/a~0/b~1", "/"] {
        assert_eq!(
            text.parse::<Pointer>().map(|pointer| pointer.to_string()),
            Ok(text.to_owned())
        );
        assert!(
            hapax::http::Pointer::new(text).is_ok(),
            "the door reads the same: {text}"
        );
    }
    for text in ["", "a", "/a~", "/~2"] {
        assert!(text.parse::<Pointer>().is_err(), "{text}");
    }
    for text in ["http://a", "https://a:1/", "http://[::1]:9"] {
        let url: UpstreamUrl = text.parse().unwrap();
        assert!(
            crate::gateway::upstream::Target::parse(&url.to_string()).is_ok(),
            "the transport reads the same: {text}"
        );
    }
    for text in [
        "",
        "a:1",
        "ftp://a",
        "http://",
        "http://u@a",
        "http://a/b",
        "http://a?b",
    ] {
        assert!(text.parse::<UpstreamUrl>().is_err(), "{text}");
    }
}

#[test]
fn the_defaults_are_the_library_s() {
    let config = Config::default();
    let (run, engine) = (hapax::RunOptions::default(), hapax::EngineOptions::default());
    assert_eq!((config.lease.0, config.max_run.0), (run.lease, run.max_run));
    assert_eq!(config.replay_for.0, run.retention.replay_for);
    assert_eq!(config.remember_for.0, run.retention.remember_for);
    assert_eq!(config.limits.cache.0, engine.cache_bytes);
    assert_eq!(config.limits.waiters as usize, engine.waiters);
    assert_eq!(config.limits.waiters_per_key as usize, engine.waiters_per_operation);
    assert_eq!(config.timeouts.store.0, engine.store_patience);
    let door = hapax::http::Limits::default();
    assert_eq!(config.limits.in_flight as usize, door.in_flight);
    assert_eq!(config.limits.request_bytes.bytes(), door.request_bytes);
}

#[test]
fn what_is_written_is_read_again() {
    let config = Config::default();
    let text = config.to_toml().unwrap();
    assert_eq!(Source::of(&text).parse().unwrap(), config, "{text}");
    let text = "[[route]]\npath = \"/a\"\nname = \"a\"\nwait = \"1s\"\nfinal = [500]\nselect = [\"/b\"]\n";
    let config = Source::of(text).parse().unwrap();
    assert_eq!(Source::of(&config.to_toml().unwrap()).parse().unwrap(), config);
}

#[test]
fn a_line_with_a_password_is_not_quoted() {
    let error = Source::of("store = \"postgre://u:s3cret@h/d\"\n")
        .parse()
        .unwrap_err()
        .to_string();
    assert!(error.contains("hapax.toml:1:9") && !error.contains("s3cret"), "{error}");
}
