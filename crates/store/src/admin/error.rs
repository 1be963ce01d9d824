//! What can go wrong while a database is looked after, by what the operator can do about it.

use std::path::PathBuf;

use crate::error::StoreError;

/// An error of looking after a database.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// A newer program has made the schema.
    #[error("the schema has version {found}, newer than this program's {known}: use the newer version")]
    Newer {
        /// The newest version that has run.
        found: i64,
        /// The newest version that is known here.
        known: i64,
    },
    /// The schema lacks what the program needs.
    #[error("the schema has version {found}, older than this program's {known}: run `nudge db push` first")]
    Older {
        /// The newest version that has run; 0 for none.
        found: i64,
        /// The newest version that is known here.
        known: i64,
    },
    /// The history names a version of ours that has not run.
    #[error(
        "the history has {version} as `{theirs}`, but the migration `{name}` of that version has not run here\n  \
         If that line stands for another migration, give that one another version. If it was written by mistake: \
         supabase migration repair --status reverted {version}"
    )]
    Conflict {
        /// The version.
        version: i64,
        /// Our name.
        name: &'static str,
        /// The history's name.
        theirs: String,
    },
    /// A migration failed, and left nothing behind.
    #[error("{version}_{name}.sql{place} failed, and changed nothing: {detail}")]
    Migration {
        /// Its version.
        version: i64,
        /// Its name.
        name: &'static str,
        /// The line in its file, if the server says.
        place: String,
        /// What the server said.
        detail: String,
    },
    /// The extension that starts jobs is not installed in this database.
    #[error(
        "the extension pg_cron is not installed in this database\n  \
         As a superuser: put pg_cron into shared_preload_libraries and this database's name into cron.database_name, restart,\n  \
         then: CREATE EXTENSION pg_cron; GRANT USAGE ON SCHEMA cron TO the owner of nudge's tables.\n  \
         On Supabase: Database, Extensions, pg_cron."
    )]
    NoCron,
    /// A role is not fit for the service.
    #[error("the role {name} is not fit for the service: it {why}")]
    Role {
        /// The role.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// The server refused something.
    #[error("cannot {doing} {what}: {detail}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// With what.
        what: String,
        /// What the server said.
        detail: String,
    },
    /// There is something already where something is to be written.
    #[error("{what} is there already, and is not overwritten")]
    Exists {
        /// The file or database.
        what: String,
    },
    /// A file cannot be used.
    #[error("cannot {doing} {}: {detail}", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        detail: String,
    },
    /// A program of PostgreSQL's cannot be run, or failed.
    #[error("{program}: {detail}")]
    Tool {
        /// The program.
        program: &'static str,
        /// What it said.
        detail: String,
    },
    /// A dump is not what it says it is, or what was restored is not what was dumped.
    #[error("{}: {problem}", path.display())]
    Dump {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The database cannot be reached or opened.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AdminError {
    /// Makes the error of a read.
    pub(super) fn reading(what: &'static str) -> impl Fn(tokio_postgres::Error) -> Self {
        move |error| Self::Database { doing: "read", what: what.to_owned(), detail: tell(&error) }
    }

    /// Makes the error of a change.
    pub(super) fn making(what: &'static str) -> impl Fn(tokio_postgres::Error) -> Self {
        move |error| Self::Database { doing: "make", what: what.to_owned(), detail: tell(&error) }
    }
}

/// Says all that a server said: message, detail, hint and code.
pub(super) fn tell(error: &tokio_postgres::Error) -> String {
    let Some(said) = error.as_db_error() else {
        let source = std::error::Error::source(error);
        return source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
    };
    let mut text = format!("{} ({})", said.message(), said.code().code());
    for more in [said.detail(), said.hint()].into_iter().flatten() {
        text.push_str("\n  ");
        text.push_str(more);
    }
    text
}
