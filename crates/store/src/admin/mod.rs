//! Looks after a database, by whoever owns it: migrations, differences, dumps, and whether rights are what they should be.
//!
//! [`Server`] does it for PostgreSQL, [`embedded`] for the file of SQLite. Where next: `migration.rs` pushes, `shape.rs`
//! compares with what the migrations make, `dump.rs` writes and brings back, `check.rs` finds what is wrong, `verify.rs`
//! tries the table of rights.

mod check;
pub mod cron;
mod dump;
pub mod embedded;
mod error;
mod migration;
mod shape;
mod split;
mod tools;
mod verify;

use std::path::Path;

use tokio_postgres::Client;

pub use check::{Finding, Severity};
pub use dump::{Manifest, Restored, Rows, check as check_dump, facts_of};
pub use error::AdminError;
pub use migration::{Listed, MIGRATIONS, Migration, State, Status, Step, newest_known};
pub use shape::Difference;
pub use split::statements;
pub use verify::{Asker, Cell, Found, Matrix, Verdict};

use crate::postgres::connect_alone;
use crate::postgres::dsn::Dsn;

/// A connection to a server's database, of its owner or of the service.
pub struct Server {
    client: Client,
    dsn: Dsn,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({})", self.dsn)
    }
}

impl Server {
    /// Connects.
    ///
    /// # Errors
    /// [`AdminError::Store`] of a [`crate::StoreError::Connect`].
    pub async fn connect(dsn: Dsn) -> Result<Self, AdminError> {
        Ok(Self { client: connect_alone(dsn.clone()).await?, dsn })
    }

    /// Names the database, without the password.
    pub fn name(&self) -> String {
        self.dsn.to_string()
    }

    /// Reads where the database stands.
    ///
    /// # Errors
    /// [`AdminError::Conflict`] where the history has another migration of a version of ours; [`AdminError::Database`].
    pub async fn status(&self) -> Result<Status, AdminError> {
        migration::status(&self.client).await
    }

    /// Runs the migrations that have not run, each in one transaction, and gives them.
    ///
    /// # Errors
    /// [`AdminError::Newer`]: nothing was changed. [`AdminError::Migration`]: those before it stay.
    pub async fn push(&self, tell_of: impl FnMut(Step<'_>)) -> Result<Vec<Listed>, AdminError> {
        migration::push(&self.client, tell_of).await
    }

    /// Makes a login for the service, without a password; says whether it was not there.
    ///
    /// # Errors
    /// [`AdminError::Role`] for one that is not fit.
    pub async fn make_service_role(&self, name: &str) -> Result<bool, AdminError> {
        migration::make_service_role(&self.client, name).await
    }

    /// Compares the live schema with what the migrations make.
    ///
    /// # Errors
    /// [`AdminError::Older`] and [`AdminError::Newer`] for another version; [`AdminError::Database`].
    pub async fn diff(&self) -> Result<Difference, AdminError> {
        shape::diff(&self.client).await
    }

    /// Has pg_cron ask for the nightly run at these times (five fields of cron), or no longer.
    ///
    /// # Errors
    /// [`AdminError::NoCron`] where the extension is not installed; [`AdminError::Database`].
    pub async fn schedule_job(&self, cron: Option<&str>) -> Result<(), AdminError> {
        cron::schedule(&self.client, cron).await
    }

    /// Looks for what is wrong with rights, facts and partitions; refusals first.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn findings(&self) -> Result<Vec<Finding>, AdminError> {
        check::findings(&self.client).await
    }

    /// Tries every verb of every caller on every exposed table of ours, in a transaction that is rolled back.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn verify_rights(&self) -> Result<Matrix, AdminError> {
        verify::verify(&self.client).await
    }

    /// Writes a dump into a new file, and checks it.
    ///
    /// # Errors
    /// [`AdminError::Exists`], [`AdminError::Tool`], [`AdminError::File`]; no file is left behind then.
    pub async fn dump(&self, path: &Path) -> Result<Manifest, AdminError> {
        dump::dump(&self.client, &self.dsn, path).await
    }

    /// Brings a dump into a database that has nothing of ours, and compares every table.
    ///
    /// # Errors
    /// [`AdminError::Exists`], [`AdminError::Dump`], [`AdminError::Tool`].
    pub async fn restore(&self, path: &Path) -> Result<Restored, AdminError> {
        dump::restore(&self.client, &self.dsn, path).await
    }
}
