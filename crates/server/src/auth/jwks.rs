//! Public keys for ES256 and RS256: from a JSON Web Key Set, inline or by URL.
//!
//! A set by URL is fetched every ten minutes, and when a token names a `kid` that is not in it, at most once in 30 seconds
//! however many such tokens come; a token waits for that fetch at most five seconds. Keys are never taken from a token's own header.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use tokio::sync::Mutex;

/// Least seconds between two fetches.
const COOL_DOWN_SECS: i64 = 30;
/// Longest wait for a fetch.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest key set that is read.
const MAX_BYTES: u64 = 256 * 1024;

/// Why a key set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// Not a JSON Web Key Set.
    #[error("not a JSON Web Key Set: {0}")]
    Json(#[from] serde_json::Error),
    /// The URL is neither https nor http on loopback.
    #[error("`{0}` must be an https URL (http only on loopback)")]
    Url(String),
    /// The fetch failed.
    #[error("the key set could not be fetched: {0}")]
    Fetch(String),
}

/// One usable key.
#[derive(Clone)]
struct PublicKey {
    kid: Option<String>,
    algorithm: Algorithm,
    key: Arc<DecodingKey>,
}

/// A set of public keys.
pub struct Jwks {
    url: Option<String>,
    /// Those given in the settings, which stay whatever is fetched.
    inline: Vec<PublicKey>,
    keys: RwLock<Arc<[PublicKey]>>,
    generation: AtomicU64,
    last: Mutex<LastFetch>,
}

/// What was fetched last.
#[derive(Default)]
struct LastFetch {
    /// When it began.
    at: Option<Timestamp>,
    /// The set as it came.
    text: String,
}

impl std::fmt::Debug for Jwks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jwks").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Jwks {
    /// Makes a set from the inline JSON and/or the URL; the URL is not fetched yet.
    ///
    /// # Errors
    /// [`JwksError`] when the JSON is not a key set or the URL is not allowed.
    pub fn new(inline: Option<&str>, url: Option<&str>) -> Result<Self, JwksError> {
        if let Some(url) = url.filter(|url| !url_is_allowed(url)) {
            return Err(JwksError::Url(url.to_owned()));
        }
        let inline = inline.map(parse_set).transpose()?.unwrap_or_default();
        Ok(Self {
            url: url.map(str::to_owned),
            keys: RwLock::new(inline.clone().into()),
            inline,
            generation: AtomicU64::new(0),
            last: Mutex::default(),
        })
    }

    /// Counts the changes of the set, so that what was verified with an older one is verified again.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Finds the key for a token, fetching the set if it may have grown.
    pub async fn key(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
        now: Timestamp,
    ) -> Option<Arc<DecodingKey>> {
        if let Some(key) = self.find(kid, algorithm) {
            return Some(key);
        }
        self.refresh(now).await;
        self.find(kid, algorithm)
    }

    fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<Arc<DecodingKey>> {
        let keys = self.keys.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let mut fitting = keys.iter().filter(|k| k.algorithm == algorithm);
        match kid {
            Some(kid) => fitting.find(|k| k.kid.as_deref() == Some(kid)).map(|k| Arc::clone(&k.key)),
            // Without a name the key must be the only one.
            None => fitting.next().filter(|_| fitting.next().is_none()).map(|k| Arc::clone(&k.key)),
        }
    }

    /// Fetches the set unless that was tried lately. Callers at the same time wait for one fetch. The set counts as another
    /// one only when its text has changed; a key that is no longer in it is no longer trusted.
    pub async fn refresh(&self, now: Timestamp) {
        let Some(url) = self.url.clone() else { return };
        let mut last = self.last.lock().await;
        if last.at.is_some_and(|at| now.as_second() - at.as_second() < COOL_DOWN_SECS) {
            return;
        }
        last.at = Some(now);
        let fetched = tokio::task::spawn_blocking(move || fetch(&url)).await;
        match fetched {
            Ok(Ok((text, _))) if text == last.text => {}
            Ok(Ok((text, fetched))) => {
                last.text = text;
                let keys: Vec<_> = self.inline.iter().cloned().chain(fetched).collect();
                *self.keys.write().unwrap_or_else(std::sync::PoisonError::into_inner) = keys.into();
                self.generation.fetch_add(1, Ordering::AcqRel);
            }
            Ok(Err(error)) => tracing::warn!(%error, "jwks.fetch_failed"),
            Err(error) => tracing::error!(%error, "jwks.fetch_died"),
        }
    }
}

/// Says whether a key set may be fetched from a URL: https, or http on loopback.
pub fn url_is_allowed(url: &str) -> bool {
    let Ok(uri) = url.parse::<axum::http::Uri>() else { return false };
    let loopback = matches!(uri.host(), Some("127.0.0.1" | "localhost" | "[::1]"));
    match uri.scheme_str() {
        Some("https") => uri.host().is_some(),
        Some("http") => loopback,
        _ => false,
    }
}

fn fetch(url: &str) -> Result<(String, Vec<PublicKey>), JwksError> {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().timeout_global(Some(FETCH_TIMEOUT)).max_redirects(0).build().into();
    let mut response = agent.get(url).call().map_err(|error| JwksError::Fetch(error.to_string()))?;
    let text = response
        .body_mut()
        .with_config()
        .limit(MAX_BYTES)
        .read_to_string()
        .map_err(|error| JwksError::Fetch(error.to_string()))?;
    let keys = parse_set(&text)?;
    Ok((text, keys))
}

/// Reads a key set; keys of other kinds than P-256 and RSA signing keys are left out.
fn parse_set(json: &str) -> Result<Vec<PublicKey>, JwksError> {
    let set: JwkSet = serde_json::from_str(json)?;
    Ok(set.keys.iter().filter_map(usable).collect())
}

fn usable(jwk: &Jwk) -> Option<PublicKey> {
    if matches!(&jwk.common.public_key_use, Some(PublicKeyUse::Encryption)) {
        return None;
    }
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::EllipticCurve(p) if p.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        _ => return None,
    };
    match (jwk.common.key_algorithm, algorithm) {
        (None, _)
        | (Some(KeyAlgorithm::ES256), Algorithm::ES256)
        | (Some(KeyAlgorithm::RS256), Algorithm::RS256) => {}
        _ => return None,
    }
    let key = Arc::new(DecodingKey::from_jwk(jwk).ok()?);
    Some(PublicKey { kid: jwk.common.key_id.clone(), algorithm, key })
}
