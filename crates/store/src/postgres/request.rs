//! The log of requests and its drains.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_postgres::Row;
use uuid::Uuid;

use super::convert::{At, Doing, get, is_missing_partition, parsed, statements, store_error, time};
use super::pool::{Pool, in_transaction};
use super::{PostgresStore, audit, month};
use crate::error::StoreError;
use crate::record::Actor;
use crate::request::{DrainCreated, LogDrain, RequestRow};

statements! {
    /// With what reports add up, in one order, so that two servers do not wait for each other.
    INSERT [UUID_ARRAY, TEXT_ARRAY, TEXT_ARRAY, INT4_ARRAY, INT4_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TIMESTAMPTZ_ARRAY] =
      "WITH new AS (INSERT INTO public.edge_function_logs (id, function_name, method, status, response_time_ms, user_id, request_id,
        error_code, created_at)
      SELECT v.id, v.function_name, v.method, v.status, v.response_time_ms, v.user_id, v.id::text, v.error_code,
        v.created_at
      FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)
        AS v (id, function_name, method, status, response_time_ms, user_id, error_code, created_at)
      ON CONFLICT DO NOTHING
      RETURNING status, response_time_ms, created_at)
      INSERT INTO nudge.report_requests AS r (day, status, response_time_ms, requests)
      SELECT sums.day, sums.status, sums.took, sums.requests FROM (
        SELECT (new.created_at AT TIME ZONE 'UTC')::date AS day, new.status,
          CASE WHEN new.response_time_ms < 1000 THEN new.response_time_ms
            WHEN new.response_time_ms < 10000 THEN new.response_time_ms / 10 * 10
            WHEN new.response_time_ms < 100000 THEN new.response_time_ms / 100 * 100
            ELSE new.response_time_ms / 1000 * 1000 END AS took,
          count(*) AS requests
        FROM new GROUP BY 1, 2, 3
      ) AS sums ORDER BY sums.day, sums.status, sums.took
      ON CONFLICT (day, status, response_time_ms) DO UPDATE SET requests = r.requests + excluded.requests";
    SELECT_DRAINS [] = "SELECT id, name, destination, filters, headers::text, secret, created_at
      FROM nudge.log_drains ORDER BY name";
    INSERT_DRAIN [UUID, TEXT, TEXT, TEXT, TEXT, TEXT, TIMESTAMPTZ] =
      "INSERT INTO nudge.log_drains (id, name, destination, filters, headers, secret, created_at)
      VALUES ($1, $2, $3, $4, $5::jsonb, $6, $7) ON CONFLICT (name) DO NOTHING";
    DELETE_DRAIN [TEXT] = "DELETE FROM nudge.log_drains WHERE name = $1";
}

const TABLE: &str = "edge_function_logs";
const DRAINS: &str = "log_drains";

impl PostgresStore {
    pub(crate) async fn append_requests(&self, rows: Vec<Arc<RequestRow>>) -> Result<(), StoreError> {
        // Not among the commits that the writer's figures tell of: those are what answers wait for. Its caller is a task
        // of the server and not a client, so it need not go on when its caller goes away.
        let pool = &self.inner.pool;
        match insert(pool, &rows).await {
            Err(StoreError::NoPartition { .. }) => {
                month::make_for(pool, &[TABLE], rows.iter().map(|row| row.id)).await?;
                insert(pool, &rows).await
            }
            other => other,
        }
    }

    pub(crate) async fn log_drains(&self) -> Result<Vec<LogDrain>, StoreError> {
        let rows = self.inner.lanes.query(DRAINS, &SELECT_DRAINS, &[]).await?;
        rows.iter().map(drain).collect()
    }

    pub(crate) async fn create_log_drain(
        &self,
        drain: LogDrain,
        actor: Actor,
        metadata: Value,
    ) -> Result<DrainCreated, StoreError> {
        let inner = Arc::clone(&self.inner);
        self.to_its_end(async move {
            let headers = json!(drain.headers).to_string();
            in_transaction!(inner.pool, transaction => {
                let inserted = transaction
                    .execute(
                        DRAINS,
                        &INSERT_DRAIN,
                        &[
                            &drain.id,
                            &drain.name,
                            &drain.destination,
                            &drain.filters,
                            &headers,
                            &drain.secret,
                            &At(drain.created_at),
                        ],
                    )
                    .await;
                match inserted {
                    Err(error) => Err(error),
                    Ok(0) => Ok(DrainCreated::NameTaken),
                    Ok(_) => {
                        let action = "create_log_drain";
                        audit::append(&transaction, &actor, action, None, &metadata, drain.created_at)
                            .await
                            .map(|_| DrainCreated::Created)
                    }
                }
            })
        })
        .await
    }

    pub(crate) async fn delete_log_drain(
        &self,
        name: String,
        actor: Actor,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let inner = Arc::clone(&self.inner);
        self.to_its_end(async move {
            in_transaction!(inner.pool, transaction => {
                match transaction.execute(DRAINS, &DELETE_DRAIN, &[&name]).await {
                    Err(error) => Err(error),
                    Ok(0) => Ok(false),
                    Ok(_) => {
                        let metadata = json!({ "name": name });
                        audit::append(&transaction, &actor, "delete_log_drain", None, &metadata, now)
                            .await
                            .map(|_| true)
                    }
                }
            })
        })
        .await
    }
}

/// Inserts rows in one statement, which is its own transaction.
async fn insert(pool: &Pool, rows: &[Arc<RequestRow>]) -> Result<(), StoreError> {
    let column = |value: fn(&RequestRow) -> &str| rows.iter().map(|row| value(row)).collect::<Vec<&str>>();
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let statuses: Vec<i32> = rows.iter().map(|row| i32::from(row.status)).collect();
    let took: Vec<i32> =
        rows.iter().map(|row| i32::try_from(row.response_time_ms).unwrap_or(i32::MAX)).collect();
    let users: Vec<Option<&str>> = rows.iter().map(|row| row.user_id.as_deref()).collect();
    let codes: Vec<Option<&str>> = rows.iter().map(|row| row.error_code.as_deref()).collect();
    let times: Vec<At> = rows.iter().map(|row| At(row.created_at)).collect();
    let connection = pool.take().await?;
    let inserted = connection
        .query(
            &INSERT,
            &[
                &ids,
                &column(|row| row.function_name),
                &column(|row| row.method),
                &statuses,
                &took,
                &users,
                &codes,
                &times,
            ],
        )
        .await?;
    match inserted {
        Ok(_) => {
            connection.give_back();
            Ok(())
        }
        Err(error) if is_missing_partition(&error) => {
            // The statement has failed, its connection has not.
            connection.give_back();
            Err(StoreError::NoPartition { table: TABLE })
        }
        Err(error) => Err(store_error(&error, TABLE, Doing::Writing)),
    }
}

fn drain(row: &Row) -> Result<LogDrain, StoreError> {
    Ok(LogDrain {
        id: get(row, 0, DRAINS)?,
        name: get(row, 1, DRAINS)?,
        destination: get(row, 2, DRAINS)?,
        filters: get(row, 3, DRAINS)?,
        headers: parsed(row, 4, DRAINS, |text| serde_json::from_str(text))?,
        secret: get(row, 5, DRAINS)?,
        created_at: time(row, 6, DRAINS)?,
    })
}
