//! What one tenant may take, and that another does not feel it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use hapax::http::{Quota, QuotaLimit, Verdict};
use tokio::sync::Semaphore;

use super::door::{Answering, Door, answer, asks, by_path};
use super::world::named;

const NONE: Quota = Quota {
    new_per_second: None,
    in_flight: None,
    records: None,
};

fn door(quota: Quota) -> Door {
    let route = named("r").respond_async(true).quota(Some(quota)).build().unwrap();
    Door::new(route, by_path)
}

fn post(tenant: &str, key: &str) -> Request<Body> {
    asks(tenant, "/201", key, "", "")
}

async fn refused(door: &Door, request: Request<Body>, limit: QuotaLimit) -> u64 {
    let told = door.send(request).await;
    assert_eq!(told.problem(), (429, "too-many-requests".into()));
    assert_eq!(told.json()["limit"], limit.as_str());
    assert!(told.json()["detail"].as_str().unwrap().contains(limit.as_str()));
    assert_eq!(told.verdict, Some(Verdict::OverQuota(limit)));
    told.header("retry-after").unwrap().parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_starts_too_many_is_told_to_wait_and_no_other() {
    let door = door(Quota {
        new_per_second: Some(2.0),
        ..NONE
    });
    for key in ["a", "b"] {
        assert_eq!(door.send(post("t", key)).await.status, 201);
    }
    assert_eq!(refused(&door, post("t", "c"), QuotaLimit::NewPerSecond).await, 1);
    assert_eq!(door.record("c").await, None, "nothing was claimed");
    for _ in 0..5 {
        assert!(door.send(post("t", "a")).await.replays("call 1"));
    }
    let told = door.send(asks("t", "/201", "a", "another", "")).await;
    assert_eq!(told.problem(), (422, "key-reused".into()));
    assert_eq!(door.send(post("other", "c")).await.status, 201);
    door.pass(Duration::from_millis(500)).await;
    assert_eq!(door.send(post("t", "c")).await.status, 201, "duplicates took nothing");
    refused(
        &door,
        asks("t", "/201", "later", "", "respond-async"),
        QuotaLimit::NewPerSecond,
    )
    .await;
    door.pass(Duration::from_millis(500)).await;
    assert_eq!(
        door.send(asks("t", "/201", "later", "", "respond-async")).await.status,
        202
    );
    assert_eq!(
        door.send(asks("t", "/201", "later", "", "respond-async")).await.status,
        202
    );
    refused(&door, post("t", "d"), QuotaLimit::NewPerSecond).await;
}

#[tokio::test(start_paused = true)]
async fn a_tenant_has_only_so_many_in_flight() {
    let go = Arc::new(Semaphore::new(0));
    let hold = Arc::clone(&go);
    let script = move |call, _: Request<Body>| -> Answering {
        let hold = Arc::clone(&hold);
        Box::pin(async move {
            hold.acquire().await.unwrap().forget();
            answer(201, call).await
        })
    };
    let quota = Quota {
        in_flight: Some(1),
        ..NONE
    };
    // Duplicates would wait 5 s.
    let route = named("r").wait(Duration::from_secs(5), Duration::from_secs(30));
    let door = Door::new(route.quota(Some(quota)).build().unwrap(), script);
    let first = door.send(post("t", "a"));
    let meanwhile = async {
        while door.calls() == 0 {
            tokio::task::yield_now().await;
        }
        let began = tokio::time::Instant::now();
        assert_eq!(refused(&door, post("t", "b"), QuotaLimit::InFlight).await, 1);
        let told = door.send(post("t", "a")).await;
        assert_eq!(told.problem(), (409, "in-progress".into()));
        assert_eq!(began.elapsed(), Duration::ZERO, "one more does not wait");
        go.add_permits(2);
        assert_eq!(door.send(post("other", "b")).await.status, 201);
    };
    let (first, ()) = tokio::join!(first, meanwhile);
    assert_eq!(first.status, 201);
    go.add_permits(1);
    assert_eq!(door.send(post("t", "b")).await.status, 201);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_has_only_so_many_records() {
    let door = door(Quota {
        records: Some(2),
        ..NONE
    });
    let released = || asks("t", "/429", "released", "", "");
    assert_eq!(door.send(released()).await.status, 429);
    assert_eq!(door.send(post("t", "a")).await.status, 201);
    let wait = refused(&door, post("t", "b"), QuotaLimit::Records).await;
    assert_eq!(wait, 30);
    assert!(door.send(post("t", "a")).await.replays("call 2"));
    let told = door.send(released()).await;
    assert_eq!(
        (told.text(), told.verdict),
        ("call 3", Some(Verdict::Released)),
        "it has its record"
    );
    assert_eq!(door.send(post("other", "b")).await.status, 201);
    door.pass(Duration::from_secs(31)).await;
    refused(&door, post("t", "b"), QuotaLimit::Records).await;
}

#[tokio::test(start_paused = true)]
async fn routes_with_equal_quotas_share_what_is_counted() {
    let quota = Some(Quota {
        new_per_second: Some(1.0),
        ..NONE
    });
    let other = Some(Quota {
        new_per_second: Some(1.5),
        ..NONE
    });
    let routes = hapax::http::Routes::new()
        .route("/201", named("r").quota(quota).build().unwrap())
        .unwrap()
        .route("/200", named("s").quota(quota).build().unwrap())
        .unwrap()
        .route("/202", named("u").quota(other).build().unwrap())
        .unwrap();
    let door = Door::new(routes, by_path);
    assert_eq!(door.send(post("t", "a")).await.status, 201);
    refused(&door, asks("t", "/200", "a", "", ""), QuotaLimit::NewPerSecond).await;
    assert_eq!(door.send(asks("t", "/202", "a", "", "")).await.status, 202);
}

#[test]
fn an_impossible_quota_is_no_route() {
    let quota = Quota {
        in_flight: Some(0),
        ..NONE
    };
    let error = named("r").quota(Some(quota)).build().unwrap_err().to_string();
    assert!(error.starts_with("route r: quota.in_flight is 0"), "{error}");
}
