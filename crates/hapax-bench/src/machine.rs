//! What the figures were measured on.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::error::Result;

/// How busy the machine is, in words.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!("load {}", text.split(' ').next().unwrap_or("?"))
}

/// The machine, one fact a line.
pub(crate) fn describe(data: &Path) -> Vec<String> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let memory = field("/proc/meminfo", "MemTotal").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    vec![
        format!("{cores} cores ({model}), memory {memory}, Linux {}", kernel.trim()),
        format!(
            "files of SQLite on {}, of PostgreSQL on {}",
            file_system(data),
            file_system(&std::env::temp_dir())
        ),
        format!(
            "load average at the start: {}",
            fs::read_to_string("/proc/loadavg").unwrap_or_default().trim()
        ),
        format!(
            "build: {}",
            if cfg!(debug_assertions) {
                "debug (figures mean nothing)"
            } else {
                "release"
            }
        ),
    ]
}

/// The type of a path's file system; one in memory flushes for nothing, which is worth a warning.
fn file_system(path: &Path) -> String {
    let asked = Command::new("stat").args(["-f", "-c", "%T"]).arg(path).output();
    let name = asked.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    );
    match name.as_str() {
        "tmpfs" | "ramfs" => format!("{name} (IN MEMORY: flushes cost nothing, so durable figures mean nothing)"),
        "" => "an unknown file system".to_owned(),
        _ => name,
    }
}

/// Anonymous memory of a process in bytes: what it asked for, without files mapped or cached.
pub(crate) fn anonymous_bytes(process: u32) -> Result<u64> {
    let path = format!("/proc/{process}/status");
    let value = field(&path, "RssAnon").ok_or_else(|| format!("{path} does not say RssAnon"))?;
    let kib: u64 = value.trim_end_matches("kB").trim().parse()?;
    Ok(kib << 10)
}

/// Processor time that a process has used, and its ended children if `children` says so. In steps of 10 ms.
fn used(process: u32, children: bool) -> Result<Duration> {
    const TICK: Duration = Duration::from_millis(10);
    let path = format!("/proc/{process}/stat");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    // The program's name may have anything in it; the third field follows its bracket.
    let (_, fields) = text.rsplit_once(')').ok_or("a process without a name")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    // User and system time; the same of ended children.
    let count = if children { 4 } else { 2 };
    let ticks = fields.get(11..11 + count).ok_or("a process without times")?;
    let ticks: std::result::Result<Vec<u32>, _> = ticks.iter().map(|ticks| ticks.parse()).collect();
    Ok(TICK * ticks?.iter().sum::<u32>())
}

/// Processor time that a process has used.
pub(crate) fn processor_time(process: u32) -> Result<Duration> {
    used(process, false)
}

/// Processor time that a process and all its children have used, of those that have ended too.
pub(crate) fn family_time(process: u32) -> Result<Duration> {
    let mut time = used(process, true)?;
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(child) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that has just ended is in its parent's account.
        if parent(child).is_ok_and(|parent| parent == process) {
            time += processor_time(child).unwrap_or_default();
        }
    }
    Ok(time)
}

/// The process that started another one.
pub(crate) fn parent(process: u32) -> Result<u32> {
    let path = format!("/proc/{process}/status");
    Ok(field(&path, "PPid")
        .ok_or_else(|| format!("{path} does not say PPid"))?
        .parse()?)
}

/// Processor time that this thread has used.
pub(crate) fn thread_time() -> Result<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text.split(' ').next().ok_or("a thread without times")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text
        .lines()
        .find(|line| line.split(':').next().is_some_and(|word| word.trim() == name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
