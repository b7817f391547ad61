//! Effects that programs enqueue by SQL, a relay that is killed at every step, and what the receiver was sent.
//!
//! `HAPAX_CRASH_KILLS=1000` kills so many times at each failpoint (15 otherwise).

mod brokers;
mod email;
mod order;
pub(crate) mod receiver;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hapax_testbed::{Database, MariaDatabase, MariaDb, Postgres};
use tempfile::TempDir;

use crate::support::{Process, hapax, program};
use receiver::Receiver;

const PATIENCE: Duration = Duration::from_secs(60);

/// An application's database with an outbox, a store beside it, and a receiver.
struct World {
    directory: TempDir,
    application: Application,
    receiver: Receiver,
}

enum Application {
    Sqlite(PathBuf),
    Postgres(Database),
    Mariadb(MariaDatabase),
}

impl Application {
    fn url(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite:{}", path.display()),
            Self::Postgres(database) => database.url().to_owned(),
            Self::Mariadb(database) => database.url().to_owned(),
        }
    }

    /// Enqueues these keys, each with itself as its payload, in one transaction. What stands before the last hyphen is
    /// the aggregate.
    fn enqueue(&self, keys: &[String]) {
        let sql = |key: &String| {
            let (aggregate, _) = key.rsplit_once('-').unwrap();
            match self {
                Self::Sqlite(_) => format!(
                    "INSERT INTO hapax_outbox (effect, key, payload, aggregate) \
                     VALUES ('paid', '{key}', '{key}', '{aggregate}');"
                ),
                Self::Postgres(_) => {
                    format!("SELECT hapax_enqueue('paid', '{key}', '{key}', NULL, '{aggregate}');")
                }
                Self::Mariadb(_) => format!("CALL hapax_enqueue('paid', '{key}', '{key}', NULL, '{aggregate}');"),
            }
        };
        let transaction = format!("BEGIN; {} COMMIT;", keys.iter().map(sql).collect::<String>());
        match self {
            Self::Sqlite(path) => {
                let connection = rusqlite::Connection::open(path).unwrap();
                connection.busy_timeout(PATIENCE).unwrap();
                connection.execute_batch(&transaction).unwrap();
            }
            Self::Postgres(database) => {
                database.query(&transaction);
            }
            Self::Mariadb(database) => {
                database.query(&transaction);
            }
        }
    }

    fn staged(&self) -> String {
        let sql = "SELECT count(*) FROM hapax_outbox";
        match self {
            Self::Sqlite(path) => {
                let connection = rusqlite::Connection::open(path).unwrap();
                let count: i64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
                count.to_string()
            }
            Self::Postgres(database) => database.query(sql),
            Self::Mariadb(database) => database.query(sql),
        }
    }
}

impl World {
    fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.db");
        rusqlite::Connection::open(&path)
            .unwrap()
            .execute_batch("CREATE TABLE orders (id)")
            .unwrap();
        Self::new(directory, Application::Sqlite(path))
    }

    fn postgres() -> Self {
        let database = Postgres::shared().database();
        Self::new(tempfile::tempdir().unwrap(), Application::Postgres(database))
    }

    fn mariadb() -> Self {
        let database = MariaDb::shared().database();
        Self::new(tempfile::tempdir().unwrap(), Application::Mariadb(database))
    }

    fn new(directory: TempDir, application: Application) -> Self {
        let installed = hapax(&["outbox", "install", "--database", &application.url()]);
        assert_eq!(installed.code, 0, "{installed:?}");
        let world = Self {
            directory,
            application,
            receiver: Receiver::start(),
        };
        world.configure("lease = \"500ms\"");
        world
    }

    /// Writes the configuration, with these lines for the outbox.
    fn configure(&self, lines: &str) {
        let config = format!(
            "store = \"{}\"\nmax_run = \"60s\"\n[log]\nlevel = \"warn\"\n[runner]\npoll = \"50ms\"\n\
             [[outbox]]\nname = \"paid\"\nto = \"{}\"\ndatabase = \"{}\"\n{lines}\n[outbox.retry]\nbase = \"50ms\"\n\
             breaker_open = \"100ms\"\nbreaker_open_at_most = \"200ms\"\nbreaker_ramp = \"100ms\"\n",
            self.store(),
            self.receiver.url(),
            self.application.url()
        );
        std::fs::write(self.config(), config).unwrap();
    }

    fn store(&self) -> String {
        match &self.application {
            Application::Sqlite(_) | Application::Mariadb(_) => {
                format!("sqlite:{}", self.directory.path().join("hapax.db").display())
            }
            // The same database: the usual case.
            Application::Postgres(database) => database.url().to_owned(),
        }
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("hapax.toml")
    }

    fn relay(&self, failpoint: Option<(&str, u32)>) -> Process {
        let mut command = program();
        command.args(["serve", "--with-parent", "--config"]).arg(self.config());
        if let Some((name, hits)) = failpoint {
            command.env("HAPAX_FAILPOINT", format!("{name}:{hits}"));
        }
        Process::spawn(&mut command)
    }

    /// Waits until all of these have arrived.
    fn arrived(&self, keys: &BTreeSet<String>) {
        let until = Instant::now() + PATIENCE;
        let mut heard = self.receiver.heard();
        loop {
            let bodies: BTreeSet<String> = heard.iter().map(|(_, body)| body.clone()).collect();
            let missing: Vec<_> = keys.difference(&bodies).collect();
            if missing.is_empty() {
                return;
            }
            let left = until.saturating_duration_since(Instant::now());
            let database = self.application.url();
            assert!(
                !left.is_zero(),
                "lost: {missing:?}: {:?}",
                hapax(&["outbox", "ls", "--database", &database])
            );
            heard = self.receiver.heard_more_than(heard.len(), left);
        }
    }

    /// Waits until nothing is left that was not delivered.
    fn settled(&self) {
        let until = Instant::now() + PATIENCE;
        let mut left = self.left();
        while !left.is_empty() {
            assert!(Instant::now() < until, "{left}");
            left = self.left();
        }
        assert_eq!(self.application.staged(), "0");
    }

    fn left(&self) -> String {
        let states = ["waiting", "running", "unknown", "dead"];
        let of = |state| hapax(&["records", "ls", "--state", state, "--store", &self.store()]).stdout;
        let listed: String = states.into_iter().map(of).collect();
        let lines = listed.lines().filter(|line| line.contains("paid")).take(5);
        lines.collect::<Vec<_>>().join("\n")
    }
}

fn keys(round: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{round}-{number}")).collect()
}

fn stop(mut process: Process) {
    process.signal(rustix::process::Signal::TERM);
    let status = process.wait();
    assert!(status.success(), "{status:?}");
}

fn kills() -> u32 {
    std::env::var("HAPAX_CRASH_KILLS").map_or(15, |kills| kills.parse().expect("a number of kills"))
}

fn killed_at_every_step(world: &World) {
    use std::os::unix::process::ExitStatusExt;
    const EACH: usize = 12;
    let mut all = BTreeSet::new();
    let places = [
        ("before-enqueue", EACH as u32),
        ("enqueued", EACH as u32),
        ("moved", 1),
        ("taken", 1),
        ("before-upstream", EACH as u32),
        ("after-upstream", EACH as u32),
        ("before-finish", EACH as u32),
        ("after-finish", EACH as u32),
    ];
    for kill in 0..kills() {
        for (place, most) in places {
            let new = keys(&format!("{place}-{kill}"), EACH);
            world.application.enqueue(&new);
            all.extend(new);
            let mut process = world.relay(Some((place, 1 + (kill * 5) % most)));
            let status = process.wait();
            assert_eq!(status.signal(), Some(9), "{place}: {status:?}");
        }
    }
    let last = world.relay(None);
    world.arrived(&all);
    world.settled();
    stop(last);
    let heard = world.receiver.heard();
    let mut known: BTreeMap<&str, &str> = BTreeMap::new();
    for (key, body) in &heard {
        assert_eq!(known.entry(body).or_insert(key), key, "one effect, two keys");
    }
    let distinct: BTreeSet<_> = known.values().collect();
    assert_eq!(distinct.len(), all.len(), "two effects, one key");
    // A kill between sending and finishing leaves exactly that.
    assert!(heard.len() > all.len(), "no kill came between sending and finishing");
}

#[cfg(feature = "failpoints")]
#[test]
fn crash_sqlite_nothing_is_lost_and_what_is_sent_twice_has_the_same_key() {
    killed_at_every_step(&World::sqlite());
}

#[cfg(feature = "failpoints")]
#[test]
fn crash_postgres_nothing_is_lost_and_what_is_sent_twice_has_the_same_key() {
    killed_at_every_step(&World::postgres());
}

#[cfg(feature = "failpoints")]
#[test]
fn crash_mariadb_nothing_is_lost_and_what_is_sent_twice_has_the_same_key() {
    killed_at_every_step(&World::mariadb());
}

#[test]
fn an_effect_is_enqueued_with_its_transaction_or_not_at_all_and_once() {
    let world = World::postgres();
    let Application::Postgres(database) = &world.application else {
        panic!()
    };
    database.query("BEGIN; SELECT hapax_enqueue('paid', 'rolled-back', 'rolled-back'); ROLLBACK;");
    world.application.enqueue(&keys("twice", 1));
    world.application.enqueue(&keys("twice", 1));
    world.application.enqueue(&keys("last", 1));
    let relay = world.relay(None);
    world.arrived(&["twice-0".to_owned(), "last-0".to_owned()].into());
    stop(relay);
    world.settled();
    let mut bodies: Vec<_> = world.receiver.heard().into_iter().map(|(_, body)| body).collect();
    bodies.sort();
    assert_eq!(bodies, ["last-0", "twice-0"]);
}

#[test]
fn a_row_that_can_never_be_delivered_is_shown_and_keeps_nobody_waiting() {
    let world = World::postgres();
    let Application::Postgres(database) = &world.application else {
        panic!()
    };
    database.query("SELECT hapax_enqueue('paid', E'k\\u0085', 'bad');");
    database.query("SELECT hapax_enqueue('paid', 'same-' || n, 'one-' || n) FROM generate_series(0, 39) n;");
    database.query("SELECT hapax_enqueue('paid', 'same-' || n, 'another-' || n) FROM generate_series(0, 39) n;");
    world.application.enqueue(&keys("good", 1));
    let relay = world.relay(None);
    let first = keys("one", 40).into_iter();
    world.arrived(&first.chain(keys("good", 1)).collect());
    stop(relay);
    let listed = hapax(&["outbox", "ls", "--json", "--database", &world.application.url()]).json();
    assert_eq!(listed["effects"][0]["waiting"], 0, "{listed}");
    let errors: Vec<_> = listed["refused"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["error"].as_str().unwrap())
        .collect();
    let (control, reused) = errors.split_first().unwrap();
    assert!(control.contains("control character"), "{listed}");
    assert!(reused.iter().all(|error| error.contains("used before")), "{listed}");
    assert_eq!(reused.len(), 40, "{listed}");
}

#[test]
fn bad_input_is_refused_by_the_database() {
    let world = World::sqlite();
    let Application::Sqlite(path) = &world.application else {
        panic!()
    };
    let mut connection = rusqlite::Connection::open(path).unwrap();
    for (effect, key, bytes, why) in [
        ("", "k", 1, "the name of an effect"),
        ("paid", "", 1, "the key of an effect"),
        ("paid", "a\nb", 1, "the key of an effect"),
        ("paid", "k", (1 << 20) + 1, "1048576 bytes at most"),
    ] {
        let transaction = connection.transaction().unwrap();
        transaction.execute("INSERT INTO orders VALUES (1)", []).unwrap();
        let insert = "INSERT INTO hapax_outbox (effect, key, payload) VALUES (?1, ?2, ?3)";
        let error = transaction
            .execute(insert, (effect, key, vec![b'x'; bytes]))
            .unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        drop(transaction);
    }
    let orders: i64 = connection
        .query_row("SELECT count(*) FROM orders", [], |row| row.get(0))
        .unwrap();
    assert_eq!(orders, 0, "nothing half-written");
}

#[test]
fn a_receiver_that_is_down_costs_no_effect() {
    let world = World::sqlite();
    world.receiver.down(true);
    let keys = keys("outage", 40);
    world.application.enqueue(&keys);
    let relay = world.relay(None);
    world.receiver.refused(10);
    world.receiver.down(false);
    world.arrived(&keys.into_iter().collect());
    stop(relay);
    world.settled();
}

#[test]
fn an_outbox_that_is_not_there_is_told_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", directory.path().join("shop.db").display());
    rusqlite::Connection::open(directory.path().join("shop.db"))
        .unwrap()
        .execute_batch("CREATE TABLE orders (id)")
        .unwrap();
    let file = directory.path().join("hapax.toml");
    let config = format!(
        "store = \"sqlite:{}\"\n[[outbox]]\nname = \"paid\"\nto = \"http://127.0.0.1:9/\"\ndatabase = \"{database}\"\n",
        directory.path().join("hapax.db").display()
    );
    std::fs::write(&file, config).unwrap();
    let serve = ["serve", "--with-parent", "--config", file.to_str().unwrap()];
    for arguments in [&["outbox", "ls", "--database", &database][..], &serve] {
        let ended = hapax(arguments);
        let named = ended
            .stderr
            .contains("shop.db has no outbox yet: run `hapax outbox install`");
        assert!(ended.code == 3 && named, "{ended:?}");
    }
}

#[test]
fn mistakes_in_an_outbox_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hapax.toml");
    for (lines, why) in [
        ("to = \"ftp://a\"", "no receiver of effects"),
        ("to = \"smtp://mail.example.org\"", "emails have no sender"),
        ("to = \"http://a/\"\nsecret_file = \"/nowhere\"", "cannot read /nowhere"),
        ("to = \"http://a/\"\ndatabase = \"oracle://a\"", "no database"),
        (
            "to = \"http://a/\"\nreceiver_remembers_for = \"0s\"",
            "receiver_remembers_for is zero",
        ),
        (
            "to = \"http://a/\"\nreceiver_remembers_for = \"40d\"",
            "shorter than the longest way back of an effect",
        ),
        (
            "to = \"http://a/\"\n[outbox.retry]\ntries = 0",
            "outbox.retry.tries is 0",
        ),
    ] {
        let store = directory.path().join("hapax.db");
        std::fs::write(
            &file,
            format!(
                "store = \"sqlite:{}\"\n[[outbox]]\nname = \"paid\"\n{lines}\n",
                store.display()
            ),
        )
        .unwrap();
        let checked = hapax(&["config", "check", file.to_str().unwrap()]);
        assert!(
            checked.code == 2 && checked.stderr.contains(why),
            "{lines}: {checked:?}"
        );
    }
}
