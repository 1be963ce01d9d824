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

/// Most texts that one connection keeps prepared, and the longest, in bytes. Callers make them, so there is no end of them,
/// and the server keeps each in memory.
const MOST_TEXTS: usize = 100;
const LONGEST_TEXT: usize = 4_096;

type Prepared = Arc<OnceCell<tokio_postgres::Statement>>;

/// A connection. Statements may be in flight on it at once; they run one after the other.
pub(super) struct Session {
    client: Client,
    /// By the statement's address; `None` behind a transaction pooler, where the next statement may meet another server
    /// process: then everything is sent with each use.
    prepared: Option<Mutex<HashMap<usize, Prepared>>>,
    /// The server process, once the connection is set up.
    process: OnceCell<i32>,
    /// Statements that are prepared by their text.
    texts: Mutex<HashMap<String, tokio_postgres::Statement>>,
    /// Asks whoever drives the connection to give it up.
    pub(super) given_up: Notify,
}

impl Session {
    pub(super) fn new(client: Client, pooled: bool) -> Self {
        Self {
            client,
            prepared: (!pooled).then(Mutex::default),
            process: OnceCell::new(),
            texts: Mutex::default(),
            given_up: Notify::new(),
        }
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

    /// Runs settings and prepares statements, once for the connection, and gives the server process that it has; nothing
    /// behind a pooler, where the next transaction may have another.
    pub(super) async fn set_up(
        &self,
        settings: &str,
        statements: [&'static Statement; 2],
    ) -> Result<Option<i32>, Error> {
        let Some(prepared) = &self.prepared else { return Ok(None) };
        let set_up = async {
            self.client.batch_execute(settings).await?;
            for statement in statements {
                self.prepare(prepared, statement).await?;
            }
            self.client.query_one("SELECT pg_catalog.pg_backend_pid()", &[]).await?.try_get(0)
        };
        self.process.get_or_try_init(|| set_up).await.copied().map(Some)
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

    /// Prepares a text, unless it is so already; `None` for a long one, and behind a pooler: it is sent with each use.
    pub(super) async fn ready(
        &self,
        sql: &str,
        types: &[Type],
    ) -> Result<Option<tokio_postgres::Statement>, Error> {
        if self.prepared.is_none() || sql.len() > LONGEST_TEXT {
            return Ok(None);
        }
        let texts = || self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let known = texts().get(sql).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let statement = self.client.prepare_typed(sql, types).await?;
        let mut texts = texts();
        if texts.len() >= MOST_TEXTS
            && let Some(any) = texts.keys().next().cloned()
        {
            texts.remove(&any);
        }
        texts.insert(sql.to_owned(), statement.clone());
        Ok(Some(statement))
    }

    /// Runs a text that is ready.
    pub(super) async fn ask_ready(
        &self,
        statement: &tokio_postgres::Statement,
        values: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Error> {
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|(value, _)| *value).collect();
        self.client.query(statement, &values).await
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
