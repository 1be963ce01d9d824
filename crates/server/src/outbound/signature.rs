//! Signs what is sent, so that the other end knows who sent it: the scheme of standardwebhooks.com, for which there are
//! libraries in most languages.
//!
//! `webhook-id` names the message, `webhook-timestamp` is the time of the attempt in seconds, and `webhook-signature` is `v1,`
//! and the base64 of the HMAC-SHA256 of `id.timestamp.body` under the secret. The body is that which is sent, compressed
//! if it is.

use axum::http::{HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;

/// What a secret in the scheme's own form begins with; the rest is base64.
const PREFIX: &str = "whsec_";
/// Shortest secret, in bytes.
pub const MIN_SECRET_BYTES: usize = 16;

/// The header with the message's id, which is the same at every attempt.
pub const ID: HeaderName = HeaderName::from_static("webhook-id");
/// The header with the time of the attempt.
pub const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
/// The header with the signature.
pub const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// A secret that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Too short.
    #[error("the signing secret must have {MIN_SECRET_BYTES} bytes or more")]
    TooShort,
    /// `whsec_` and something that is no base64.
    #[error("a signing secret that begins with {PREFIX} goes on in base64")]
    NotBase64,
}

/// What messages are signed with.
#[derive(Clone)]
pub struct Signer(Hmac<Sha256>);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    /// Takes a secret: any text of 16 bytes or more, or `whsec_` and base64 of as many.
    ///
    /// # Errors
    /// [`SecretError`] when it is neither.
    pub fn new(secret: &str) -> Result<Self, SecretError> {
        let key = match secret.strip_prefix(PREFIX) {
            Some(encoded) => STANDARD.decode(encoded).map_err(|_| SecretError::NotBase64)?,
            None => secret.as_bytes().to_vec(),
        };
        if key.len() < MIN_SECRET_BYTES {
            return Err(SecretError::TooShort);
        }
        Hmac::new_from_slice(&key).map(Self).map_err(|_| SecretError::TooShort)
    }

    /// Gives the headers of one attempt to send a message. The id must be visible ASCII.
    pub fn headers(&self, id: &str, at: Timestamp, body: &[u8]) -> Vec<(HeaderName, HeaderValue)> {
        let at = at.as_second().to_string();
        let mut mac = self.0.clone();
        for part in [id.as_bytes(), b".", at.as_bytes(), b".", body] {
            mac.update(part);
        }
        let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        [(ID, id), (TIMESTAMP, at.as_str()), (SIGNATURE, signature.as_str())]
            .into_iter()
            .filter_map(|(name, value)| Some((name, HeaderValue::from_str(value).ok()?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(secret: &str, id: &str, at: i64, body: &[u8]) -> String {
        let headers = Signer::new(secret).unwrap().headers(id, Timestamp::from_second(at).unwrap(), body);
        assert_eq!(headers[0], (ID, HeaderValue::from_str(id).unwrap()));
        assert_eq!(headers[1], (TIMESTAMP, HeaderValue::from_str(&at.to_string()).unwrap()));
        headers[2].1.to_str().unwrap().to_owned()
    }

    #[test]
    fn the_signature_is_that_of_the_schemes_own_example() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let body = br#"{"test": 2432232314}"#;
        let found = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(found, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn id_time_body_and_secret_are_all_signed() {
        let usual = signature("a secret of sixteen", "a", 1, b"body");
        for other in [
            signature("a secret of sixteen", "b", 1, b"body"),
            signature("a secret of sixteen", "a", 2, b"body"),
            signature("a secret of sixteen", "a", 1, b"bodies"),
            signature("another of seventeen", "a", 1, b"body"),
        ] {
            assert_ne!(usual, other);
        }
    }

    #[test]
    fn secrets_that_are_short_or_no_base64_are_refused() {
        assert_eq!(Signer::new("fifteen bytes..").unwrap_err(), SecretError::TooShort);
        assert_eq!(Signer::new("whsec_c2hvcnQ=").unwrap_err(), SecretError::TooShort);
        assert_eq!(Signer::new("whsec_not base64 at all").unwrap_err(), SecretError::NotBase64);
    }
}
