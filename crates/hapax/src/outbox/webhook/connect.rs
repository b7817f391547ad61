//! Where a webhook goes, and a new connection to it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderValue, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::WebhookError;

pub(super) struct Connector {
    host: String,
    port: u16,
    pub(super) host_header: HeaderValue,
    /// Path and query, as they go into the request.
    pub(super) path: Uri,
    tls: Option<(ServerName<'static>, TlsConnector)>,
}

impl Connector {
    pub(super) fn new(url: &str) -> Result<Self, WebhookError> {
        let error = |why: &str| WebhookError::Url {
            // A password or a token must not reach a log by way of a message.
            url: url.split(['?', '#']).next().unwrap_or_default().to_owned(),
            why: why.to_owned(),
        };
        let uri: Uri = url.parse().map_err(|_| error("it is no URL"))?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(error("its scheme is neither http nor https")),
        };
        let authority = uri.authority().ok_or_else(|| error("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(WebhookError::User);
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let tls = match is_tls {
            true => {
                let name = ServerName::try_from(host.clone());
                let name = name.map_err(|_| error("its host cannot be in a certificate"))?;
                Some((name, TlsConnector::from(tls_config(&[])?)))
            }
            false => None,
        };
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        Ok(Self {
            port: authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            host_header: HeaderValue::from_str(authority.as_str()).map_err(|_| error("its host is not ASCII"))?,
            path: path.parse().map_err(|_| error("its path makes no sense"))?,
            host,
            tls,
        })
    }

    /// Believes these authorities beside the system's.
    pub(super) fn trust(&mut self, pem: &[u8]) -> Result<(), WebhookError> {
        let extra = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        let extra = extra.map_err(|error| WebhookError::Authority(error.to_string()))?;
        if extra.is_empty() {
            return Err(WebhookError::Authority("there is no certificate in it".to_owned()));
        }
        if let Some((_, connector)) = &mut self.tls {
            *connector = TlsConnector::from(tls_config(&extra)?);
        }
        Ok(())
    }

    /// Resolves, connects to the first address that takes the connection, and finishes TLS. Says why not.
    pub(super) async fn connect(&self) -> Result<Stream, String> {
        let addresses = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        let addresses = addresses.map_err(|error| format!("{} cannot be resolved: {error}", self.host))?;
        let mut last = format!("{} has no address", self.host);
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(tcp) => return self.finish(tcp).await,
                Err(error) => last = format!("cannot connect to {address}: {error}"),
            }
        }
        Err(last)
    }

    async fn finish(&self, tcp: TcpStream) -> Result<Stream, String> {
        // It only saves time.
        let _ = tcp.set_nodelay(true);
        let Some((name, connector)) = &self.tls else {
            return Ok(Stream::Plain(tcp));
        };
        match connector.connect(name.clone(), tcp).await {
            Ok(tls) => Ok(Stream::Tls(Box::new(tls))),
            Err(error) => Err(format!("no TLS connection to {}: {error}", self.host)),
        }
    }
}

fn tls_config(extra: &[CertificateDer<'static>]) -> Result<Arc<rustls::ClientConfig>, WebhookError> {
    let mut roots = rustls::RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    for certificate in extra {
        let added = roots.add(certificate.clone());
        added.map_err(|error| WebhookError::Authority(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(WebhookError::NoAuthorities);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| WebhookError::Authority(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// A connection, as hyper reads and writes it.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

macro_rules! either {
    ($self:ident, $io:ident => $do:expr) => {
        match $self.get_mut() {
            Stream::Plain(io) => {
                let $io = Pin::new(io);
                $do
            }
            Stream::Tls(io) => {
                let $io = Pin::new(io.as_mut());
                $do
            }
        }
    };
}

impl Read for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        // Through initialised memory: hyper's cursor can only be filled otherwise by unsafe code.
        let mut bytes = [0; 8 << 10];
        let most = buf.remaining().min(bytes.len());
        let mut read = ReadBuf::new(&mut bytes[..most]);
        let done = either!(self, io => io.poll_read(cx, &mut read));
        if let Poll::Ready(Ok(())) = done {
            buf.put_slice(read.filled());
        }
        done
    }
}

impl Write for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, io => io.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, io => io.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(io) => io.is_write_vectored(),
            Self::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_shutdown(cx))
    }
}
