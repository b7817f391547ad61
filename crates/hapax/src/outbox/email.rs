//! Effects as email, by SMTP.

mod message;
mod server;
mod smtp;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hapax_core::policy::FailureClass;
use hapax_core::{Answer, BoxFuture, LastError, Outcome};

use super::sink::{Delivery, Sink};
use crate::runner::{Attempted, Failure};
use message::Letter;
use server::Server;
use smtp::{Mailer, SmtpError, Stage};

/// A sink that sends each effect as an email. Cheap to clone; clones share the connections.
///
/// The payload is JSON: `to` (an address, or a list), `subject`, `text` and/or `html`; optional are `from`, `cc`, `bcc`
/// and `reply_to`. The `Message-ID` is made from the derived key: a message that is sent twice has the same one, and
/// mail systems that know it drop the second. One recipient an effect is best: a server that refuses one of several
/// makes all of them fail.
///
/// | the server | proves |
/// |---|---|
/// | accepts the message | it is sent |
/// | cannot be reached, refuses the login, or breaks off before the message's text is sent | it is not |
/// | answers 4xx | it is not; it is tried again as a throttled one |
/// | answers 5xx | it is not, and never will be: a dead letter |
/// | breaks off or falls silent after the text is sent | nothing |
///
/// ```
/// use hapax::outbox::Email;
///
/// let email = Email::new("smtp://localhost:2525", "Shop <shop@example.org>")?;
/// let email = Email::new("smtps://mail.example.org", "shop@example.org")?.login("shop", "secret");
/// # Ok::<_, hapax::outbox::EmailError>(())
/// ```
#[derive(Clone)]
pub struct Email {
    mailer: Arc<Mailer>,
    from: lettre::message::Mailbox,
}

/// Why a mail server cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EmailError {
    /// The URL makes no sense.
    #[error(
        "{url:?} is no mail server: {why}; write smtp://HOST[:PORT] (STARTTLS), smtps://HOST[:PORT] (TLS), or \
         smtp://HOST[:PORT]?tls=none for a server without"
    )]
    Url {
        /// The URL without its query.
        url: String,
        /// Why not.
        why: String,
    },
    /// The URL has a user or a password.
    #[error("the URL of a mail server has a user name in it; give user and password apart from it")]
    User,
    /// The sender's address makes no sense.
    #[error("{0:?} is no sender of emails; write an address such as Shop <shop@example.org>")]
    From(String),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up for the mail server: {0}")]
    Tls(String),
}

impl Email {
    /// Sends by this server, from this address unless an effect names another.
    ///
    /// A server at a loopback address is spoken to without TLS; any other must offer STARTTLS (`smtp://`, port 587) or
    /// TLS (`smtps://`, port 465), and have a certificate for its name.
    ///
    /// # Errors
    /// [`EmailError`] if the URL or the address makes no sense, or TLS cannot be set up.
    pub fn new(url: &str, from: &str) -> Result<Self, EmailError> {
        let mailbox = from.parse().map_err(|_| EmailError::From(from.to_owned()))?;
        Ok(Self {
            mailer: Arc::new(Mailer::new(Server::parse(url)?)?),
            from: mailbox,
        })
    }

    /// Logs in.
    #[must_use]
    pub fn login(mut self, user: &str, password: &str) -> Self {
        if let Some(mailer) = Arc::get_mut(&mut self.mailer) {
            mailer.credentials = Some((user.to_owned(), password.to_owned()).into());
        }
        self
    }

    /// How long each step may take: connecting, a command, the message (10 s). Keep three of them below the policy's
    /// `per_try`, which cuts off without knowing what was sent.
    #[must_use]
    pub fn timeout(mut self, step: Duration) -> Self {
        if let Some(mailer) = Arc::get_mut(&mut self.mailer) {
            mailer.timeout = step;
        }
        self
    }

    /// Believes these authorities (PEM) beside the system's.
    ///
    /// # Errors
    /// [`EmailError::Tls`] if they cannot be read.
    pub fn trust(mut self, pem: &[u8]) -> Result<Self, EmailError> {
        if let Some(mailer) = Arc::get_mut(&mut self.mailer) {
            mailer.trust(pem)?;
        }
        Ok(self)
    }

    async fn send(self, delivery: Delivery) -> Attempted {
        let letter = match Letter::read(&delivery, &self.from) {
            Ok(letter) => letter,
            Err(error) => {
                let text = format!("the payload is no email: {error}");
                return Attempted::Failed(Failure::new(FailureClass::Final, &text));
            }
        };
        let sent = self.mailer.send(&letter).await;
        match sent {
            Ok(()) => Attempted::Done(Outcome::Answer(answer(250, String::new()))),
            Err(error) => Attempted::Failed(judge(error)),
        }
    }
}

/// What a failure proves.
fn judge(error: SmtpError) -> Failure {
    let class = match (error.status, error.stage) {
        // A password that is wrong now is no fault of the message.
        (Some(_), Stage::Connecting) => FailureClass::Unsent,
        (Some(status), _) if status >= 500 => FailureClass::Final,
        (Some(_), _) => FailureClass::Throttled,
        (None, Stage::Connecting | Stage::Envelope) => FailureClass::Unsent,
        (None, Stage::Refused) => FailureClass::Final,
        (None, Stage::Message) => FailureClass::Ambiguous,
    };
    let last_error = match error.status {
        Some(status) if error.stage != Stage::Connecting => format!("status {status}"),
        _ => error.text.clone(),
    };
    let on_message = class == FailureClass::Final || class == FailureClass::Throttled;
    Failure {
        class,
        answer: error
            .status
            .filter(|_| on_message)
            .map(|status| answer(status, error.text)),
        last_error: LastError::new(&last_error),
        retry_after: None,
    }
}

fn answer(status: u16, text: String) -> Answer {
    Answer {
        status,
        headers: Vec::new(),
        body: Bytes::from(text),
    }
}

impl Sink for Email {
    fn deliver(&self, delivery: Delivery) -> BoxFuture<'static, Attempted> {
        Box::pin(self.clone().send(delivery))
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Email")
            .field("server", &self.mailer.server)
            .field("from", &self.from.to_string())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
