//! Keys of the project: the local secret, the two legacy keys made from it, and the opaque publishable and secret keys.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::json;
use subtle::ConstantTimeEq;

use super::Caller;

/// Least length of an HS256 secret.
pub const MIN_SECRET_BYTES: usize = 32;

/// Why the local secret cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Reading or making the file failed.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is shorter than a secret.
    #[error("{} holds fewer than {MIN_SECRET_BYTES} bytes; remove it and a new one is made (tokens made with the old one end)", path.display())]
    Short {
        /// The file.
        path: PathBuf,
    },
}

/// Reads the local secret, or makes it on the first run: 48 random bytes, readable by the owner only.
///
/// # Errors
/// [`SecretError`] when the file cannot be read or made, or is too short.
pub fn local_secret(data_dir: &Path) -> Result<String, SecretError> {
    let path = data_dir.join("jwt-secret");
    let fail = |source| SecretError::Io { path: path.clone(), source };
    match std::fs::read_to_string(&path) {
        Ok(text) if text.trim().len() >= MIN_SECRET_BYTES => return Ok(text.trim().to_owned()),
        Ok(_) => return Err(SecretError::Short { path }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(fail(error)),
    }
    let mut random = [0_u8; 48];
    std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut random)).map_err(fail)?;
    let secret = URL_SAFE_NO_PAD.encode(random);
    // Written beside and linked, so that of two first runs at once both use the same secret.
    let draft = data_dir.join(format!("jwt-secret.{}", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut f| f.write_all(secret.as_bytes()).and_then(|()| f.sync_all()));
    let linked = written.and_then(|()| std::fs::hard_link(&draft, &path));
    let removed = std::fs::remove_file(&draft);
    match linked {
        Ok(()) => removed.map_err(fail).map(|()| secret),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => local_secret(data_dir),
        Err(error) => Err(fail(error)),
    }
}

/// Makes a legacy key: a token with a role and no expiry, the same for the same secret.
///
/// # Errors
/// When signing fails.
pub fn legacy_key(secret: &[u8], role: &str) -> Result<String, jsonwebtoken::errors::Error> {
    sign(secret, &json!({ "iss": "nudge", "role": role }))
}

/// Signs claims with HS256.
///
/// # Errors
/// When signing fails.
pub fn sign(secret: &[u8], claims: &serde_json::Value) -> Result<String, jsonwebtoken::errors::Error> {
    jsonwebtoken::encode(
        &jsonwebtoken::Header::new(Algorithm::HS256),
        claims,
        &EncodingKey::from_secret(secret),
    )
}

/// The opaque keys: name → key.
#[derive(Default)]
pub struct ApiKeys {
    publishable: Vec<String>,
    secret: Vec<String>,
}

impl std::fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ApiKeys({} publishable, {} secret)", self.publishable.len(), self.secret.len())
    }
}

impl ApiKeys {
    /// Takes the configured keys.
    pub fn new(publishable: BTreeMap<String, String>, secret: BTreeMap<String, String>) -> Self {
        Self { publishable: publishable.into_values().collect(), secret: secret.into_values().collect() }
    }

    /// Lists the secret keys.
    pub fn secret_keys(&self) -> impl Iterator<Item = &str> {
        self.secret.iter().map(String::as_str)
    }

    /// Finds the caller that a key stands for, comparing each key in constant time.
    pub fn find(&self, key: &str) -> Option<Caller> {
        let among = |keys: &[String]| {
            keys.iter().fold(false, |found, known| found | bool::from(known.as_bytes().ct_eq(key.as_bytes())))
        };
        let (publishable, secret) = (among(&self.publishable), among(&self.secret));
        if secret {
            Some(Caller::Service)
        } else if publishable {
            Some(Caller::Anonymous)
        } else {
            None
        }
    }
}
