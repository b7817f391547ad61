//! Where the upstream is, and a new connection to it.

use std::path::Path;
use std::sync::Arc;

use http::{HeaderValue, Uri};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::error::{UnsentCause, UpstreamError};
use super::wire::ClientStream;
use crate::gateway::listener::TlsError;
use crate::gateway::net::Stream;

/// Where the upstream is.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    host: String,
    port: u16,
    host_header: HeaderValue,
    /// The name to verify the certificate against; `https` only.
    server_name: Option<ServerName<'static>>,
}

/// Why a URL is not a target.
#[derive(Debug, thiserror::Error)]
#[error("{url:?} is not an upstream: {why}; write http://HOST[:PORT] or https://HOST[:PORT]")]
pub(crate) struct TargetError {
    url: String,
    why: &'static str,
}

impl Target {
    /// Reads `http://HOST[:PORT]` or `https://HOST[:PORT]`.
    ///
    /// # Errors
    /// If it is another scheme, or has a user, a path or a query.
    pub(crate) fn parse(url: &str) -> Result<Self, TargetError> {
        let error = |why| TargetError {
            url: url.to_owned(),
            why,
        };
        let uri: Uri = url.parse().map_err(|_| error("not a URL"))?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(error("the scheme is neither http nor https")),
        };
        if uri.path() != "/" || uri.query().is_some() {
            return Err(error("a path or query is not supported"));
        }
        let authority = uri.authority().ok_or_else(|| error("no host"))?;
        if authority.as_str().contains('@') {
            return Err(error("a user is not supported"));
        }
        let bare = authority.host();
        let bare = bare
            .strip_prefix('[')
            .and_then(|bare| bare.strip_suffix(']'))
            .unwrap_or(bare)
            .to_owned();
        let server_name = is_tls
            .then(|| ServerName::try_from(bare.clone()))
            .transpose()
            .map_err(|_| error("the host cannot be in a certificate"))?;
        Ok(Target {
            port: authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            host: bare,
            host_header: HeaderValue::from_str(authority.as_str()).map_err(|_| error("the host is not ASCII"))?,
            server_name,
        })
    }

    pub(super) fn host_header(&self) -> &HeaderValue {
        &self.host_header
    }
}

/// TLS towards upstreams: certificates are verified against the system's roots and those in
/// `extra_ca` (PEM).
///
/// # Errors
/// If the system has no roots and no `extra_ca` was given, or the file cannot be read.
pub(crate) fn client_tls(extra_ca: Option<&Path>) -> Result<Arc<rustls::ClientConfig>, TlsError> {
    let mut roots = rustls::RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    if let Some(path) = extra_ca {
        for certificate in crate::gateway::listener::certificates(path)? {
            roots.add(certificate).map_err(|source| TlsError::Refused {
                path: path.into(),
                source,
            })?;
        }
    }
    if roots.is_empty() {
        let why = native.errors.iter().map(ToString::to_string);
        return Err(TlsError::NoRoots(why.collect::<Vec<_>>().join("; ")));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::NoRoots(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// TLS that trusts nobody, for a plain upstream: a machine without any certificates can serve one.
///
/// # Errors
/// If the provider lacks the protocol versions.
pub(crate) fn no_tls() -> Result<Arc<rustls::ClientConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Makes connections to one target.
pub(super) struct Connector {
    target: Target,
    tls: TlsConnector,
}

impl Connector {
    pub(super) fn new(target: Target, tls: Arc<rustls::ClientConfig>) -> Self {
        Connector {
            target,
            tls: TlsConnector::from(tls),
        }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Resolves, connects to the first address that takes the connection, and finishes TLS.
    pub(super) async fn connect(&self) -> Result<ClientStream, UpstreamError> {
        let Target { host, port, .. } = &self.target;
        let addresses = tokio::net::lookup_host((host.as_str(), *port))
            .await
            .map_err(|error| UpstreamError::unsent(UnsentCause::Dns, error))?;
        let mut last = None;
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(tcp) => return self.finish(tcp).await,
                Err(error) => last = Some(UpstreamError::unsent(UnsentCause::Connect, error)),
            }
        }
        Err(last.unwrap_or_else(|| UpstreamError::unsent(UnsentCause::Dns, "it has no address")))
    }

    async fn finish(&self, tcp: TcpStream) -> Result<ClientStream, UpstreamError> {
        let _ = tcp.set_nodelay(true);
        let Some(name) = &self.target.server_name else {
            return Ok(Stream::Plain(tcp));
        };
        let tls = self
            .tls
            .connect(name.clone(), tcp)
            .await
            .map_err(|error| UpstreamError::unsent(UnsentCause::Tls, error))?;
        Ok(Stream::Tls(Box::new(tls)))
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}
