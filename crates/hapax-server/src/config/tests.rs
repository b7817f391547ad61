use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use hapax::core::RetryPolicy;

use super::check::check;
use super::input::read_key;
use super::probe::{Placeholder, ProbeRequest};
use super::source::Source;
use super::values::{Address, Period, Pointer, ScopeSource, Size, StoreUrl, UpstreamUrl, redact};
use super::{Config, retry};

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
        ("nats://t0ken@h", "nats://***@h"),
        ("nats://h", "nats://h"),
        ("kafka://u@h", "kafka://u@h"),
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

/// A configuration that is right but for this.
fn checked(text: &str) -> Result<Config, String> {
    let good = "upstream = \"http://127.0.0.1:9\"\nscope = \"none\"\n";
    let source = Source::of(&format!("{good}{text}"));
    let config = source.parse().map_err(|error| error.to_string())?;
    check(&config).map_err(|mistakes| source.explain(&mistakes, &[]).to_string())?;
    Ok(config)
}

#[test]
fn the_default_policy_is_the_library_s() {
    let mut config = Config::default();
    let mut policy = RetryPolicy::default();
    policy.limits.per_try = Duration::from_secs(45);
    assert_eq!(
        retry::policy(&config, None),
        policy,
        "all that the backend's time-outs allow"
    );
    config.timeouts.upstream = Period::seconds(120);
    let longer = retry::policy(&config, None).limits;
    assert_eq!((longer.per_try.as_secs(), longer.total.as_secs()), (135, 135));
    config.retry.total = Some(Period::seconds(1));
    assert_eq!(retry::policy(&config, None).limits.per_try.as_secs(), 1);
    config.retry.total = None;
    config.retry.elapsed = Period::seconds(20);
    let shorter = retry::policy(&config, None).limits;
    assert_eq!((shorter.per_try.as_secs(), shorter.total.as_secs()), (20, 20));
    config.after_failure = super::AfterFailure::Retry;
    assert!(retry::policy(&config, None).retry.ambiguous);
}

#[test]
fn a_route_overrides_single_fields_of_the_policy() {
    let text = "[retry]\ntries = 5\nbase = \"10ms\"\n[[route]]\npath = \"/a\"\nname = \"a\"\nafter_failure = \"retry\"\n\
                [route.retry]\ntries = 2\nbudget_share = 1\n";
    let config = checked(text).unwrap();
    let (main, route) = (
        retry::policy(&config, None),
        retry::policy(&config, config.routes.first()),
    );
    assert_eq!((main.limits.tries, route.limits.tries), (5, 2));
    assert_eq!((main.budget.share, route.budget.share), (0.2, 1.0));
    assert_eq!(main.backoff, route.backoff);
    assert_eq!((main.retry.ambiguous, route.retry.ambiguous), (false, true));
    let again = Source::of(&config.to_toml().unwrap()).parse().unwrap();
    assert_eq!(again, config);
}

/// What is too short for one second more than `remember_for`, and the way that the message names.
#[test]
fn retention_covers_every_way_back() {
    let ways = [
        ("", "client_retries_for", "1d"),
        ("client_retries_for = \"40d\"\n", "client_retries_for", "40d"),
        ("respond_async = true\n", "retry.elapsed 1d + max_run 15m", "1d15m"),
        (
            "probe = { request = \"GET /by/{key}\" }\nclient_retries_for = \"1s\"\nreplay_for = \"1s\"\nsettle = \"40s\"\n",
            "max_run 15m + settle 40s + pause between probes 10m + probe.timeout 5s",
            "25m45s",
        ),
        (
            "probe = { request = \"GET /by/{key}\" }\nrespond_async = true\n",
            "retry.elapsed 1d + max_run 15m + settle 30s + pause between probes 10m + probe.timeout 5s",
            "1d25m35s",
        ),
        (
            "redrive_for = \"90d\"\n",
            "redrive_for 90d + retry.elapsed 1d + max_run 15m",
            "91d15m",
        ),
    ];
    for (text, way, length) in ways {
        let length: Period = length.parse().unwrap();
        let short = Period(length.0 - Duration::from_millis(1));
        let replay = "replay_for = \"1s\"\n";
        let replay = if text.contains("replay_for") || way == "client_retries_for" && text.is_empty() {
            ""
        } else {
            replay
        };
        if !text.is_empty() {
            let error = checked(&format!("{replay}remember_for = \"{short}\"\n{text}")).unwrap_err();
            for part in [&short.to_string(), &length.to_string(), way, "hapax.toml:"] {
                assert!(error.contains(part), "no {part:?}: {error}");
            }
        }
        let config = checked(&format!("{replay}remember_for = \"{length}\"\n{text}")).unwrap();
        let report = super::retention::report(&config);
        assert!(
            report.contains(way) && report.contains(&format!("longest way back {length}")),
            "{report}"
        );
    }
}

#[test]
fn a_route_is_remembered_for_its_own_ways() {
    let route = "[[route]]\npath = \"/a\"\nname = \"pay\"\n";
    let error = checked(&format!("{route}client_retries_for = \"31d\"\n")).unwrap_err();
    assert!(
        error.contains("remember_for (30d) of the route \"pay\"") && error.contains("31d"),
        "{error}"
    );
    checked(&format!(
        "{route}client_retries_for = \"31d\"\nremember_for = \"31d\"\n"
    ))
    .unwrap();
    let both = checked(&format!("remember_for = \"2d\"\nclient_retries_for = \"3d\"\n{route}")).unwrap_err();
    assert_eq!(both.matches("3d").count(), 2, "said once, in problem and help: {both}");
}

#[test]
fn a_probe_fills_in_what_it_asks_for() {
    let request: ProbeRequest = "GET /by/{name}/{key}?op={operation}".parse().unwrap();
    let path = request.path(|place| match place {
        Placeholder::Key => "a/b?c d~é".to_owned(),
        Placeholder::Name => "n".to_owned(),
        Placeholder::Operation => "0f".to_owned(),
    });
    assert_eq!(path, "/by/n/a%2Fb%3Fc%20d~%C3%A9?op=0f");
    assert_eq!(request.to_string(), "GET /by/{name}/{key}?op={operation}");
    for text in [
        "GET",
        "GET by/{key}",
        "GET /a",
        "GET /{name}",
        "GET /{id}",
        "GET /{key",
        "GET /key}",
        "GET /{key}#x",
        "get /{key}",
    ] {
        assert!(text.parse::<ProbeRequest>().is_err(), "{text}");
    }
}

#[test]
fn keys_are_read_from_files_that_only_their_owner_can_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("input.key");
    let write = |text: &str, mode: u32| {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        read_key(&path)
    };
    let digits = "0123456789abcdefABCDEF0123456789".repeat(2);
    let key = write(&format!("{digits}\n"), 0o600).unwrap();
    assert_eq!((key[0], key[15], key[31]), (0x01, 0x89, 0x89));
    for (text, mode, problem, help) in [
        (&*digits, 0o644, "others can reach (mode 644)", "chmod 600"),
        (&digits, 0o604, "others can reach", "chmod 600"),
        (&digits, 0o660, "others can reach", "chmod 600"),
        (
            &digits[..62],
            0o600,
            "has 62 hex digits, not 64",
            "openssl rand -hex 32",
        ),
        ("", 0o600, "has 0 hex digits", "openssl rand -hex 32"),
        (
            &digits.replace('5', "z"),
            0o600,
            "character 6 that is no hex digit",
            "64 hex digits",
        ),
    ] {
        let refused = write(text, mode).unwrap_err();
        assert!(
            refused.problem.contains(problem) && refused.help.contains(help),
            "{refused}"
        );
        assert!(!refused.to_string().contains("abcdef"), "{refused}");
    }
    assert!(read_key(directory.path()).is_err() && read_key(&directory.path().join("no")).is_err());
}
