//! Signatures by the Standard Webhooks scheme.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

const PREFIX: &str = "whsec_";
/// What the scheme asks for.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A secret shared with the receiver of webhooks.
#[derive(Clone)]
pub struct WebhookSecret(hmac::Key);

/// Why a text is no [`WebhookSecret`]. It does not show the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the webhook secret {0}; make one with: echo whsec_$(openssl rand -base64 32)")]
pub struct WebhookSecretError(&'static str);

impl WebhookSecret {
    /// Reads `whsec_` and base64 of 24 to 64 bytes; white space around it does not count.
    ///
    /// # Errors
    /// [`WebhookSecretError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, WebhookSecretError> {
        let digits = text.trim().strip_prefix(PREFIX);
        let digits = digits.ok_or(WebhookSecretError("does not begin with whsec_"))?;
        let bytes = STANDARD.decode(digits);
        let bytes = bytes.map_err(|_| WebhookSecretError("is no base64 behind whsec_"))?;
        if !BYTES.contains(&bytes.len()) {
            return Err(WebhookSecretError("has not between 24 and 64 bytes"));
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The signature of a message: `v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp_s: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(id.as_bytes());
        context.update(format!(".{timestamp_s}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

/// Nothing of the secret.
impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the scheme's specification and of its libraries' tests.
    #[test]
    fn signs_as_the_scheme_does() {
        let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let signature = secret.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn what_is_no_secret_is_told_without_showing_it() {
        let short = format!("whsec_{}", STANDARD.encode([7; 23]));
        let long = format!("whsec_{}", STANDARD.encode([7; 65]));
        for (text, problem) in [
            ("sekret-text", "does not begin with whsec_"),
            ("whsec_???", "is no base64"),
            (short.as_str(), "between 24 and 64 bytes"),
            (long.as_str(), "between 24 and 64 bytes"),
        ] {
            let error = WebhookSecret::parse(text).unwrap_err().to_string();
            assert!(
                error.contains(problem) && !error.contains(&text[6.min(text.len())..]),
                "{error}"
            );
        }
    }
}
