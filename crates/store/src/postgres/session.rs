//! One connection and the statements that are prepared on it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::TryStreamExt as _;
use tokio::sync::{Notify, OnceCell};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};

use super::convert::Statement;

/// The values of a statement's parameters.
pub(super) type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

type Prepared = Arc<OnceCell<tokio_postgres::Statement>>;

/// A connection. Statements may be in flight on it at once; they run one after the other.
pub(super) struct Session {
    client: Client,
    /// By the statement's address; `None` behind a transaction pooler, where the next statement may meet another server
    /// process: then everything is sent with each use.
    prepared: Option<Mutex<HashMap<usize, Prepared>>>,
    /// Asks whoever drives the connection to give it up.
    pub(super) given_up: Notify,
}

impl Session {
    pub(super) fn new(client: Client, pooled: bool) -> Self {
        Self { client, prepared: (!pooled).then(Mutex::default), given_up: Notify::new() }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Says whether there is a transaction pooler in between.
    pub(super) fn is_pooled(&self) -> bool {
        self.prepared.is_none()
    }

    /// Gives the connection up: it hangs.
    pub(super) fn give_up(&self) {
        self.given_up.notify_one();
    }

    pub(super) async fn query(
        &self,
        statement: &'static Statement,
        values: Values<'_>,
    ) -> Result<Vec<Row>, Error> {
        match &self.prepared {
            Some(prepared) => {
                let prepared = self.prepare(prepared, statement).await?;
                self.client.query(&prepared, values).await
            }
            None => {
                let typed: Vec<_> = values.iter().copied().zip(statement.types.iter().cloned()).collect();
                self.client.query_typed(statement.sql, &typed).await
            }
        }
    }

    /// Runs a statement and gives each row away as it comes, so that they are never all here at once.
    pub(super) async fn each(
        &self,
        statement: &'static Statement,
        values: Values<'_>,
        mut take: impl FnMut(&Row),
    ) -> Result<(), Error> {
        let rows = match &self.prepared {
            Some(prepared) => {
                let prepared = self.prepare(prepared, statement).await?;
                self.client.query_raw(&prepared, values.iter().copied()).await?
            }
            None => {
                let typed = values.iter().copied().zip(statement.types.iter().cloned());
                self.client.query_typed_raw(statement.sql, typed).await?
            }
        };
        let mut rows = std::pin::pin!(rows);
        while let Some(row) = rows.try_next().await? {
            take(&row);
        }
        Ok(())
    }

    /// Runs a statement that is made for one use: text, values and their types go out together, so that nothing has to
    /// come back before the next one may follow.
    pub(super) async fn ask(
        &self,
        sql: &str,
        values: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Error> {
        self.client.query_typed(sql, values).await
    }

    /// Runs a statement and counts the rows that it changed.
    pub(super) async fn execute(
        &self,
        statement: &'static Statement,
        values: Values<'_>,
    ) -> Result<u64, Error> {
        match &self.prepared {
            Some(prepared) => {
                let prepared = self.prepare(prepared, statement).await?;
                self.client.execute(&prepared, values).await
            }
            None => {
                let typed: Vec<_> = values.iter().copied().zip(statement.types.iter().cloned()).collect();
                self.client.execute_typed(statement.sql, &typed).await
            }
        }
    }

    /// Runs statements without parameters and without rows.
    pub(super) async fn run(&self, sql: &str) -> Result<(), Error> {
        self.client.batch_execute(sql).await
    }

    /// Forgets a prepared statement, so that the next use prepares it anew.
    pub(super) fn forget(&self, statement: &'static Statement) {
        if let Some(prepared) = &self.prepared {
            prepared.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(statement));
        }
    }

    /// Prepares a statement once, however many ask for it at the same time.
    async fn prepare(
        &self,
        prepared: &Mutex<HashMap<usize, Prepared>>,
        statement: &'static Statement,
    ) -> Result<tokio_postgres::Statement, Error> {
        let cell = {
            let mut prepared = prepared.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(prepared.entry(key(statement)).or_default())
        };
        let ready =
            cell.get_or_try_init(|| self.client.prepare_typed(statement.sql, statement.types)).await?;
        Ok(ready.clone())
    }
}

/// Statements are statics: each has its own address.
fn key(statement: &'static Statement) -> usize {
    std::ptr::from_ref(statement).addr()
}
