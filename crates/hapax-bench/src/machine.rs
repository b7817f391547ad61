//! What the figures were measured on.

use std::fs;
use std::path::Path;
use std::process::Command;

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

fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text
        .lines()
        .find(|line| line.split(':').next().is_some_and(|word| word.trim() == name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
