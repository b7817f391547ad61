//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::bench::{BENCHES, Bench};
use crate::plan::{Plan, Size};

/// Also what `cargo xtask bench --help` prints, which builds nothing.
pub(crate) const USAGE: &str = include_str!("usage.txt");

pub(crate) enum Command {
    Help,
    /// The server behind the proxies, started by the benchmark itself.
    Upstream(SocketAddr),
    Bench(Box<Options>),
}

pub(crate) struct Options {
    pub(crate) benches: Vec<&'static Bench>,
    pub(crate) plan: Plan,
    pub(crate) out: PathBuf,
    pub(crate) server: PathBuf,
    /// The program that runs the runner's work on another queue; none if it is left out.
    pub(crate) rival: Option<PathBuf>,
    /// The Python that has DBOS; none if it is left out.
    pub(crate) dbos: Option<PathBuf>,
}

pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let (mut size, mut names, mut out, mut server) = (Size::Normal, Vec::new(), None, None);
    let mut rival = Some(beside_us("../rivals/release/hapax-bench-graphile"));
    let mut dbos = Some(beside_us("../rivals/dbos/bin/python"));
    let mut arguments = arguments.peekable();
    if arguments.peek().is_some_and(|first| first == "upstream") {
        let address = arguments.nth(1).ok_or("`upstream` takes an address")?;
        let address = address.parse().map_err(|error| format!("{address}: {error}"))?;
        return Ok(Command::Upstream(address));
    }
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} takes a path"));
        match argument.as_str() {
            "--help" | "-h" => return Ok(Command::Help),
            "--smoke" => size = Size::Smoke,
            "--quick" => size = Size::Quick,
            "--full" => size = Size::Full,
            "--out" => out = Some(PathBuf::from(value()?)),
            "--server" => server = Some(PathBuf::from(value()?)),
            "--rival" => rival = Some(PathBuf::from(value()?)),
            "--dbos" => dbos = Some(PathBuf::from(value()?)),
            "--no-rival" => (rival, dbos) = (None, None),
            name => names.push(name.to_owned()),
        }
    }
    Ok(Command::Bench(Box::new(Options {
        benches: choose(&names)?,
        plan: Plan::of(size),
        out: out.unwrap_or_else(|| PathBuf::from("target/bench")),
        server: server.unwrap_or_else(|| beside_us("hapax")),
        rival,
        dbos,
    })))
}

fn choose(names: &[String]) -> Result<Vec<&'static Bench>, String> {
    if let Some(unknown) = names
        .iter()
        .find(|name| BENCHES.iter().all(|bench| bench.name != **name))
    {
        let known: Vec<_> = BENCHES.iter().map(|bench| bench.name).collect();
        return Err(format!(
            "there is no benchmark `{unknown}` (there are: {})",
            known.join(", ")
        ));
    }
    let chosen = |bench: &&Bench| names.is_empty() || names.iter().any(|name| name == bench.name);
    Ok(BENCHES.iter().filter(chosen).collect())
}

fn beside_us(program: &str) -> PathBuf {
    match std::env::current_exe() {
        Ok(own) => own.with_file_name(program),
        Err(_) => PathBuf::from(program),
    }
}
