//! Sessions of the dashboard: a signed cookie that every server with the same JWT secret understands.
//!
//! A session is made from a credential that was verified, and lasts eight hours or as long as that credential, whichever
//! ends first. Nothing of the credential is in it but, for an opaque key, a part of its hash: so the session ends when
//! the key is taken out of the settings. The key that signs is derived from the JWT secret, so a session is no API token,
//! an API token is no session, and a new secret ends them all. What a session may do is asked anew at every request; that
//! it was signed out of is in the database (`Store::end_session`).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::{SignedDuration, Timestamp};
use nudge_engine::UserId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{AuthError, Authenticator, Caller};

/// Longest life of a session.
const LIFE: SignedDuration = SignedDuration::from_hours(8);
/// Longest cookie that is looked at.
const MAX_COOKIE_BYTES: usize = 1_024;

/// Who signed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// A user.
    User(UserId),
    /// The holder of the service key.
    Service {
        /// The fingerprint of an opaque key; `None` for the legacy key, which lives as long as the secret.
        key: Option<String>,
    },
}

impl Who {
    /// Gives the caller that the session stands for.
    pub fn caller(&self) -> Caller {
        match self {
            Self::User(user) => Caller::User(user.clone()),
            Self::Service { .. } => Caller::Service,
        }
    }
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its id, UUIDv7.
    pub id: Uuid,
    /// Who signed in.
    pub who: Who,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A credential that was verified.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// The caller that it stands for.
    pub caller: Caller,
    /// When it ends, if it does.
    pub expires_at: Option<Timestamp>,
    /// The fingerprint of an opaque key.
    pub key: Option<String>,
}

impl Authenticator {
    /// Verifies a credential that a person typed: a token, a legacy key or an opaque one.
    ///
    /// # Errors
    /// [`AuthError`]: why it stands for nobody.
    pub async fn exchange(&self, credential: &str, now: Timestamp) -> Result<Verified, AuthError> {
        if credential.is_empty() {
            return Err(AuthError::Missing);
        }
        if credential.starts_with("sb_") {
            let caller = self.keys.find(credential).ok_or(AuthError::UnknownKey)?;
            return Ok(Verified { caller, expires_at: None, key: Some(fingerprint(credential)) });
        }
        let claims = self.token(credential, now).await?;
        let expires_at = claims.expires_at();
        Ok(Verified { caller: claims.caller(), expires_at, key: None })
    }

    /// Says whether an opaque secret key with this fingerprint is configured.
    pub fn has_secret_key(&self, wanted: &str) -> bool {
        self.keys.secret_keys().any(|key| fingerprint(key) == wanted)
    }
}

/// Gives the first half of a key's SHA-256, in hexadecimal.
fn fingerprint(key: &str) -> String {
    Sha256::digest(key.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Signs and verifies sessions and the tokens of their forms.
pub struct Sessions {
    key: Hmac<Sha256>,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sessions(…)")
    }
}

/// What a signature is for, so that one of a form is none of a session.
const SESSION: &str = "session:";
const FORM: &str = "form:";

impl Sessions {
    /// Derives the signing key from the JWT secret.
    pub fn new(secret: &[u8]) -> Self {
        let derived =
            Sha256::new().chain_update(b"nudge-dashboard-session-v1\n").chain_update(secret).finalize();
        let mut block = [0_u8; 64];
        for (to, from) in block.iter_mut().zip(derived) {
            *to = from;
        }
        Self { key: Hmac::new(&block.into()) }
    }

    /// Makes a session for a credential that was verified; `None` for an anonymous one.
    pub fn make(&self, id: Uuid, verified: Verified, now: Timestamp) -> Option<Session> {
        let who = match verified.caller {
            Caller::Anonymous => return None,
            Caller::User(user) => Who::User(user),
            Caller::Service => Who::Service { key: verified.key },
        };
        let longest = now.saturating_add(LIFE).unwrap_or(now);
        let expires_at = verified.expires_at.map_or(longest, |end| end.min(longest));
        Some(Session { id, who, expires_at })
    }

    /// Writes a session as a cookie's value.
    ///
    /// # Errors
    /// When it cannot be serialized.
    pub fn seal(&self, session: &Session) -> serde_json::Result<String> {
        let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(session)?);
        let signature = URL_SAFE_NO_PAD.encode(self.sign(SESSION, &payload).finalize().into_bytes());
        Ok(format!("{payload}.{signature}"))
    }

    /// Reads a session from a cookie's value: `None` unless it was signed here and lasts.
    pub fn open(&self, cookie: &str, now: Timestamp) -> Option<Session> {
        if cookie.len() > MAX_COOKIE_BYTES {
            return None;
        }
        let (payload, signature) = cookie.split_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        self.sign(SESSION, payload).verify_slice(&signature).ok()?;
        let session: Session = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
        (now < session.expires_at).then_some(session)
    }

    /// Makes the token that the forms of a session carry, or that the sign-in form carries for its own cookie.
    pub fn form_token(&self, of: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.sign(FORM, of).finalize().into_bytes())
    }

    /// Says whether a form's token is the one, in constant time.
    pub fn is_form_token(&self, of: &str, token: &str) -> bool {
        let Ok(token) = URL_SAFE_NO_PAD.decode(token) else { return false };
        self.sign(FORM, of).verify_slice(&token).is_ok()
    }

    fn sign(&self, what: &str, text: &str) -> Hmac<Sha256> {
        let mut mac = self.key.clone();
        mac.update(what.as_bytes());
        mac.update(text.as_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"a secret of these tests that is long enough";

    fn session(sessions: &Sessions, expires_at: Option<&str>) -> Session {
        let verified = Verified {
            caller: Caller::User(UserId::parse("root").unwrap()),
            expires_at: expires_at.map(|at| at.parse().unwrap()),
            key: None,
        };
        sessions.make(Uuid::from_u128(7), verified, at("2026-03-09T10:00:00Z")).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_session_ends_with_its_credential_or_after_eight_hours() {
        let sessions = Sessions::new(SECRET);
        assert_eq!(session(&sessions, None).expires_at, at("2026-03-09T18:00:00Z"));
        assert_eq!(session(&sessions, Some("2026-03-09T11:00:00Z")).expires_at, at("2026-03-09T11:00:00Z"));
        assert_eq!(session(&sessions, Some("2027-01-01T00:00:00Z")).expires_at, at("2026-03-09T18:00:00Z"));
        let anonymous = Verified { caller: Caller::Anonymous, expires_at: None, key: None };
        assert_eq!(sessions.make(Uuid::nil(), anonymous, at("2026-03-09T10:00:00Z")), None);
    }

    #[test]
    fn a_cookie_opens_with_the_same_secret_until_it_ends() {
        let (here, replica, other) =
            (Sessions::new(SECRET), Sessions::new(SECRET), Sessions::new(b"another secret"));
        let session = session(&here, None);
        let cookie = here.seal(&session).unwrap();
        assert_eq!(replica.open(&cookie, at("2026-03-09T17:59:59Z")), Some(session));
        assert_eq!(replica.open(&cookie, at("2026-03-09T18:00:00Z")), None);
        assert_eq!(other.open(&cookie, at("2026-03-09T12:00:00Z")), None);
    }

    #[test]
    fn a_cookie_that_was_changed_anywhere_does_not_open() {
        let sessions = Sessions::new(SECRET);
        let cookie = sessions.seal(&session(&sessions, None)).unwrap();
        let now = at("2026-03-09T12:00:00Z");
        for n in 0..cookie.len() {
            let mut bytes = cookie.clone().into_bytes();
            bytes[n] = if bytes[n] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            // The last character of each part holds bits that no byte is made of.
            if let Some(opened) = sessions.open(&changed, now) {
                assert_eq!(opened, sessions.open(&cookie, now).unwrap(), "{n}");
            }
        }
        let (payload, signature) = cookie.split_once('.').unwrap();
        for forged in [payload.to_owned(), format!("{payload}."), format!(".{signature}"), String::new()] {
            assert_eq!(sessions.open(&forged, now), None, "{forged}");
        }
    }

    #[test]
    fn a_signature_counts_for_one_purpose_only() {
        let sessions = Sessions::new(SECRET);
        let cookie = sessions.seal(&session(&sessions, None)).unwrap();
        let payload = cookie.split_once('.').unwrap().0;
        let as_form = format!("{payload}.{}", sessions.form_token(payload));
        assert_eq!(sessions.open(&as_form, at("2026-03-09T12:00:00Z")), None);
        let token = sessions.form_token("one");
        assert!(sessions.is_form_token("one", &token));
        assert!(!sessions.is_form_token("two", &token) && !sessions.is_form_token("one", ""));
    }
}
