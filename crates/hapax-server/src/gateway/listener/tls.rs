//! TLS of the listener, from PEM files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// A file that is missing, unreadable or not PEM.
    #[error("{path}: cannot be read as {what} in PEM: {source}; check the path and the file")]
    Pem {
        path: PathBuf,
        what: &'static str,
        source: pem::Error,
    },
    /// Certificate and key that do not fit, or are not supported.
    #[error("{path}: rustls refuses this: {source}; check that certificate and key belong together")]
    Refused { path: PathBuf, source: rustls::Error },
    /// The system's root certificates could not be read.
    #[error("no root certificates: {0}; install ca-certificates or name a CA file")]
    NoRoots(String),
}

/// All certificates in a PEM file, at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let error = |source| TlsError::Pem {
        path: path.into(),
        what: "certificates",
        source,
    };
    let certificates = CertificateDer::pem_file_iter(path)
        .map_err(error)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(error)?;
    if certificates.is_empty() {
        return Err(error(pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

/// The listener's TLS: the chain in `certificate` (leaf first) and the key in `key`. Offers h2
/// and http/1.1 by ALPN.
///
/// # Errors
/// If a file cannot be read, or the two do not fit.
pub(crate) fn server_tls(certificate: &Path, key: &Path) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let chain = certificates(certificate)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|source| TlsError::Pem {
        path: key.into(),
        what: "a private key",
        source,
    })?;
    let refused = |source| TlsError::Refused {
        path: certificate.into(),
        source,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(refused)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
