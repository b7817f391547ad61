//! Installing, and what is refused.

use hapax::core::StoreErrorKind;
use hapax::receipts::{self, Dialect, Installed};
use hapax_testbed::{MariaDb, PgBouncer, Postgres};
use sqlx::Connection as _;

use super::world::{Kind, World};
use super::{in_each, operation};

in_each!(
    an_install_can_be_repeated_and_mends_the_function,
    another_version_is_refused,
    a_call_without_its_table_fails_and_leaves_nothing,
    a_database_without_receipts_is_told_what_to_do,
    the_script_makes_the_same,
);

async fn an_install_can_be_repeated_and_mends_the_function(world: &World) {
    let mut backend = world.backend().await;
    backend.attempt(operation(1), 1, "kept").await.unwrap();
    let broken = match world.kind {
        Kind::Postgres => {
            "CREATE OR REPLACE FUNCTION hapax_receipt(operation text, fence bigint, status integer DEFAULT NULL, \
             body bytea DEFAULT NULL, content_type text DEFAULT NULL) RETURNS void LANGUAGE sql AS 'SELECT'"
        }
        Kind::MariaDb => "DROP PROCEDURE hapax_receipt",
        Kind::Sqlite => "DROP TRIGGER hapax_receipt_guard",
    };
    backend.execute(broken).await.unwrap();
    if world.kind != Kind::Postgres {
        let error = receipts::connect(&world.url).await.err().unwrap();
        assert_eq!(error.kind(), StoreErrorKind::Schema);
        assert!(error.to_string().contains("is missing in"), "{error}");
    }
    assert_eq!(receipts::install(&world.url).await.unwrap(), Installed::Again);
    let error = world
        .backend()
        .await
        .attempt(operation(1), 2, "again")
        .await
        .unwrap_err();
    super::world::assert_committed(world.kind, &error, operation(1), 1);
}

async fn another_version_is_refused(world: &World) {
    let mut backend = world.backend().await;
    backend
        .execute("UPDATE hapax_receipt_version SET version = 2")
        .await
        .unwrap();
    for error in [
        receipts::install(&world.url).await.unwrap_err(),
        receipts::connect(&world.url).await.err().unwrap(),
    ] {
        assert_eq!(error.kind(), StoreErrorKind::Schema);
        assert!(error.to_string().contains("version 2"), "{error}");
    }
}

async fn a_call_without_its_table_fails_and_leaves_nothing(world: &World) {
    let mut backend = world.backend().await;
    backend.execute("DROP TABLE hapax_receipt").await.unwrap();
    backend.begin().await;
    backend.order("refused").await.unwrap();
    backend.receipt(operation(1), 1).await.unwrap_err();
    match world.kind {
        // Nobody is there to roll back what goes on.
        Kind::Sqlite => backend.rollback().await,
        _ => drop(backend.commit().await),
    }
    assert_eq!(world.orders().await, [""; 0]);
}

async fn a_database_without_receipts_is_told_what_to_do(world: &World) {
    let mut backend = world.backend().await;
    backend.execute("DROP TABLE hapax_receipt_version").await.unwrap();
    let error = receipts::connect(&world.url).await.err().unwrap();
    assert_eq!(error.kind(), StoreErrorKind::Schema);
    assert!(error.to_string().contains("hapax receipts install"), "{error}");
    backend.execute("DROP TABLE hapax_receipt").await.unwrap();
    let error = world.receipts.find(&[operation(1)]).await.unwrap_err();
    assert!(error.to_string().contains("hapax receipts install"), "{error}");
}

/// The script goes through each database's own client, as it would by hand.
async fn the_script_makes_the_same(world: &World) {
    let mut backend = world.backend().await;
    let drop = match world.kind {
        Kind::Postgres => {
            "DROP FUNCTION hapax_receipt(text, bigint, integer, bytea, text); \
             DROP FUNCTION hapax_receipt(text, bigint, integer, text, text); DROP TABLE hapax_receipt, hapax_receipt_version"
        }
        Kind::MariaDb => "DROP TABLE hapax_receipt, hapax_receipt_version",
        Kind::Sqlite => "DROP TABLE hapax_receipt; DROP TABLE hapax_receipt_version",
    };
    backend.execute(drop).await.unwrap();
    if world.kind == Kind::MariaDb {
        backend.execute("DROP PROCEDURE hapax_receipt").await.unwrap();
    }
    let script = Dialect::of(&world.url).unwrap().script();
    match world.kind {
        Kind::Postgres | Kind::Sqlite => backend.execute(&script).await.unwrap(),
        Kind::MariaDb => {
            let (server, database) = world.url.rsplit_once('/').unwrap();
            let port = server.rsplit_once(':').unwrap().1;
            let client = std::process::Command::new("mariadb")
                .args([
                    "--no-defaults",
                    "--protocol=tcp",
                    "--host=127.0.0.1",
                    "--user=root",
                    "--port",
                    port,
                    database,
                ])
                .stdin(std::process::Stdio::piped())
                .spawn();
            let mut client = client.unwrap();
            std::io::Write::write_all(client.stdin.as_mut().unwrap(), script.as_bytes()).unwrap();
            drop_stdin(&mut client);
            assert!(client.wait().unwrap().success());
        }
    }
    world.backend().await.attempt(operation(1), 1, "x").await.unwrap();
    assert_eq!(receipts::install(&world.url).await.unwrap(), Installed::Again);
}

fn drop_stdin(client: &mut std::process::Child) {
    std::mem::drop(client.stdin.take());
}

#[tokio::test]
async fn postgres_says_which_right_is_missing_and_changes_nothing() {
    let database = Postgres::shared().database();
    let role = format!("shop_{}", database.name());
    database.query(&format!(
        "CREATE ROLE {role} LOGIN; REVOKE CREATE ON SCHEMA public FROM public"
    ));
    let url = database.url().replacen("postgres@", &format!("{role}@"), 1);
    let error = receipts::install(&url).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid);
    assert!(error.to_string().contains("hapax receipts sql"), "{error}");

    // A backend needs no rights but those that every role has; whoever reads and seals needs some.
    receipts::install(database.url()).await.unwrap();
    let gone = "DROP FUNCTION hapax_receipt(text, bigint, integer, bytea, text)";
    database.query(gone);
    let error = receipts::connect(database.url()).await.err().unwrap();
    assert!(
        error.to_string().contains("the function hapax_receipt is missing"),
        "{error}"
    );
    receipts::install(database.url()).await.unwrap();
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let call = format!("SELECT hapax_receipt('{}', 3, 200, 'text')", operation(1));
    client.batch_execute(&call).await.unwrap();
    let shadow = "CREATE TEMP TABLE hapax_receipt (operation text, fence bigint)";
    client.batch_execute(shadow).await.unwrap();
    let error = client.batch_execute(&call).await.unwrap_err();
    let said = error.as_db_error().unwrap().message().to_owned();
    assert!(
        said.contains("was committed by fence 3"),
        "whatever the caller's search path: {said}"
    );
    let error = receipts::connect(&url).await.err().unwrap();
    assert!(error.to_string().contains("grant this user SELECT"), "{error}");
    database.query(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[tokio::test]
async fn postgres_refuses_two_tables_that_could_be_meant_and_what_is_read_only() {
    let database = Postgres::shared().database();
    receipts::install(database.url()).await.unwrap();
    database.query("CREATE SCHEMA tenant");
    let tenant = format!("{}?options=-csearch_path%3Dtenant", database.url());
    assert_eq!(receipts::install(&tenant).await.unwrap(), Installed::Fresh);
    let error = receipts::connect(database.url()).await.err().unwrap();
    assert!(error.to_string().contains("public, tenant"), "{error}");

    let nowhere = format!("{}?options=-csearch_path%3Dnowhere", database.url());
    let error = receipts::install(&nowhere).await.unwrap_err();
    assert!(error.to_string().contains("search path"), "{error}");
    let read_only = format!("{}?options=-cdefault_transaction_read_only%3Don", database.url());
    for error in [
        receipts::install(&read_only).await.unwrap_err(),
        receipts::connect(&read_only).await.err().unwrap(),
    ] {
        assert_eq!(error.kind(), StoreErrorKind::Full);
        assert!(error.to_string().contains("replica or read-only"), "{error}");
    }
}

#[tokio::test]
async fn mariadb_refuses_a_replica_a_foreign_engine_and_missing_rights() {
    // A server of its own: read-only is a setting of the whole.
    let server = MariaDb::start();
    let url = server.create_database("shop");
    server.query("CREATE USER app@127.0.0.1; GRANT SELECT ON shop.* TO app@127.0.0.1");
    let app = url.replacen("root@", "app@", 1);
    let error = receipts::install(&app).await.unwrap_err();
    assert!(error.to_string().contains("CREATE ROUTINE"), "{error}");

    receipts::install(&url).await.unwrap();
    server.query("GRANT EXECUTE ON PROCEDURE shop.hapax_receipt TO app@127.0.0.1");
    let mut backend = sqlx::MySqlConnection::connect(&app).await.unwrap();
    let call = format!("CALL hapax_receipt('{}', 1, NULL, NULL, NULL)", operation(1));
    sqlx::raw_sql(sqlx::AssertSqlSafe(call))
        .execute(&mut backend)
        .await
        .unwrap();

    server.query("ALTER TABLE shop.hapax_receipt ENGINE = MyISAM");
    let error = receipts::connect(&url).await.err().unwrap();
    assert!(error.to_string().contains("ENGINE = InnoDB"), "{error}");
    server.query("ALTER TABLE shop.hapax_receipt ENGINE = InnoDB; SET GLOBAL read_only = 1");
    let error = receipts::connect(&url).await.err().unwrap();
    assert_eq!(error.kind(), StoreErrorKind::Full, "{error}");
    for wrong in [
        url.replace("/shop", "/nowhere"),
        url.replace("/shop", ""),
        "mysql://u:s3cret@h:port/d".to_owned(),
    ] {
        let error = receipts::connect(&wrong).await.err().unwrap();
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}

#[tokio::test]
async fn sqlite_refuses_a_file_that_is_not_there() {
    for url in ["sqlite:/nowhere/shop.db", "sqlite:", "sqlite::memory:"] {
        let error = receipts::install(url).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Invalid, "{error}");
    }
}

#[tokio::test]
async fn a_pooler_in_transaction_mode_will_do() {
    let database = Postgres::shared().database();
    let pooler = PgBouncer::start(database.url(), 2);
    let url = pooler.url(database.name());
    assert_eq!(receipts::install(&url).await.unwrap(), Installed::Fresh);
    let receipts = receipts::connect(&url).await.unwrap();
    for round in 1..=20 {
        let id = operation(round);
        receipts.seal(id, super::fence(1)).await.unwrap();
        database.query(&format!("SELECT hapax_receipt('{id}', 2, 201, 'x')"));
        assert_eq!(receipts.find(&[id]).await.unwrap().len(), 1);
    }
    assert_eq!(receipts.list(None, 50).await.unwrap().len(), 20);
}
