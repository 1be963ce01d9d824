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
    #[error("{} has schema version {found}, newer than this program's {known}: start the newer version", path.display())]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version that is known here.
        known: i64,
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
        matches!(self, Self::Unavailable { .. })
    }

    /// Gives what an [`StoreError::Unavailable`] is to say of it: an unavailable one's own detail, else all of it.
    pub(crate) fn into_detail(self) -> String {
        match self {
            Self::Unavailable { detail } => detail,
            other => other.to_string(),
        }
    }
}
