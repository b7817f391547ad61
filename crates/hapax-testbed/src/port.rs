//! Ports that nothing else takes while a test needs them.

use std::fs::{File, TryLockError};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::or_panic;
use crate::{Error, Result, make_directory, meeting_place};

/// Below the range from which outgoing connections take theirs on Linux and
/// macOS (from 32768 and 49152): a busy test would otherwise take the port of
/// a server that is just being restarted.
const FIRST: u32 = 15_000;
const LAST: u32 = 32_000;

static TURN: AtomicU32 = AtomicU32::new(0);

/// A port of 127.0.0.1 on which nobody listens and which no other `FreePort`
/// of this user holds, in any process, until this value is dropped. A server
/// may be stopped and started on it again.
#[derive(Debug)]
pub struct FreePort {
    port: u16,
    _lock: File,
}

impl FreePort {
    /// Takes a free port. Panics when there is none.
    #[track_caller]
    pub fn take() -> Self {
        or_panic(Self::try_take())
    }

    /// Takes a free port.
    pub fn try_take() -> Result<Self> {
        let locks = meeting_place()?.join("ports");
        make_directory(&locks)?;
        // Spread over processes, so that they rarely try the same ones.
        let start = std::process::id().wrapping_mul(7919);
        for _ in FIRST..LAST {
            let turn = TURN.fetch_add(1, Ordering::Relaxed);
            let port = FIRST + start.wrapping_add(turn) % (LAST - FIRST);
            let Ok(port) = u16::try_from(port) else { continue };
            if let Some(taken) = Self::try_number(&locks, port)? {
                return Ok(taken);
            }
        }
        Err(Error::Failed {
            what: format!("finding a free port from {FIRST} to {LAST}"),
            status: "all are taken".to_owned(),
            output: "End what listens on them: `ss -ltn` shows it.".to_owned(),
        })
    }

    fn try_number(locks: &Path, port: u16) -> Result<Option<Self>> {
        let path = locks.join(port.to_string());
        let lock = File::create(&path).map_err(|source| Error::io(format!("open {}", path.display()), source))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(source)) => {
                return Err(Error::io(format!("lock {}", path.display()), source));
            }
        }
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        Ok(free.then_some(Self { port, _lock: lock }))
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1` with the port.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_taken_while_it_is_held_or_listened_on() {
        let locks = tempfile::tempdir().unwrap();
        // A port of ours, so that nobody else comes between.
        let ours = FreePort::take();
        let port = ours.number();
        let take = || FreePort::try_number(locks.path(), port).unwrap();

        let held = take().expect("it is free");
        assert!(take().is_none(), "held twice");
        drop(held);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert!(take().is_none(), "somebody listens on it");
        drop(listener);
        assert!(take().is_some());
    }
}
