//! What the broker refuses, and what the error says to do.

use hapax::consume::{RabbitMq, RabbitMqOptions, RabbitMqSource, SourceErrorKind};
use hapax_testbed::RabbitMq as Server;
use lapin::options::{BasicConsumeOptions, QueueDeclareOptions};
use lapin::types::FieldTable;

use tokio::time::Instant;

use crate::place::{Place, SECOND, one, refusal};

async fn refused(url: &str, queue: &str, advice: &str) {
    let mut source = RabbitMqSource::new(&RabbitMq::new(url).unwrap(), RabbitMqOptions::new(queue)).unwrap();
    let error = refusal(&mut source).await;
    assert_eq!(error.kind(), SourceErrorKind::Refused, "{error}");
    assert!(error.to_string().contains(advice), "{error}");
    assert!(!error.to_string().contains("guest:"), "{error}");
}

#[tokio::test]
async fn what_a_person_must_mend_is_refused_with_advice() {
    let place = Place::new().await;
    let (url, queue) = (&place.url, &place.queue);
    refused(&url.replace("%2f", "no-such-vhost"), queue, "add_vhost").await;
    refused(&url.replace(":guest@", ":wrong@"), queue, "check user and password").await;
    refused(url, "no-such-queue", "rabbitmqadmin declare queue").await;

    let exclusive = format!("{queue}.exclusive");
    let options = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    let declared = place
        .channel
        .queue_declare(exclusive.as_str().into(), options, FieldTable::default());
    declared.await.unwrap();
    refused(url, &exclusive, "exclusive to another connection").await;

    let taken = format!("{queue}.taken");
    let declared = place.channel.queue_declare(
        taken.as_str().into(),
        QueueDeclareOptions::durable(),
        FieldTable::default(),
    );
    declared.await.unwrap();
    let options = BasicConsumeOptions {
        exclusive: true,
        ..BasicConsumeOptions::default()
    };
    let other = place
        .channel
        .basic_consume(taken.as_str().into(), "me".into(), options, FieldTable::default());
    let _other = other.await.unwrap();
    refused(url, &taken, "another consumer").await;
}

#[tokio::test]
async fn a_user_without_permissions_is_told_which_it_needs() {
    let server = Server::start();
    let place = Place::at(&server.url()).await;
    place.declare(&place.queue, &[]).await;
    place.publish(1).await;
    server.ctl(&["add_user", "shop", "secret"]);
    let url = server.url().replace("guest:guest", "shop:secret");
    refused(&url, &place.queue, "set_permissions").await;
    server.ctl(&["set_permissions", "shop", "^$", "^$", "^$"]);
    refused(&url, &place.queue, "set_permissions").await;
    // It may consume, and not make delay queues.
    server.ctl(&["set_permissions", "shop", "^$", "^$", ".*"]);
    let at = RabbitMq::new(&url).unwrap();
    let mut source = RabbitMqSource::new(&at, place.options()).unwrap();
    let delivery = one(&mut source).await;
    let told = Instant::now();
    let error = delivery.settle.retry_later(SECOND).await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("hapax.retry"), "{error}");
    // It comes again all the same, and not at once, again and again.
    let again = one(&mut source).await;
    assert!(told.elapsed() >= SECOND, "{:?}", told.elapsed());
    // What the documentation says is enough.
    let queue = &place.queue;
    let (configure, read) = (
        format!(r"^{queue}\.hapax\.retry\."),
        format!(r"^({queue}|{queue}\.hapax\.retry\..*)$"),
    );
    server.ctl(&["set_permissions", "shop", &configure, r"^amq\.default$", &read]);
    again.settle.retry_later(SECOND).await.unwrap();
    one(&mut source).await.settle.ack().await.unwrap();
}
