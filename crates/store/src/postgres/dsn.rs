//! Connection strings as people have them: a URL or `key=value` words, read as libpq reads them.
//!
//! A password is kept apart from everything that is printed: neither `Debug` nor `Display` nor any error shows it. Where
//! next: `dsn/words.rs` takes the two forms apart, `tls.rs` does what `sslmode` asks for.

#[cfg(test)]
mod tests;
mod words;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use words::Words;

/// Port of PostgreSQL.
const DEFAULT_PORT: u16 = 5432;
/// Port at which Supabase's pooler hands out a connection for each transaction.
const TRANSACTION_POOLER_PORT: u16 = 6543;
/// Folders in which a local server keeps its socket.
const SOCKET_FOLDERS: [&str; 2] = ["/var/run/postgresql", "/tmp"];
/// How long one connection attempt may take when the string does not say.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a connection string cannot be used. No message quotes a value that could hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DsnError {
    /// It is neither a URL nor `key=value` words.
    #[error("must be postgres://user:password@host:port/database, or words such as `host=… dbname=…`")]
    NoForm,
    /// The placeholder of a copied string is still there.
    #[error("still holds the placeholder [YOUR-PASSWORD]: put the password in its place")]
    Placeholder,
    /// A percent sign without two hexadecimal digits.
    #[error("{part}: a `%` must be followed by two hexadecimal digits; a plain one is written %25")]
    Percent {
        /// The part that holds it.
        part: String,
    },
    /// A quote that does not end, or a word without `=`.
    #[error("{problem}")]
    Words {
        /// What is wrong.
        problem: &'static str,
    },
    /// A parameter's value does not fit.
    #[error("{name} {problem}")]
    Value {
        /// The parameter.
        name: &'static str,
        /// What it must be.
        problem: &'static str,
    },
}

/// A text that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(pub(super) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A name or an address. `address` saves looking the name up; certificates are still checked against the name.
    Tcp {
        /// The name.
        name: String,
        /// The address, when the string gives it.
        address: Option<IpAddr>,
        /// The port.
        port: u16,
    },
    /// A socket in a folder.
    Unix {
        /// The folder.
        folder: PathBuf,
        /// The port, which is part of the socket's name.
        port: u16,
    },
}

impl Host {
    fn port(&self) -> u16 {
        match self {
            Self::Tcp { port, .. } | Self::Unix { port, .. } => *port,
        }
    }

    /// Says whether nothing between here and there can listen in.
    fn is_local(&self) -> bool {
        match self {
            Self::Unix { .. } => true,
            Self::Tcp { name, address, .. } => match address.or_else(|| name.parse().ok()) {
                Some(address) => address.is_loopback(),
                None => name.eq_ignore_ascii_case("localhost"),
            },
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { name, port, .. } if name.contains(':') => write!(f, "[{name}]:{port}"),
            Self::Tcp { name, port, .. } => write!(f, "{name}:{port}"),
            Self::Unix { folder, port } => write!(f, "{}/.s.PGSQL.{port}", folder.display()),
        }
    }
}

/// What is asked of TLS, with libpq's meanings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// Never.
    Disable,
    /// Only where the server insists.
    Allow,
    /// Where the server can.
    Prefer,
    /// Always, whoever the server is.
    Require,
    /// Always, with a certificate of a known authority.
    VerifyCa,
    /// Always, with a certificate of a known authority for this host.
    VerifyFull,
}

/// The authorities that a server's certificate may come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootCert {
    /// Those of the operating system.
    System,
    /// Those of a PEM file.
    File(PathBuf),
}

/// Which of several servers is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionAttrs {
    /// The first that answers.
    Any,
    /// One that takes writes.
    ReadWrite,
    /// One that does not.
    ReadOnly,
    /// One that is not in recovery.
    Primary,
    /// One that is.
    Standby,
    /// One that is in recovery, else any.
    PreferStandby,
}

/// Whether the server must prove that it knows the password over this very connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where it can.
    Prefer,
    /// Always.
    Require,
}

/// A parsed connection string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dsn {
    /// The servers, in the order in which they are tried; never empty.
    pub hosts: Vec<Host>,
    /// The role; `None` for the name of the operating system's user.
    pub user: Option<String>,
    /// The password.
    pub(super) password: Option<Secret>,
    /// The database; `None` for one of the role's name.
    pub dbname: Option<String>,
    /// What is asked of TLS; `None` when the string does not say: see [`Dsn::ssl_mode`].
    pub ssl: Option<SslMode>,
    /// The authorities.
    pub root_cert: Option<RootCert>,
    /// The name that the server lists the connections by.
    pub application_name: String,
    /// Command-line options for the server's process.
    pub options: Option<String>,
    /// How long one attempt may take.
    pub connect_timeout: Duration,
    /// Which of the servers is wanted.
    pub session_attrs: SessionAttrs,
    /// Channel binding.
    pub channel_binding: ChannelBinding,
    /// Whether there is a transaction pooler in between; `None` when the string does not say.
    pub pooler: Option<bool>,
    /// Parameters that mean nothing here, for a warning.
    pub unknown: Vec<String>,
}

/// Without the password.
impl fmt::Display for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        for (n, host) in self.hosts.iter().enumerate() {
            write!(f, "{}{host}", if n > 0 { "," } else { "" })?;
        }
        write!(f, "/{}", self.dbname.as_deref().unwrap_or_default())
    }
}

impl FromStr for Dsn {
    type Err = DsnError;

    fn from_str(text: &str) -> Result<Self, DsnError> {
        Self::from_words(Words::parse(text.trim())?)
    }
}

impl Dsn {
    /// Says whether a text means PostgreSQL at all, so that it can be told from the other engine's.
    pub fn is_one(text: &str) -> bool {
        Words::url(text.trim()).is_some() || Words::looks_like_words(text)
    }

    /// Says whether the string holds a password, which others could read on a command line.
    pub fn has_password(&self) -> bool {
        self.password.is_some()
    }

    /// Gives what is asked of TLS for a host. Where the string does not say: `require` for every host but this machine.
    /// `require` with a file of authorities means `verify-ca`, as in libpq.
    pub fn ssl_mode(&self, host: &Host) -> SslMode {
        match self.ssl {
            // A socket of this machine has no TLS, whatever is asked for.
            _ if matches!(host, Host::Unix { .. }) => SslMode::Disable,
            Some(SslMode::Require) if matches!(self.root_cert, Some(RootCert::File(_))) => SslMode::VerifyCa,
            Some(mode) => mode,
            None if host.is_local() => SslMode::Prefer,
            None => SslMode::Require,
        }
    }

    fn from_words(mut words: Words) -> Result<Self, DsnError> {
        let hosts = hosts(&mut words)?;
        let port_says = hosts.iter().any(|host| host.port() == TRANSACTION_POOLER_PORT).then_some(true);
        let root_cert = words.take("sslrootcert").map(|file| match file.as_str() {
            "system" => RootCert::System,
            _ => RootCert::File(PathBuf::from(file)),
        });
        let legacy_ssl = words.take("ssl").filter(|on| on == "true").map(|_| SslMode::Require);
        let ssl = words.choice("sslmode", SSL_MODES, SSL_MODES_HELP)?.or(legacy_ssl);
        if root_cert == Some(RootCert::System) && ssl.is_some_and(|mode| mode != SslMode::VerifyFull) {
            let problem = "must be verify-full with sslrootcert=system: anybody gets a certificate of those";
            return Err(DsnError::Value { name: "sslmode", problem });
        }
        let ssl = if root_cert == Some(RootCert::System) { Some(SslMode::VerifyFull) } else { ssl };
        let dsn = Self {
            hosts,
            user: words.take("user"),
            password: words.take("password").map(Secret),
            dbname: words.take("dbname"),
            ssl,
            root_cert,
            application_name: words.take("application_name").unwrap_or_else(|| "nudge".to_owned()),
            options: words.take("options"),
            connect_timeout: connect_timeout(&mut words)?,
            session_attrs: words
                .choice("target_session_attrs", SESSION_ATTRS, SESSION_ATTRS_HELP)?
                .unwrap_or(SessionAttrs::Any),
            channel_binding: words
                .choice("channel_binding", CHANNEL_BINDINGS, "must be disable, prefer or require")?
                .unwrap_or(ChannelBinding::Prefer),
            pooler: words.choice("pgbouncer", BOOLEANS, "must be true or false")?.or(port_says),
            unknown: words.into_unknown(),
        };
        Ok(dsn)
    }
}

const BOOLEANS: &[(&str, bool)] = &[("true", true), ("false", false), ("1", true), ("0", false)];
const SSL_MODES: &[(&str, SslMode)] = &[
    ("disable", SslMode::Disable),
    ("allow", SslMode::Allow),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
    // Other clients' word for `require`.
    ("no-verify", SslMode::Require),
];
const SSL_MODES_HELP: &str = "must be disable, allow, prefer, require, verify-ca or verify-full";
const SESSION_ATTRS: &[(&str, SessionAttrs)] = &[
    ("any", SessionAttrs::Any),
    ("read-write", SessionAttrs::ReadWrite),
    ("read-only", SessionAttrs::ReadOnly),
    ("primary", SessionAttrs::Primary),
    ("standby", SessionAttrs::Standby),
    ("prefer-standby", SessionAttrs::PreferStandby),
];
const SESSION_ATTRS_HELP: &str = "must be any, read-write, read-only, primary, standby or prefer-standby";
const CHANNEL_BINDINGS: &[(&str, ChannelBinding)] = &[
    ("disable", ChannelBinding::Disable),
    ("prefer", ChannelBinding::Prefer),
    ("require", ChannelBinding::Require),
];

/// Reads whole seconds; 0 and less mean no limit, 1 is 2, as in libpq.
fn connect_timeout(words: &mut Words) -> Result<Duration, DsnError> {
    let Some(text) = words.take("connect_timeout") else { return Ok(DEFAULT_CONNECT_TIMEOUT) };
    let problem = "must be a whole number of seconds";
    let seconds: i64 =
        text.trim().parse().map_err(|_| DsnError::Value { name: "connect_timeout", problem })?;
    Ok(match u64::try_from(seconds) {
        Ok(1) => Duration::from_secs(2),
        Ok(seconds @ 2..) => Duration::from_secs(seconds.min(86_400)),
        _ => Duration::from_secs(86_400),
    })
}

/// Pairs hosts, addresses and ports; each list has one entry, none, or as many as there are hosts.
fn hosts(words: &mut Words) -> Result<Vec<Host>, DsnError> {
    let list = |text: Option<String>| -> Vec<String> {
        text.map(|text| text.split(',').map(str::to_owned).collect()).unwrap_or_default()
    };
    let names = list(words.take("host"));
    let addresses = list(words.take("hostaddr"));
    let ports = list(words.take("port"));
    let count = names.len().max(addresses.len()).max(1);
    let fits = |list: &[String]| list.len() <= 1 || list.len() == count;
    if !addresses.is_empty() && !names.is_empty() && addresses.len() != names.len() {
        return Err(DsnError::Value { name: "hostaddr", problem: "must have as many entries as host" });
    }
    if !fits(&ports) {
        let problem = "must be one number, or as many as there are hosts";
        return Err(DsnError::Value { name: "port", problem });
    }
    let at = |list: &[String], n: usize| list.get(n).cloned().filter(|entry| !entry.is_empty());
    (0..count)
        .map(|n| {
            let port = match at(&ports, if ports.len() == 1 { 0 } else { n }) {
                Some(text) => {
                    let problem = "must be a number from 1 to 65535";
                    let wrong = DsnError::Value { name: "port", problem };
                    text.trim().parse().ok().filter(|port| *port > 0).ok_or(wrong)?
                }
                None => DEFAULT_PORT,
            };
            let address = at(&addresses, n)
                .map(|text| {
                    let problem = "must be an IP address";
                    text.parse::<IpAddr>().map_err(|_| DsnError::Value { name: "hostaddr", problem })
                })
                .transpose()?;
            Ok(match (at(&names, n), address) {
                (Some(folder), None) if folder.starts_with('/') => Host::Unix { folder: folder.into(), port },
                (Some(name), address) => Host::Tcp { name, address, port },
                (None, Some(address)) => {
                    Host::Tcp { name: address.to_string(), address: Some(address), port }
                }
                (None, None) => local(port),
            })
        })
        .collect()
}

/// Gives this machine's server: by its socket where there is one.
fn local(port: u16) -> Host {
    let socket = SOCKET_FOLDERS
        .into_iter()
        .find(|folder| PathBuf::from(folder).join(format!(".s.PGSQL.{port}")).exists());
    match socket {
        Some(folder) => Host::Unix { folder: folder.into(), port },
        None => Host::Tcp { name: "localhost".to_owned(), address: None, port },
    }
}
