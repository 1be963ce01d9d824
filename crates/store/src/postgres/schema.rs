//! The version of the schema, and who we are in the database.

use tokio_postgres::error::SqlState;

use super::convert::{Doing, get, statements, store_error, unavailable};
use super::pool::Pool;
use crate::admin::newest_known;
use crate::error::StoreError;

statements! {
    NEWEST [] = "SELECT coalesce(max(version), 0) FROM nudge.migrations";
    SELECT_ROLE [] = "SELECT r.rolname::text, r.rolsuper FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user";
}

/// The version that this program works with.
pub(super) const KNOWN: i64 = newest_known();

/// The role that the store is logged in as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Whether nothing is forbidden to it, row security included.
    pub superuser: bool,
}

/// Reads the version; 0 where there is no schema.
pub(super) async fn version(pool: &Pool) -> Result<i64, StoreError> {
    let connection = pool.take().await?;
    let result = connection.query(&NEWEST, &[]).await?;
    let version = match result {
        Ok(rows) => rows.first().map_or(Ok(0), |row| get(row, 0, "migrations")),
        Err(error) if is_absent(&error) => Ok(0),
        Err(error) => return Err(store_error(&error, "migrations", Doing::Reading)),
    };
    connection.give_back();
    version
}

fn is_absent(error: &tokio_postgres::Error) -> bool {
    error
        .code()
        .is_some_and(|code| matches!(*code, SqlState::UNDEFINED_TABLE | SqlState::INVALID_SCHEMA_NAME))
}

/// Reads who we are.
pub(super) async fn role(pool: &Pool) -> Result<Role, StoreError> {
    let connection = pool.take().await?;
    let rows = connection.query(&SELECT_ROLE, &[]).await?;
    let rows = rows.map_err(|error| store_error(&error, "pg_roles", Doing::Reading))?;
    connection.give_back();
    let row = rows.first().ok_or_else(|| unavailable("the role is gone"))?;
    Ok(Role { name: get(row, 0, "pg_roles")?, superuser: get(row, 1, "pg_roles")? })
}
