//! What an effect's payload says of an email.

use std::time::{Duration, SystemTime};

use lettre::address::Envelope;
use lettre::message::{Mailbox, Message, MultiPart, SinglePart};
use serde::Deserialize;

use crate::outbox::sink::Delivery;

/// A message as it is sent.
pub(super) struct Letter {
    pub(super) envelope: Envelope,
    pub(super) bytes: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    from: Option<String>,
    to: Addresses,
    #[serde(default)]
    cc: Addresses,
    #[serde(default)]
    bcc: Addresses,
    reply_to: Option<String>,
    subject: String,
    text: Option<String>,
    html: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Addresses {
    One(String),
    Many(Vec<String>),
}

impl Default for Addresses {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Addresses {
    fn parse(self, what: &str) -> Result<Vec<Mailbox>, String> {
        let all = match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        };
        all.iter().map(|text| address(what, text)).collect()
    }
}

/// The address itself is the user's: it is not repeated in an error.
fn address(what: &str, text: &str) -> Result<Mailbox, String> {
    text.parse().map_err(|error| format!("{what} has no address: {error}"))
}

impl Letter {
    /// Reads a payload. The same delivery gives the same headers each time, but for its date.
    pub(super) fn read(delivery: &Delivery, from: &Mailbox) -> Result<Self, String> {
        let payload: Payload = serde_json::from_slice(&delivery.payload).map_err(|error| error.to_string())?;
        if payload.subject.contains(char::is_control) {
            return Err("the subject has a control character".to_owned());
        }
        let from = match &payload.from {
            Some(text) => address("from", text)?,
            None => from.clone(),
        };
        let id = format!("<{}@{}>", delivery.key, from.email.domain());
        let mut message = Message::builder()
            .message_id(Some(id))
            .date(time_of(delivery))
            .from(from)
            .subject(payload.subject);
        if let Some(text) = &payload.reply_to {
            message = message.reply_to(address("reply_to", text)?);
        }
        for mailbox in payload.to.parse("to")? {
            message = message.to(mailbox);
        }
        for mailbox in payload.cc.parse("cc")? {
            message = message.cc(mailbox);
        }
        for mailbox in payload.bcc.parse("bcc")? {
            message = message.bcc(mailbox);
        }
        let message = match (payload.text, payload.html) {
            (Some(text), Some(html)) => message.multipart(MultiPart::alternative_plain_html(text, html)),
            (Some(text), None) => message.singlepart(SinglePart::plain(text)),
            (None, Some(html)) => message.singlepart(SinglePart::html(html)),
            (None, None) => return Err("it has neither text nor html".to_owned()),
        };
        let message = message.map_err(|error| error.to_string())?;
        Ok(Self {
            envelope: message.envelope().clone(),
            bytes: message.formatted(),
        })
    }
}

fn time_of(delivery: &Delivery) -> SystemTime {
    let millis = u64::try_from(delivery.now.as_millis()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
}
