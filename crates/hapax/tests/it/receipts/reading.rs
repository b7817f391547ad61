//! Finding, listing and purging rows.

use std::time::Duration;

use hapax::receipts::{Body, MAX_BODY_BYTES};

use super::world::{World, Written};
use super::{fence, in_each, operation};

in_each!(
    a_query_gives_one_number,
    a_body_comes_back_byte_for_byte_up_to_the_limit,
    pages_follow_one_another_without_bodies,
    a_purge_removes_only_the_row_that_was_looked_at,
    nothing_is_found_where_nothing_is,
);

async fn a_body_comes_back_byte_for_byte_up_to_the_limit(world: &World) {
    let every_byte: Vec<u8> = (0..=255).collect();
    let limit = vec![b'x'; MAX_BODY_BYTES];
    let over = vec![b'x'; MAX_BODY_BYTES + 1];
    let huge = vec![0; 9 << 20];
    let bodies: [(&[u8], Body); 5] = [
        (&[], Body::Bytes([][..].into())),
        (&every_byte, Body::Bytes(every_byte.clone().into())),
        (&limit, Body::Bytes(limit.clone().into())),
        (&over, Body::NotRead(over.len() as u64)),
        (&huge, Body::NotRead(huge.len() as u64)),
    ];
    for (number, (body, expected)) in (1..).zip(bodies) {
        let id = operation(number).to_string();
        let written = Written {
            operation: Some(&id),
            fence: Some(9),
            status: Some(200),
            body: Some(body),
            content_type: Some("application/octet-stream"),
        };
        world.backend().await.write(written).await.unwrap();
        let row = world.receipts.find(&[operation(number)]).await.unwrap().pop().unwrap();
        assert_eq!((row.status, row.body), (Some(200), expected));
        assert_eq!(row.content_type.as_deref(), Some("application/octet-stream"));
        assert!(row.age < Duration::from_secs(60), "{:?}", row.age);
        assert!(row.at.as_millis() > 1_700_000_000_000, "{:?}", row.at);
    }
}

async fn pages_follow_one_another_without_bodies(world: &World) {
    let mut backend = world.backend().await;
    for number in [3, 1, 2] {
        backend
            .attempt(operation(number), i64::from(number), "x")
            .await
            .unwrap();
    }
    world.receipts.seal(operation(4), fence(40)).await.unwrap();
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = world.receipts.list(after, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.operation);
        for row in page {
            let body = if row.sealed { Body::None } else { Body::NotRead(8) };
            assert_eq!(row.body, body);
            seen.push((row.operation, row.fence, row.sealed));
        }
    }
    let expected = [(1, 1, false), (2, 2, false), (3, 3, false), (4, 40, true)];
    assert_eq!(
        seen,
        expected.map(|(id, number, sealed)| (operation(id), fence(number), sealed))
    );
    assert_eq!(world.receipts.highest_fence().await.unwrap(), Some(fence(40)));
    let heads = world.receipts.heads(&[operation(1), operation(9)]).await.unwrap();
    assert_eq!(heads.len(), 1);
    assert_eq!((heads[0].status, &heads[0].body), (Some(201), &Body::NotRead(8)));
}

async fn a_query_gives_one_number(world: &World) {
    let mut backend = world.backend().await;
    backend.attempt(operation(1), 1, "x").await.unwrap();
    let number = |sql| world.receipts.number(sql);
    assert_eq!(number("SELECT count(*) FROM orders").await.unwrap(), 1);
    for nonsense in ["SELECT item FROM orders", "SELECT item FROM orders WHERE 1 = 0"] {
        let error = number(nonsense).await.unwrap_err();
        assert_eq!(error.kind(), hapax::core::StoreErrorKind::Invalid, "{error}");
    }
    let error = number("SELECT count(*) FROM nowhere").await.unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
}

async fn a_purge_removes_only_the_row_that_was_looked_at(world: &World) {
    let mut backend = world.backend().await;
    backend.attempt(operation(1), 1, "x").await.unwrap();
    world.receipts.seal(operation(2), fence(2)).await.unwrap();
    backend.attempt(operation(2), 3, "y").await.unwrap();
    let looked_at = [
        (operation(1), fence(1)),
        (operation(2), fence(2)),
        (operation(3), fence(3)),
    ];
    assert_eq!(world.receipts.purge(&looked_at).await.unwrap(), 1);
    let left = world.receipts.list(None, 10).await.unwrap();
    assert_eq!(left.iter().map(|row| row.operation).collect::<Vec<_>>(), [operation(2)]);
    assert_eq!(world.receipts.purge(&[]).await.unwrap(), 0);
}

async fn nothing_is_found_where_nothing_is(world: &World) {
    assert!(world.receipts.find(&[]).await.unwrap().is_empty());
    assert!(
        world
            .receipts
            .find(&[operation(1), operation(2)])
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(world.receipts.highest_fence().await.unwrap(), None);
    world.backend().await.attempt(operation(2), 1, "x").await.unwrap();
    let found = world.receipts.find(&[operation(1), operation(2)]).await.unwrap();
    assert_eq!(
        found.iter().map(|row| row.operation).collect::<Vec<_>>(),
        [operation(2)]
    );
}
