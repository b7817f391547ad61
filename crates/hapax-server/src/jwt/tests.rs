use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use ring::{digest, hmac};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Refused, Subject, Verifier};
use crate::config::Jwt;
use crate::config::values::File;

/// ring makes no RSA keys: the public half of one, and a token that its other half signed, good until 2100.
const RSA_N: &[&str] = &[
    "3kzmgLZK_1guPkE9tbFoaQs6TrATxYhAOdhk60n_Udg4U8f6gtrLX9EsRyeT-H0g274fq42tcAVt3nj31Gpzn8wlEPT2RR684NBA",
    "kPijKhJASbwiaJWakEfQEYIHOlmRD5esvhMtvMxfbgoBgD3bCoCeyk8pguHtttqq4AoofHL0jb0xp-7wRgAOvCOIin7VNTcOCvvi",
    "meykxQ06h0S82l7s9CrvWPXdunT3prBHxaZY6rfWRrXcXyvYG2-zE--tVrJ4KJzJqMoJkLWU_7LMb67Ce43eVwcU9qJpb6ARfdyQ",
    "gaoJvw5A4wPsnV4Wnwy87MPJ2jUFcY-C0C9DMPevgQ",
];
const RSA_TOKEN: &[&str] = &[
    "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6InIxIn0.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwic3Vi",
    "IjoiYW5uIiwiZXhwIjo0MTAyNDQ0ODAwfQ.WHgDGg-ZoYeSWrGDPEzaKBqVS7TLxbYrP994_BDP6-HVt4DGKs_8mK4PtIuyig6VK",
    "2cZALPj3WWIJ3R9IU4-A4wE0x5KTkO1zfDjeohRVxqTPTrj_kiBPZvBSGjM9BA_bvmy662dKjOao1fBch8DQQAMnJRJPNTe2jKlo",
    "N_Z-sGmWPHoFxQ2Vly3eeUKFrUU-tgs4aFq9l1JJCAj-Q2Zr4bdL9iPyYSm1EN1zyWADgF2RcQUA4EPxT7ownS0z_iSmf4ooFANI",
    "b12nnJHAba7Ppv1bHGp47HB2pqCobIVQbJ7XvRmb6qvSQoJrpmuZu0s6mhql_KRa719MbsTTO2T6w",
];
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const LATER: u64 = 4_102_444_800;

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, bytes: impl AsRef<[u8]>) -> File {
        let path: PathBuf = self.0.path().join("keys");
        std::fs::write(&path, bytes).unwrap();
        File(path)
    }

    fn secret(&self, bytes: &[u8]) -> Jwt {
        Jwt {
            secret_file: Some(self.write(bytes)),
            ..Jwt::default()
        }
    }

    fn set(&self, keys: Value) -> Jwt {
        Jwt {
            jwks_file: Some(self.write(json!({ "keys": keys }).to_string())),
            ..Jwt::default()
        }
    }
}

/// A token that `sign` signs.
fn token(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let part = |value: &Value| BASE64.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = BASE64.encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn hs256(secret: &[u8], claims: &Value) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    token(&json!({ "alg": "HS256" }), claims, |message| {
        hmac::sign(&key, message).as_ref().to_vec()
    })
}

fn ann(claim: &str) -> Subject {
    Subject {
        issuer: "i".into(),
        claim: claim.into(),
    }
}

#[test]
fn a_shared_secret_verifies_hs256_and_nothing_else() {
    let files = Files::new();
    let mut config = files.secret(&[SECRET, b"\r\n"].concat());
    let verifier = Verifier::new(&config).unwrap();
    let good = json!({ "iss": "i", "sub": "ann", "org": 7, "exp": LATER });
    assert_eq!(verifier.verify(&hs256(SECRET, &good), "sub"), Ok(ann("ann")));
    assert_eq!(
        verifier.verify(&hs256(SECRET, &good), "org"),
        Ok(ann("7")),
        "a number will do"
    );
    assert_eq!(
        verifier.verify(&hs256(SECRET, &good), "tenant"),
        Err(Refused::NoClaim("tenant".into()))
    );
    let other = hs256(b"another secret of thirty-two bytes", &good);
    assert_eq!(verifier.verify(&other, "sub"), Err(Refused::Untrusted));
    for (claims, refused) in [
        (json!({ "sub": "ann", "exp": 1 }), Refused::Expired),
        (json!({ "sub": "ann" }), Refused::Expired),
        (json!({ "sub": "ann", "exp": LATER, "nbf": LATER - 1 }), Refused::NotYet),
        (json!({ "sub": "", "exp": LATER }), Refused::NoClaim("sub".into())),
        (json!({ "sub": ["ann"], "exp": LATER }), Refused::Malformed),
        (json!({ "sub": "ann", "exp": LATER, "iss": ["i"] }), Refused::NotForUs),
    ] {
        assert_eq!(
            verifier.verify(&hs256(SECRET, &claims), "sub"),
            Err(refused),
            "{claims}"
        );
    }
    let unsigned = token(&json!({ "alg": "none" }), &good, |_| Vec::new());
    assert_eq!(verifier.verify(&unsigned, "sub"), Err(Refused::Malformed));
    let longer = token(&json!({ "alg": "HS512" }), &good, |message| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, SECRET), message)
            .as_ref()
            .to_vec()
    });
    assert_eq!(
        verifier.verify(&longer, "sub"),
        Err(Refused::Untrusted),
        "the algorithm is the key's"
    );
    for text in ["", "a", "a.b.c", "....", "eyJ.eyJ."] {
        assert_eq!(verifier.verify(text, "sub"), Err(Refused::Malformed), "{text}");
    }
    let first = hs256(SECRET, &good);
    let tampered = first.replace(
        first.split('.').nth(1).unwrap(),
        &BASE64.encode(r#"{"sub":"bob","exp":4102444800}"#),
    );
    assert_eq!(verifier.verify(&tampered, "sub"), Err(Refused::Untrusted));

    config.issuer = Some("i".into());
    config.audience = Some("shop".into());
    let verifier = Verifier::new(&config).unwrap();
    for (iss, aud, ok) in [
        (json!("i"), json!("shop"), true),
        (json!("i"), json!(["x", "shop"]), true),
        (json!("j"), json!("shop"), false),
        (json!("i"), json!("x"), false),
        (Value::Null, json!("shop"), false),
        (json!("i"), Value::Null, false),
    ] {
        let claims = json!({ "iss": iss, "aud": aud, "sub": "ann", "exp": LATER });
        let verified = verifier.verify(&hs256(SECRET, &claims), "sub");
        assert_eq!(
            verified,
            if ok { Ok(ann("ann")) } else { Err(Refused::NotForUs) },
            "{claims}"
        );
    }
}

#[test]
fn public_keys_verify_what_their_other_half_signed() {
    let (files, random) = (Files::new(), SystemRandom::new());
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let p256 = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
    let ed = Ed25519KeyPair::from_pkcs8(Ed25519KeyPair::generate_pkcs8(&random).unwrap().as_ref()).unwrap();
    let point = p256.public_key().as_ref();
    let rsa = RSA_N.concat();
    let config = files.set(json!([
        { "kty": "EC", "crv": "P-256", "kid": "e1", "x": BASE64.encode(&point[1..33]), "y": BASE64.encode(&point[33..]) },
        { "kty": "OKP", "crv": "Ed25519", "kid": "d1", "alg": "EdDSA", "x": BASE64.encode(ed.public_key().as_ref()) },
        { "kty": "RSA", "kid": "r1", "use": "sig", "n": rsa, "e": "AQAB" },
        { "kty": "RSA", "kid": "r2", "use": "enc", "n": rsa, "e": "AQAB" },
    ]));
    let verifier = Verifier::new(&config).unwrap();
    let claims = json!({ "iss": "i", "sub": "ann", "exp": LATER });
    let by_p256 = |header: Value| token(&header, &claims, |m| p256.sign(&random, m).unwrap().as_ref().to_vec());
    let by_ed = |header: Value| token(&header, &claims, |m| ed.sign(m).as_ref().to_vec());
    assert_eq!(
        verifier.verify(&by_p256(json!({ "alg": "ES256", "kid": "e1" })), "sub"),
        Ok(ann("ann"))
    );
    assert_eq!(
        verifier.verify(&by_p256(json!({ "alg": "ES256" })), "sub"),
        Ok(ann("ann")),
        "no kid: the only such key"
    );
    assert_eq!(
        verifier.verify(&by_ed(json!({ "alg": "EdDSA", "kid": "d1" })), "sub"),
        Ok(ann("ann"))
    );
    let token_of_rsa = RSA_TOKEN.concat();
    let verified = verifier.verify(&token_of_rsa, "sub").unwrap();
    assert_eq!((&*verified.issuer, &*verified.claim), ("https://issuer.example", "ann"));
    for wrong in [
        by_p256(json!({ "alg": "ES256", "kid": "d1" })),
        by_p256(json!({ "alg": "EdDSA", "kid": "e1" })),
        by_ed(json!({ "alg": "ES256", "kid": "e1" })),
        by_ed(json!({ "alg": "EdDSA", "kid": "unknown" })),
        // The public key is no secret: as one, it must verify nothing.
        hs256(rsa.as_bytes(), &claims),
        hs256(point, &claims),
    ] {
        assert_eq!(verifier.verify(&wrong, "sub"), Err(Refused::Untrusted), "{wrong}");
    }
    let mut broken = token_of_rsa.clone();
    broken.replace_range(broken.len() - 8..broken.len() - 4, "AAAA");
    assert_eq!(verifier.verify(&broken, "sub"), Err(Refused::Untrusted));
}

#[test]
fn keys_that_cannot_be_used_are_refused_at_the_start() {
    let files = Files::new();
    let sha = BASE64.encode(digest::digest(&digest::SHA256, b"x"));
    let refuse = |config: Jwt, part: &str| {
        let error = Verifier::new(&config).err().unwrap();
        assert!(error.contains(part), "no {part:?}: {error}");
    };
    refuse(files.secret(b"short"), "has 5 bytes");
    refuse(files.set(json!([])), "holds no key");
    refuse(files.set(json!([{ "kty": "oct", "k": sha }])), "secret_file");
    refuse(
        files.set(json!([{ "kty": "EC", "crv": "P-384", "x": sha, "y": sha }])),
        "not supported",
    );
    refuse(
        files.set(json!([{ "kty": "RSA", "alg": "RS512", "kid": "r9", "n": "AQAB", "e": "AQAB" }])),
        "key r9 is for RS512",
    );
    let config = Jwt {
        jwks_file: Some(files.write("not json")),
        ..Jwt::default()
    };
    refuse(config, "no JWK set");
}
