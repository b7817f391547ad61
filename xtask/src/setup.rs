//! `cargo xtask setup`: the programs that building and testing need.
//!
//! Packages come from the distribution, by `apt-get`, as root or through `sudo`
//! where it asks for no password; cargo's tools by cargo. Nothing that is
//! there already is touched.

use std::path::Path;
use std::process::Command;

use hapax_testbed::{MailServer, MariaDb, Nginx, PgBouncer, Postgres, RabbitMq, Redis};

use crate::step::{Failure, Outcome, cargo, output, root, run, succeeds};

/// Known to build with the toolchain of this workspace.
const NEXTEST: &str = "cargo-nextest@0.9.151";

/// Something from the distribution, and how to see that it is there.
struct Need {
    what: &'static str,
    packages: &'static [&'static str],
    is_there: fn() -> bool,
}

const NEEDS: &[Need] = &[
    Need {
        what: "a C compiler (for SQLite)",
        packages: &["gcc", "libc6-dev"],
        is_there: || succeeds(Command::new("cc").arg("--version")),
    },
    Need {
        what: "what librdkafka is built with (for Kafka)",
        packages: &["g++", "make", "pkg-config", "libssl-dev", "zlib1g-dev"],
        is_there: || {
            let has = |program: &str| succeeds(Command::new(program).arg("--version"));
            has("c++") && has("make") && succeeds(Command::new("pkg-config").args(["--exists", "libssl", "zlib"]))
        },
    },
    Need {
        what: "PostgreSQL (server and client)",
        packages: &["postgresql", "postgresql-client"],
        is_there: || Postgres::check_installed().is_ok(),
    },
    Need {
        what: "MariaDB (server and client)",
        packages: &["mariadb-server"],
        is_there: || MariaDb::check_installed().is_ok(),
    },
    Need {
        what: "PgBouncer",
        packages: &["pgbouncer"],
        is_there: || PgBouncer::check_installed().is_ok(),
    },
    Need {
        what: "RabbitMQ",
        packages: &["rabbitmq-server"],
        is_there: || RabbitMq::check_installed().is_ok(),
    },
    Need {
        what: "Redis",
        packages: &["redis-server"],
        is_there: || Redis::check_installed().is_ok(),
    },
    Need {
        what: "a mail server (a Python module)",
        packages: &["python3-aiosmtpd"],
        is_there: || MailServer::check_installed().is_ok(),
    },
    Need {
        what: "nginx (to measure against)",
        packages: &["nginx"],
        is_there: || Nginx::check_installed().is_ok(),
    },
    Need {
        what: "wrk (to measure with)",
        packages: &["wrk"],
        // It has no option that succeeds without a server.
        is_there: || succeeds(Command::new("sh").args(["-c", "command -v wrk"])),
    },
    Need {
        what: "Chromium (for the module for browsers)",
        packages: &["chromium"],
        // Asking it for its version starts half of it.
        is_there: || succeeds(Command::new("sh").args(["-c", "command -v chromium"])),
    },
    Need {
        what: "Python with its module venv (for a sample and for brokers)",
        packages: &["python3", "python3-venv"],
        is_there: || hapax_testbed::check_python().is_ok(),
    },
    Need {
        what: "Node.js and npm (for a sample)",
        packages: &["nodejs", "npm"],
        is_there: || hapax_testbed::check_node().is_ok(),
    },
    Need {
        what: "the certificates of public authorities",
        packages: &["ca-certificates"],
        is_there: || Path::new("/etc/ssl/certs/ca-certificates.crt").exists(),
    },
];

/// The task.
pub(crate) fn main(arguments: &[String]) -> Outcome {
    match arguments {
        [] => {
            system()?;
            packages()?;
            nextest();
            println!("All that tests need is installed.");
            Ok(())
        }
        [check] if check == "--check" => check_only(),
        _ => Err(Failure::Usage("`setup` takes nothing but --check".to_owned())),
    }
}

fn check_only() -> Outcome {
    let mut missing = missing_needs().iter().map(|need| need.what).collect::<Vec<_>>();
    if !has_nextest() {
        missing.push("cargo-nextest");
    }
    if missing.is_empty() {
        println!("All that tests need is installed.");
        return Ok(());
    }
    let missing = missing.join(", ");
    Err(Failure::Missing(format!(
        "missing: {missing}. Next: `cargo xtask setup`"
    )))
}

fn missing_needs() -> Vec<&'static Need> {
    NEEDS.iter().filter(|need| !(need.is_there)()).collect()
}

/// Installs what is missing from the distribution.
pub(crate) fn system() -> Outcome {
    let missing = missing_needs();
    if missing.is_empty() {
        return Ok(());
    }
    let what: Vec<_> = missing.iter().map(|need| need.what).collect();
    let packages: Vec<_> = missing.iter().flat_map(|need| need.packages).copied().collect();
    let (what, listed) = (what.join(", "), packages.join(" "));

    if !succeeds(Command::new("apt-get").arg("--version")) {
        return Err(Failure::Missing(format!(
            "missing: {what}. There is no apt-get here to install it with. Next: install it by \
             the system's own means (on Debian the packages are called: {listed})"
        )));
    }
    let Some(apt) = apt_get() else {
        return Err(Failure::Missing(format!(
            "missing: {what}. Only root may install it, and sudo asks for a password. \
             Next: `sudo apt-get install --no-install-recommends {listed}`"
        )));
    };
    println!("missing: {what}");
    run(apt().arg("update"))?;
    run(apt()
        .args(["install", "--yes", "--no-install-recommends"])
        .args(packages))?;
    match missing_needs().first() {
        None => Ok(()),
        Some(need) => Err(Failure::Missing(format!(
            "{} is still missing after installing {}",
            need.what,
            need.packages.join(" ")
        ))),
    }
}

/// Installs what the samples in other languages pin, and the brokers that come as packages.
pub(crate) fn packages() -> Outcome {
    let examples = root().join("examples");
    hapax_testbed::python_packages(&examples.join("python"))
        .and_then(|_| hapax_testbed::node_packages(&examples.join("node")))
        .and_then(|_| hapax_testbed::broker_packages())
        .map(|_| ())
        .map_err(|error| Failure::Missing(error.to_string()))
}

/// How to call `apt-get` with the right to install, if there is a way.
fn apt_get() -> Option<fn() -> Command> {
    const QUIET: [&str; 3] = ["--quiet", "-o", "DPkg::Lock::Timeout=300"];
    let user = output(Command::new("id").arg("-u")).unwrap_or_default();
    if user.trim() == "0" {
        return Some(|| {
            let mut apt = Command::new("apt-get");
            apt.args(QUIET).env("DEBIAN_FRONTEND", "noninteractive");
            apt
        });
    }
    succeeds(Command::new("sudo").args(["-n", "true"])).then_some(|| {
        let mut apt = Command::new("sudo");
        apt.args(["-n", "DEBIAN_FRONTEND=noninteractive", "apt-get"])
            .args(QUIET);
        apt
    })
}

fn has_nextest() -> bool {
    succeeds(cargo(&["nextest", "--version"]).current_dir("/"))
}

/// Whether cargo-nextest is there, after an attempt to build it. Without it the
/// tests run under plain cargo.
pub(crate) fn nextest() -> bool {
    if has_nextest() {
        return true;
    }
    println!("missing: cargo-nextest; building it takes a few minutes, once");
    let mut install = cargo(&["install", "--locked", "--no-default-features"]);
    install.args(["--features", "default-no-update", NEXTEST]);
    // It only starts tests: built fast is better than running fast.
    install.env("CARGO_PROFILE_RELEASE_LTO", "off");
    install.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
    install.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    match run(&mut install) {
        Ok(()) if has_nextest() => true,
        Ok(()) => {
            println!(
                "cargo-nextest was installed, but cargo does not find it: is cargo's bin \
                 directory in PATH? Going on with `cargo test`."
            );
            false
        }
        Err(failure) => {
            println!("{failure}. Going on with `cargo test`, which runs the same tests slower.");
            false
        }
    }
}
