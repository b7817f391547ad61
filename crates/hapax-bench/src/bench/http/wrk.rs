//! The load generator `wrk`, with a script for the keys.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::error::Result;
use crate::measure::Measured;
use crate::upstream;

const SCRIPT: &str = include_str!("keys.lua");

/// What wrk sends.
#[derive(Clone, Debug)]
pub(crate) enum Mode {
    /// No key.
    Plain,
    /// A key that was never sent, each time.
    First { prefix: String },
    /// One of so many keys, in turn.
    Replay { prefix: String, keys: u64 },
}

impl Mode {
    pub(crate) fn first(prefix: &str) -> Self {
        Self::First {
            prefix: prefix.to_owned(),
        }
    }

    pub(crate) fn replay(prefix: &str, keys: u64) -> Self {
        Self::Replay {
            prefix: prefix.to_owned(),
            keys,
        }
    }

    /// The script's arguments.
    fn arguments(&self) -> [String; 3] {
        match self {
            Self::Plain => ["plain".to_owned(), String::new(), "0".to_owned()],
            Self::First { prefix } => ["first".to_owned(), prefix.clone(), "0".to_owned()],
            Self::Replay { prefix, keys } => ["replay".to_owned(), prefix.clone(), keys.to_string()],
        }
    }
}

/// wrk with a number of connections.
pub(crate) struct Wrk {
    script: PathBuf,
    connections: usize,
}

impl Wrk {
    pub(crate) fn new(out: &Path, connections: usize) -> Result<Self> {
        let script = out.join("keys.lua");
        fs::write(&script, SCRIPT)?;
        Ok(Self { script, connections })
    }

    /// Sends requests for a time, rounded up to seconds. Fails if one of them was not answered as it should be: what
    /// errors cost says nothing.
    pub(crate) async fn run(&self, address: SocketAddr, mode: &Mode, time: Duration) -> Result<Measured> {
        Ok(self.result(address, mode, time).await?.1)
    }

    /// Like [`run`](Self::run); also asks the upstream whether as many requests reached it as should have.
    pub(crate) async fn counted(
        &self,
        address: SocketAddr,
        upstream: SocketAddr,
        mode: &Mode,
        time: Duration,
    ) -> Result<Measured> {
        let before = settled(upstream).await?;
        let (answered, measured) = self.result(address, mode, time).await?;
        let reached = settled(upstream).await? - before;
        // At the end each connection may have one request under way, which wrk does not count. On a busy machine the
        // upstream may see it as late as in the next turn.
        let late = self.connections as u64;
        let expected = match mode {
            Mode::Plain | Mode::First { .. } => answered..=answered + 2 * late,
            Mode::Replay { .. } => 0..=late,
        };
        if !expected.contains(&reached) {
            return Err(format!("{reached} requests reached the upstream, {answered} were answered ({mode:?})").into());
        }
        Ok(measured)
    }

    async fn result(&self, address: SocketAddr, mode: &Mode, time: Duration) -> Result<(u64, Measured)> {
        let mut command = Command::new("wrk");
        command.args(["--threads", "1", "--timeout", "10s"]);
        command.args(["--connections", &self.connections.to_string()]);
        command.args(["--duration", &format!("{}s", time.as_secs_f64().ceil())]);
        command.arg("--script").arg(&self.script);
        command
            .arg(format!("http://{address}/orders"))
            .arg("--")
            .args(mode.arguments());
        let output = tokio::task::spawn_blocking(move || command.output())
            .await?
            .map_err(|error| format!("cannot run wrk: {error}; install it: `apt-get install wrk`"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().find_map(|line| line.strip_prefix("RESULT "));
        let line = line.ok_or_else(|| {
            let why = String::from_utf8_lossy(&output.stderr);
            format!("wrk gave no result: {text}{why}")
        })?;
        read(line)
    }
}

/// How many requests reached the upstream, once no more come: what clients left behind runs to its end.
async fn settled(upstream: SocketAddr) -> Result<u64> {
    let mut count = upstream::count(upstream)?;
    loop {
        tokio::time::sleep(Duration::from_millis(150)).await;
        let again = upstream::count(upstream)?;
        if again == count {
            return Ok(count);
        }
        count = again;
    }
}

/// Reads the script's last line: requests, seconds, errors, then latencies in microseconds.
fn read(line: &str) -> Result<(u64, Measured)> {
    let numbers = line
        .split(' ')
        .map(str::parse::<f64>)
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let [requests, seconds, errors, p50, p99, p999, worst] = numbers[..] else {
        return Err(format!("wrk's script wrote `{line}`").into());
    };
    if errors > 0.0 || requests < 1.0 {
        return Err(format!("of {requests} requests, {errors} were not answered or not with 2xx").into());
    }
    let measured = Measured {
        rate: requests / seconds,
        p50: p50 / 1e3,
        p99: p99 / 1e3,
        p999: p999 / 1e3,
        worst: worst / 1e3,
    };
    Ok((requests as u64, measured))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_make_a_measurement_void() {
        let (requests, measured) = read("100 2 0 1000 2000 3000 4000").unwrap();
        assert_eq!((requests, measured.rate, measured.p99), (100, 50.0, 2.0));
        for bad in ["100 2 1 1000 2000 3000 4000", "0 2 0 0 0 0 0", "1 2", ""] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
