//! `scope = "jwt:CLAIM"` through the binary.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::hmac;
use serde_json::{Value, json};

use crate::support::{Answer, Ask, Gateway, ShopServer};

const SECRET: &str = "a secret that is shared with the issuer";

fn token(secret: &str, claims: &Value) -> String {
    let message = format!(
        "{}.{}",
        BASE64.encode(r#"{"alg":"HS256"}"#),
        BASE64.encode(claims.to_string())
    );
    let signature = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()),
        message.as_bytes(),
    );
    format!("{message}.{}", BASE64.encode(signature))
}

#[test]
fn the_subject_of_a_verified_token_is_the_scope() {
    let (shop, directory) = (ShopServer::start(), tempfile::tempdir().unwrap());
    let file = directory.path().join("secret");
    std::fs::write(&file, SECRET).unwrap();
    let more = [
        "--scope",
        "jwt:sub",
        "--jwt-secret-file",
        file.to_str().unwrap(),
        "--jwt-issuer",
        "i",
    ];
    let gateway = Gateway::before(shop.addr, directory.path(), &more);
    let ask = |token: &str| -> Answer {
        gateway.send(&Ask::order("k-1", 1).header("Authorization", &format!("Bearer {token}")))
    };
    let claims = |sub: &str, exp: u64| json!({ "iss": "i", "sub": sub, "exp": exp });

    let first = ask(&token(SECRET, &claims("ann", 4_102_444_800)));
    assert_eq!((first.status, first.is_replay()), (201, false), "{first:?}");
    let refreshed = ask(&token(SECRET, &claims("ann", 4_102_444_801)));
    assert_eq!(
        (refreshed.is_replay(), &refreshed.body),
        (true, &first.body),
        "a refreshed token is the same caller"
    );
    let bob = ask(&token(SECRET, &claims("bob", 4_102_444_800)));
    assert_eq!((bob.status, bob.is_replay()), (201, false), "another caller: {bob:?}");
    assert_eq!(shop.effects(), 2);

    let expired = ask(&token(SECRET, &claims("ann", 1)));
    expired.is(401, "scope-missing");
    assert!(expired.body.contains("expired"), "{expired:?}");
    ask(&token(
        "another secret, which is not shared",
        &claims("ann", 4_102_444_800),
    ))
    .is(401, "scope-missing");
    ask(&token(
        SECRET,
        &json!({ "iss": "j", "sub": "ann", "exp": 4_102_444_800u64 }),
    ))
    .is(401, "scope-missing");
    ask("nonsense").is(401, "scope-missing");
    gateway.send(&Ask::order("k-1", 1)).is(401, "scope-missing");
    assert_eq!(shop.effects(), 2);
}
