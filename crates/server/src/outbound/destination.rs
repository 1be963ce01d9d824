//! A URL that an operator configured, checked once and never printed whole.

use std::fmt;
use std::str::FromStr;

use axum::http::Uri;

/// Longest URL that is taken.
const MAX_BYTES: usize = 2_000;

/// Why a text is no destination. No variant quotes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    /// Not a URL, or one without a host.
    #[error("the destination must be a URL such as https://logs.example.com/ingest")]
    NotAUrl,
    /// Neither https nor http.
    #[error("the destination must begin with https:// or http://")]
    Scheme,
    /// A user or a password before the host, which would be printed wherever a host is.
    #[error("the destination must not hold a user or a password; send an `authorization` header instead")]
    Credentials,
    /// Longer than 2,000 bytes.
    #[error("the destination is longer than {MAX_BYTES} bytes")]
    TooLong,
}

/// An http or https URL. It shows itself without its path and query, which are a secret in many webhooks' URLs.
#[derive(Clone, PartialEq, Eq)]
pub struct Destination(Uri);

impl FromStr for Destination {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.len() > MAX_BYTES {
            return Err(DestinationError::TooLong);
        }
        let uri: Uri = text.parse().map_err(|_| DestinationError::NotAUrl)?;
        match uri.scheme_str() {
            Some("http" | "https") => {}
            Some(_) => return Err(DestinationError::Scheme),
            None => return Err(DestinationError::NotAUrl),
        }
        let authority = uri.authority().ok_or(DestinationError::NotAUrl)?;
        if authority.as_str().contains('@') {
            return Err(DestinationError::Credentials);
        }
        let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        // The client would take the scheme's port for one that is no number.
        let port_is_one = port.is_empty() || authority.port_u16().is_some_and(|port| port != 0);
        if authority.host().is_empty() || !port_is_one {
            return Err(DestinationError::NotAUrl);
        }
        Ok(Self(uri))
    }
}

impl Destination {
    /// Gives the URL as it is, to be kept or dialled, never to be printed.
    pub fn expose(&self) -> String {
        self.0.to_string()
    }

    /// Gives the host: a name, or an address (IPv6 in brackets).
    pub fn host(&self) -> &str {
        self.0.host().unwrap_or_default()
    }

    /// Gives the URL for the client.
    pub(super) fn uri(&self) -> Uri {
        self.0.clone()
    }
}

/// `https://hooks.example.com/…`
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.0.authority().map_or("", |authority| authority.as_str());
        let more = self.0.path_and_query().is_some_and(|rest| rest.as_str() != "/");
        write!(f, "{}://{authority}/{}", self.0.scheme_str().unwrap_or_default(), if more { "…" } else { "" })
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Destination({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_urls_without_credentials_are_destinations() {
        for (text, error) in [
            ("", DestinationError::NotAUrl),
            ("logs.example.com/ingest", DestinationError::NotAUrl),
            ("/ingest", DestinationError::NotAUrl),
            ("https://", DestinationError::NotAUrl),
            ("https:///ingest", DestinationError::NotAUrl),
            ("https://logs.example.com:bad/", DestinationError::NotAUrl),
            ("https://logs.example.com:0/", DestinationError::NotAUrl),
            ("https://logs.example.com:70000/", DestinationError::NotAUrl),
            ("ftp://logs.example.com/", DestinationError::Scheme),
            ("file://host/etc/passwd", DestinationError::Scheme),
            ("gopher://127.0.0.1:25/", DestinationError::Scheme),
            ("https://user:password@logs.example.com/", DestinationError::Credentials),
            ("https://logs.example.com@127.0.0.1/", DestinationError::Credentials),
        ] {
            assert_eq!(text.parse::<Destination>(), Err(error), "{text}");
        }
        assert_eq!(
            format!("https://logs.example.com/{}", "a".repeat(2_000)).parse::<Destination>(),
            Err(DestinationError::TooLong)
        );
    }

    #[test]
    fn a_destination_shows_itself_without_its_path_and_query() {
        let hook: Destination =
            "https://hooks.example.com:8443/services/T0/B0/secret?key=secret".parse().unwrap();
        assert_eq!(hook.to_string(), "https://hooks.example.com:8443/…");
        assert_eq!(format!("{hook:?}"), "Destination(https://hooks.example.com:8443/…)");
        assert_eq!(hook.expose(), "https://hooks.example.com:8443/services/T0/B0/secret?key=secret");
        let bare: Destination = "http://logs.example.com".parse().unwrap();
        assert_eq!(bare.to_string(), "http://logs.example.com/");
    }
}
