//! A broker behind TLS.

use std::sync::Arc;

use hapax::consume::{RabbitMq, RabbitMqSource, Source, SourceErrorKind};
use hapax_testbed::RabbitMq as Server;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::place::{Place, one, refusal};

/// Ends TLS in front of the shared server; the port, and the certificate.
async fn front() -> (u16, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let (acceptor, listener) = (
        TlsAcceptor::from(Arc::new(config)),
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
    );
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut behind = TcpStream::connect(Server::shared().address()).await?;
                copy_bidirectional(&mut acceptor.accept(stream).await?, &mut behind).await
            });
        }
    });
    (port, made.cert.pem())
}

#[tokio::test]
async fn messages_come_by_tls_from_whom_we_trust_and_nobody_else() {
    let place = Place::new().await;
    place.publish(1).await;
    let (port, certificate) = front().await;
    let at = |host: &str| RabbitMq::new(&format!("amqps://guest:guest@{host}:{port}")).unwrap();
    for stranger in [at("localhost"), at("127.0.0.1").trust(certificate.as_str())] {
        let error = refusal(&mut RabbitMqSource::new(&stranger, place.options()).unwrap()).await;
        assert_eq!(error.kind(), SourceErrorKind::Refused, "{error}");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
    let mut source = RabbitMqSource::new(&at("localhost").trust(certificate), place.options()).unwrap();
    one(&mut source).await.settle.ack().await.unwrap();
    source.close().await;
}
