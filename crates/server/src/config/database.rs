//! Where the rows are kept: a file, or a PostgreSQL server.

use std::fmt;
use std::path::{Path, PathBuf};

use nudge_store::Dsn;

use super::{ConfigError, Source, Values};

/// Where the rows are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// The embedded engine's file.
    File(PathBuf),
    /// A PostgreSQL server.
    Server {
        /// The connection string of `DATABASE_URL`.
        dsn: Box<Dsn>,
        /// A connection past a transaction pooler, from `NUDGE_DATABASE_DIRECT_URL`.
        direct: Option<Box<Dsn>>,
    },
}

/// Without passwords.
impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Server { dsn, .. } => write!(f, "{dsn}"),
        }
    }
}

impl Database {
    pub(super) fn parse(values: &Values, data_dir: &Path) -> Result<Self, ConfigError> {
        let direct = connection(values, "NUDGE_DATABASE_DIRECT_URL")?.map(Box::new);
        let url = values.text("DATABASE_URL");
        if let Some(dsn) = connection(values, "DATABASE_URL")? {
            return Ok(Self::Server { dsn: Box::new(dsn), direct });
        }
        if direct.is_some() {
            let problem = "needs a PostgreSQL server in DATABASE_URL, beside which it is used";
            return Err(values.bad("NUDGE_DATABASE_DIRECT_URL", problem));
        }
        match url.map(|url| url.strip_prefix("sqlite://")) {
            None => Ok(Self::File(data_dir.join("nudge.db"))),
            Some(Some(path)) if !path.is_empty() => Ok(Self::File(PathBuf::from(path))),
            Some(_) => Err(values.bad(
                "DATABASE_URL",
                "must be sqlite:///path/to/file or postgres://user:password@host:port/database",
            )),
        }
    }
}

/// Reads a setting that may be a connection string of PostgreSQL. What goes wrong never quotes it.
fn connection(values: &Values, name: &'static str) -> Result<Option<Dsn>, ConfigError> {
    let Some(text) = values.text(name) else { return Ok(None) };
    if !Dsn::is_one(text) {
        return match name {
            "DATABASE_URL" => Ok(None),
            _ => Err(values.bad(name, "must be postgres://user:password@host:port/database")),
        };
    }
    let dsn: Dsn = text.parse().map_err(|error| values.bad(name, error))?;
    if dsn.has_password() && values.source(name) == Some(&Source::Flag) {
        let problem = "holds a password, which others can read on a command line: set it in the environment";
        return Err(values.bad(name, problem));
    }
    Ok(Some(dsn))
}

/// Gives a setting's value without the password that it may hold.
pub fn without_password(text: &str) -> String {
    match text.parse::<Dsn>() {
        Ok(dsn) => dsn.to_string(),
        Err(_) => text.to_owned(),
    }
}
