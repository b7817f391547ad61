use hapax_core::Retention;

use super::*;

fn named(name: &str) -> RouteBuilder {
    Route::builder(Name::new(name).unwrap())
}

fn found(routes: &Routes, method: Method, path: &str) -> Option<String> {
    routes
        .find(&method, path)
        .map(|index| routes.entry(index).route.name.to_string())
}

#[test]
fn the_first_fitting_pattern_and_method_wins() {
    let routes = Routes::new()
        .route("/orders", named("order").build().unwrap())
        .unwrap()
        .route(
            "/orders/{id}",
            named("change").methods([Method::PATCH]).build().unwrap(),
        )
        .unwrap()
        .route(
            "/orders/{id}",
            named("cancel").methods([Method::DELETE]).build().unwrap(),
        )
        .unwrap()
        .route("/files/{*path}", named("file").build().unwrap())
        .unwrap();
    for (method, path, name) in [
        (Method::POST, "/orders", Some("order")),
        (Method::PATCH, "/orders/7", Some("change")),
        (Method::DELETE, "/orders/7", Some("cancel")),
        (Method::POST, "/files/a/b", Some("file")),
        (Method::POST, "/orders/7", None),
        (Method::GET, "/orders", None),
        (Method::POST, "/Orders", None),
        (Method::POST, "//orders", None),
        (Method::POST, "*", None),
    ] {
        assert_eq!(found(&routes, method.clone(), path).as_deref(), name, "{method} {path}");
    }
    assert_eq!(routes.default_name(), None);
    let routes = routes.fallback(named("rest").build().unwrap());
    assert_eq!(found(&routes, Method::POST, "//orders").as_deref(), Some("rest"));
    assert_eq!(found(&routes, Method::POST, "/orders/7").as_deref(), Some("rest"));
    assert_eq!(found(&routes, Method::PUT, "/orders/7"), None);
    assert_eq!(routes.default_name().unwrap().as_str(), "rest");
    assert_eq!(routes.iter().count(), 5);
}

#[test]
fn a_contradictory_pattern_is_refused() {
    let routes = Routes::new().route("/orders/{id}", Route::default()).unwrap();
    let error = routes.route("/orders/{other}", Route::default()).unwrap_err();
    assert!(error.to_string().contains("/orders/{other}"), "{error}");
    assert!(Routes::new().route("/a{", Route::default()).is_err());
}

#[test]
fn nonsense_is_refused_with_what_to_write() {
    let run = RunOptions::default();
    let second = Duration::from_secs(1);
    let short = RunOptions {
        lease: Duration::from_millis(99),
        ..run.clone()
    };
    let contrary = RunOptions {
        max_run: second,
        ..run.clone()
    };
    let endless = RunOptions {
        max_run: Duration::MAX,
        ..run.clone()
    };
    let forgetful = RunOptions {
        retention: Retention {
            replay_for: second * 2,
            remember_for: second,
        },
        ..run
    };
    let status = |code| [StatusCode::from_u16(code).unwrap()];
    for (builder, text) in [
        (named("r").methods([]), "no methods"),
        (named("r").methods([Method::POST, Method::GET]), "GET changes nothing"),
        (named("r").methods([Method::CONNECT]), "CONNECT"),
        (named("r").run(short), "at least 100ms"),
        (named("r").run(contrary), "max_run"),
        (named("r").run(endless), "max_run is"),
        (named("r").wait(second, Duration::MAX), "the longest wait is"),
        (named("r").answer_limit(1, Duration::MAX), "the time of an answer is"),
        (
            named("r").run(forgetful),
            "remember_for 1s is shorter than replay_for 2s",
        ),
        (named("r").wait(second * 2, second), "longer than the longest wait"),
        (named("r").no_effect(status(200)), "no_effect has 200"),
        (named("r").finals(status(101)), "final has 101"),
        (
            named("r").store_headers([http::header::SET_COOKIE]),
            "set-cookie belongs",
        ),
        (
            named("r").store_headers([HeaderName::from_static("traceparent")]),
            "traceparent belongs",
        ),
    ] {
        let error = builder.build().unwrap_err().to_string();
        assert!(error.starts_with("route r: ") && error.contains(text), "{error}");
    }
    let good = named("r")
        .methods([Method::PUT])
        .no_effect(status(500))
        .finals(status(503));
    assert_eq!(
        good.store_headers([HeaderName::from_static("x-total")])
            .build()
            .unwrap()
            .name()
            .as_str(),
        "r"
    );
}
