//! Verified JWTs: who asks, when the scope is `jwt:CLAIM`.
//!
//! The algorithm is the key's, never the token's word: a shared secret verifies HS256, an RSA key RS256, a P-256 key
//! ES256, an Ed25519 key EdDSA, and a token that names another is refused. `exp` must be there; `exp` and `nbf` are
//! checked with a minute of leeway. Keys are read once, at start; nothing is fetched.

mod crypto;
#[cfg(test)]
mod tests;

use std::path::Path;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};

use crate::config::Jwt;

/// A shared secret below the hash's length could be guessed.
const SHORTEST_SECRET: usize = 32;

/// Verifies tokens and reads one claim of them.
pub(crate) struct Verifier {
    keys: Vec<TrustedKey>,
    issuer: Option<String>,
    audience: Option<String>,
}

struct TrustedKey {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// Whom a token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    /// `iss`; empty if the token names none.
    pub(crate) issuer: String,
    /// The claim that was asked for.
    pub(crate) claim: String,
}

/// Why a token speaks for nobody. Never says anything of the token's content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the JWT cannot be read")]
    Malformed,
    #[error("no trusted key verifies the JWT")]
    Untrusted,
    #[error("the JWT has expired; get a new one")]
    Expired,
    #[error("the JWT is not valid yet")]
    NotYet,
    #[error("the JWT was not issued for this service")]
    NotForUs,
    #[error("the JWT has no {0:?} claim that is a text or a whole number")]
    NoClaim(String),
}

impl Verifier {
    /// Reads the keys of a checked configuration.
    ///
    /// # Errors
    /// Says which file is wrong, and how.
    pub(crate) fn new(config: &Jwt) -> Result<Self, String> {
        crypto::install();
        let keys = match (&config.secret_file, &config.jwks_file) {
            (Some(file), _) => vec![secret(file.path())?],
            (None, Some(file)) => key_set(file.path())?,
            (None, None) => Vec::new(),
        };
        Ok(Self {
            keys,
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
        })
    }

    /// Whom the token speaks for.
    ///
    /// # Errors
    /// Why it speaks for nobody.
    pub(crate) fn verify(&self, token: &str, claim: &str) -> Result<Subject, Refused> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| Refused::Malformed)?;
        let fits = |key: &&TrustedKey| {
            key.algorithm == header.alg && (header.kid.is_none() || key.id.is_none() || key.id == header.kid)
        };
        let mut refused = Refused::Untrusted;
        for key in self.keys.iter().filter(fits) {
            match jsonwebtoken::decode::<Map<String, Value>>(token, &key.key, &self.validation(key.algorithm)) {
                Ok(token) => return subject(&token.claims, claim),
                Err(error) => match why(&error) {
                    Refused::Untrusted => {}
                    // Signed by a trusted key: the others need not be tried.
                    why => {
                        refused = why;
                        break;
                    }
                },
            }
        }
        Err(refused)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.validate_nbf = true;
        validation.validate_aud = self.audience.is_some();
        let mut required = vec!["exp"];
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if let Some(audience) = &self.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        validation
    }
}

fn why(error: &jsonwebtoken::errors::Error) -> Refused {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::ExpiredSignature => Refused::Expired,
        ErrorKind::ImmatureSignature => Refused::NotYet,
        ErrorKind::InvalidIssuer | ErrorKind::InvalidAudience | ErrorKind::InvalidSubject => Refused::NotForUs,
        ErrorKind::MissingRequiredClaim(name) if name == "exp" => Refused::Expired,
        ErrorKind::MissingRequiredClaim(_) => Refused::NotForUs,
        ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => Refused::Untrusted,
        _ => Refused::Malformed,
    }
}

fn subject(claims: &Map<String, Value>, claim: &str) -> Result<Subject, Refused> {
    let found = match claims.get(claim) {
        Some(Value::String(text)) if !text.is_empty() => text.clone(),
        Some(Value::Number(number)) if number.is_i64() || number.is_u64() => number.to_string(),
        _ => return Err(Refused::NoClaim(claim.to_owned())),
    };
    let issuer = match claims.get("iss") {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => String::new(),
        Some(_) => return Err(Refused::NotForUs),
    };
    Ok(Subject { issuer, claim: found })
}

fn secret(file: &Path) -> Result<TrustedKey, String> {
    let bytes = std::fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    // Editors end a file with a newline that is no part of the secret.
    let secret = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
    if secret.len() < SHORTEST_SECRET {
        return Err(format!(
            "the JWT secret in {} has {} bytes; HS256 needs at least {SHORTEST_SECRET} random ones",
            file.display(),
            secret.len()
        ));
    }
    Ok(TrustedKey {
        id: None,
        algorithm: Algorithm::HS256,
        key: DecodingKey::from_secret(secret),
    })
}

fn key_set(file: &Path) -> Result<Vec<TrustedKey>, String> {
    let shown = file.display();
    let text = std::fs::read(file).map_err(|error| format!("cannot read {shown}: {error}"))?;
    let set: JwkSet = serde_json::from_slice(&text)
        .map_err(|error| format!("{shown} is no JWK set: {error}; it looks like {{\"keys\": [{{\"kty\": …}}]}}"))?;
    let mut keys = Vec::new();
    for jwk in &set.keys {
        if jwk.common.public_key_use == Some(PublicKeyUse::Encryption) {
            continue;
        }
        let id = jwk.common.key_id.clone();
        let name = id.clone().unwrap_or_else(|| "without kid".to_owned());
        let algorithm = algorithm_of(jwk).map_err(|why| format!("{shown}: the key {name} {why}"))?;
        let key = DecodingKey::from_jwk(jwk).map_err(|error| format!("{shown}: the key {name} is broken: {error}"))?;
        keys.push(TrustedKey { id, algorithm, key });
    }
    if keys.is_empty() {
        return Err(format!("{shown} holds no key that verifies signatures"));
    }
    Ok(keys)
}

/// The one algorithm that a key is good for.
fn algorithm_of(jwk: &Jwk) -> Result<Algorithm, String> {
    let (algorithm, same) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        AlgorithmParameters::OctetKey(_) => {
            return Err("is a shared secret: give it with secret_file, not among public keys".to_owned());
        }
        _ => return Err("has a type that is not supported; use RSA, P-256 or Ed25519".to_owned()),
    };
    match jwk.common.key_algorithm {
        Some(named) if named != same => Err(format!("is for {named}; of its type, only {same} is supported")),
        _ => Ok(algorithm),
    }
}
