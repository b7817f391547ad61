//! Whose request it is, by the configuration: one extractor for all requests, and others for routes that say so.

use std::sync::Arc;

use hapax::core::Scope;
use hapax::http::{HeaderScope, ScopeDigest, ScopeError, ScopeExtractor, SingleTenant};
use http::header::{AUTHORIZATION, CONNECTION};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method};

use crate::config::values::ScopeSource;
use crate::config::{Config, Route};
use crate::jwt::Verifier;

/// The scope from a verified JWT in `Authorization: Bearer`: a digest of its issuer and one claim, so that a refreshed
/// token is the same caller.
struct JwtScope {
    verifier: Arc<Verifier>,
    claim: String,
    digest: ScopeDigest,
}

impl ScopeExtractor for JwtScope {
    fn scope(&self, parts: &Parts) -> Result<Scope, ScopeError> {
        let mut values = parts.headers.get_all(AUTHORIZATION).into_iter();
        let token = match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok().and_then(bearer),
            _ => None,
        };
        let missing = |detail: String| ScopeError::Missing(detail);
        let token = token.ok_or_else(|| {
            missing("It says whose request this is. Send exactly one Authorization: Bearer with a JWT.".to_owned())
        })?;
        let subject = self
            .verifier
            .verify(token, &self.claim)
            .map_err(|refused| missing(format!("It says whose request this is, but {refused}.")))?;
        self.digest.of(
            "jwt",
            &[
                self.claim.as_bytes(),
                subject.issuer.as_bytes(),
                subject.claim.as_bytes(),
            ],
        )
    }

    fn header(&self) -> Option<&HeaderName> {
        Some(&AUTHORIZATION)
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

type Extractor = Box<dyn ScopeExtractor>;

/// The extractor for every request.
///
/// # Errors
/// If the keys of JWTs cannot be read, or a pattern is malformed.
pub(super) fn extractor(config: &Config, secret: &[u8; 32]) -> Result<Extractor, String> {
    let maker = Maker {
        verifier: Arc::new(Verifier::new(&config.jwt)?),
        secret: *secret,
    };
    // A checked configuration has a scope.
    let main = maker.make(config.scope.as_ref().unwrap_or(&ScopeSource::None));
    if config.routes.iter().all(|route| route.scope.is_none()) {
        return Ok(main);
    }
    let mut scopes = RouteScopes {
        main,
        routes: Vec::new(),
        patterns: matchit::Router::new(),
    };
    for route in &config.routes {
        scopes.add(route, &maker)?;
    }
    Ok(Box::new(scopes))
}

struct Maker {
    verifier: Arc<Verifier>,
    secret: [u8; 32],
}

impl Maker {
    fn make(&self, source: &ScopeSource) -> Extractor {
        match source {
            ScopeSource::Header(name) => Box::new(HeaderScope::new(name.clone(), &self.secret)),
            ScopeSource::Jwt(claim) => Box::new(JwtScope {
                verifier: Arc::clone(&self.verifier),
                claim: claim.clone(),
                digest: ScopeDigest::new(&self.secret),
            }),
            ScopeSource::None => Box::new(SingleTenant::new()),
        }
    }
}

/// Scopes by route, found by the same rules as the door finds its routes.
struct RouteScopes {
    main: Extractor,
    routes: Vec<RouteScope>,
    patterns: matchit::Router<Vec<usize>>,
}

struct RouteScope {
    name: String,
    methods: Vec<Method>,
    scope: Option<Extractor>,
}

impl RouteScopes {
    fn add(&mut self, route: &Route, maker: &Maker) -> Result<(), String> {
        let index = self.routes.len();
        self.routes.push(RouteScope {
            name: route.name.to_string(),
            methods: route.methods.iter().map(|method| method.0.clone()).collect(),
            scope: route.scope.as_ref().map(|source| maker.make(source)),
        });
        match self.patterns.insert(&route.path, vec![index]) {
            Ok(()) => Ok(()),
            Err(matchit::InsertError::Conflict { with }) if with == route.path => {
                if let Ok(found) = self.patterns.at_mut(&route.path) {
                    found.value.push(index);
                }
                Ok(())
            }
            Err(error) => Err(format!("path {:?}: {error}", route.path)),
        }
    }

    fn find(&self, parts: &Parts) -> &Extractor {
        let route = if parts.uri.path().starts_with("/.hapax/") {
            // A question about an operation names its route.
            let query = parts.uri.query().unwrap_or_default();
            let name = query.split('&').find_map(|pair| pair.strip_prefix("name="));
            self.routes.iter().find(|route| Some(route.name.as_str()) == name)
        } else {
            let found = self.patterns.at(parts.uri.path()).ok();
            found.and_then(|found| {
                let mut fitting = found.value.iter().map(|index| &self.routes[*index]);
                fitting.find(|route| route.methods.contains(&parts.method))
            })
        };
        route.and_then(|route| route.scope.as_ref()).unwrap_or(&self.main)
    }
}

impl ScopeExtractor for RouteScopes {
    fn scope(&self, parts: &Parts) -> Result<Scope, ScopeError> {
        let scope = self.find(parts);
        if let Some(header) = scope.header()
            && named_by_connection(&parts.headers, header)
        {
            return Err(ScopeError::Missing(format!(
                "Connection names {header}, which says whose request this is. Leave it out of Connection."
            )));
        }
        scope.scope(parts)
    }

    fn header(&self) -> Option<&HeaderName> {
        self.main.header()
    }
}

fn named_by_connection(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.get_all(CONNECTION).iter().any(|value| {
        let mut tokens = value.as_bytes().split(|byte| *byte == b',');
        tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(name.as_str().as_bytes()))
    })
}
