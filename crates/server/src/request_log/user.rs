//! How a user shows in the log of requests: as a keyed hash, unless an operator wants something else.
//!
//! The hash is the same for a user on every server with the same key and after every restart, so that somebody's requests
//! can be followed; without the key it cannot be turned back by trying ids. Its form is named, so that another one can
//! follow: `u1_` and the first 16 bytes of the HMAC-SHA256 of the id, in hexadecimal.

use std::fmt::Write as _;
use std::str::FromStr;

use hmac::{Hmac, KeyInit, Mac};
use nudge_engine::UserId;
use sha2::Sha256;

/// What the default key is derived with, and for.
const PURPOSE: &[u8] = b"nudge request log, user ids, version 1";
/// What a hash begins with.
const PREFIX: &str = "u1_";
/// Bytes of the hash that are kept: enough that two of a billion users do not meet.
const BYTES: usize = 16;

/// What is kept of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// A keyed hash.
    Hashed,
    /// The id.
    Plain,
    /// Nothing.
    Nothing,
}

impl FromStr for Shown {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "hashed" => Ok(Self::Hashed),
            "plain" => Ok(Self::Plain),
            "none" => Ok(Self::Nothing),
            _ => Err("must be `hashed`, `plain` or `none`"),
        }
    }
}

/// Makes of a user what is kept.
#[derive(Clone)]
pub struct Users {
    shown: Shown,
    mac: Option<Hmac<Sha256>>,
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Users").field("shown", &self.shown).finish_non_exhaustive()
    }
}

impl Users {
    /// Takes the key of its own, if there is one, or derives it from the secret of the tokens.
    pub fn new(shown: Shown, key: Option<&str>, jwt_secret: &str) -> Self {
        let keyed = |key: &[u8]| Hmac::<Sha256>::new_from_slice(key).ok();
        let mac = match key {
            Some(key) => keyed(key.as_bytes()),
            None => keyed(jwt_secret.as_bytes()).and_then(|mut mac| {
                mac.update(PURPOSE);
                keyed(&mac.finalize().into_bytes())
            }),
        };
        Self { shown, mac }
    }

    /// Gives what is kept of a user.
    pub fn show(&self, user: &UserId) -> Option<String> {
        match self.shown {
            Shown::Hashed => self.hash(user),
            Shown::Plain => Some(user.as_str().to_owned()),
            Shown::Nothing => None,
        }
    }

    /// Gives the hash of a user, whatever is kept.
    pub fn hash(&self, user: &UserId) -> Option<String> {
        let mut mac = self.mac.clone()?;
        mac.update(user.as_str().as_bytes());
        let digest = mac.finalize().into_bytes();
        let mut text = String::with_capacity(PREFIX.len() + 2 * BYTES);
        text.push_str(PREFIX);
        for byte in digest.iter().take(BYTES) {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: &str) -> UserId {
        UserId::parse(id).unwrap()
    }

    #[test]
    fn a_hash_is_that_of_id_and_key_and_stays_so() {
        let secret = "a secret of these tests that is long enough";
        let users = Users::new(Shown::Hashed, None, secret);
        // Whoever changes this makes every stored hash somebody else's.
        assert_eq!(users.show(&user("ann")).unwrap(), "u1_7d96e0bb21afc9f1066dc93d68eea82b");
        assert_eq!(users.show(&user("ann")), Users::new(Shown::Plain, None, secret).hash(&user("ann")));
        assert_ne!(users.show(&user("ann")), users.show(&user("bob")));
        assert_ne!(users.show(&user("ann")), Users::new(Shown::Hashed, None, "another").show(&user("ann")));
        let keyed = Users::new(Shown::Hashed, Some("a key of its own"), secret);
        assert_ne!(users.show(&user("ann")), keyed.show(&user("ann")));
        let rotated = Users::new(Shown::Hashed, Some("a key of its own"), "a secret after its rotation");
        assert_eq!(keyed.show(&user("ann")), rotated.show(&user("ann")));
    }

    #[test]
    fn an_operator_may_keep_ids_or_nothing() {
        assert_eq!(Users::new(Shown::Plain, None, "s").show(&user("ann")), Some("ann".into()));
        assert_eq!(Users::new(Shown::Nothing, None, "s").show(&user("ann")), None);
        assert_eq!("sha".parse::<Shown>(), Err("must be `hashed`, `plain` or `none`"));
    }
}
