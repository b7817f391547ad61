//! The command line: what can be asked for, and which module does it.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::values::StoreUrl;
use crate::config::{Config, flags::Flags, retention};
use crate::exit::Failure;
use crate::{audit, dead, demo, doctor, migrate, outbox, receipts, reconcile, records, serve};

/// Retry anything; it happens once.
///
/// hapax stands before an HTTP backend and makes its requests idempotent: a request with an Idempotency-Key runs
/// once, and every retry of it gets the first answer.
#[derive(Debug, Parser)]
#[command(name = "hapax", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  hapax demo                                    see it work: a shop, a storm of requests, a kill -9
  hapax serve --upstream http://127.0.0.1:9000 --scope header:Authorization
  hapax config check hapax.toml                 find mistakes before a start does
  hapax records ls --state unknown              what may have happened, and nobody knows
  hapax dead ls --group                         what no retry will mend, by the error

Exit codes: 0 done, 1 a check failed, 2 usage or configuration, 3 cannot be reached, 4 a fault of hapax.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Protect a backend
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Box<Serve>),
    /// Look at what the store remembers
    #[command(subcommand, after_help = RECORDS_EXAMPLES)]
    Records(records::Command),
    /// Look at dead letters, run them again, or close them
    #[command(subcommand, after_help = dead::HELP)]
    Dead(dead::Command),
    /// Let the backend prove what it committed
    #[command(subcommand, after_help = receipts::HELP)]
    Receipts(receipts::Command),
    /// Compare what records say with what receipts prove
    #[command(after_help = reconcile::HELP)]
    Reconcile(reconcile::Reconcile),
    /// List who changed records by hand, and why
    #[command(after_help = AUDIT_HELP)]
    Audit(audit::List),
    /// Bring the store's schema up to date
    #[command(after_help = MIGRATE_EXAMPLES)]
    Migrate(migrate::Migrate),
    /// Look at your database for what would let effects happen twice or get lost
    #[command(after_help = doctor::HELP)]
    Doctor(doctor::Doctor),
    /// Let programs enqueue effects in your database
    #[command(subcommand, after_help = outbox::HELP)]
    Outbox(outbox::Command),
    /// Check, show and describe the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Run a sample shop under a storm of requests, with hapax and without
    #[command(after_help = DEMO_HELP)]
    Demo(demo::Demo),
    /// The shop of the demo
    #[command(hide = true)]
    DemoShop(demo::shop::DemoShop),
}

#[derive(Debug, Args)]
struct Serve {
    /// A file with everything that can be configured; flags override it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
    /// End when standard input ends, so that the process does not outlive the one that started it
    #[arg(long, hide = true)]
    with_parent: bool,
}

const SERVE_EXAMPLES: &str = "\
Examples:
  hapax serve --upstream http://127.0.0.1:9000 --store sqlite:hapax.db --scope none
  hapax serve --upstream http://127.0.0.1:9000 --scope header:Authorization --require-key
  hapax serve --upstream https://api.internal:443 --upstream-ca ca.pem \\
              --scope jwt:sub --jwt-jwks-file jwks.json
  HAPAX_STORE=postgres://hapax:PASSWORD@db/hapax hapax serve --config hapax.toml --admin 127.0.0.1:7701

Then send a request twice, and see that it happens once:
  curl -i http://127.0.0.1:7700/orders -H 'Idempotency-Key: k-1' \\
       -H 'Content-Type: application/json' -d '{\"customer\":\"ann\",\"item\":\"tea\",\"quantity\":2}'

SIGTERM and SIGINT end it once the requests in flight are answered; a second signal ends it at once.";

const RECORDS_EXAMPLES: &str = "\
Examples:
  hapax records ls --state unknown --json
  hapax records show k-1 --body
  hapax records resolve k-1 --done --reason 'found it in the database'
  hapax records forget k-1 --scope SCOPE --reason 'a test'       its next arrival runs again

Every change needs a --reason and is kept in the audit (hapax audit).";

const AUDIT_HELP: &str = "\
Forgetting, resolving, redriving and discarding are written down in the same step in which they
are done: when, by whom, why, and what the record was and became. Entries outlive their records.
The actors `probe` and `receipt` are the gateway itself, after it has asked the backend or its database.

Examples:
  hapax audit
  hapax audit k-1 --json";

const MIGRATE_EXAMPLES: &str = "\
Examples:
  hapax migrate status --store sqlite:hapax.db
  hapax migrate --store postgres://hapax@db/hapax --dry-run
  hapax migrate --store sqlite:hapax.db --to 0      remove everything of hapax";

const DEMO_HELP: &str = "\
It starts a real shop on its own database, hapax before it, and clients that send the same requests again and \
again, hang up, and change payloads; in the middle hapax is killed (kill -9) and started again. Then the same \
without hapax. Exit code 1 if anything happened twice with hapax.";

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Find every mistake, each with its place and what to write instead
    Check {
        /// The file
        #[arg(default_value = "hapax.toml")]
        file: PathBuf,
    },
    /// Print what is in effect, defaults and flags included, as TOML
    Show(Box<Serve>),
    /// Print the JSON Schema of the file
    Schema,
}

/// Runs the command that the process was started with.
pub(crate) fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // With the pipe closed there is nobody left to tell.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match dispatch(cli.command) {
        Ok(code) => code,
        Err(failure) => {
            let message = failure.to_string();
            if !message.is_empty() {
                let _ = writeln!(io::stderr(), "hapax: {message}");
            }
            failure.code()
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Serve(serve) => {
            let config = Config::load(serve.config.as_deref(), &serve.flags)?;
            serve::run(config, serve.with_parent)?;
        }
        Command::Records(command) => records::run(command)?,
        Command::Dead(command) => dead::run(command)?,
        Command::Receipts(command) => return receipts::run(command),
        Command::Reconcile(args) => return reconcile::run(&args),
        Command::Audit(args) => audit::run(&args)?,
        Command::Migrate(migrate) => migrate::run(&migrate)?,
        Command::Doctor(args) => return doctor::run(&args),
        Command::Outbox(command) => outbox::run(command)?,
        Command::Config(command) => config(command)?,
        Command::Demo(demo) => return demo::run(&demo),
        Command::DemoShop(shop) => demo::shop::run(&shop)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn config(command: ConfigCommand) -> Result<(), Failure> {
    let internal = |error: &dyn std::fmt::Display| Failure::new(crate::exit::Exit::Internal, error);
    let text = match command {
        ConfigCommand::Check { file } => {
            let config = Config::load(Some(&file), &Flags::default())?;
            format!("{}: no mistakes\n{}", file.display(), retention::report(&config))
        }
        ConfigCommand::Show(serve) => Config::load(serve.config.as_deref(), &serve.flags)?
            .to_toml()
            .map_err(|error| internal(&error))?,
        ConfigCommand::Schema => Config::schema().map_err(|error| internal(&error))? + "\n",
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// The store that an offline command works on.
#[derive(Debug, Args)]
pub(crate) struct StoreArg {
    /// Where records live: sqlite:FILE or postgres://USER@HOST/DATABASE
    #[arg(
        long,
        value_name = "URL",
        env = "HAPAX_STORE",
        hide_env_values = true,
        default_value = "sqlite:hapax.db",
        global = true
    )]
    pub(crate) store: StoreUrl,
}
