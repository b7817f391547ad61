//! A database as a file: where it is, who can write it, what lies beside it, and what a URL asks of a connection.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::doctor::finding::Finding;
use crate::doctor::ours;

/// What can be seen without opening it as a database.
pub(super) fn look(path: &Path) -> Vec<Finding> {
    let shown = path.display().to_string();
    let mut findings = Vec::new();
    let absolute = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo")
        && let Some(kind) = file_system(&mounts, &absolute)
    {
        findings.extend(on_file_system(&shown, kind));
    }
    if let Some(what) = unwritable(&absolute) {
        findings.push(ours::read_only(&shown, &what).advise(format!(
            "give the user that runs your program the right: chmod u+w {shown}"
        )));
    }
    findings.extend(log(&absolute, &shown));
    findings
}

/// The type of the file system that a path is on, from Linux's list of mounts.
fn file_system<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    mounts
        .lines()
        .filter_map(|line| {
            let (fields, kind) = line.split_once(" - ")?;
            let mounted_at = fields.split(' ').nth(4)?.replace("\\040", " ");
            path.starts_with(&mounted_at)
                .then_some((mounted_at.len(), kind.split(' ').next()?))
        })
        // The last of equals lies over the others.
        .max_by_key(|(length, _)| *length)
        .map(|(_, kind)| kind)
}

fn on_file_system(place: &str, kind: &str) -> Option<Finding> {
    const NETWORK: &[&str] = &[
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "afs",
        "ceph",
        "lustre",
        "glusterfs",
        "gfs2",
        "ocfs2",
        "virtiofs",
        "vboxsf",
        "prl_fs",
        "davfs",
        "fuse.sshfs",
        "fuse.glusterfs",
        "fuse.s3fs",
        "fuse.rclone",
        "fuse.davfs2",
        "fuse.gcsfuse",
    ];
    if NETWORK.contains(&kind) {
        return Some(
            Finding::danger("network-file-system", place, format!("the file is on a network file system ({kind})"))
                .why(
                    "locks and shared memory do not work there as SQLite needs them: two processes can write at once, which \
                     breaks the file and with it every promise",
                )
                .advise("move it to a local disk, or use PostgreSQL if several machines share it"),
        );
    }
    matches!(kind, "tmpfs" | "ramfs").then(|| {
        Finding::danger("volatile-storage", place, format!("the file is in memory ({kind})"))
            .why("after a restart of the machine everything is forgotten, and what was done once is done again")
            .advise("move it to a disk")
    })
}

/// Why this process could not write the file, if it is the file's mode that says so.
fn unwritable(path: &Path) -> Option<String> {
    let mode = fs::metadata(path).ok()?.mode();
    if mode & 0o222 == 0 {
        return Some(format!(
            "the file has no right to write for anybody (mode {:o})",
            mode & 0o777
        ));
    }
    match fs::OpenOptions::new().append(true).open(path) {
        Ok(_) => None,
        Err(error) => Some(format!("the file cannot be opened to write: {error}")),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A write-ahead log that does not belong to the database.
fn log(path: &Path, shown: &str) -> Option<Finding> {
    let wal = beside(path, "-wal");
    let about_wal = fs::metadata(&wal).ok()?;
    let place = format!("{shown}-wal");
    let foreign = |what: String, why: &str| Finding::danger("foreign-log", &place, what).why(why);
    let about = fs::metadata(path).ok()?;
    if about.uid() != about_wal.uid() {
        let what = format!(
            "it belongs to user {}, the database to user {}",
            about_wal.uid(),
            about.uid()
        );
        let why = "another user (root, often) opened the database; its own program may not be able to write any more";
        return Some(foreign(what, why).advise(format!("chown --reference={shown} {shown}-wal {shown}-shm")));
    }
    let (header, log) = (beginning(path, 100)?, beginning(&wal, 32)?);
    if header.len() < 100 || log.len() < 32 {
        return None;
    }
    let number = |bytes: &[u8], at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let page = match u32::from(header[16]) << 8 | u32::from(header[17]) {
        1 => 65_536,
        size => size,
    };
    let why = "it was left by another database: the file was restored or copied over without removing it, and SQLite may \
               lay its pages over the file's";
    let what = if number(&log, 0) | 1 != 0x377f_0683 {
        "it is no write-ahead log".to_owned()
    } else if number(&log, 8) != page {
        format!("its pages have {} bytes, the database's {page}", number(&log, 8))
    } else if header[18] == 1 && about_wal.len() > 32 {
        "there is a write-ahead log with pages in it, but the database is not in WAL mode".to_owned()
    } else {
        return None;
    };
    Some(foreign(what, why).advise(format!(
        "stop every program that uses it, keep a copy of both files, and move {shown}-wal and {shown}-shm away"
    )))
}

fn beginning(path: &Path, length: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(length).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// What a parameter of the program's database URL does, in the words of the common drivers.
pub(super) fn parameter(name: &str, value: &str) -> Option<Finding> {
    let place = format!("{name}={value} in the URL");
    // modernc: _pragma=synchronous(off)
    let (name, value) = match (name, value.split_once(['(', '='])) {
        ("_pragma", Some((pragma, rest))) => (pragma, rest.trim_end_matches(')')),
        _ => (name.trim_start_matches('_'), value),
    };
    let (name, value) = (name.to_ascii_lowercase(), value.to_ascii_lowercase());
    let is_on = matches!(value.as_str(), "1" | "on" | "true" | "yes");
    let powerless = "loss of power takes back commits that were acknowledged, or breaks the file: what was done once is done \
                     again";
    Some(match (name.as_str(), value.as_str()) {
        ("sync" | "synchronous", "off" | "0" | "false") => {
            Finding::danger("commit-not-durable", place, "synchronous is off")
                .why(powerless)
                .sql("PRAGMA synchronous = FULL;")
        }
        ("sync" | "synchronous", "normal" | "1") => {
            Finding::caution("commit-not-durable", place, "synchronous is NORMAL")
                .why("in WAL mode, loss of power takes back the last commits that were acknowledged")
                .sql("PRAGMA synchronous = FULL;")
        }
        ("journal" | "journal_mode", "off" | "memory") => {
            Finding::danger("crash-unsafe", place, format!("the journal is {value}"))
                .why("a crash in the middle of a transaction leaves half of it in the file, and may break it")
                .sql("PRAGMA journal_mode = WAL;")
        }
        ("nolock", _) if is_on => lock(place, "nolock is on"),
        ("vfs", "unix-none") => lock(place, "the unix-none VFS takes no locks"),
        ("immutable", _) if is_on => lock(place, "immutable is on: SQLite takes no locks and looks for no changes"),
        ("mode", "memory") => Finding::danger("volatile-storage", place, "the database is in memory")
            .why("when the process ends everything is forgotten, and what was done once is done again")
            .advise("give it a file"),
        ("mode", "ro") => {
            ours::read_only(&place, "the program opens it to read only").advise("write mode=rw or mode=rwc")
        }
        ("query_only", _) if is_on => ours::read_only(&place, "query_only is on").sql("PRAGMA query_only = OFF;"),
        ("read_uncommitted", _) if is_on => isolation(place, "read_uncommitted is on"),
        ("cache", "shared") => Finding::caution("isolation", place, "connections share one cache")
            .why("they lock tables against each other with SQLITE_LOCKED, which no busy time-out waits for")
            .advise("leave it out, and use WAL mode for concurrent readers"),
        _ => return None,
    })
}

fn lock(place: String, what: &str) -> Finding {
    Finding::danger("locking-off", place, what)
        .why("two processes that write at the same time break the file, unique indexes included")
        .advise("leave it out")
}

fn isolation(place: String, what: &str) -> Finding {
    Finding::danger("isolation", place, what)
        .why("with a shared cache a transaction sees rows that are then rolled back, and takes them for done")
        .sql("PRAGMA read_uncommitted = OFF;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_counts() {
        let mounts = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:44 / /data rw,relatime shared:9 - nfs4 server:/export rw
41 40 8:2 / /data/local\\040disk rw - xfs /dev/sdb rw
42 22 0:50 / /dev/shm rw - tmpfs tmpfs rw";
        for (path, kind, code) in [
            ("/var/lib/a.db", "ext4", None),
            ("/data/a.db", "nfs4", Some("network-file-system")),
            ("/database/a.db", "ext4", None),
            ("/data/local disk/a.db", "xfs", None),
            ("/dev/shm/a.db", "tmpfs", Some("volatile-storage")),
        ] {
            let found = file_system(mounts, Path::new(path)).unwrap();
            assert_eq!(found, kind, "{path}");
            assert_eq!(on_file_system(path, found).map(|finding| finding.code), code, "{path}");
        }
    }

    #[test]
    fn drivers_have_their_own_words() {
        for (name, value, code) in [
            ("_sync", "0", Some("commit-not-durable")),
            ("_synchronous", "NORMAL", Some("commit-not-durable")),
            ("synchronous", "FULL", None),
            ("_pragma", "synchronous(off)", Some("commit-not-durable")),
            ("_pragma", "journal_mode=MEMORY", Some("crash-unsafe")),
            ("_pragma", "journal_mode(wal)", None),
            ("_journal_mode", "OFF", Some("crash-unsafe")),
            ("nolock", "1", Some("locking-off")),
            ("immutable", "0", None),
            ("mode", "ro", Some("read-only")),
            ("mode", "rwc", None),
            ("cache", "shared", Some("isolation")),
            ("_busy_timeout", "5000", None),
        ] {
            assert_eq!(
                parameter(name, value).map(|finding| finding.code),
                code,
                "{name}={value}"
            );
        }
    }
}
