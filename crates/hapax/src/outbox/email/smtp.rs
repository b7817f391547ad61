//! A client of one mail server, step by step, so that a failure says what was sent.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use tokio::time::{Instant, timeout};

use super::EmailError;
use super::message::Letter;
use super::server::{Protection, Server};
use crate::retry::timed_out;

/// Mail servers close idle connections after minutes: ours are closed well before.
const IDLE: Duration = Duration::from_secs(30);
const MOST_IDLE: usize = 16;
/// Servers limit the messages of one connection.
const MOST_MESSAGES: u32 = 50;
/// What to do about a certificate.
const UNTRUSTED: &str = ": the mail server needs a certificate for its name, from an authority that the system knows or \
                         that was given to it (`ca`, Email::trust)";

pub(super) struct Mailer {
    pub(super) server: Server,
    pub(super) credentials: Option<Login>,
    pub(super) timeout: Duration,
    tls: Option<TlsParameters>,
    idle: Mutex<Vec<Connection>>,
}

pub(super) struct Login(Credentials);

impl From<(String, String)> for Login {
    fn from(login: (String, String)) -> Self {
        Self(login.into())
    }
}

struct Connection {
    smtp: AsyncSmtpConnection,
    sent: u32,
    since: Instant,
}

/// How far a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// No message was begun.
    Connecting,
    /// Sender, recipients and `DATA`: without its text, a message is nothing.
    Envelope,
    /// This program does not send it to such a server.
    Refused,
    /// Its text may have arrived.
    Message,
}

/// A message that was not accepted, as far as is known.
#[derive(Debug)]
pub(super) struct SmtpError {
    pub(super) stage: Stage,
    /// The server's reply, if there was one.
    pub(super) status: Option<u16>,
    pub(super) text: String,
}

impl Mailer {
    pub(super) fn new(server: Server) -> Result<Self, EmailError> {
        let tls = match server.protection {
            Protection::None => None,
            Protection::StartTls | Protection::Tls => Some(parameters(&server, None)?),
        };
        Ok(Self {
            server,
            credentials: None,
            timeout: Duration::from_secs(10),
            tls,
            idle: Mutex::default(),
        })
    }

    pub(super) fn trust(&mut self, pem: &[u8]) -> Result<(), EmailError> {
        let certificate = Certificate::from_pem(pem).map_err(|error| EmailError::Tls(error.to_string()))?;
        if self.tls.is_some() {
            self.tls = Some(parameters(&self.server, Some(certificate))?);
        }
        Ok(())
    }

    /// Sends a message; `Ok` once the server has accepted it.
    pub(super) async fn send(&self, letter: &Letter) -> Result<(), SmtpError> {
        while let Some(mut connection) = self.idle() {
            match self.transact(&mut connection, letter).await {
                // It was closed while nobody used it.
                Err(error) if error.status.is_none() && error.stage == Stage::Envelope => {}
                ended => return self.conclude(connection, ended).await,
            }
        }
        let mut connection = self.connect().await?;
        let ended = self.transact(&mut connection, letter).await;
        self.conclude(connection, ended).await
    }

    async fn conclude(&self, mut connection: Connection, ended: Result<(), SmtpError>) -> Result<(), SmtpError> {
        connection.sent += 1;
        connection.since = Instant::now();
        if ended.is_ok() && connection.sent < MOST_MESSAGES {
            let mut idle = self.lock();
            if idle.len() < MOST_IDLE {
                idle.push(connection);
                return ended;
            }
        }
        // What is not said in time is said by closing.
        let _ = timeout(Duration::from_secs(1), connection.smtp.abort()).await;
        ended
    }

    async fn transact(&self, connection: &mut Connection, letter: &Letter) -> Result<(), SmtpError> {
        let options = options(&connection.smtp, letter)?;
        let smtp = &mut connection.smtp;
        let Letter { envelope, bytes } = letter;
        let mail = Mail::new(envelope.from().cloned(), options);
        self.step(Stage::Envelope, smtp.command(mail)).await?;
        for recipient in envelope.to() {
            let rcpt = Rcpt::new(recipient.clone(), Vec::new());
            self.step(Stage::Envelope, smtp.command(rcpt)).await?;
        }
        self.step(Stage::Envelope, smtp.command(Data)).await?;
        self.step(Stage::Message, smtp.message(bytes)).await.map(|_| ())
    }

    async fn connect(&self) -> Result<Connection, SmtpError> {
        let Server { host, port, protection } = &self.server;
        let hello = ClientId::default();
        let address = (host.as_str(), *port);
        let wrapped = self.tls.clone().filter(|_| *protection == Protection::Tls);
        let connect = AsyncSmtpConnection::connect_tokio1(address, Some(self.timeout), &hello, wrapped, None);
        let mut smtp = self.step(Stage::Connecting, connect).await?;
        if *protection == Protection::StartTls
            && let Some(tls) = self.tls.clone()
        {
            self.step(Stage::Connecting, smtp.starttls(tls, &hello)).await?;
        }
        if let Some(Login(credentials)) = &self.credentials {
            let login = smtp.auth(&[Mechanism::Plain, Mechanism::Login], credentials);
            let refused = |error: SmtpError| SmtpError {
                text: format!("cannot log in: {}", error.text),
                ..error
            };
            self.step(Stage::Connecting, login).await.map_err(refused)?;
        }
        Ok(Connection {
            smtp,
            sent: 0,
            since: Instant::now(),
        })
    }

    async fn step<T>(&self, stage: Stage, step: impl Future<Output = Result<T, Error>>) -> Result<T, SmtpError> {
        match timeout(self.timeout, step).await {
            Ok(done) => done.map_err(|error| SmtpError::new(stage, &error)),
            Err(_) => Err(SmtpError {
                stage,
                status: None,
                text: timed_out(self.timeout),
            }),
        }
    }

    fn idle(&self) -> Option<Connection> {
        let mut idle = self.lock();
        let connection = idle.pop()?;
        if connection.since.elapsed() < IDLE {
            return Some(connection);
        }
        // All below are older.
        idle.clear();
        None
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        // Nothing panics while it is held.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SmtpError {
    fn new(stage: Stage, error: &Error) -> Self {
        let mut text = error.to_string();
        if text.contains("certificate") {
            text.push_str(UNTRUSTED);
        }
        Self {
            stage,
            status: error.status().map(u16::from),
            text,
        }
    }
}

/// What the server has to be told of a message beside its sender.
fn options(smtp: &AsyncSmtpConnection, letter: &Letter) -> Result<Vec<MailParameter>, SmtpError> {
    let supports = |extension| smtp.server_info().supports_feature(extension);
    let refused = |text: &str| SmtpError {
        stage: Stage::Refused,
        status: None,
        text: text.to_owned(),
    };
    let mut options = Vec::new();
    let envelope = &letter.envelope;
    let mut addresses = envelope.to().iter().chain(envelope.from());
    if !addresses.all(|address| AsRef::<str>::as_ref(address).is_ascii()) {
        if !supports(Extension::SmtpUtfEight) {
            return Err(refused("the mail server takes no address that is not ASCII"));
        }
        options.push(MailParameter::SmtpUtfEight);
    }
    if !letter.bytes.is_ascii() {
        if !supports(Extension::EightBitMime) {
            return Err(refused("the mail server takes no text that is not ASCII"));
        }
        options.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    Ok(options)
}

fn parameters(server: &Server, trusted: Option<Certificate>) -> Result<TlsParameters, EmailError> {
    let mut builder = TlsParameters::builder(server.host.clone());
    if let Some(certificate) = trusted {
        builder = builder.add_root_certificate(certificate);
    }
    builder
        .build_rustls()
        .map_err(|error| EmailError::Tls(error.to_string()))
}
