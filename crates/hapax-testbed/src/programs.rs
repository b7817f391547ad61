//! Where the servers' programs are, and as whom they run.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Error, Result};

const DEBIAN_POSTGRES: &str = "/usr/lib/postgresql";
const POSTGRES_HINT: &str = "`apt-get install postgresql` (or `cargo xtask setup`)";
const MARIADB_HINT: &str = "`apt-get install mariadb-server` (or `cargo xtask setup`)";

/// The first of PATH's directories that has `program`.
pub(crate) fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}

/// A program of the server or client of PostgreSQL: PATH first, then Debian's
/// directories, newest version first. Links are followed: Debian's wrapper of
/// `psql` is slow, the server's other programs are where the server is.
pub(crate) fn postgres(program: &str) -> Result<PathBuf> {
    let by_version = versions().into_iter().map(|version| version.join("bin").join(program));
    let server = in_path("postgres").and_then(|file| fs::canonicalize(file).ok());
    server
        .map(|server| server.with_file_name(program))
        .into_iter()
        .chain(by_version)
        .chain(in_path(program))
        .find(|file| file.is_file())
        .ok_or_else(|| Error::Missing {
            program: format!("PostgreSQL (`{program}`)"),
            searched: format!("not in PATH, not in {DEBIAN_POSTGRES}/*/bin"),
            install: POSTGRES_HINT.to_owned(),
        })
}

/// A program of the server or client of MariaDB: PATH first, then where Debian puts servers.
pub(crate) fn mariadb(program: &str) -> Result<PathBuf> {
    let debian = Path::new("/usr/sbin").join(program);
    in_path(program)
        .or_else(|| debian.is_file().then_some(debian))
        .ok_or_else(|| Error::Missing {
            program: format!("MariaDB (`{program}`)"),
            searched: "not in PATH, not in /usr/sbin".to_owned(),
            install: MARIADB_HINT.to_owned(),
        })
}

/// Debian's PostgreSQL directories, newest version first.
fn versions() -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir(DEBIAN_POSTGRES)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .collect();
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, path)| path).collect()
}

/// The user and group that a database server runs as, which refuses to run as root.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

impl Account {
    /// `None` when this process is not root: then the server runs as it does.
    pub(crate) fn for_postgres() -> Result<Option<Self>> {
        Self::of("postgres", "PostgreSQL", POSTGRES_HINT)
    }

    /// The same for MariaDB.
    pub(crate) fn for_mariadb() -> Result<Option<Self>> {
        Self::of("mysql", "MariaDB", MARIADB_HINT)
    }

    pub(crate) fn of(name: &str, server: &str, hint: &str) -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let passwd = fs::read_to_string("/etc/passwd").map_err(|source| Error::io("read /etc/passwd", source))?;
        let account = passwd.lines().find_map(|line| {
            let mut fields = line.strip_prefix(name)?.strip_prefix(':')?.split(':').skip(1);
            let user = fields.next()?.parse().ok()?;
            let group = fields.next()?.parse().ok()?;
            Some(Self { user, group })
        });
        account.map(Some).ok_or_else(|| Error::Missing {
            program: format!("the user `{name}`"),
            searched: format!("not in /etc/passwd, and {server} refuses to run as root"),
            install: format!("{hint}, which creates it"),
        })
    }
}

/// `program` as `account` if there is one. `setpriv` replaces itself by the
/// program, so the process started is the program itself.
pub(crate) fn command_as(account: Option<Account>, program: &Path) -> Command {
    let Some(account) = account else {
        return Command::new(program);
    };
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={}", account.user));
    command.arg(format!("--regid={}", account.group));
    command.args([OsStr::new("--clear-groups"), OsStr::new("--"), program.as_os_str()]);
    command
}

/// Runs a command to its end and gives its output; an unsuccessful end is an
/// error with all that it said.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let name = || format!("{}", command.get_program().display());
    let what = name();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::io(format!("run {what}"), source))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
    Err(Error::Failed {
        what: format!("{what} {}", arguments.join(" ")),
        status: output.status.to_string(),
        output: text(&[output.stdout, output.stderr].concat()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_what_to_install() {
        let error = postgres("pg_nonsense").unwrap_err().to_string();
        assert!(error.contains("`pg_nonsense`"), "{error}");
        assert!(error.contains("apt-get install postgresql"), "{error}");
    }

    #[test]
    fn a_failed_command_is_quoted_with_what_it_said() {
        let mut command = Command::new("/bin/sh");
        let error = run(command.args(["-c", "echo out; echo wrong >&2; exit 3"])).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.contains("out\nwrong"), "{error}");
    }
}
