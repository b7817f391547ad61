//! TLS on both sides.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

use crate::support::{Answer, Ask, Gateway, HeldBackend, PATIENCE};

/// A certificate for localhost, and its files.
pub(crate) struct Certificate {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    directory: TempDir,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(directory.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        Self {
            certificate: made.cert.der().clone(),
            key: PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap(),
            directory,
        }
    }

    /// Its `cert.pem`, or the `key.pem` of it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A backend that speaks TLS and answers everything with 201.
fn backend(certificate: &Certificate) -> SocketAddr {
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.certificate.clone()], certificate.key.clone_key())
        .unwrap();
    let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut tls = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream);
            let mut head = Vec::new();
            let mut buffer = [0; 4096];
            while !head.windows(4).any(|window| window == b"\r\n\r\n") {
                match tls.read(&mut buffer) {
                    Ok(read @ 1..) => head.extend_from_slice(&buffer[..read]),
                    // A client that does not trust the certificate.
                    _ => break,
                }
            }
            let _ = tls.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmade");
            tls.conn.send_close_notify();
            let _ = tls.flush();
        }
    });
    address
}

#[test]
fn a_backend_by_https_must_be_trusted() {
    let certificate = Certificate::new();
    let address = backend(&certificate);
    let (url, store) = (
        format!("https://localhost:{}", address.port()),
        tempfile::tempdir().unwrap(),
    );
    let (store, ca) = (crate::support::sqlite(store.path()), certificate.path("cert.pem"));
    let trusting = [
        "--upstream",
        &url,
        "--scope",
        "none",
        "--store",
        &store,
        "--upstream-ca",
        ca.to_str().unwrap(),
    ];
    let gateway = Gateway::start(&trusting);
    let first = gateway.send(&Ask::order("k-1", 1));
    assert_eq!((first.status, &*first.body), (201, "made"), "{first:?}");
    drop(gateway);
    let stranger = Certificate::new();
    let ca = stranger.path("cert.pem");
    let other = [
        "--upstream",
        &url,
        "--scope",
        "none",
        "--store",
        &store,
        "--upstream-ca",
        ca.to_str().unwrap(),
    ];
    let gateway = Gateway::start(&other);
    gateway.send(&Ask::order("k-2", 1)).is(503, "upstream-unavailable");
    assert!(
        gateway.send(&Ask::order("k-1", 1)).is_replay(),
        "what is done needs no backend"
    );
    gateway.process.wait_for_log("TLS failed");
}

#[test]
fn clients_connect_by_https() {
    let certificate = Certificate::new();
    let (backend, store) = (HeldBackend::start(), tempfile::tempdir().unwrap());
    let (cert, key) = (certificate.path("cert.pem"), certificate.path("key.pem"));
    let more = ["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let gateway = Gateway::before(backend.addr, store.path(), &more);
    let mut roots = RootCertStore::empty();
    roots.add(certificate.certificate.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(gateway.addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut tls = StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream);
    tls.write_all(&Ask::order("k-1", 1).bytes()).unwrap();
    tls.flush().unwrap();
    let held = backend.next();
    assert!(
        held.text.to_lowercase().contains("x-forwarded-proto: https"),
        "{}",
        held.text
    );
    held.answer("made");
    assert_eq!(Answer::read(&mut tls).body, "made");
}
