//! Whose request it is. Never implied: the layer takes an extractor as a required argument.

use std::fmt;

use hapax_core::{Scope, WordError};
use http::HeaderName;
use http::header::AUTHORIZATION;
use http::request::Parts;

use super::problem::{Details, Problem};

/// Tells whose request it is, from its head. A closure of the same shape is one.
///
/// The scope MUST be the same for every retry of one caller, and another for every other caller.
pub trait ScopeExtractor: Send + Sync + 'static {
    /// The scope of a request.
    ///
    /// # Errors
    /// [`ScopeError`] if it cannot be said: the request is answered with 401, and nothing runs.
    fn scope(&self, parts: &Parts) -> Result<Scope, ScopeError>;

    /// The request field that the scope comes from. A `Connection` header must not name it.
    fn header(&self) -> Option<&HeaderName> {
        None
    }
}

impl<F> ScopeExtractor for F
where
    F: Fn(&Parts) -> Result<Scope, ScopeError> + Send + Sync + 'static,
{
    fn scope(&self, parts: &Parts) -> Result<Scope, ScopeError> {
        self(parts)
    }
}

impl ScopeExtractor for Box<dyn ScopeExtractor> {
    fn scope(&self, parts: &Parts) -> Result<Scope, ScopeError> {
        self.as_ref().scope(parts)
    }

    fn header(&self) -> Option<&HeaderName> {
        self.as_ref().header()
    }
}

/// Why it cannot be said whose request it is. The text tells the caller what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScopeError {
    /// Nothing says it, or nothing that can be trusted.
    Missing(String),
    /// What says it changes from retry to retry.
    Unstable(String),
}

impl ScopeError {
    pub(super) fn details(self) -> Details {
        match self {
            Self::Missing(detail) => Details::new(Problem::ScopeMissing, detail),
            Self::Unstable(detail) => Details::new(Problem::ScopeUnstable, detail),
        }
    }
}

impl fmt::Display for ScopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Missing(detail) | Self::Unstable(detail)) = self;
        f.write_str(detail)
    }
}

impl std::error::Error for ScopeError {}

/// A word that the extractor itself chose: too long, or with control characters.
impl From<WordError> for ScopeError {
    fn from(error: WordError) -> Self {
        Self::Missing(error.to_string())
    }
}

/// One tenant: every caller shares the keys. For a service whose callers trust each other.
#[derive(Debug, Clone)]
pub struct SingleTenant(Scope);

impl SingleTenant {
    /// One tenant, with the scope `none`.
    #[must_use]
    #[allow(clippy::expect_used, reason = "the text is a constant of four letters")]
    pub fn new() -> Self {
        Self(Scope::new("none").expect("four letters are a scope"))
    }
}

impl Default for SingleTenant {
    fn default() -> Self {
        Self::new()
    }
}

impl ScopeExtractor for SingleTenant {
    fn scope(&self, _: &Parts) -> Result<Scope, ScopeError> {
        Ok(self.0.clone())
    }
}

/// The keyed digest of a request field's value, such as an API key.
///
/// A JSON Web Token is refused, since it changes when it is refreshed, and a retry after that would run again; so are
/// `Authorization` schemes that sign each request anew.
#[derive(Clone)]
pub struct HeaderScope {
    header: HeaderName,
    digest: ScopeDigest,
}

impl HeaderScope {
    /// A scope from `header`; `secret` is the store's ([`hapax_core::Store::secret`]).
    #[must_use]
    pub fn new(header: HeaderName, secret: &[u8; 32]) -> Self {
        Self {
            header,
            digest: ScopeDigest::new(secret),
        }
    }
}

impl ScopeExtractor for HeaderScope {
    fn scope(&self, parts: &Parts) -> Result<Scope, ScopeError> {
        let name = &self.header;
        let mut values = parts.headers.get_all(name).into_iter();
        let value = match (values.next(), values.next()) {
            (Some(value), None) => value.as_bytes().trim_ascii(),
            (Some(_), Some(_)) => {
                return Err(ScopeError::Missing(format!(
                    "{name} was sent more than once. Send it exactly once."
                )));
            }
            (None, _) => b"",
        };
        if value.is_empty() {
            let detail = format!("It says whose request this is. Send it with every request: {name} is missing.");
            return Err(ScopeError::Missing(detail));
        }
        if looks_like_jwt(value) {
            return Err(ScopeError::Unstable(format!(
                "{name} has a JSON Web Token, which is another one after its refresh. Send a credential that stays the \
                 same; the operator can use a claim of the token as the scope instead (scope jwt:sub)."
            )));
        }
        if *name == AUTHORIZATION && is_signed_anew(value) {
            return Err(ScopeError::Unstable(format!(
                "{name} has a scheme that signs each request anew. Send a credential that stays the same, or have the \
                 operator choose another header as the scope."
            )));
        }
        self.digest.of("header", &[name.as_str().as_bytes(), value])
    }

    fn header(&self) -> Option<&HeaderName> {
        Some(&self.header)
    }
}

impl fmt::Debug for HeaderScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeaderScope({})", self.header)
    }
}

/// Makes scopes out of credentials that must not be stored or logged: a keyed digest.
#[derive(Clone)]
pub struct ScopeDigest {
    key: [u8; 32],
}

impl ScopeDigest {
    /// Keyed by the store's secret ([`hapax_core::Store::secret`]).
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self {
            key: blake3::derive_key("hapax 2026 scope digest v1", secret),
        }
    }

    /// `kind` and 32 hexadecimal digits of the digest over all parts, each with its length.
    ///
    /// # Errors
    /// If `kind` is too long or not printable.
    pub fn of(&self, kind: &str, parts: &[&[u8]]) -> Result<Scope, ScopeError> {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        // 128 bits under a secret key: nobody can look for two credentials that collide.
        let digest = hasher.finalize().to_hex();
        Ok(Scope::new(format!("{kind}:{}", &digest[..32]))?)
    }
}

/// Three or five dot-separated parts, the first of which starts as base64 of `{"`, maybe after a scheme.
fn looks_like_jwt(value: &[u8]) -> bool {
    let token = value.rsplit(u8::is_ascii_whitespace).next().unwrap_or_default();
    let dots = token.iter().filter(|byte| **byte == b'.').count();
    token.starts_with(b"eyJ") && (dots == 2 || dots == 4)
}

fn is_signed_anew(value: &[u8]) -> bool {
    let scheme = value.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    let schemes = ["digest", "hawk", "oauth", "negotiate", "ntlm", "signature"];
    schemes.iter().any(|name| scheme.eq_ignore_ascii_case(name.as_bytes()))
        || scheme
            .get(..5)
            .is_some_and(|start| start.eq_ignore_ascii_case(b"aws4-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(fields: &[(&str, &str)]) -> Result<String, ScopeError> {
        let mut request = http::Request::builder();
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let extractor = HeaderScope::new(AUTHORIZATION, &[1; 32]);
        assert_eq!(extractor.header(), Some(&AUTHORIZATION));
        extractor.scope(&parts).map(|scope| scope.to_string())
    }

    #[test]
    fn a_scope_is_a_digest_of_the_credential() {
        let first = scope(&[("authorization", "Bearer sk_live_1")]).unwrap();
        assert!(first.starts_with("header:") && first.len() == 7 + 32, "{first}");
        assert_eq!(scope(&[("authorization", " Bearer sk_live_1 ")]).unwrap(), first);
        assert_ne!(scope(&[("authorization", "Bearer sk_live_2")]).unwrap(), first);
        assert_ne!(scope(&[("authorization", "Basic sk_live_1")]).unwrap(), first);
    }

    #[test]
    fn without_one_credential_there_is_no_scope() {
        for fields in [
            &[][..],
            &[("authorization", "")],
            &[("authorization", "a"), ("authorization", "a")],
        ] {
            assert!(matches!(scope(fields), Err(ScopeError::Missing(_))), "{fields:?}");
        }
    }

    #[test]
    fn a_credential_that_changes_is_no_scope() {
        for value in [
            "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.",
            "DPoP eyJh.b.c.d.e",
            "Digest username=a, nonce=b",
            "AWS4-HMAC-SHA256 Credential=a",
        ] {
            assert!(
                matches!(scope(&[("authorization", value)]), Err(ScopeError::Unstable(_))),
                "{value}"
            );
        }
        for value in ["Bearer eyJhbGc", "Bearer a.b.c", "Digested a"] {
            assert!(scope(&[("authorization", value)]).is_ok(), "{value}");
        }
    }

    #[test]
    fn parts_of_a_digest_do_not_run_together() {
        let digest = ScopeDigest::new(&[1; 32]);
        assert_ne!(digest.of("jwt", &[b"a", b"bc"]), digest.of("jwt", &[b"ab", b"c"]));
        assert_ne!(digest.of("jwt", &[b"a"]), ScopeDigest::new(&[2; 32]).of("jwt", &[b"a"]));
        assert!(digest.of(&"k".repeat(300), &[]).is_err());
    }

    #[test]
    fn one_tenant_is_written_out() {
        let (parts, ()) = http::Request::new(()).into_parts();
        assert_eq!(SingleTenant::new().scope(&parts).unwrap().as_str(), "none");
    }
}
