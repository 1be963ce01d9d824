//! Who is calling: from the two headers to one caller. Source: the functions API's section of that name.

pub mod jwks;
pub mod jwt;
pub mod keys;
pub mod session;

use axum::http::{HeaderMap, header};
use jiff::Timestamp;
use moka::sync::Cache;
use nudge_engine::UserId;
use sha2::{Digest, Sha256};

use jwks::Jwks;
use jwt::{Claims, JwtError};
use keys::ApiKeys;

/// The resolved caller of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// The anonymous key: the neutral default and nothing else.
    Anonymous,
    /// A signed-in user. Whether they are an admin is read from the database when it matters.
    User(UserId),
    /// The service key: everything.
    Service,
}

impl From<Caller> for nudge_store::Caller {
    fn from(caller: Caller) -> Self {
        match caller {
            Caller::Anonymous => Self::Anonymous,
            Caller::User(user) => Self::User(user),
            Caller::Service => Self::Service,
        }
    }
}

/// Why a request has no caller. All of them are 401.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Neither header holds anything.
    #[error("No credentials: send an `apikey` header, or `Authorization: Bearer <token>`.")]
    Missing,
    /// A header is given twice or is not text.
    #[error("`{0}` must be given once, as plain text.")]
    Header(&'static str),
    /// The scheme is not Bearer.
    #[error("Only the `Bearer` scheme is understood.")]
    Scheme,
    /// The opaque key is not one of the configured ones, or the two headers name different ones.
    #[error("This API key is not known here.")]
    UnknownKey,
    /// A secret key came from a browser.
    #[error("A secret key must not be used in a browser; use a publishable key and the user's token.")]
    SecretKeyInBrowser,
    /// The token.
    #[error(transparent)]
    Jwt(#[from] JwtError),
}

/// A verified token, remembered until it expires.
#[derive(Debug, Clone)]
struct Verified {
    claims: Claims,
    /// The key set that it was verified with.
    key_set: u64,
}

/// Verifies credentials.
#[derive(Debug)]
pub struct Authenticator {
    secret: jsonwebtoken::DecodingKey,
    keys: ApiKeys,
    jwks: Jwks,
    verified: Cache<[u8; 32], Verified>,
}

/// Most verified tokens that are remembered.
const VERIFIED_TOKENS: u64 = 50_000;

impl Authenticator {
    /// Makes an authenticator from the HS256 secret, the opaque keys and the key set.
    pub fn new(secret: &[u8], keys: ApiKeys, jwks: Jwks) -> Self {
        Self {
            secret: jsonwebtoken::DecodingKey::from_secret(secret),
            keys,
            jwks,
            verified: Cache::new(VERIFIED_TOKENS),
        }
    }

    /// Resolves the caller of a request.
    ///
    /// # Errors
    /// [`AuthError`]: why the request has no caller. A token that is present but invalid is an error even beside a valid key.
    pub async fn caller(&self, headers: &HeaderMap, now: Timestamp) -> Result<Caller, AuthError> {
        let authorization = single(headers, header::AUTHORIZATION.as_str(), "authorization")?;
        let apikey = single(headers, "apikey", "apikey")?.map(str::trim).filter(|key| !key.is_empty());
        let opaque = apikey.and_then(|key| self.keys.find(key));
        if opaque == Some(Caller::Service) && headers.contains_key(header::ORIGIN) {
            return Err(AuthError::SecretKeyInBrowser);
        }
        let bearer = authorization.map(bearer_token).transpose()?;
        match bearer {
            Some(token) if token.starts_with("sb_") && apikey == Some(token) => {}
            Some(token) if token.starts_with("sb_") => return Err(AuthError::UnknownKey),
            Some(token) => return Ok(self.token(token, now).await?.caller()),
            None => {}
        }
        let Some(key) = apikey else { return Err(AuthError::Missing) };
        match opaque {
            Some(caller) => Ok(caller),
            None if key.starts_with("sb_") => Err(AuthError::UnknownKey),
            None => match self.token(key, now).await?.caller() {
                // A legacy key is a key of the project: a user's token does not belong in `apikey`.
                Caller::User(_) => Err(AuthError::UnknownKey),
                caller => Ok(caller),
            },
        }
    }

    /// Fetches the public keys anew, so that those that were withdrawn are no longer trusted.
    pub async fn refresh_keys(&self, now: Timestamp) {
        self.jwks.refresh(now).await;
    }

    /// Verifies a token, or recalls that it was verified; the times are checked again either way.
    async fn token(&self, token: &str, now: Timestamp) -> Result<Claims, JwtError> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let key_set = self.jwks.generation();
        if let Some(known) = self.verified.get(&digest).filter(|known| known.key_set == key_set) {
            known.claims.check_times(now)?;
            return Ok(known.claims);
        }
        // Remembered under the set as it was before: a set fetched meanwhile has the token verified once more.
        let claims = jwt::verify(token, &self.secret, &self.jwks, now).await?;
        self.verified.insert(digest, Verified { claims: claims.clone(), key_set });
        Ok(claims)
    }
}

/// Reads a header that may be given once at most.
fn single<'a>(headers: &'a HeaderMap, name: &str, shown: &'static str) -> Result<Option<&'a str>, AuthError> {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(AuthError::Header(shown));
    }
    first.to_str().map(Some).map_err(|_| AuthError::Header(shown))
}

/// Takes the token out of `Bearer <token>`; the scheme is matched without regard to case.
fn bearer_token(value: &str) -> Result<&str, AuthError> {
    let (scheme, token) = value.trim().split_once(' ').ok_or(AuthError::Scheme)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(AuthError::Scheme);
    }
    let token = token.trim();
    if token.is_empty() { Err(AuthError::Missing) } else { Ok(token) }
}

#[cfg(test)]
mod tests;
