//! The way out to what operators configure: drains of logs, webhooks of alerts. One client, so that there is one guard.
//!
//! - Addresses other than public ones are refused unless a setting allows them ([`address`]). What is judged is the answer of
//!   the name lookup that is then dialled, not one before it, so that a name which answers differently the second time
//!   (DNS rebinding) gains nothing; addresses in the URL take the same way.
//! - Redirects are not followed, and no proxy of the environment is used: both would dial what was not judged.
//! - Connecting and the whole exchange have a deadline, the answer's body a bound.
//! - What a URL holds behind the host may be a secret, as with webhooks: it is never printed, see [`Destination`].
//!
//! What became of a request is a typed result; whether to try again is for the caller, who has [`Answer::advice`] and
//! [`OutboundError::is_worth_a_retry`] for it.

pub mod address;
mod destination;
pub mod signature;
#[cfg(test)]
mod tests;

use std::io::Read;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Uri, header};
use ureq::config::Config as ClientConfig;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use crate::clock::Clock;
use address::{Addresses, Refused};
pub use destination::{Destination, DestinationError};

/// Longest time to find a name's addresses, and then to connect to one of them.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest time for a whole exchange, from the name to the answer's last byte.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of an answer's body is kept. It is for the operator to read, never data.
const MAX_BODY_BYTES: usize = 4 * 1024;
/// Largest head of an answer.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// The deadlines and bounds of an exchange.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Time to look up a name, and time to connect.
    pub connect: Duration,
    /// Time for everything.
    pub exchange: Duration,
    /// Bytes of the answer's body that are kept; what comes beyond is not read.
    pub body_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { connect: CONNECT_TIMEOUT, exchange: EXCHANGE_TIMEOUT, body_bytes: MAX_BODY_BYTES }
    }
}

/// What is sent: always a POST.
#[derive(Clone)]
pub struct Post {
    /// Where to.
    pub destination: Destination,
    /// Headers besides `content-length`, `host` and `user-agent`. Mark secret values as sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Without headers and body, which may hold secrets.
impl std::fmt::Debug for Post {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Post").field("destination", &self.destination).finish_non_exhaustive()
    }
}

/// What came back: any complete answer, whatever its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status. Redirects come back as they are.
    pub status: u16,
    /// How long the other end wants to be left alone, from now on, if it says so.
    pub retry_after: Option<Duration>,
    /// The beginning of the body, as text.
    pub body: String,
}

/// What an answer asks of the one who sent the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// It was taken (2xx).
    Taken,
    /// It may be taken later (429, 5xx).
    Later,
    /// It will never be taken.
    Never,
}

impl Answer {
    /// Says what is to be done with the request: only 429 and 5xx are worth another try, and a redirect is no success.
    pub fn advice(&self) -> Advice {
        match self.status {
            200..=299 => Advice::Taken,
            429 | 500..=599 => Advice::Later,
            _ => Advice::Never,
        }
    }
}

/// Why there is no answer. No variant holds the URL or what was sent.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The address may not be sent to.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The name has no address, or none could be found out.
    #[error("the host's name was not found")]
    HostNotFound,
    /// Something took too long.
    #[error("timed out: {phase}")]
    Timeout {
        /// What.
        phase: String,
    },
    /// The network or the other end broke off: no connection, or one that ended before the answer did.
    #[error("the connection failed: {0}")]
    Network(std::io::Error),
    /// TLS could not be agreed on, an unknown certificate for instance.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// The answer is no HTTP.
    #[error("the answer is not HTTP as it should be: {0}")]
    Protocol(String),
    /// The request could not be made.
    #[error("the request cannot be sent: {0}")]
    Request(String),
    /// The thread that sent it died.
    #[error("the sending thread died")]
    Died,
}

impl OutboundError {
    /// Says whether the same request may succeed later. What the guard refuses is refused until somebody changes a setting.
    pub fn is_worth_a_retry(&self) -> bool {
        match self {
            Self::HostNotFound
            | Self::Timeout { .. }
            | Self::Network(_)
            | Self::Tls(_)
            | Self::Protocol(_)
            | Self::Died => true,
            Self::Refused(_) | Self::Request(_) => false,
        }
    }
}

/// The client. Clones share its connections.
#[derive(Clone)]
pub struct Outbound {
    agent: ureq::Agent,
    addresses: Addresses,
    body_bytes: usize,
    clock: Clock,
}

impl std::fmt::Debug for Outbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbound").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Outbound {
    /// Makes a client that may send to public addresses and to those that `addresses` allows. The clock turns a date in
    /// `Retry-After` into a time to wait.
    pub fn new(addresses: Addresses, bounds: Bounds, clock: Clock) -> Self {
        Self::with_resolver(addresses, bounds, clock, DefaultResolver::default())
    }

    fn with_resolver(addresses: Addresses, bounds: Bounds, clock: Clock, names: impl Resolver) -> Self {
        let config = ureq::Agent::config_builder()
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_resolve(Some(bounds.connect))
            .timeout_connect(Some(bounds.connect))
            .timeout_global(Some(bounds.exchange))
            .max_response_header_size(MAX_HEAD_BYTES)
            .user_agent(concat!("nudge/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(roots()).build())
            .build();
        let guard = Guard { addresses: addresses.clone(), names };
        let agent = ureq::Agent::with_parts(config, DefaultConnector::default(), guard);
        Self { agent, addresses, body_bytes: bounds.body_bytes, clock }
    }

    /// Says at once what sending would say of an address that stands in the URL itself. Names are looked up when they are
    /// dialled only.
    ///
    /// # Errors
    /// [`Refused`] when the host is an address that may not be sent to.
    pub fn check(&self, destination: &Destination) -> Result<(), Refused> {
        let host = destination.host().trim_start_matches('[').trim_end_matches(']');
        host.parse::<IpAddr>().map_or(Ok(()), |address| self.addresses.check(address))
    }

    /// Sends a request and waits for the whole answer, on a thread for what blocks. If the future is dropped the exchange
    /// ends by itself within its deadline.
    ///
    /// # Errors
    /// [`OutboundError`] when there is no complete answer. Every status is an answer.
    pub async fn post(&self, post: Post) -> Result<Answer, OutboundError> {
        let client = self.clone();
        let sent = tokio::task::spawn_blocking(move || client.post_blocking(&post)).await;
        sent.unwrap_or(Err(OutboundError::Died))
    }

    /// Sends a request as [`Outbound::post`] does, on this thread.
    ///
    /// # Errors
    /// As there.
    pub fn post_blocking(&self, post: &Post) -> Result<Answer, OutboundError> {
        let mut request = self.agent.post(post.destination.uri());
        for (name, value) in &post.headers {
            request = request.header(name, value);
        }
        let response = request.send(post.body.as_slice()).map_err(from_client)?;
        let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| self.wait(value));
        let status = response.status().as_u16();
        let mut body = Vec::new();
        // One byte more, which is not kept: a body of just this length is read to its end, and its connection used again.
        let bound = u64::try_from(self.body_bytes).unwrap_or(u64::MAX).saturating_add(1);
        let read = response.into_body().into_reader().take(bound).read_to_end(&mut body);
        read.map_err(|error| from_client(error.into()))?;
        body.truncate(self.body_bytes);
        Ok(Answer { status, retry_after, body: String::from_utf8_lossy(&body).into_owned() })
    }

    /// Breaks off what is under way and refuses what comes after, in this client and all its clones.
    pub fn close(&self) {
        self.agent.clone().shutdown();
    }

    /// Reads `Retry-After`: seconds, or a date.
    fn wait(&self, value: &HeaderValue) -> Option<Duration> {
        let text = value.to_str().ok()?.trim();
        if let Ok(secs) = text.parse() {
            return Some(Duration::from_secs(secs));
        }
        let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
        let wait = date.duration_since(self.clock.now());
        Some(Duration::try_from(wait).unwrap_or(Duration::ZERO))
    }
}

/// Lets through only those addresses of a name that may be dialled. The client dials what this gives and nothing else.
#[derive(Debug)]
struct Guard<R> {
    addresses: Addresses,
    names: R,
}

impl<R: Resolver> Resolver for Guard<R> {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ClientConfig,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.names.resolve(uri, config, timeout).map_err(|error| match error {
            // What the system's lookup says of a name that it cannot find.
            ureq::Error::Io(_) => ureq::Error::HostNotFound,
            other => other,
        })?;
        let mut allowed = self.empty();
        let mut refused = None;
        for address in found.iter() {
            match self.addresses.check(address.ip()) {
                Ok(()) => allowed.push(*address),
                Err(error) => refused = Some(error),
            }
        }
        match refused {
            Some(error) if allowed.is_empty() => Err(ureq::Error::Other(Box::new(error))),
            _ if allowed.is_empty() => Err(ureq::Error::HostNotFound),
            _ => Ok(allowed),
        }
    }
}

/// Gives the certificates that are trusted: the system's (or those of `SSL_CERT_FILE`), so that a company's own authority
/// works; where there are none, as in a bare container, Mozilla's.
fn roots() -> RootCerts {
    static ROOTS: OnceLock<RootCerts> = OnceLock::new();
    let read = || {
        let found = rustls_native_certs::load_native_certs();
        if found.certs.is_empty() {
            return RootCerts::WebPki;
        }
        let certificates = found.certs.iter().map(|der| Certificate::from_der(der).to_owned());
        RootCerts::Specific(Arc::new(certificates.collect()))
    };
    ROOTS.get_or_init(read).clone()
}

/// Tells the client's errors apart, leaving out whatever could quote the URL.
fn from_client(error: ureq::Error) -> OutboundError {
    match error {
        ureq::Error::Other(other) => match other.downcast::<Refused>() {
            Ok(refused) => OutboundError::Refused(*refused),
            Err(other) => OutboundError::Request(other.to_string()),
        },
        ureq::Error::HostNotFound => OutboundError::HostNotFound,
        ureq::Error::Timeout(phase) => OutboundError::Timeout { phase: phase.to_string() },
        // What rustls finds wrong in what it reads.
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            OutboundError::Tls(error.to_string())
        }
        ureq::Error::Io(error) => OutboundError::Network(error),
        ureq::Error::ConnectionFailed => {
            OutboundError::Network(std::io::Error::other("no address could be connected to"))
        }
        ureq::Error::Tls(problem) => OutboundError::Tls(problem.to_owned()),
        ureq::Error::Rustls(error) => OutboundError::Tls(error.to_string()),
        ureq::Error::Protocol(error) => OutboundError::Protocol(error.to_string()),
        ureq::Error::LargeResponseHeader(size, _) => {
            OutboundError::Protocol(format!("a head of {size} bytes"))
        }
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
            OutboundError::Request("the URL or a header is not valid".into())
        }
        _ => OutboundError::Request("the client refused it".into()),
    }
}
