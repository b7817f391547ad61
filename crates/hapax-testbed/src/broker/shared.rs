//! One server of a kind for all tests of a run, whichever process they are in.

use std::path::Path;

use super::{Broker, Kind, Place, address, key, prepare, run};
use crate::leader::Leader;
use crate::{Error, FreePort, Result, make_directory};

/// The server that the tests of one run share, each with names of its own for what it makes there. The first test to
/// ask starts it, and it lives as long as the run's leader: nextest, or cargo under `cargo test`. A test binary run by
/// hand leads itself.
#[derive(Debug)]
pub struct SharedBroker<K: Kind> {
    port: u16,
    // Ends with the process, which is when a static goes.
    _own: Option<Broker<K>>,
}

impl<K: Kind> SharedBroker<K> {
    pub(super) fn get() -> Result<&'static Self> {
        K::shared()
            .get_or_init(Self::find)
            .as_ref()
            .map_err(|error| Error::Failed {
                what: format!("the shared {}", K::NAME),
                status: "it could not be had".to_owned(),
                output: error.to_string(),
            })
    }

    fn find() -> Result<Self> {
        let Some(leader) = Leader::of_this_run() else {
            let own = Broker::try_start()?;
            return Ok(Self {
                port: own.port(),
                _own: Some(own),
            });
        };
        let answers =
            |url: &str| port_of(url).is_some_and(|port| K::answers(&at(Path::new(""), port)).unwrap_or(false));
        let url = leader.meet(&key::<K>(), answers, start_for::<K>)?;
        let port = port_of(&url).ok_or_else(|| Error::Failed {
            what: format!("the shared {}", K::NAME),
            status: "its note has no port".to_owned(),
            output: url.clone(),
        })?;
        Ok(Self { port, _own: None })
    }

    /// Its URL.
    pub fn url(&self) -> String {
        K::url(self.port, None)
    }

    /// `127.0.0.1` with the port.
    pub fn address(&self) -> String {
        address(self.port)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}

fn start_for<K: Kind>(leader: &Leader, place: &Path) -> Result<String> {
    let directory = place.join(format!("{}-{}", key::<K>(), std::process::id()));
    make_directory(&directory)?;
    let port = FreePort::try_take()?;
    let (kind, own) = (K::find()?, at(&directory, port.number()));
    prepare(&kind, &own, &leader.owner())?;
    run(&kind, &own, &leader.owner(), place)?;
    Ok(K::url(port.number(), None))
}

fn at(directory: &Path, port: u16) -> Place {
    Place {
        directory: directory.to_owned(),
        port,
        login: None,
    }
}

/// What follows the address in a URL, such as a virtual host, begins with a slash.
fn port_of(url: &str) -> Option<u16> {
    let (_, rest) = url.rsplit_once(':')?;
    rest.split('/').next()?.parse().ok()
}
