//! JSON Web Tokens: what is accepted, and nothing else.
//!
//! The signature is `jsonwebtoken`'s; the rules about headers, claims and times are here, in one place.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey};
use nudge_engine::UserId;
use serde::Deserialize;
use serde_json::Value;

use super::Caller;
use super::jwks::Jwks;

/// Seconds by which clocks may differ.
const LEEWAY_SECS: f64 = 30.0;
/// Longest token that is looked at.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// Not three base64url parts holding JSON objects.
    #[error("The token is not a JWT.")]
    Malformed,
    /// `alg` is not HS256, ES256 or RS256, or does not fit the key.
    #[error("The token's algorithm is not accepted.")]
    Algorithm,
    /// The header demands an extension.
    #[error("The token's header has `crit`, which is not supported.")]
    Critical,
    /// No key with this `kid`.
    #[error("The token was signed with a key that is not known here.")]
    UnknownKey,
    /// The signature does not verify.
    #[error("The token's signature is wrong.")]
    Signature,
    /// The role is not anon, authenticated or service_role.
    #[error("The token's `role` is not accepted.")]
    Role,
    /// A claim is missing or of the wrong type.
    #[error("The token's `{0}` is missing or not of the right type.")]
    Claim(&'static str),
    /// `exp` has passed.
    #[error("The token has expired; sign in again.")]
    Expired,
    /// `nbf` or `iat` is ahead.
    #[error("The token is not valid yet.")]
    NotYet,
}

/// The caller a token stands for, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct Claims {
    caller: Caller,
    /// `exp`, seconds since the epoch.
    expires: Option<f64>,
    /// The later of `nbf` and `iat`.
    starts: Option<f64>,
}

impl Claims {
    /// Gives the caller.
    pub fn caller(self) -> Caller {
        self.caller
    }

    /// Gives the time of `exp`, to the second below.
    pub fn expires_at(&self) -> Option<Timestamp> {
        let seconds = self.expires?.floor();
        // Beyond the calendar's end it never expires.
        Some(Timestamp::from_second(seconds as i64).unwrap_or(Timestamp::MAX))
    }

    /// Checks `exp`, `nbf` and `iat` against the time, with 30 seconds of leeway.
    ///
    /// # Errors
    /// [`JwtError::Expired`] or [`JwtError::NotYet`].
    pub fn check_times(&self, now: Timestamp) -> Result<(), JwtError> {
        let now = now.as_millisecond() as f64 / 1_000.0;
        if self.expires.is_some_and(|exp| now > exp + LEEWAY_SECS) {
            return Err(JwtError::Expired);
        }
        if self.starts.is_some_and(|start| start > now + LEEWAY_SECS) {
            return Err(JwtError::NotYet);
        }
        Ok(())
    }
}

/// The header's fields that matter. `jku`, `jwk` and `x5u` are never followed.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Whatever it holds, null included.
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// The claims that matter, not yet typed: a wrong type is an error with the claim's name.
#[derive(Deserialize)]
struct RawClaims {
    role: Option<Value>,
    sub: Option<Value>,
    exp: Option<Value>,
    nbf: Option<Value>,
    iat: Option<Value>,
}

/// Verifies a token.
///
/// # Errors
/// [`JwtError`] says which rule it breaks.
pub async fn verify(
    token: &str,
    secret: &DecodingKey,
    jwks: &Jwks,
    now: Timestamp,
) -> Result<Claims, JwtError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(JwtError::Malformed);
    }
    let (message, signature) = token.rsplit_once('.').ok_or(JwtError::Malformed)?;
    let (header, payload) = message.split_once('.').ok_or(JwtError::Malformed)?;
    let header: Header = decode(header)?;
    if header.crit {
        return Err(JwtError::Critical);
    }
    if signature.is_empty() {
        return Err(JwtError::Signature);
    }
    let valid = match header.alg.as_str() {
        "HS256" => check(signature, message, secret, Algorithm::HS256),
        "ES256" => {
            let key =
                jwks.key(header.kid.as_deref(), Algorithm::ES256, now).await.ok_or(JwtError::UnknownKey)?;
            check(signature, message, &key, Algorithm::ES256)
        }
        "RS256" => {
            let key =
                jwks.key(header.kid.as_deref(), Algorithm::RS256, now).await.ok_or(JwtError::UnknownKey)?;
            check(signature, message, &key, Algorithm::RS256)
        }
        _ => return Err(JwtError::Algorithm),
    };
    if !valid {
        return Err(JwtError::Signature);
    }
    let claims = typed(decode(payload)?)?;
    claims.check_times(now)?;
    Ok(claims)
}

/// Decodes one part of a token: base64url without padding, holding JSON.
fn decode<T: for<'de> Deserialize<'de>>(part: &str) -> Result<T, JwtError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| JwtError::Malformed)
}

fn check(signature: &str, message: &str, key: &DecodingKey, algorithm: Algorithm) -> bool {
    jsonwebtoken::crypto::verify(signature, message.as_bytes(), key, algorithm).unwrap_or(false)
}

/// Checks the claims' types and resolves the caller.
fn typed(raw: RawClaims) -> Result<Claims, JwtError> {
    let expires = seconds(raw.exp, "exp")?;
    let starts = match (seconds(raw.nbf, "nbf")?, seconds(raw.iat, "iat")?) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    };
    let caller = match raw.role.as_ref().and_then(Value::as_str) {
        Some("anon") => Caller::Anonymous,
        Some("service_role") => Caller::Service,
        Some("authenticated") => {
            if expires.is_none() {
                return Err(JwtError::Claim("exp"));
            }
            let sub = raw.sub.as_ref().and_then(Value::as_str).ok_or(JwtError::Claim("sub"))?;
            Caller::User(UserId::parse(sub).map_err(|_| JwtError::Claim("sub"))?)
        }
        _ => return Err(JwtError::Role),
    };
    Ok(Claims { caller, expires, starts })
}

/// Reads a claim that holds seconds since the epoch.
fn seconds(value: Option<Value>, name: &'static str) -> Result<Option<f64>, JwtError> {
    match value {
        None => Ok(None),
        Some(Value::Number(n)) => n.as_f64().filter(|n| n.is_finite()).map(Some).ok_or(JwtError::Claim(name)),
        Some(_) => Err(JwtError::Claim(name)),
    }
}
