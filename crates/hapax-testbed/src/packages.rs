//! What the backends in other languages need from their registries: kept beside the build, made once.
//!
//! `pip` and `npm` are asked for exactly the versions that a sample pins.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::programs::{in_path, run};
use crate::{Error, Result};

/// The directory of this crate in which they are pinned, and the one in which they are installed.
const BROKERS: &str = "brokers";
/// The file that says for which versions a directory was filled, written when it was.
const MADE_FOR: &str = "made-for";

/// A virtual environment with what `requirements.txt` in `sample` pins; its programs are in the directory `bin`. Made
/// anew when the file has changed.
pub fn python_packages(sample: &Path) -> Result<PathBuf> {
    environment("python", sample)
}

/// A virtual environment with the brokers that come as Python packages: see [`Nats`](crate::Nats) and
/// [`Kafka`](crate::Kafka). Made anew when other versions are pinned.
pub fn broker_packages() -> Result<PathBuf> {
    environment(BROKERS, &pinned_brokers())
}

/// Whether [`broker_packages`] has nothing left to make.
pub(crate) fn has_broker_packages() -> Result<bool> {
    let wanted = read(&requirements(&pinned_brokers()))?;
    Ok(is_made_for(&packages().join(BROKERS), &wanted))
}

fn environment(name: &str, sample: &Path) -> Result<PathBuf> {
    let wanted = read(&requirements(sample))?;
    made_once(&packages(), name, &wanted, |home| {
        check_python()?;
        run(Command::new("python3").args(["-m", "venv"]).arg(home))?;
        let mut pip = Command::new(home.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check", "--requirement"]);
        run(pip.arg(requirements(sample))).map(|_| ())
    })
}

fn requirements(sample: &Path) -> PathBuf {
    sample.join("requirements.txt")
}

fn pinned_brokers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(BROKERS)
}

/// A directory with the `node_modules` that `package-lock.json` in `sample` pins: what runs in a directory underneath
/// finds them. Made anew when the file has changed.
pub fn node_packages(sample: &Path) -> Result<PathBuf> {
    let wanted = read(&sample.join("package-lock.json"))?;
    made_once(&packages(), "node", &wanted, |home| {
        check_node()?;
        for name in ["package.json", "package-lock.json"] {
            let (from, to) = (sample.join(name), home.join(name));
            fs::copy(&from, &to).map_err(|source| Error::io(format!("copy {}", from.display()), source))?;
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]);
        run(npm.current_dir(home)).map(|_| ())
    })
}

/// Whether Python can make virtual environments; the error says how to get there.
pub fn check_python() -> Result<()> {
    // On Debian, both modules may be missing from an installed Python.
    let modules = run(Command::new("python3").args(["-c", "import ensurepip, venv"]));
    modules.map(|_| ()).map_err(|_| Error::Missing {
        program: "Python with its module venv".to_owned(),
        searched: "`python3 -c 'import ensurepip, venv'` fails".to_owned(),
        install: "`apt-get install python3 python3-venv` (or `cargo xtask setup`)".to_owned(),
    })
}

/// Whether Node.js and npm are installed; the error says how to get them.
pub fn check_node() -> Result<()> {
    let missing = ["node", "npm"].into_iter().find(|program| in_path(program).is_none());
    missing.map_or(Ok(()), |program| {
        Err(Error::Missing {
            program: format!("Node.js (`{program}`)"),
            searched: "not in PATH".to_owned(),
            install: "`apt-get install nodejs npm` (or `cargo xtask setup`)".to_owned(),
        })
    })
}

/// The directory `name` in `packages`, filled by `make` unless that was done for `wanted` already. Others, in any
/// process, wait.
fn made_once(packages: &Path, name: &str, wanted: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let io = |what: &str, path: &Path| {
        let what = format!("{what} {}", path.display());
        move |source| Error::io(what, source)
    };
    fs::create_dir_all(packages).map_err(io("make the directory", packages))?;
    let path = packages.join(format!("{name}.lock"));
    let lock = File::create(&path).map_err(io("open", &path))?;
    lock.lock().map_err(io("lock", &path))?;
    let home = packages.join(name);
    if is_made_for(&home, wanted) {
        return Ok(home);
    }
    if home.exists() {
        fs::remove_dir_all(&home).map_err(io("remove", &home))?;
    }
    fs::create_dir(&home).map_err(io("make the directory", &home))?;
    make(&home)?;
    let made_for = home.join(MADE_FOR);
    fs::write(&made_for, wanted).map_err(io("write", &made_for))?;
    Ok(home)
}

fn is_made_for(home: &Path, wanted: &str) -> bool {
    fs::read_to_string(home.join(MADE_FOR)).is_ok_and(|made_for| made_for == wanted)
}

/// Where cargo builds this workspace, a place of their own.
fn packages() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    root.join(target).join("packages")
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|source| Error::io(format!("read {}", path.display()), source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_made_once_and_again_when_others_are_wanted_or_it_failed() {
        let packages = tempfile::tempdir().unwrap();
        let made = |wanted: &str, fails: bool| {
            let mut ran = false;
            let home = made_once(packages.path(), "sample", wanted, |home| {
                ran = true;
                assert_eq!(fs::read_dir(home).unwrap().count(), 0, "left from before");
                fs::write(home.join("package"), wanted).unwrap();
                let broken = || Error::io("install", std::io::ErrorKind::ConnectionRefused.into());
                if fails { Err(broken()) } else { Ok(()) }
            });
            (ran, home.is_ok_and(|home| home.join("package").exists()))
        };
        assert_eq!(made("one", true), (true, false));
        assert_eq!(made("one", false), (true, true));
        assert_eq!(made("one", false), (false, true));
        assert_eq!(made("two", false), (true, true));
        assert_eq!(made("two", true), (false, true));
    }
}
