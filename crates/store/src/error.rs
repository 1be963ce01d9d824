//! What can go wrong with the database, by what the caller can do about it.

use std::path::PathBuf;

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot take or give anything now: locked, full, read-only, gone. Nothing was changed; try again.
    #[error("the database is unavailable: {detail}")]
    Unavailable {
        /// What the database said.
        detail: String,
    },
    /// A row breaks a constraint; it will do so again.
    #[error("the database refused a row of `{table}`: {detail}")]
    Refused {
        /// The table.
        table: &'static str,
        /// What the database said.
        detail: String,
    },
    /// A stored row does not say what its table promises.
    #[error("`{table}` holds a row that cannot be read: {detail}")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// The database was made by a newer version of the program.
    #[error(
        "{database} has schema version {found}, newer than this program's {known}: start the newer version"
    )]
    NewerSchema {
        /// The file, or the server's database.
        database: String,
        /// Its version.
        found: i64,
        /// The newest version that is known here.
        known: i64,
    },
    /// The database's schema lacks what the program needs. An embedded database is brought up to date by itself.
    #[error("{database} has schema version {found}, older than this program's {known}: run `nudge db push`")]
    OlderSchema {
        /// The server's database.
        database: String,
        /// Its version; 0 for none.
        found: i64,
        /// The newest version that is known here.
        known: i64,
    },
    /// The month of a row has no partition yet. The row can be written once it has; replaying it makes it.
    #[error("`{table}` has no partition for the month of a row")]
    NoPartition {
        /// The table.
        table: &'static str,
    },
    /// The server cannot be reached or used.
    #[error("cannot use the database {database}: {detail}")]
    Connect {
        /// The connection string, without the password.
        database: String,
        /// Why.
        detail: String,
    },
    /// The file cannot be opened or made.
    #[error("cannot open {}: {detail}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// A statement failed in a way that is a defect of the program.
    #[error("a statement failed: {detail}")]
    Statement {
        /// What the database said.
        detail: String,
    },
}

impl StoreError {
    /// Says whether the same call may succeed later without anybody mending anything in the program or the row.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::NoPartition { .. } | Self::Connect { .. })
    }

    /// Gives what an [`StoreError::Unavailable`] is to say of it: an unavailable one's own detail, else all of it.
    pub(crate) fn into_detail(self) -> String {
        match self {
            Self::Unavailable { detail } => detail,
            other => other.to_string(),
        }
    }
}
