//! Reads on behalf of callers: connections of their own, and a transaction that takes the caller's role and claims on, so that
//! the grants and the policies of the database decide.
//!
//! The begin, the caller's role and claims, the statement and the end go out at once and are answered in one round trip. So
//! is whether a user is an admin, who may see more: a user is taken for none, and asked for again as one. Were the role not
//! taken on, the statement would find nothing: it asks for that itself. A connection whose transaction did not end as it
//! should is closed, and so is one whose caller went away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;

use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Error, Row};

use super::connect::Connector;
use super::convert::{Doing, get, is_stale_statement, statements, store_error, unavailable};
use super::lanes::{Lanes, ended};
use super::person;
use super::pool::{Connection, Pool};
use super::query::{self, Sql, Value};
use super::rights::{claims, grade, own, role};
use super::session::Session;
use super::{GRACE, Inner};
use crate::error::StoreError;
use crate::gate::Gate;
use crate::options::{PoolStats, ReadLimits};
use crate::query::plan::Plan;
use crate::query::{Count, MAX_ROWS, ReadAnswer, ReadError, Shape};
use crate::record::ProfileRole;
use crate::rights::{Caller, Grade, Scope, Verb, scope};

statements! {
    /// Stops the statement of a server process.
    CANCEL [INT4] = "SELECT pg_catalog.pg_cancel_backend($1)";
    /// Takes a role (1), a time limit (2) and claims (3) on.
    TAKE_ON [TEXT, TEXT, TEXT] = "SELECT NULL::text, pg_catalog.set_config('role', $1, true),
      pg_catalog.set_config('statement_timeout', $2, true), pg_catalog.set_config('request.jwt.claims', $3, true)";
    /// As [`TAKE_ON`], and says which role the profile of a user (4) gives them.
    TAKE_ON_AND_TELL [TEXT, TEXT, TEXT, TEXT] = "SELECT (SELECT p.role FROM nudge.profiles AS p WHERE p.id = $4 LIMIT 1),
      pg_catalog.set_config('role', $1, true), pg_catalog.set_config('statement_timeout', $2, true),
      pg_catalog.set_config('request.jwt.claims', $3, true)";
}

/// Begins a transaction.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// How values are written, once for each connection; behind a pooler for each transaction.
const SETTINGS: &str = "SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET extra_float_digits = 1";
const LOCAL_SETTINGS: &str =
    "SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL extra_float_digits = 1";
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
pub(super) async fn read(inner: &Arc<Inner>, caller: Caller, plan: Plan) -> Result<ReadAnswer, ReadError> {
    let is_own = scope(Grade::Member, plan.table.name, Verb::Select) == Scope::Own;
    let assumed = matches!(caller, Caller::User(_)) && is_own;
    let grade = if assumed { Grade::Member } else { grade(&inner.lanes, &caller).await? };
    let filter = filter(&caller, grade, &plan)?;
    let place = inner.reads.gate.enter(&caller, plan.count.is_some()).await?;
    let inner = Arc::clone(inner);
    // Dropped with this future, which the other end takes as a sign.
    let (_somebody_waits, abandoned) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        let reads = &inner.reads;
        let process = Process::default();
        let run =
            |filter, assumed| Run { reads, caller: &caller, plan: &plan, filter, assumed, process: &process };
        let mut work = std::pin::pin!(async {
            match run(filter, assumed).to_the_end().await {
                Err(Failure::IsAdmin) => {
                    let filter = self::filter(&caller, Grade::Admin, &plan)?;
                    run(filter, false).to_the_end().await
                }
                result => result,
            }
        });
        let result = tokio::select! {
            result = &mut work => result,
            _ = abandoned => tokio::join!(&mut work, process.stop(&inner.lanes)).0,
        };
        drop(place);
        result.map_err(Failure::into_error)
    });
    task.await.unwrap_or_else(|error| {
        tracing::error!(%error, "store.read_panicked");
        Err(StoreError::Statement { detail: "the read panicked".into() }.into())
    })
}

enum Failure {
    /// The connection was found dead before anything was done with it.
    WasDead,
    /// Whoever was taken for none is an admin.
    IsAdmin,
    Read(ReadError),
}

impl Failure {
    fn into_error(self) -> ReadError {
        match self {
            Self::WasDead => unavailable("every connection was lost").into(),
            Self::IsAdmin => unavailable("the caller's role keeps changing").into(),
            Self::Read(error) => error,
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Read(error.into())
    }
}

/// Who a transaction is to be.
struct TakeOn<'a> {
    role: &'static str,
    millis: String,
    claims: String,
    /// The user whose profile is to be looked up.
    user: Option<&'a str>,
}

impl<'a> TakeOn<'a> {
    fn of(caller: &'a Caller, limit: Duration, assumed: bool) -> Self {
        let user = match caller {
            Caller::User(user) if assumed => Some(user.as_str()),
            _ => None,
        };
        Self { role: role(caller), millis: limit.as_millis().to_string(), claims: claims(caller), user }
    }

    /// Begins the transaction. Behind a pooler it has what connections have otherwise.
    async fn begin(&self, session: &Session) -> Result<(), Error> {
        match session.is_pooled() {
            true => {
                let limit = format!("SET LOCAL statement_timeout = {}", self.millis);
                session.run(&format!("{BEGIN}; {limit}; {LOCAL_SETTINGS}")).await
            }
            false => session.run(BEGIN).await,
        }
    }

    /// Takes it on; gives the role of the user's profile.
    async fn take(&self, session: &Session) -> Result<Option<String>, Error> {
        let Self { role, millis, claims, user } = self;
        let rows = match user {
            Some(user) => session.query(&TAKE_ON_AND_TELL, &[role, millis, claims, user]).await?,
            None => session.query(&TAKE_ON, &[role, millis, claims]).await?,
        };
        rows.first().map_or(Ok(None), |row| row.try_get(0))
    }
}

/// Begins a transaction as a caller on a connection of its own, for tests of plans.
#[cfg(test)]
pub(super) async fn begin(client: &tokio_postgres::Client, caller: &Caller) -> Result<(), Error> {
    client.batch_execute(&format!("{BEGIN}; {LOCAL_SETTINGS}")).await?;
    let TakeOn { role, millis, claims, .. } = TakeOn::of(caller, Duration::from_secs(60), false);
    client.query(TAKE_ON.sql, &[&role, &millis, &claims]).await.map(drop)
}

/// The server process that works on a read.
#[derive(Default)]
struct Process {
    /// 0 until it is known, and where there is a pooler in between: there it may work for somebody else by then.
    id: AtomicI32,
    /// It was told to stop, or is about to be: the connection must not meet the next caller, and nothing is begun.
    stopped: AtomicBool,
}

impl Process {
    /// Has the server stop working, if it can be told. A read that has not begun sees it by itself.
    async fn stop(&self, lanes: &Lanes) {
        self.stopped.store(true, Ordering::Relaxed);
        let id = self.id.load(Ordering::Relaxed);
        if id != 0
            && let Err(error) = lanes.query("pg_stat_activity", &CANCEL, &[&id]).await
        {
            tracing::debug!(%error, "store.read_goes_on");
        }
    }

    /// Gives a connection back whose transaction has ended. From now on its process may work for somebody else.
    fn give_back(&self, connection: Connection<'_>) {
        self.id.store(0, Ordering::Relaxed);
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
    /// The caller is a user, and taken for no admin.
    assumed: bool,
    process: &'a Process,
}

impl Run<'_> {
    async fn to_the_end(&self) -> Result<ReadAnswer, Failure> {
        // As many may have died while they were idle as there are places; then there is a new one.
        for _ in 0..=self.reads.limits.places {
            let connection = self.reads.pool.take().await?;
            match self.answer(&connection).await {
                Err(Failure::WasDead) => self.process.id.store(0, Ordering::Relaxed),
                result => {
                    // Otherwise nobody knows what is open on it.
                    if matches!(result, Ok(_) | Err(Failure::IsAdmin)) {
                        self.process.give_back(connection);
                    }
                    return result;
                }
            }
        }
        Err(Failure::WasDead)
    }

    async fn answer(&self, connection: &Connection<'_>) -> Result<ReadAnswer, Failure> {
        let plan = self.plan;
        if plan.shape == Shape::Nothing {
            return self.count_page(connection).await;
        }
        let select = self.filter.select(plan);
        // Whether a count is needed is known only when the rows are there.
        let rows = self.ask(connection, &select, plan.count.is_none()).await?;
        let mut answer = query::print(plan, &rows).map_err(Failure::Read)?;
        if plan.count.is_some() {
            let known = answer.rows < plan.limit && (answer.rows > 0 || plan.offset == 0);
            let total = if known { plan.offset + answer.rows } else { self.total(connection).await? };
            answer.total = Some(total);
            self.end(connection).await?;
        }
        Ok(answer)
    }

    /// Counts the rows of a page, and all of them if that was asked for.
    async fn count_page(&self, connection: &Connection<'_>) -> Result<ReadAnswer, Failure> {
        let plan = self.plan;
        let (rows, total) = match plan.count {
            None => {
                let page = self.filter.count_page(plan);
                (self.number(&self.ask(connection, &page, false).await?)?, None)
            }
            // What is on the page follows from a count that is exact.
            Some(Count::Exact) => {
                let total =
                    self.number(&self.ask(connection, &self.filter.count(plan, None), false).await?)?;
                (total.saturating_sub(plan.offset).min(plan.limit), Some(total))
            }
            Some(Count::Planned | Count::Estimated) => {
                let page = self.filter.count_page(plan);
                let rows = self.number(&self.ask(connection, &page, false).await?)?;
                (rows, Some(self.total(connection).await?))
            }
        };
        self.end(connection).await?;
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
        let failed = |error| match ended(&error) {
            true => Failure::WasDead,
            false => store_error(&error, self.plan.table.name, Doing::Reading).into(),
        };
        // Once for each connection, so that nothing comes between what follows.
        let set_up = session.set_up(SETTINGS, [&TAKE_ON, &TAKE_ON_AND_TELL]);
        if let Some(id) = connection.in_time(set_up).await?.map_err(failed)? {
            self.process.id.store(id, Ordering::Relaxed);
        }
        let limit = self.reads.limits.time_limit(self.caller);
        let take_on = TakeOn::of(self.caller, limit, self.assumed);
        let values = statement.typed();
        let types: Vec<Type> = values.iter().map(|(_, kind)| kind.clone()).collect();
        let ready = match connection.in_time(session.ready(&statement.text, &types)).await? {
            Ok(ready) => ready,
            Err(error) if ended(&error) => return Err(Failure::WasDead),
            Err(error) => return self.answered(Err(error)),
        };
        if self.process.stopped.load(Ordering::Relaxed) {
            return Err(unavailable("whoever asked has gone").into());
        }
        let select = async {
            match &ready {
                Some(ready) => session.ask_ready(ready, &values).await,
                None => session.ask(&statement.text, &values).await,
            }
        };
        let at_once = async {
            let end = async { if whole { session.run(END).await } else { Ok(()) } };
            // They are sent in this order before any of them is answered.
            tokio::join!(take_on.begin(session), take_on.take(session), select, end)
        };
        let (begun, taken_on, asked, ended_well) = connection.in_time(at_once).await?;
        begun.map_err(failed)?;
        let lost = |error| store_error(&error, self.plan.table.name, Doing::Reading);
        let profile = match taken_on {
            Ok(profile) => profile,
            Err(error) if is_stale_statement(&error) => return Err(Failure::WasDead),
            Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => {
                return Err(Failure::Read(ReadError::Timeout));
            }
            Err(error) => return Err(lost(error).into()),
        };
        ended_well.map_err(lost)?;
        if self.assumed && person::role(profile.as_deref())? == ProfileRole::Admin {
            if !whole {
                self.end(connection).await?;
            }
            return Err(Failure::IsAdmin);
        }
        // It was prepared for a table as it was then.
        if asked.as_ref().is_err_and(is_stale_statement) {
            return Err(Failure::WasDead);
        }
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
