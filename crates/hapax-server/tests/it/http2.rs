//! The same protection over HTTP/2, and across both versions.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;

use crate::support::{Ask, Gateway, ShopServer};

/// What a client with prior knowledge of HTTP/2 gets: status, whether it is a replay, body.
async fn order(address: SocketAddr, key: &str, quantity: u32) -> (StatusCode, bool, String) {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let body = format!(r#"{{"customer":"ann","item":"tea","quantity":{quantity}}}"#);
    let request = Request::post(format!("http://{address}/orders"))
        .header("content-type", "application/json")
        .header("idempotency-key", key)
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    (head.status, head.headers.contains_key("idempotent-replayed"), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_requests_happen_once_too() {
    let (shop, directory) = (ShopServer::start(), tempfile::tempdir().unwrap());
    let gateway = Gateway::before(shop.addr, directory.path(), &[]);
    let racing: Vec<_> = (0..20)
        .map(|_| {
            tokio::spawn({
                let at = gateway.addr;
                async move { order(at, "k-1", 1).await }
            })
        })
        .collect();
    let mut answers = Vec::new();
    for answer in racing {
        answers.push(answer.await.unwrap());
    }
    let (_, _, first) = answers.iter().find(|(_, replayed, _)| !replayed).unwrap().clone();
    assert!(
        answers.iter().all(|(status, _, body)| *status == 201 && *body == first),
        "{answers:?}"
    );
    assert_eq!(answers.iter().filter(|(_, replayed, _)| *replayed).count(), 19);
    let (status, _, problem) = order(gateway.addr, "k-1", 2).await;
    let problem: Value = serde_json::from_str(&problem).unwrap();
    assert_eq!(
        (status.as_u16(), &problem["type"]),
        (422, &"urn:hapax:problem:key-reused".into())
    );
    assert_eq!(order(gateway.addr, "a b", 1).await.0, 400);
    // By HTTP/1.1 it is the same operation: the scheme and the version are no part of what is asked.
    let one = tokio::task::block_in_place(|| gateway.send(&Ask::order("k-1", 1)));
    assert_eq!((one.is_replay(), one.body), (true, first));
    assert_eq!(shop.effects(), 1);
}
