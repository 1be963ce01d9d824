//! The log of requests and its drains.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{Connection, Row, params};
use serde_json::{Value, json};
use uuid::Uuid;

use super::convert::{Within, parsed, statements, time, time_text};
use super::{SqliteStore, audit};
use crate::error::StoreError;
use crate::record::Actor;
use crate::report::{self, Counts};
use crate::request::{DrainCreated, LogDrain, RequestRow, first_id};

statements! {
    INSERT = "INSERT INTO edge_function_logs (id, function_name, method, status, response_time_ms, user_id, request_id,
        error_code, created_at)
      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?1, ?7, ?8) ON CONFLICT (id) DO NOTHING";
    /// What reports add up.
    SUM = "INSERT INTO nudge_report_requests (day, status, response_time_ms, requests) VALUES (?1, ?2, ?3, ?4)
      ON CONFLICT (day, status, response_time_ms) DO UPDATE SET requests = requests + excluded.requests";
    /// Ids are in order of time.
    DELETE = "DELETE FROM edge_function_logs WHERE id IN (
        SELECT id FROM edge_function_logs WHERE id < ?1 ORDER BY id LIMIT ?2)";
    SELECT_DRAINS = "SELECT id, name, destination, filters, headers, secret, created_at
      FROM nudge_log_drains ORDER BY name";
    INSERT_DRAIN = "INSERT INTO nudge_log_drains (id, name, destination, filters, headers, secret, created_at)
      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (name) DO NOTHING";
    DELETE_DRAIN = "DELETE FROM nudge_log_drains WHERE name = ?1";
}

const TABLE: &str = "edge_function_logs";
const DRAINS: &str = "nudge_log_drains";
const SUMS: &str = "nudge_report_requests";

impl SqliteStore {
    pub(crate) async fn append_requests(&self, rows: Vec<Arc<RequestRow>>) -> Result<(), StoreError> {
        self.inner.writer.call(move |conn| insert(conn, &rows)).await
    }

    pub(crate) async fn delete_requests(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let delete = move |conn: &Connection| {
            let mut statement = conn.prepare_cached(DELETE).within(TABLE)?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            statement.execute(params![first_id(before), limit]).within(TABLE)
        };
        self.inner.writer.call(delete).await
    }

    pub(crate) async fn log_drains(&self) -> Result<Vec<LogDrain>, StoreError> {
        self.inner.pool.read(|conn| {
            let mut statement = conn.prepare_cached(SELECT_DRAINS).within(DRAINS)?;
            let rows = statement.query_map([], drain).within(DRAINS)?;
            rows.collect::<Result<_, _>>().within(DRAINS)
        })
    }

    pub(crate) async fn create_log_drain(
        &self,
        drain: LogDrain,
        actor: Actor,
        metadata: Value,
    ) -> Result<DrainCreated, StoreError> {
        let create = move |conn: &Connection| {
            if !insert_drain(conn, &drain)? {
                return Ok(DrainCreated::NameTaken);
            }
            audit::append(conn, &actor, "create_log_drain", None, &metadata, drain.created_at)?;
            Ok(DrainCreated::Created)
        };
        self.inner.writer.call(create).await
    }

    pub(crate) async fn delete_log_drain(
        &self,
        name: String,
        actor: Actor,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let delete = move |conn: &Connection| {
            let mut statement = conn.prepare_cached(DELETE_DRAIN).within(DRAINS)?;
            if statement.execute([&name]).within(DRAINS)? == 0 {
                return Ok(false);
            }
            audit::append(conn, &actor, "delete_log_drain", None, &json!({ "name": name }), now)?;
            Ok(true)
        };
        self.inner.writer.call(delete).await
    }
}

fn insert(conn: &Connection, rows: &[Arc<RequestRow>]) -> Result<(), StoreError> {
    let mut statement = conn.prepare_cached(INSERT).within(TABLE)?;
    let mut id = Uuid::encode_buffer();
    let mut sums: BTreeMap<(String, u16, i64), i64> = BTreeMap::new();
    for row in rows {
        let inserted = statement.execute(params![
            &*row.id.hyphenated().encode_lower(&mut id),
            row.function_name,
            row.method,
            row.status,
            row.response_time_ms,
            row.user_id,
            row.error_code,
            time_text(row.created_at),
        ]);
        if inserted.within(TABLE)? > 0 {
            let took = Counts::kept(row.response_time_ms.into());
            *sums.entry((report::day_of(row.created_at).to_string(), row.status, took)).or_default() += 1;
        }
    }
    let mut statement = conn.prepare_cached(SUM).within(SUMS)?;
    for ((day, status, took), requests) in sums {
        statement.execute((day, status, took, requests)).within(SUMS)?;
    }
    Ok(())
}

fn insert_drain(conn: &Connection, drain: &LogDrain) -> Result<bool, StoreError> {
    let mut statement = conn.prepare_cached(INSERT_DRAIN).within(DRAINS)?;
    let inserted = statement.execute(params![
        drain.id.hyphenated().to_string(),
        drain.name,
        drain.destination,
        drain.filters,
        json!(drain.headers).to_string(),
        drain.secret,
        time_text(drain.created_at),
    ]);
    inserted.within(DRAINS).map(|inserted| inserted > 0)
}

fn drain(row: &Row<'_>) -> rusqlite::Result<LogDrain> {
    Ok(LogDrain {
        id: parsed(row, 0, str::parse::<Uuid>)?,
        name: row.get(1)?,
        destination: row.get(2)?,
        filters: row.get(3)?,
        headers: parsed(row, 4, |text| serde_json::from_str::<BTreeMap<String, String>>(text))?,
        secret: row.get(5)?,
        created_at: time(row, 6)?,
    })
}
