//! Where a cluster is, who we are there, and which of librdkafka's settings are left to the caller.

use std::fmt;
use std::path::PathBuf;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

/// A Kafka cluster as its clients reach it. Cheap to clone.
///
/// ```
/// use hapax::consume::{Kafka, KafkaMechanism};
///
/// let local = Kafka::new("127.0.0.1:9092")?;
/// let far = Kafka::new("kafka-1.example:9093,kafka-2.example:9093")?
///     .tls()
///     .login(KafkaMechanism::ScramSha512, "shop", "secret")
///     .setting("client.rack", "eu-1a")?;
/// # Ok::<_, hapax::consume::KafkaError>(())
/// ```
#[derive(Clone)]
pub struct Kafka {
    brokers: String,
    tls: bool,
    ca: Option<PathBuf>,
    login: Option<Login>,
    settings: Vec<(String, String)>,
}

#[derive(Clone)]
struct Login {
    mechanism: KafkaMechanism,
    user: String,
    password: String,
}

/// How a user proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KafkaMechanism {
    /// The password itself: over TLS only.
    Plain,
    /// SCRAM with SHA-256.
    ScramSha256,
    /// SCRAM with SHA-512.
    ScramSha512,
}

impl KafkaMechanism {
    fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Why a Kafka client cannot be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KafkaError {
    /// The list of brokers makes no sense.
    #[error("{brokers:?} are no brokers: {why}; write HOST:PORT, several with commas between them")]
    Brokers {
        /// The list, without user names and passwords.
        brokers: String,
        /// Why not.
        why: &'static str,
    },
    /// A setting of librdkafka that would break what is promised, or that has its own place.
    #[error("{name} cannot be set: {why}")]
    Setting {
        /// The setting.
        name: String,
        /// Why not.
        why: &'static str,
    },
    /// librdkafka does not take the settings.
    #[error("librdkafka does not take these settings: {0}")]
    Client(String),
    /// The options contradict each other.
    #[error("{0}")]
    Options(&'static str),
}

const LOSES: &str = "a message would count as handled before it is, and be lost in a crash";
const GIVEN: &str = "it has a place of its own in the options";
const PROMISED: &str = "what was reported delivered could be lost or doubled";

/// What may not be set, and why.
const RESERVED: &[(&str, &str)] = &[
    ("acks", PROMISED),
    ("auto.commit.enable", LOSES),
    ("auto.commit.interval.ms", LOSES),
    ("auto.offset.reset", GIVEN),
    ("bootstrap.servers", GIVEN),
    ("delivery.timeout.ms", GIVEN),
    ("enable.auto.commit", LOSES),
    ("enable.auto.offset.store", LOSES),
    ("enable.idempotence", PROMISED),
    ("enable.partition.eof", "the end of a partition is no error here"),
    ("group.id", GIVEN),
    ("group.protocol", "only the classic protocol is known to work here"),
    ("heartbeat.interval.ms", GIVEN),
    (
        "isolation.level",
        "messages of transactions that are rolled back would be handled",
    ),
    ("log.queue", "logs go to tracing"),
    ("message.timeout.ms", GIVEN),
    ("metadata.broker.list", GIVEN),
    ("plugin.library.paths", "it would load code into this process"),
    ("request.required.acks", PROMISED),
    ("session.timeout.ms", GIVEN),
    ("transactional.id", "nothing here rests on Kafka's transactions"),
];

impl Kafka {
    /// A cluster without TLS or a login, by some of its brokers: `HOST:PORT`, several with commas between them,
    /// `kafka://` before them or not.
    ///
    /// # Errors
    /// [`KafkaError::Brokers`] if that is no list of brokers.
    pub fn new(brokers: &str) -> Result<Self, KafkaError> {
        let list = brokers
            .strip_prefix("kafka://")
            .unwrap_or(brokers)
            .trim_end_matches('/');
        let wrong = |why| KafkaError::Brokers {
            brokers: list.rsplit('@').next().unwrap_or_default().to_owned(),
            why,
        };
        if list.contains('@') {
            return Err(wrong("there is a user name in it, which belongs in the login"));
        }
        for broker in list.split(',') {
            let Some((host, port)) = broker.trim().rsplit_once(':') else {
                return Err(wrong("a port is missing"));
            };
            if host.is_empty() || port.parse::<u16>().is_err() {
                return Err(wrong("a host or a port makes no sense"));
            }
        }
        Ok(Self {
            brokers: list.to_owned(),
            tls: false,
            ca: None,
            login: None,
            settings: Vec::new(),
        })
    }

    /// Over TLS, with the system's authorities.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Over TLS, with the authorities of this PEM file instead of the system's.
    #[must_use]
    pub fn ca(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca = Some(file.into());
        self.tls()
    }

    /// As this user.
    #[must_use]
    pub fn login(mut self, mechanism: KafkaMechanism, user: &str, password: &str) -> Self {
        self.login = Some(Login {
            mechanism,
            user: user.to_owned(),
            password: password.to_owned(),
        });
        self
    }

    /// With one more of librdkafka's settings: `client.rack`, `ssl.certificate.location`, `group.instance.id` and the
    /// like.
    ///
    /// # Errors
    /// [`KafkaError::Setting`] for those that would break what is promised here, or have a place of their own.
    pub fn setting(mut self, name: &str, value: &str) -> Result<Self, KafkaError> {
        if let Some((_, why)) = RESERVED.iter().find(|(reserved, _)| *reserved == name) {
            let name = name.to_owned();
            return Err(KafkaError::Setting { name, why });
        }
        self.settings.push((name.to_owned(), value.to_owned()));
        Ok(self)
    }

    /// Its brokers, for logs and errors.
    pub(super) fn brokers(&self) -> &str {
        &self.brokers
    }

    /// A client's settings: the defaults of ours, then the caller's, then what is not to be changed.
    pub(super) fn config(&self, defaults: &[(&str, &str)], fixed: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Info);
        config.set("client.id", "hapax");
        for (name, value) in defaults {
            config.set(*name, *value);
        }
        for (name, value) in &self.settings {
            config.set(name, value);
        }
        for (name, value) in fixed {
            config.set(*name, *value);
        }
        config.set("bootstrap.servers", &self.brokers);
        let protocol = match (self.tls, self.login.is_some()) {
            (false, false) => "plaintext",
            (true, false) => "ssl",
            (false, true) => "sasl_plaintext",
            (true, true) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        if let Some(ca) = &self.ca {
            config.set("ssl.ca.location", ca.to_string_lossy());
        }
        if let Some(login) = &self.login {
            config.set("sasl.mechanism", login.mechanism.as_str());
            config.set("sasl.username", &login.user);
            config.set("sasl.password", &login.password);
        }
        config
    }
}

/// Neither the password nor the settings' values: there may be secrets in them.
impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings: Vec<_> = self.settings.iter().map(|(name, _)| name).collect();
        f.debug_struct("Kafka")
            .field("brokers", &self.brokers)
            .field("tls", &self.tls)
            .field("user", &self.login.as_ref().map(|login| &login.user))
            .field("settings", &settings)
            .finish_non_exhaustive()
    }
}

/// Checks settings with librdkafka, without a client.
pub(super) fn check(config: &ClientConfig) -> Result<(), KafkaError> {
    let checked = config.create_native_config();
    checked.map(|_| ()).map_err(|error| match error {
        // Its value may be a secret.
        rdkafka::error::KafkaError::ClientConfig(_, why, name, _) => KafkaError::Client(format!("{name}: {why}")),
        error => KafkaError::Client(error.to_string()),
    })
}
