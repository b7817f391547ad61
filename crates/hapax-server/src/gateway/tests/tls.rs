use std::path::PathBuf;
use std::sync::Arc;

use http_body_util::BodyExt;
use rcgen::{CertifiedKey, generate_simple_self_signed};

use super::{Handler, Server, echo, limits, soon};
use crate::gateway::body::Body;
use crate::gateway::limits::UpstreamLimits;
use crate::gateway::listener::{TlsError, server_tls};
use crate::gateway::upstream::{Target, UnsentCause, Upstream, UpstreamError, client_tls};

/// Certificate and key files for `localhost`; gone with the directory.
struct Files {
    _dir: tempfile::TempDir,
    certificate: PathBuf,
    key: PathBuf,
}

fn files() -> Files {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&certificate, cert.pem()).unwrap();
    std::fs::write(&key, signing_key.serialize_pem()).unwrap();
    Files {
        _dir: dir,
        certificate,
        key,
    }
}

async fn get(url: &str, tls: Arc<rustls::ClientConfig>) -> Result<String, UpstreamError> {
    let upstream = Upstream::new(Target::parse(url).unwrap(), tls, UpstreamLimits::default());
    let request = http::Request::get("/x").body(Body::Empty).unwrap();
    let response = soon(upstream.send(request)).await?;
    let body = soon(response.into_body().collect()).await.unwrap().to_bytes();
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn tls_is_served_and_verified() {
    let files = files();
    let config = server_tls(&files.certificate, &files.key).unwrap();
    let server = Server::start_tls(limits(), Some(config), Handler::new(echo)).await;
    let url = format!("https://localhost:{}", server.address.port());

    let trusting = client_tls(Some(&files.certificate)).unwrap();
    let answer = get(&url, trusting.clone()).await.unwrap();
    assert!(answer.starts_with("GET /x|"), "{answer:?}");
    assert!(answer.contains("x-forwarded-proto=https;"), "{answer:?}");

    // Another name than the certificate's, and a certificate nobody vouches for.
    let stranger = self::files();
    let doubting = client_tls(Some(&stranger.certificate)).unwrap();
    let other_name = format!("https://{}", server.address);
    for (url, tls) in [(&other_name, trusting), (&url, doubting)] {
        let error = get(url, tls).await.unwrap_err();
        assert!(
            matches!(
                error,
                UpstreamError::Unsent {
                    cause: UnsentCause::Tls,
                    ..
                }
            ),
            "{error}"
        );
    }
    assert_eq!(server.calls(), 1);
    server.finish().await;
}

#[tokio::test]
async fn tls_files_that_do_not_fit_are_named() {
    let (one, two) = (files(), files());
    let missing = one.key.with_file_name("missing.pem");
    for (certificate, key, named) in [
        (&missing, &one.key, "missing.pem"),
        (&one.certificate, &missing, "missing.pem"),
        (&one.key, &one.key, "key.pem"),
        (&one.certificate, &one.certificate, "cert.pem"),
        (&one.certificate, &two.key, "cert.pem"),
    ] {
        let error: TlsError = server_tls(certificate, key).unwrap_err();
        assert!(error.to_string().contains(named), "{error}");
    }
}
