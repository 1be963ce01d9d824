//! The log of requests and its drains.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::{Backend, Store};
use crate::error::StoreError;
use crate::record::Actor;
use crate::request::{DrainCreated, LogDrain, RequestRow};

impl Store {
    /// Appends rows to `edge_function_logs`, all or none; those that are there already stay as they are.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when a row breaks a constraint, and as described at [`Store`].
    pub async fn append_requests(&self, rows: Vec<Arc<RequestRow>>) -> Result<(), StoreError> {
        on_backend!(self, store => store.append_requests(rows).await)
    }

    /// Deletes at most `limit` of the oldest rows of `edge_function_logs` from before a time, and says how many they
    /// were. Where rows are kept by month it deletes none: [`Store::drop_months`] drops them.
    ///
    /// # Errors
    /// As described at [`Store`].
    pub async fn delete_requests(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        match &self.backend {
            Backend::Sqlite(store) => store.delete_requests(before, limit).await,
            Backend::Postgres(_) => Ok(0),
        }
    }

    /// Lists the drains of the log, by name.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn log_drains(&self) -> Result<Vec<LogDrain>, StoreError> {
        on_backend!(self, store => store.log_drains().await)
    }

    /// Sets up a drain and makes its audit entry, both or neither. The metadata must hold no secret.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the audit log takes no entry, and as described at [`Store`].
    pub async fn create_log_drain(
        &self,
        drain: LogDrain,
        actor: Actor,
        metadata: Value,
    ) -> Result<DrainCreated, StoreError> {
        on_backend!(self, store => store.create_log_drain(drain, actor, metadata).await)
    }

    /// Deletes a drain by its name and makes its audit entry, both or neither; says whether there was one.
    ///
    /// # Errors
    /// As [`Store::create_log_drain`].
    pub async fn delete_log_drain(
        &self,
        name: String,
        actor: Actor,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        on_backend!(self, store => store.delete_log_drain(name, actor, now).await)
    }
}
