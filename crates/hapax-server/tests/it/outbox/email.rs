//! Effects as email, by a mail server that asks for TLS and a login.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use hapax_testbed::{MailServer, MailTls};
use serde_json::Value;

use super::{PATIENCE, stop};
use crate::support::{Process, hapax, program};
use crate::tls::Certificate;

const LOGIN: (&str, &str) = ("shop", "pass:word");

fn secret(directory: &Path, name: &str, text: &str) {
    let file = directory.join(name);
    fs::write(&file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

fn outbox(name: &str, to: &str, secret: &str, ca: Option<&Path>) -> String {
    let ca = ca.map_or_else(String::new, |file| format!("ca = \"{}\"\n", file.display()));
    format!(
        "[[outbox]]\nname = \"{name}\"\nto = \"{to}\"\nfrom = \"Shop <shop@example.org>\"\nsecret_file = \"{secret}\"\n{ca}\
         database = \"sqlite:shop.db\"\n[outbox.retry]\nbase = \"50ms\"\n"
    )
}

fn relay(directory: &Path, failpoint: Option<&str>) -> Process {
    let mut command = program();
    command.current_dir(directory);
    command.args(["serve", "--with-parent", "--config", "hapax.toml"]);
    if let Some(failpoint) = failpoint {
        command.env("HAPAX_FAILPOINT", failpoint);
    }
    Process::spawn(&mut command)
}

fn enqueue(directory: &Path, effect: &str) {
    let connection = rusqlite::Connection::open(directory.join("shop.db")).unwrap();
    connection.busy_timeout(PATIENCE).unwrap();
    let payload = r#"{"to": "ada@example.org", "subject": "Bestätigt", "text": "Danke, Ada."}"#;
    let insert = "INSERT INTO hapax_outbox (effect, key, payload) VALUES (?1, ?1, ?2)";
    connection.execute(insert, [effect, payload]).unwrap();
}

/// The messages that a server has taken, once there are so many.
fn taken(server: &MailServer, count: usize) -> Vec<Value> {
    let until = Instant::now() + PATIENCE;
    loop {
        let messages = server.messages();
        if messages.len() >= count {
            return messages
                .iter()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
        }
        assert!(Instant::now() < until, "only {messages:?}");
        std::thread::yield_now();
    }
}

fn id(message: &Value) -> &str {
    let text = message["text"].as_str().unwrap();
    text.lines().find_map(|line| line.strip_prefix("Message-ID: ")).unwrap()
}

/// The last error of an effect that waits, once it has one.
fn last_error(directory: &Path, effect: &str) -> String {
    let store = format!("sqlite:{}", directory.join("hapax.db").display());
    let until = Instant::now() + PATIENCE;
    loop {
        let shown = hapax(&["records", "show", effect, "--name", effect, "--json", "--store", &store]);
        if shown.code == 0
            && let Some(error) = shown.json()["last_error"].as_str()
        {
            return error.to_owned();
        }
        assert!(Instant::now() < until, "{shown:?}");
    }
}

#[cfg(feature = "failpoints")]
#[test]
fn email_goes_out_by_tls_after_a_login_and_what_is_sent_twice_has_the_same_id() {
    let (certificate, directory) = (Certificate::new(), tempfile::tempdir().unwrap());
    let (cert, key, directory) = (
        certificate.path("cert.pem"),
        certificate.path("key.pem"),
        directory.path(),
    );
    let starttls = MailServer::start(MailTls::StartTls(&cert, &key), Some(LOGIN));
    let tls = MailServer::start(MailTls::Tls(&cert, &key), Some(LOGIN));
    secret(directory, "mail.secret", &format!("{}:{}\n", LOGIN.0, LOGIN.1));
    secret(directory, "old.secret", &format!("{}:changed\n", LOGIN.0));
    let to = format!("smtp://localhost:{}?tls=required", starttls.port());
    let config = [
        "store = \"sqlite:hapax.db\"\nlease = \"500ms\"\n[log]\nlevel = \"error\"\n[runner]\npoll = \"50ms\"\n"
            .to_owned(),
        outbox("starttls", &to, "mail.secret", Some(&cert)),
        outbox(
            "tls",
            &format!("smtps://localhost:{}", tls.port()),
            "mail.secret",
            Some(&cert),
        ),
        outbox("unknown-authority", &to, "mail.secret", None),
        outbox(
            "other-name",
            &format!("smtps://127.0.0.1:{}", tls.port()),
            "mail.secret",
            Some(&cert),
        ),
        outbox("wrong-password", &to, "old.secret", Some(&cert)),
    ];
    fs::write(directory.join("hapax.toml"), config.concat()).unwrap();
    let database = format!("sqlite:{}", directory.join("shop.db").display());
    rusqlite::Connection::open(directory.join("shop.db"))
        .unwrap()
        .execute_batch("CREATE TABLE orders (id)")
        .unwrap();
    let installed = hapax(&["outbox", "install", "--database", &database]);
    assert_eq!(installed.code, 0, "{installed:?}");

    enqueue(directory, "starttls");
    let mut killed = relay(directory, Some("after-upstream:1"));
    assert!(!killed.wait().success());
    for effect in ["tls", "unknown-authority", "other-name", "wrong-password"] {
        enqueue(directory, effect);
    }
    let relay = relay(directory, None);
    let (twice, once) = (taken(&starttls, 2), taken(&tls, 1));
    for message in twice.iter().chain(&once) {
        assert_eq!(
            (&message["tls"], &message["user"]),
            (&true.into(), &LOGIN.0.into()),
            "{message}"
        );
        assert_eq!(message["from"], "shop@example.org");
        assert_eq!(message["to"][0], "ada@example.org");
        let (key, domain) = id(message).trim_matches(['<', '>']).split_once('@').unwrap();
        assert!(
            key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{key}"
        );
        assert_eq!(domain, "example.org");
    }
    assert_eq!(id(&twice[0]), id(&twice[1]));
    assert_ne!(id(&twice[0]), id(&once[0]));
    for (effect, why) in [
        ("unknown-authority", &["UnknownIssuer", "`ca`"][..]),
        ("other-name", &["not valid for name", "`ca`"]),
        ("wrong-password", &["cannot log in", "535"]),
    ] {
        let error = last_error(directory, effect);
        assert!(why.iter().all(|why| error.contains(why)), "{effect}: {error}");
    }
    stop(relay);
    assert_eq!(
        (starttls.messages().len(), tls.messages().len()),
        (2, 1),
        "nothing was sent past a refusal"
    );
}
