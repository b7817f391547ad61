//! Files with a mistake each, and what is said of them.

/// What the file says, what the message must say, beside `file:line:column`.
pub(crate) const FILES: &[(&str, &str, &[&str])] = &[
    (
        "unknown key",
        "lisen = \"127.0.0.1:1\"",
        &["hapax.toml:1:1", "unknown key `lisen`", "did you mean `listen`?"],
    ),
    (
        "unknown key of a table",
        "[timeouts]\nupstraem = \"1s\"",
        &["hapax.toml:2:1", "unknown key `upstraem`", "did you mean `upstream`?"],
    ),
    (
        "unknown key of a route",
        "[[route]]\npath = \"/a\"\nname = \"a\"\nmethod = [\"POST\"]",
        &["hapax.toml:4:1", "did you mean `methods`?"],
    ),
    ("no TOML", "listen = ", &["hapax.toml:1:"]),
    (
        "negative",
        "wait = \"-5s\"",
        &["hapax.toml:1:8", "\"-5s\" is negative", "30s"],
    ),
    (
        "overflow",
        "remember_for = \"99999999999999999999d\"",
        &["hapax.toml:1:16", "too long", "36500d"],
    ),
    ("no unit", "lease = \"30\"", &["hapax.toml:1:9", "no duration", "30s"]),
    (
        "a number for a time",
        "lease = 30",
        &["hapax.toml:1:9", "expected a duration such as"],
    ),
    (
        "zero",
        "lease = \"0s\"",
        &["hapax.toml:1:9", "lease is zero", "lease = \"30s\""],
    ),
    (
        "wait > max_wait",
        "wait = \"40s\"",
        &["hapax.toml:1:8", "wait (40s) is longer than max_wait (30s)"],
    ),
    (
        "lease > max_run",
        "lease = \"1h\"",
        &["hapax.toml:1:9", "lease (1h) is longer than max_run (15m)"],
    ),
    (
        "replay_for > remember_for",
        "replay_for = \"60d\"",
        &["hapax.toml:1:14", "replay_for (60d) is longer than remember_for (30d)"],
    ),
    (
        "upstream > max_run",
        "[timeouts]\nupstream = \"1h\"",
        &["hapax.toml:2:12", "raise max_run"],
    ),
    (
        "scope",
        "scope = \"bearer\"",
        &["hapax.toml:1:9", "\"bearer\" is not known", "header:NAME"],
    ),
    (
        "scope without keys",
        "scope = \"jwt:sub\"",
        &["hapax.toml:1:9", "verify JWTs", "--jwt-secret-file"],
    ),
    (
        "store",
        "store = \"redis://x\"",
        &["hapax.toml:1:9", "no store", "sqlite:FILE"],
    ),
    (
        "no directory",
        "store = \"sqlite:/no/such/directory/hapax.db\"",
        &[
            "hapax.toml:1:9",
            "/no/such/directory/hapax.db",
            "No such file or directory",
        ],
    ),
    (
        "admin",
        "admin = \"0.0.0.0:1\"",
        &["hapax.toml:1:9", "can be reached from outside", "127.0.0.1:7701"],
    ),
    (
        "upstream",
        "upstream = \"127.0.0.1:9000\"",
        &["hapax.toml:1:12", "http://HOST:PORT"],
    ),
    (
        "upstream's path",
        "upstream = \"http://a/b\"",
        &["hapax.toml:1:12", "has a path"],
    ),
    ("status", "no_effect = [99]", &["hapax.toml:1:14", "200 to 599"]),
    ("size", "[limits]\nanswer = \"1 MB\"", &["hapax.toml:2:10", "8 MiB"]),
    (
        "method",
        "[[route]]\npath = \"/a\"\nname = \"a\"\nmethods = [\"GET\"]",
        &["hapax.toml:4:12", "POST, PATCH, PUT or DELETE"],
    ),
    (
        "pointer",
        "[[route]]\npath = \"/a\"\nname = \"a\"\nignore = [\"a/b\"]",
        &["hapax.toml:4:11", "no JSON pointer"],
    ),
    (
        "pattern",
        "[[route]]\npath = \"/a/{b\"\nname = \"a\"",
        &["hapax.toml:2:8", "makes no sense", "/orders/{id}/pay"],
    ),
    (
        "both",
        "[[route]]\npath = \"/a\"\nname = \"a\"\nignore = [\"/a\"]\nselect = [\"/b\"]",
        &["hapax.toml:5:10", "ignore and select"],
    ),
    (
        "the same route",
        "[[route]]\npath = \"/a/{b}\"\nname = \"a\"\n[[route]]\npath = \"/a/{c}\"\nname = \"b\"",
        &["hapax.toml:5:8", "\"a\" and \"b\" match the same requests"],
    ),
    (
        "one name, run in two ways",
        "respond_async = true\n[[route]]\npath = \"/a\"\nname = \"a\"\n[[route]]\npath = \"/b\"\nname = \"a\"\n\
         after_failure = \"retry\"\nlease = \"20s\"",
        &[
            "hapax.toml:9:9",
            "the route /b shares the name \"a\" with the route /a, but differs in: lease, after_failure",
            "write the same lease, after_failure for both, or give this route a name of its own",
        ],
    ),
    (
        "one name, retried in two ways",
        "respond_async = true\n[[route]]\npath = \"/a\"\nname = \"a\"\n[route.retry]\ntries = 2\n[[route]]\npath = \"/b\"\n\
         name = \"a\"",
        &["hapax.toml:9:8", "differs in: retry."],
    ),
    (
        "one name, probed in two ways",
        "[[route]]\npath = \"/a\"\nname = \"a\"\n[[route]]\npath = \"/b\"\nname = \"a\"\n[route.probe]\n\
         request = \"GET /by-key/{key}\"",
        &["hapax.toml:7:1", "differs in: probe."],
    ),
    (
        "the name of what no route matches",
        "respond_async = true\n[[route]]\npath = \"/a\"\nname = \"default\"\nremember_for = \"60d\"",
        &[
            "hapax.toml:5:16",
            "with what no route matches, but differs in: remember_for.",
        ],
    ),
    (
        "a kept header",
        "keep_headers = [\"a b\"]",
        &["hapax.toml:1:17", "no header name"],
    ),
    (
        "run unprotected",
        "when_store_is_down = \"unprotected\"",
        &["hapax.toml:1:22", "refuse, run_unprotected"],
    ),
    (
        "a route without a name",
        "[[route]]\npath = \"/a\"",
        &["hapax.toml:1:1", "`name` is missing", "write name = "],
    ),
    (
        "before itself",
        "upstream = \"http://localhost:7700\"",
        &[
            "hapax.toml:1:12",
            "hapax itself listens on",
            "the backend's own address",
        ],
    ),
    (
        "before itself, everywhere",
        "upstream = \"http://127.0.0.2:9\"\nlisten = \"0.0.0.0:9\"",
        &["hapax.toml:1:12", "hapax itself listens on (0.0.0.0:9)"],
    ),
    (
        "half a certificate",
        "[tls]\ncert = \"Cargo.toml\"",
        &["hapax.toml:2:8", "without tls.key"],
    ),
    (
        "no certificate",
        "[tls]\nupstream_ca = \"/no/ca\"",
        &["hapax.toml:2:15", "cannot read /no/ca"],
    ),
    (
        "no tries",
        "[retry]\ntries = 0",
        &["hapax.toml:2:9", "retry.tries is 0", "1 means no retries"],
    ),
    (
        "negative tries",
        "[retry]\ntries = -1",
        &["hapax.toml:2:9", "-1 is negative", "a whole number"],
    ),
    (
        "tries in words",
        "[retry]\ntries = \"three\"",
        &["hapax.toml:2:9", "makes no sense here", "write a whole number"],
    ),
    (
        "one key for a list",
        "[input]\nkey_files = \"a\"",
        &["hapax.toml:2:13", "makes no sense here", "write a list"],
    ),
    (
        "a probe in a line",
        "probe = \"GET /{key}\"",
        &["hapax.toml:1:9", "makes no sense here", "write a table"],
    ),
    (
        "a value to compare with",
        "[probe]\nrequest = \"GET /{key}\"\npointer = \"/a\"\nfound_values = [1.5]",
        &[
            "hapax.toml:4:16",
            "no text, whole number, true or false",
            "write one of these",
        ],
    ),
    (
        "cap below base",
        "[retry]\nbase = \"21s\"",
        &[
            "hapax.toml:2:8",
            "retry.base is 21s, longer than cap (20s)",
            "raise cap",
        ],
    ),
    (
        "a budget over all",
        "[retry]\nbudget_share = 1.5",
        &["hapax.toml:2:16", "retry.budget_share is 1.5", "a share from 0 to 1"],
    ),
    (
        "a negative budget",
        "[retry]\nbudget_floor = -1",
        &["hapax.toml:2:16", "retry.budget_floor is -1", "from 0 to"],
    ),
    (
        "no rate",
        "[retry]\nbreaker_failure_rate = nan",
        &[
            "hapax.toml:2:24",
            "retry.breaker_failure_rate is NaN",
            "a share above 0",
        ],
    ),
    (
        "a route's policy",
        "[[route]]\npath = \"/a\"\nname = \"a\"\n[route.retry]\ncap = \"10ms\"",
        &["hapax.toml:4:1", "retry.base is 50ms, longer than cap (10ms)"],
    ),
    (
        "a class",
        "[retry]\nclasses = [\"final\"]",
        &[
            "hapax.toml:2:12",
            "unknown value `final`",
            "unsent, throttled, ambiguous",
        ],
    ),
    (
        "ambiguous, and hold",
        "[retry]\nclasses = [\"ambiguous\"]",
        &[
            "hapax.toml:2:11",
            "after_failure = \"hold\"",
            "after_failure = \"retry\"",
        ],
    ),
    (
        "a field of the policy",
        "[retry]\nbudget_shar = 1",
        &["hapax.toml:2:1", "did you mean `budget_share`?"],
    ),
    (
        "a quota of nothing",
        "[quota]\nnew_per_second = 0",
        &["hapax.toml:2:18", "quota.new_per_second is 0", "a number above 0"],
    ),
    (
        "a quota of no records",
        "[quota]\nrecords = 0",
        &["hapax.toml:2:11", "quota.records is 0", "at least 1"],
    ),
    (
        "async without a runner",
        "respond_async = true\nrunner = { enabled = false }",
        &[
            "hapax.toml:1:17",
            "nobody would run them",
            "enabled = true under [runner]",
        ],
    ),
    (
        "async on a route without a runner",
        "[runner]\nenabled = false\n[[route]]\npath = \"/a\"\nname = \"a\"\nrespond_async = true",
        &["hapax.toml:6:17", "the route \"a\"", "nobody would run them"],
    ),
    (
        "a runner of nothing",
        "[runner]\nconcurrency = 0",
        &["hapax.toml:2:15", "runner.concurrency is 0", "1 to 10000"],
    ),
    (
        "no input key",
        "[input]\nkey_files = [\"/no/key\"]",
        &["hapax.toml:2:14", "cannot read /no/key", "openssl rand -hex 32"],
    ),
    (
        "a key that is no key",
        "[input]\nkey_files = [\"/dev/null\"]",
        &[
            "hapax.toml:2:14",
            "/dev/null has 0 hex digits, not 64",
            "openssl rand -hex 32",
        ],
    ),
    (
        "a probe that changes something",
        "[probe]\nrequest = \"POST /by/{key}\"",
        &["hapax.toml:2:11", "cannot be a POST request", "GET or HEAD"],
    ),
    (
        "a probe for what",
        "[probe]\nrequest = \"GET /by/{id}\"",
        &["hapax.toml:2:11", "\"id\" is not known", "{key}, {name} or {operation}"],
    ),
    (
        "a probe that asks the same always",
        "[probe]\nrequest = \"GET /all/{name}\"",
        &["hapax.toml:2:11", "the same for every operation"],
    ),
    (
        "a probe without a request",
        "[probe]\nfound = [200]",
        &["hapax.toml:1:1", "`request` is missing"],
    ),
    (
        "a probe that finds nothing",
        "[probe]\nrequest = \"GET /by/{key}\"\nfound = []",
        &["hapax.toml:3:9", "found has no statuses", "found = [200]"],
    ),
    (
        "a probe of two minds",
        "[probe]\nrequest = \"GET /by/{key}\"\nfound = [200, 404]\nnot_found = [404]",
        &["hapax.toml:4:13", "404 is in found and in not_found"],
    ),
    (
        "a pointer to nothing",
        "[probe]\nrequest = \"GET /by/{key}\"\npointer = \"/status\"",
        &["hapax.toml:3:11", "found_values is empty", "found_values = [\"paid\"]"],
    ),
    (
        "values from nowhere",
        "[probe]\nrequest = \"GET /by/{key}\"\nfound_values = [\"paid\"]",
        &["hapax.toml:3:16", "without pointer", "pointer = \"/status\""],
    ),
    (
        "values of two minds",
        "[probe]\nrequest = \"GET /by/{key}\"\npointer = \"/s\"\nfound_values = [1]\nnot_found_values = [1]",
        &["hapax.toml:5:20", "1 is in found_values and in not_found_values"],
    ),
    (
        "a body of HEAD",
        "[probe]\nrequest = \"HEAD /by/{key}\"\npointer = \"/s\"\nfound_values = [1]",
        &["hapax.toml:3:11", "HEAD is answered without one"],
    ),
    (
        "a probe's header",
        "[probe]\nrequest = \"GET /by/{key}\"\nheaders = { Hapax-Fence = \"1\" }",
        &["hapax.toml:3:11", "hapax's own to send"],
    ),
    (
        "no time to probe",
        "[probe]\nrequest = \"GET /by/{key}\"\ntimeout = \"0s\"",
        &["hapax.toml:3:11", "timeout is zero"],
    ),
    (
        "remember_for < client_retries_for",
        "client_retries_for = \"31d\"",
        &[
            "remember_for (30d)",
            "31d (a client that asks again: client_retries_for)",
            "raise remember_for to 31d",
        ],
    ),
    (
        "remember_for < the retry schedule",
        "remember_for = \"1d\"\nrespond_async = true",
        &[
            "hapax.toml:1:16",
            "remember_for (1d)",
            "1d15m",
            "retry.elapsed 1d + max_run 15m",
        ],
    ),
];
