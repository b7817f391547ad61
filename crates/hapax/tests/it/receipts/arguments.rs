//! What the call of hapax_receipt takes.

use super::world::{World, Written};
use super::{in_each, operation};

in_each!(
    wrong_arguments_are_refused_and_nothing_is_committed,
    the_optional_arguments_are_optional,
);

async fn wrong_arguments_are_refused_and_nothing_is_committed(world: &World) {
    let good = operation(0xab).to_string();
    let upper = good.to_uppercase();
    let long = format!("{good}0");
    let newline = format!("{good}\n");
    let spaced = format!(" {}", &good[1..]);
    let ninety = "a".repeat(256);
    let right = Written {
        operation: Some(&good),
        fence: Some(7),
        status: Some(201),
        body: Some(b"{}"),
        content_type: Some("text/plain"),
    };
    let with_operation = |operation| Written { operation, ..right };
    let wrong = [
        ("no operation", with_operation(None)),
        ("no operation", Written { fence: None, ..right }),
        ("is no operation", with_operation(Some(""))),
        ("is no operation", with_operation(Some(&good[1..]))),
        ("is no operation", with_operation(Some(&long))),
        ("is no operation", with_operation(Some(&newline))),
        ("is no operation", with_operation(Some(&upper))),
        ("is no operation", with_operation(Some(&spaced))),
        (
            "is no operation",
            with_operation(Some("ábababababababababababababababab")),
        ),
        (
            "is no operation",
            with_operation(Some("gbababababababababababababababab")),
        ),
        (
            "is no fence",
            Written {
                fence: Some(0),
                ..right
            },
        ),
        (
            "is no fence",
            Written {
                fence: Some(-1),
                ..right
            },
        ),
        (
            "is no status",
            Written {
                status: Some(199),
                ..right
            },
        ),
        (
            "is no status",
            Written {
                status: Some(600),
                ..right
            },
        ),
        ("a body needs its status", Written { status: None, ..right }),
        (
            "content type",
            Written {
                content_type: Some(""),
                ..right
            },
        ),
        (
            "content type",
            Written {
                content_type: Some("a\r\nSet-Cookie: x"),
                ..right
            },
        ),
        (
            "content type",
            Written {
                content_type: Some("té/xt"),
                ..right
            },
        ),
        (
            "content type",
            Written {
                content_type: Some(&ninety),
                ..right
            },
        ),
    ];
    for (expected, written) in wrong {
        let mut backend = world.backend().await;
        backend.begin().await;
        backend.order("refused").await.unwrap();
        let error = backend.write(written).await.unwrap_err();
        assert!(
            error.contains("hapax: ") && error.contains(expected),
            "{expected}: {error}"
        );
        // Whoever goes on commits nothing: the transaction has failed, or is over.
        let _ = backend.commit().await;
    }
    assert_eq!(world.orders().await, [""; 0]);
    assert!(world.receipts.list(None, 10).await.unwrap().is_empty());

    let mut backend = world.backend().await;
    backend.write(right).await.unwrap();
}

async fn the_optional_arguments_are_optional(world: &World) {
    let id = operation(1).to_string();
    let written = Written {
        operation: Some(&id),
        fence: Some(1),
        status: None,
        body: None,
        content_type: None,
    };
    world.backend().await.write(written).await.unwrap();
    let row = world.receipts.find(&[operation(1)]).await.unwrap().pop().unwrap();
    assert_eq!(
        (row.status, row.content_type, row.body),
        (None, None, hapax::receipts::Body::None)
    );

    let calls: &[String] = match world.kind {
        super::world::Kind::Postgres => &[
            format!("SELECT hapax_receipt('{}', 1)", operation(2)),
            format!("SELECT hapax_receipt('{}', 1, 204)", operation(3)),
            format!("SELECT hapax_receipt('{}', 1, 200, 'C:\\temp')", operation(4)),
            format!("SELECT hapax_receipt('{}', 1, 200, '\\x00ff'::bytea)", operation(5)),
            format!(
                "SELECT hapax_receipt(operation => '{}', fence => 1, content_type => 'text/csv')",
                operation(6)
            ),
        ],
        super::world::Kind::MariaDb => &[format!(
            "CALL hapax_receipt('{}', 1, 200, 'C:\\\\temp', NULL)",
            operation(4)
        )],
        super::world::Kind::Sqlite => &[
            format!(
                "INSERT INTO hapax_receipt (operation, fence) VALUES ('{}', 1)",
                operation(2)
            ),
            // As it comes out of a header.
            format!(
                "INSERT INTO hapax_receipt (operation, fence) VALUES ('{}', '12')",
                operation(3)
            ),
            format!(
                "INSERT INTO hapax_receipt (operation, fence, status, body) VALUES ('{}', 1, 200, 'C:\\temp')",
                operation(4)
            ),
        ],
    };
    let mut backend = world.backend().await;
    for call in calls {
        backend
            .execute(call)
            .await
            .unwrap_or_else(|error| panic!("{call}: {error}"));
    }
    let row = world.receipts.find(&[operation(4)]).await.unwrap().pop().unwrap();
    assert_eq!(row.body, hapax::receipts::Body::Bytes(r"C:\temp".into()), "no escapes");
}
