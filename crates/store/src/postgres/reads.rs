//! Reads on behalf of callers: connections of their own, and a transaction that takes the caller's role and claims on, so that
//! the grants and the policies of the database decide.
//!
//! What the transaction begins with, the claims, the statement and the end go out at once and are answered in one round trip.
//! Were the role not taken on, the statement would find nothing: it asks for that itself. A connection whose transaction did
//! not end as it should is closed, and so is one whose caller went away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Error, Row};

use super::connect::Connector;
use super::convert::{Doing, get, statements, store_error, unavailable};
use super::lanes::{Lanes, ended};
use super::pool::{Connection, Pool};
use super::query::{self, Sql, Value};
use super::rights::{claims, own, role};
use super::{GRACE, Inner};
use crate::error::StoreError;
use crate::gate::Gate;
use crate::options::{PoolStats, ReadLimits};
use crate::query::plan::Plan;
use crate::query::{Count, MAX_ROWS, ReadAnswer, ReadError, Shape};
use crate::rights::{Caller, Grade, Scope, Verb, scope};

statements! {
    /// Stops the statement of a server process.
    CANCEL [INT4] = "SELECT pg_catalog.pg_cancel_backend($1)";
}

/// Takes the caller's claims on, and says which server process it is.
pub(super) const CLAIMS: &str =
    "SELECT pg_catalog.pg_backend_pid(), pg_catalog.set_config('request.jwt.claims', $1, true)";
/// Ends a transaction that changed nothing.
const END: &str = "ROLLBACK";

/// The connections of such reads.
pub(super) struct Reads {
    pool: Pool,
    gate: Gate,
    limits: ReadLimits,
}

/// An error of the server, for `answered`, or one after which nothing of the connection can be trusted.
type Asked = Result<Vec<Row>, Error>;

impl Reads {
    pub(super) fn new(connector: &Arc<Connector>, limits: ReadLimits) -> Self {
        let longest = Duration::from_millis(limits.service_ms.max(limits.user_ms).max(limits.anonymous_ms));
        let wait = Duration::from_millis(limits.wait_ms);
        let pool = Pool::new(Arc::clone(connector), limits.places, wait, longest, longest + GRACE);
        Self { pool, gate: Gate::new(limits), limits }
    }

    /// Closes the idle connections and refuses every later read.
    pub(super) fn close(&self) {
        self.gate.close();
        self.pool.close();
    }

    pub(super) fn stats(&self) -> PoolStats {
        self.pool.stats("reads")
    }
}

/// Gives the condition that rows must meet: the caller's, and for those who are no admins that the rows are their own.
pub(super) fn filter(caller: &Caller, grade: Grade, plan: &Plan) -> Result<Sql, ReadError> {
    let table = plan.table.name;
    let mut filter = Sql::default();
    // A policy compares with the claims, this with the caller: the same person by two ways.
    let me = match caller {
        Caller::User(user) => Some(user.as_str().to_owned()),
        Caller::Anonymous | Caller::Service => None,
    };
    filter.values.push(Value::Text(me));
    match scope(grade, table, Verb::Select) {
        Scope::NoPrivilege => return Err(ReadError::Denied { table }),
        Scope::Nobody => filter.text.push_str("false"),
        Scope::All => filter.text.push_str("true"),
        Scope::Own => filter.text.push_str(own(table).ok_or(ReadError::Denied { table })?),
    }
    filter.text.push_str(" AND (SELECT current_user) = ");
    filter.bind(role(caller));
    filter.text.push_str(" AND ");
    filter.condition(&plan.condition);
    Ok(filter)
}

/// Reads what a plan says. When whoever asked goes away, the server is told to stop; the place and the connection are given
/// back when it has.
///
/// # Errors
/// [`ReadError::Busy`] when no connection became free in time, [`ReadError::Timeout`] when the read took too long.
pub(super) async fn read(
    inner: &Arc<Inner>,
    caller: Caller,
    grade: Grade,
    plan: Plan,
) -> Result<ReadAnswer, ReadError> {
    let filter = filter(&caller, grade, &plan)?;
    let place = inner.reads.gate.enter(&caller, plan.count.is_some()).await?;
    let inner = Arc::clone(inner);
    // Dropped with this future, which the other end takes as a sign.
    let (_somebody_waits, abandoned) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        let reads = &inner.reads;
        let run = Run { reads, caller: &caller, plan: &plan, filter, process: Process::default() };
        let mut work = std::pin::pin!(run.to_the_end());
        let result = tokio::select! {
            result = &mut work => result,
            _ = abandoned => tokio::join!(&mut work, run.process.stop(&inner.lanes)).0,
        };
        drop(place);
        result
    });
    task.await.unwrap_or_else(|error| {
        tracing::error!(%error, "store.read_panicked");
        Err(StoreError::Statement { detail: "the read panicked".into() }.into())
    })
}

enum Failure {
    /// The connection was found dead before anything was done with it.
    WasDead,
    Read(ReadError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Read(error.into())
    }
}

/// Begins a transaction as a caller. Only constants are in it.
pub(super) fn begin(caller: &Caller, limit: Duration) -> String {
    let (role, millis) = (role(caller), limit.as_millis());
    format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT pg_catalog.set_config('role', '{role}', true),
         pg_catalog.set_config('statement_timeout', '{millis}', true),
         pg_catalog.set_config('TimeZone', 'UTC', true), pg_catalog.set_config('DateStyle', 'ISO, YMD', true),
         pg_catalog.set_config('extra_float_digits', '1', true)"
    )
}

/// The server process that works on a read.
#[derive(Default)]
struct Process {
    /// 0 until it is known, and where there is a pooler in between: there it may work for somebody else by then.
    id: AtomicI32,
    known: Notify,
    /// It was told to stop, or is about to be: the connection must not meet the next caller.
    stopped: AtomicBool,
}

impl Process {
    fn is(&self, id: i32) {
        self.id.store(id, Ordering::Relaxed);
        self.known.notify_one();
    }

    /// Has the server stop working, if it can be told.
    async fn stop(&self, lanes: &Lanes) {
        self.stopped.store(true, Ordering::Relaxed);
        if self.id.load(Ordering::Relaxed) == 0 {
            // It is known as soon as the transaction has begun; later than this there is none.
            let _ = tokio::time::timeout(GRACE, self.known.notified()).await;
        }
        let id = self.id.load(Ordering::Relaxed);
        if id != 0
            && let Err(error) = lanes.query("pg_stat_activity", &CANCEL, &[&id]).await
        {
            tracing::debug!(%error, "store.read_goes_on");
        }
    }

    /// Gives a connection back whose transaction has ended.
    fn give_back(&self, connection: Connection<'_>) {
        if !self.stopped.load(Ordering::Relaxed) {
            connection.give_back();
        }
    }
}

/// One read.
struct Run<'a> {
    reads: &'a Reads,
    caller: &'a Caller,
    plan: &'a Plan,
    filter: Sql,
    process: Process,
}

impl Run<'_> {
    async fn to_the_end(&self) -> Result<ReadAnswer, ReadError> {
        // As many may have died while they were idle as there are places; then there is a new one.
        for _ in 0..=self.reads.limits.places {
            match self.answer(self.reads.pool.take().await?).await {
                Err(Failure::WasDead) => {}
                Err(Failure::Read(error)) => return Err(error),
                Ok(answer) => return Ok(answer),
            }
        }
        Err(unavailable("every connection was lost").into())
    }

    fn begin(&self) -> String {
        begin(self.caller, self.reads.limits.time_limit(self.caller))
    }

    async fn answer(&self, connection: Connection<'_>) -> Result<ReadAnswer, Failure> {
        let plan = self.plan;
        if plan.shape == Shape::Nothing {
            return self.count_page(connection).await;
        }
        let select = self.filter.select(plan);
        // Whether a count is needed is known only when the rows are there.
        let rows = self.ask(&connection, &select, plan.count.is_none()).await?;
        let mut answer = query::print(plan, &rows).map_err(Failure::Read)?;
        if plan.count.is_some() {
            let known = answer.rows < plan.limit && (answer.rows > 0 || plan.offset == 0);
            let total = if known { plan.offset + answer.rows } else { self.total(&connection).await? };
            answer.total = Some(total);
            self.end(&connection).await?;
        }
        self.process.give_back(connection);
        Ok(answer)
    }

    /// Counts the rows of a page, and all of them if that was asked for.
    async fn count_page(&self, connection: Connection<'_>) -> Result<ReadAnswer, Failure> {
        let plan = self.plan;
        let (rows, total) = match plan.count {
            None => {
                let page = self.filter.count_page(plan);
                (self.number(&self.ask(&connection, &page, false).await?)?, None)
            }
            // What is on the page follows from a count that is exact.
            Some(Count::Exact) => {
                let total =
                    self.number(&self.ask(&connection, &self.filter.count(plan, None), false).await?)?;
                (total.saturating_sub(plan.offset).min(plan.limit), Some(total))
            }
            Some(Count::Planned | Count::Estimated) => {
                let page = self.filter.count_page(plan);
                let rows = self.number(&self.ask(&connection, &page, false).await?)?;
                (rows, Some(self.total(&connection).await?))
            }
        };
        self.end(&connection).await?;
        self.process.give_back(connection);
        Ok(ReadAnswer { body: Vec::new(), rows, total })
    }

    /// Counts all rows in the transaction that is open, in the way asked for.
    async fn total(&self, connection: &Connection<'_>) -> Result<u64, Failure> {
        match self.plan.count {
            Some(Count::Planned) => self.planned(connection).await,
            Some(Count::Estimated) => {
                let some = self.filter.count(self.plan, Some(MAX_ROWS + 1));
                let counted = self.number(&self.go_on(connection, &some).await?)?;
                if counted <= MAX_ROWS {
                    return Ok(counted);
                }
                Ok(self.planned(connection).await?.max(counted))
            }
            Some(Count::Exact) | None => {
                let all = self.filter.count(self.plan, None);
                self.number(&self.go_on(connection, &all).await?)
            }
        }
    }

    async fn planned(&self, connection: &Connection<'_>) -> Result<u64, Failure> {
        let rows = self.go_on(connection, &self.filter.explain(self.plan)).await?;
        let row = rows.first().ok_or_else(|| unavailable("a plan without a line"))?;
        let text: Plain = get(row, 0, self.plan.table.name)?;
        let unreadable = || unavailable("a plan that cannot be read");
        let plan: serde_json::Value = serde_json::from_str(&text.0).map_err(|_| unreadable())?;
        let rows = plan.pointer("/0/Plan/Plan Rows").and_then(serde_json::Value::as_f64);
        Ok(rows.ok_or_else(unreadable)? as u64)
    }

    fn number(&self, rows: &[Row]) -> Result<u64, Failure> {
        let row = rows.first().ok_or_else(|| unavailable("a count without a row"))?;
        Ok(get::<i64>(row, 0, self.plan.table.name)?.unsigned_abs())
    }

    /// Begins the transaction and asks; with `whole` also ends it, all in one go.
    async fn ask(
        &self,
        connection: &Connection<'_>,
        statement: &Sql,
        whole: bool,
    ) -> Result<Vec<Row>, Failure> {
        let session = connection.session()?;
        let begin = self.begin();
        let claims = claims(self.caller);
        let claims: [(&(dyn ToSql + Sync), Type); 1] = [(&claims, Type::TEXT)];
        let values = statement.typed();
        let at_once = async {
            let claim = async {
                let rows = session.ask(CLAIMS, &claims).await?;
                if let Some(row) = rows.first().filter(|_| !session.is_pooled()) {
                    self.process.is(row.try_get(0)?);
                }
                Ok::<_, Error>(())
            };
            let end = async { if whole { session.run(END).await } else { Ok(()) } };
            // They are sent in this order before any of them is answered.
            tokio::join!(session.run(&begin), claim, session.ask(&statement.text, &values), end)
        };
        let (begun, claimed, asked, ended_well) = connection.in_time(at_once).await?;
        match begun {
            Ok(()) => {}
            Err(error) if ended(&error) => return Err(Failure::WasDead),
            Err(error) => return Err(store_error(&error, self.plan.table.name, Doing::Reading).into()),
        }
        claimed.map_err(|error| store_error(&error, self.plan.table.name, Doing::Reading))?;
        ended_well.map_err(|error| store_error(&error, self.plan.table.name, Doing::Reading))?;
        self.answered(asked)
    }

    /// Asks once more in the transaction that is open.
    async fn go_on(&self, connection: &Connection<'_>, statement: &Sql) -> Result<Vec<Row>, Failure> {
        let session = connection.session()?;
        let values = statement.typed();
        let asked = connection.in_time(session.ask(&statement.text, &values)).await?;
        self.answered(asked)
    }

    /// Ends the transaction, without which the connection is not given back.
    async fn end(&self, connection: &Connection<'_>) -> Result<(), Failure> {
        let session = connection.session()?;
        let ended = connection.in_time(session.run(END)).await?;
        ended.map_err(|error| store_error(&error, self.plan.table.name, Doing::Reading).into())
    }

    /// Sorts what the server says of a statement.
    fn answered(&self, asked: Asked) -> Result<Vec<Row>, Failure> {
        let error = match asked {
            Ok(rows) => return Ok(rows),
            Err(error) => error,
        };
        let table = self.plan.table.name;
        let Some(db) = error.as_db_error() else {
            return Err(store_error(&error, table, Doing::Reading).into());
        };
        let state = db.code();
        Err(Failure::Read(if *state == SqlState::QUERY_CANCELED {
            ReadError::Timeout
        } else if *state == SqlState::INSUFFICIENT_PRIVILEGE {
            ReadError::Denied { table }
        } else if state.code().starts_with("22") || state.code().starts_with("54") {
            ReadError::Data { sqlstate: state.code().to_owned(), message: db.message().to_owned() }
        } else {
            store_error(&error, table, Doing::Reading).into()
        }))
    }
}

/// A text of whatever type.
struct Plain(String);

impl<'a> FromSql<'a> for Plain {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(std::str::from_utf8(raw)?.to_owned()))
    }

    fn accepts(accepted: &Type) -> bool {
        matches!(*accepted, Type::TEXT | Type::JSON)
    }
}
