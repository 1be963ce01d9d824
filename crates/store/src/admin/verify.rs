//! Walks the table of rights against the live database: caller × table × verb, with rows of its own that are rolled back.
//!
//! Everything happens in one transaction: rows of two users that do not exist are inserted, each caller then tries each
//! verb on them, and the transaction is rolled back. So nothing is left, nobody else sees the rows, and nobody's real
//! rows are read or written.

use serde::Serialize;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error};

use super::error::{AdminError, tell};
use crate::rights::{Grade, Scope, Verb, scope};

/// A caller of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Asker {
    /// No user.
    Anon,
    /// A user, on their own rows and on another's.
    User,
    /// A user whose profile says admin.
    Admin,
    /// The service.
    Service,
}

impl Asker {
    /// Every caller.
    pub const ALL: &'static [Self] = &[Self::Anon, Self::User, Self::Admin, Self::Service];

    /// Gives the column's heading.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anon => "anon",
            Self::User => "user",
            Self::Admin => "admin",
            Self::Service => "service",
        }
    }

    fn grade(self) -> Grade {
        match self {
            Self::Anon => Grade::Anonymous,
            Self::User => Grade::Member,
            Self::Admin => Grade::Admin,
            Self::Service => Grade::Service,
        }
    }

    fn role(self) -> &'static str {
        match self {
            Self::Anon => "anon",
            Self::User | Self::Admin => "authenticated",
            Self::Service => "service_role",
        }
    }
}

/// What the database let a caller do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Found {
    /// No privilege.
    Denied,
    /// Nothing.
    Nothing,
    /// The caller's own rows.
    Own,
    /// Another's rows, and not the caller's own.
    OthersOnly,
    /// Every row.
    All,
    /// The privilege is there, and the table refuses the change to everybody.
    AppendOnly,
    /// It could not be tried.
    Untried,
}

/// What it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As the table of rights says.
    Right,
    /// More than it says.
    Leak,
    /// Less than it says.
    Blocked,
    /// Not tried, see why.
    Untried,
}

/// One cell of the matrix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// The table.
    pub table: &'static str,
    /// The caller.
    pub caller: Asker,
    /// `select`, `insert`, `update` or `delete`.
    pub verb: &'static str,
    /// What was found.
    pub found: Found,
    /// What it means.
    pub verdict: Verdict,
    /// What the database said, where that is not as it should be; or why it was not tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The whole matrix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Matrix {
    /// Its cells, by table, verb and caller.
    pub cells: Vec<Cell>,
    /// Tables that are not ours, and so not looked at.
    #[serde(rename = "notOurs")]
    pub not_ours: Vec<&'static str>,
}

impl Matrix {
    /// Says whether there is a leak, or a rightful access that is blocked.
    pub fn is_wrong(&self) -> bool {
        self.cells.iter().any(|cell| matches!(cell.verdict, Verdict::Leak | Verdict::Blocked))
    }

    /// Says whether every cell was tried and is as it should be.
    pub fn is_right(&self) -> bool {
        self.cells.iter().all(|cell| cell.verdict == Verdict::Right)
    }
}

/// How a table is tried. `$1` is a user, `$2` an id (UUIDv7 as text) of that user's rows.
struct Probe {
    table: &'static str,
    /// Whether rows belong to users; else they are nobody's.
    personal: bool,
    insert: &'static str,
    /// Counts the rows of a user, by the id.
    count: &'static str,
    update: &'static str,
    delete: &'static str,
}

const PROBES: &[Probe] = &[
    Probe {
        table: "user_archetypes",
        personal: true,
        insert: "INSERT INTO public.user_archetypes (user_id, archetype_type, confidence, signals, reasoning, scores,
            policy, computed_at, created_at, updated_at)
          SELECT $1 || CASE WHEN $3 THEN '.new' ELSE '' END, 'average_user', 0.5, '{}', '{}', '{}', $2, now(), now(), now()",
        count: "SELECT count(*) FROM public.user_archetypes WHERE user_id = $1 AND policy = $2",
        update: "UPDATE public.user_archetypes SET policy = policy WHERE user_id = $1 AND policy = $2",
        delete: "DELETE FROM public.user_archetypes WHERE user_id = $1 AND policy = $2",
    },
    Probe {
        table: "recommendation_logs",
        personal: true,
        insert: "INSERT INTO public.recommendation_logs (id, user_id, target_date, primary_recommendation,
            archetype_type, archetype_confidence, days_until_checkin, urgency_level, options, context, rule, policy,
            personalized, propensity, confidence, response_time_ms, created_at)
          SELECT $2::uuid, $1 || CASE WHEN $3 THEN '.new' ELSE '' END, current_date, 'crash', 'average_user', 0.5, 0, 'CRITICAL', '[]', '{}', 'x', 'x',
            false, 1, 0.5, 0, now()",
        count: "SELECT count(*) FROM public.recommendation_logs WHERE user_id = $1 AND id = $2::uuid",
        update: "UPDATE public.recommendation_logs SET policy = policy WHERE user_id = $1 AND id = $2::uuid",
        delete: "DELETE FROM public.recommendation_logs WHERE user_id = $1 AND id = $2::uuid",
    },
    Probe {
        table: "recommendation_events",
        personal: true,
        insert: "INSERT INTO public.recommendation_events (user_id, recommendation_id, event, occurrence, payload,
            occurred_at, recorded_at)
          SELECT $1, $2::uuid, 'viewed', CASE WHEN $3 THEN 'new' ELSE '' END || '@', '{}', now(), now()",
        count: "SELECT count(*) FROM public.recommendation_events WHERE user_id = $1 AND recommendation_id = $2::uuid",
        update: "UPDATE public.recommendation_events SET payload = payload
          WHERE user_id = $1 AND recommendation_id = $2::uuid",
        delete: "DELETE FROM public.recommendation_events WHERE user_id = $1 AND recommendation_id = $2::uuid",
    },
    Probe {
        table: "admin_audit_log",
        personal: false,
        insert: "INSERT INTO public.admin_audit_log (admin_id, actor_role, action, target_user_id, metadata, created_at,
            prev_hash, hash)
          SELECT $1, 'operator', 'probe', $2 || CASE WHEN $3 THEN '.new' ELSE '' END, '{}', now(), t.hash, repeat('0', 64)
          FROM nudge.audit_tail() AS t",
        count: "SELECT count(*) FROM public.admin_audit_log WHERE admin_id = $1 AND target_user_id = $2",
        update: "UPDATE public.admin_audit_log SET action = action WHERE admin_id = $1 AND target_user_id = $2",
        delete: "DELETE FROM public.admin_audit_log WHERE admin_id = $1 AND target_user_id = $2",
    },
    Probe {
        table: "archetype_job_logs",
        personal: false,
        insert: "INSERT INTO public.archetype_job_logs (id, job_type, status, started_at)
          SELECT overlay($2 placing CASE WHEN $3 THEN '1' ELSE '0' END from 36)::uuid, $1, 'cancelled', now()",
        count: "SELECT count(*) FROM public.archetype_job_logs
          WHERE job_type = $1 AND id = overlay($2 placing '0' from 36)::uuid",
        update: "UPDATE public.archetype_job_logs SET status = status
          WHERE job_type = $1 AND id = overlay($2 placing '0' from 36)::uuid",
        delete: "DELETE FROM public.archetype_job_logs
          WHERE job_type = $1 AND id = overlay($2 placing '0' from 36)::uuid",
    },
    Probe {
        table: "edge_function_logs",
        personal: false,
        insert: "INSERT INTO public.edge_function_logs (id, function_name, method, status, response_time_ms, request_id,
            created_at)
          SELECT overlay($2 placing CASE WHEN $3 THEN '1' ELSE '0' END from 36)::uuid, 'probe', 'GET', 0, 0, $1, now()",
        count: "SELECT count(*) FROM public.edge_function_logs
          WHERE request_id = $1 AND id = overlay($2 placing '0' from 36)::uuid",
        update: "UPDATE public.edge_function_logs SET status = status
          WHERE request_id = $1 AND id = overlay($2 placing '0' from 36)::uuid",
        delete: "DELETE FROM public.edge_function_logs
          WHERE request_id = $1 AND id = overlay($2 placing '0' from 36)::uuid",
    },
    Probe {
        table: "profiles",
        personal: true,
        insert: "INSERT INTO public.profiles (id, created_at)
          SELECT $1 || CASE WHEN $3 THEN '.new' ELSE '' END, now() WHERE $2 <> ''",
        count: "SELECT count(*) FROM public.profiles WHERE id = $1 AND $2 <> ''",
        update: "UPDATE public.profiles SET personalization_opt_out = personalization_opt_out WHERE id = $1 AND $2 <> ''",
        delete: "DELETE FROM public.profiles WHERE id = $1 AND $2 <> ''",
    },
    Probe {
        table: "leases",
        personal: true,
        insert: "INSERT INTO public.leases (id, name) SELECT $2 || CASE WHEN $3 THEN '.new' ELSE '' END, $1",
        count: "SELECT count(*) FROM public.leases WHERE id = $2 AND name = $1",
        update: "UPDATE public.leases SET name = name WHERE id = $2 AND name = $1",
        delete: "DELETE FROM public.leases WHERE id = $2 AND name = $1",
    },
    Probe {
        table: "lease_members",
        personal: true,
        insert: "INSERT INTO public.lease_members (lease_id, user_id)
          SELECT $2, $1 || CASE WHEN $3 THEN '.new' ELSE '' END",
        count: "SELECT count(*) FROM public.lease_members WHERE lease_id = $2 AND user_id = $1",
        update: "UPDATE public.lease_members SET user_id = user_id WHERE lease_id = $2 AND user_id = $1",
        delete: "DELETE FROM public.lease_members WHERE lease_id = $2 AND user_id = $1",
    },
    Probe {
        table: "lease_nights",
        personal: true,
        insert: "INSERT INTO public.lease_nights (lease_id, night, held_by, base_price)
          SELECT $2, CASE WHEN $3 THEN '9999-12-30' ELSE '9999-12-31' END::date, $1, 1",
        count: "SELECT count(*) FROM public.lease_nights WHERE lease_id = $2 AND night = '9999-12-31' AND held_by = $1",
        update: "UPDATE public.lease_nights SET base_price = base_price
          WHERE lease_id = $2 AND night = '9999-12-31' AND held_by = $1",
        delete: "DELETE FROM public.lease_nights WHERE lease_id = $2 AND night = '9999-12-31' AND held_by = $1",
    },
    Probe {
        table: "date_change_requests",
        personal: true,
        insert: "INSERT INTO public.date_change_requests (id, requester_id, receiver_id, transaction_type, target_night,
            status)
          SELECT $2 || CASE WHEN $3 THEN '.new' ELSE '' END, $1, $1 || '.other', 'swap', current_date, 'cancelled'",
        count: "SELECT count(*) FROM public.date_change_requests WHERE id = $2 AND requester_id = $1",
        update: "UPDATE public.date_change_requests SET status = status WHERE id = $2 AND requester_id = $1",
        delete: "DELETE FROM public.date_change_requests WHERE id = $2 AND requester_id = $1",
    },
];

const LIMITS: &str = "SET LOCAL statement_timeout = '10s'; SET LOCAL lock_timeout = '2s'";
const OURS: &str = "SELECT name, state FROM nudge.fact_states";
/// Two ids of this moment, so that their month has a partition.
const IDS: &str =
    "SELECT left(nudge.first_id(now())::text, 14) || '7' || substr(gen_random_uuid()::text, 16, 20) || '0'
  FROM generate_series(1, 2)";
const MAKE_ADMIN: &str = "UPDATE public.profiles SET role = 'admin' WHERE id = $1";
const SOME_ADMIN: &str = "SELECT id FROM nudge.profiles WHERE role = 'admin' LIMIT 1";
const BECOME: &str =
    "SELECT pg_catalog.set_config('role', $1, true), pg_catalog.set_config('request.jwt.claims', $2, true)";

/// Two users of the matrix, and whose rows they have.
struct People {
    me: (String, String),
    other: (String, String),
    /// `None`: there is nobody to try it as, and why.
    admin: Result<String, String>,
    /// Whether `me` can be given a lease; else what is a lease's is nobody's.
    has_lease: bool,
}

/// Walks the matrix.
///
/// # Errors
/// [`AdminError::Database`] when the rows to try with cannot be inserted, or the connection may not act for callers.
pub async fn verify(client: &Client) -> Result<Matrix, AdminError> {
    client.batch_execute("BEGIN").await.map_err(AdminError::reading("the rights"))?;
    let walked = walk(client).await;
    let ended = client.batch_execute("ROLLBACK").await.map_err(AdminError::reading("the rights"));
    let matrix = walked?;
    ended.map(|()| matrix)
}

async fn walk(client: &Client) -> Result<Matrix, AdminError> {
    let trying = AdminError::making("rows to try the rights with");
    client.batch_execute(LIMITS).await.map_err(&trying)?;
    let states = client.query_typed(OURS, &[]).await.map_err(&trying)?;
    let is_own =
        |fact: &str| states.iter().any(|row| row.get::<_, &str>(0) == fact && row.get::<_, &str>(1) == "own");
    let is_fact = |table: &str| crate::fact::FactTable::NAMES.contains(&table);
    let (ours, not_ours): (Vec<&Probe>, Vec<&Probe>) =
        PROBES.iter().partition(|probe| !is_fact(probe.table) || is_own(probe.table));
    let ids = client.query_typed(IDS, &[]).await.map_err(&trying)?;
    let id = |n: usize| ids.get(n).map(|row| row.get::<_, String>(0)).unwrap_or_default();
    let (me, other) = (format!("probe:{}", id(0)), format!("probe:{}", id(1)));
    let admin = format!("{me}:admin");
    let mut people = People {
        me: (me, id(0)),
        other: (other, id(1)),
        admin: Ok(admin.clone()),
        has_lease: is_own("lease_members"),
    };
    for probe in &ours {
        for (user, id) in [&people.me, &people.other] {
            run(client, probe.insert, user, id, Some(false)).await.map_err(&trying)?;
        }
    }
    if is_own("profiles") {
        let profile = ours.iter().find(|probe| probe.table == "profiles");
        if let Some(profile) = profile {
            run(client, profile.insert, &admin, &people.me.1, Some(false)).await.map_err(&trying)?;
        }
        client.execute_typed(MAKE_ADMIN, &[(&admin, Type::TEXT)]).await.map_err(&trying)?;
    } else {
        let found = client.query_typed(SOME_ADMIN, &[]).await.map_err(&trying)?;
        people.admin =
            found.first().map(|row| row.get(0)).ok_or_else(|| "the app has no admin to try it as".to_owned());
    }
    let mut cells = Vec::new();
    for probe in &ours {
        for verb in [Verb::Select, Verb::Insert, Verb::Update, Verb::Delete] {
            for caller in Asker::ALL {
                cells.push(cell(client, &people, probe, *caller, verb).await?);
            }
        }
    }
    Ok(Matrix { cells, not_ours: not_ours.iter().map(|probe| probe.table).collect() })
}

/// Tries one verb as one caller.
async fn cell(
    client: &Client,
    people: &People,
    probe: &Probe,
    caller: Asker,
    verb: Verb,
) -> Result<Cell, AdminError> {
    let word = match verb {
        Verb::Select => "select",
        Verb::Insert => "insert",
        Verb::Update => "update",
        Verb::Delete => "delete",
    };
    let cell = |found, verdict, why| Cell { table: probe.table, caller, verb: word, found, verdict, why };
    let sub = match caller {
        Asker::Anon | Asker::Service => None,
        Asker::User => Some(people.me.0.as_str()),
        Asker::Admin => match &people.admin {
            Ok(admin) => Some(admin.as_str()),
            Err(why) => return Ok(cell(Found::Untried, Verdict::Untried, Some(why.clone()))),
        },
    };
    let by_lease = matches!(probe.table, "leases" | "lease_members" | "lease_nights");
    if by_lease && !people.has_lease && caller == Asker::User && verb == Verb::Select {
        let why = "memberships are the app's, so nobody can be given a lease to try it with".to_owned();
        return Ok(cell(Found::Untried, Verdict::Untried, Some(why)));
    }
    let claims = serde_json::json!({ "role": caller.role(), "sub": sub }).to_string();
    let mine = attempt(client, caller, &claims, probe, verb, &people.me).await?;
    let theirs = attempt(client, caller, &claims, probe, verb, &people.other).await?;
    let wanted = scope(caller.grade(), probe.table, verb);
    let append_only = probe.table == "recommendation_events" && verb == Verb::Update;
    let (found, why) = match (mine, theirs) {
        (Attempt::Denied(why), Attempt::Denied(_)) => (Found::Denied, Some(why)),
        (Attempt::Met(false), Attempt::Met(false)) => (Found::Nothing, None),
        (Attempt::Met(true), Attempt::Met(true)) => (Found::All, None),
        (Attempt::Met(true), _) => (Found::Own, None),
        (_, Attempt::Met(true)) => (Found::OthersOnly, None),
        (Attempt::AppendOnly, Attempt::AppendOnly) => (Found::AppendOnly, None),
        (Attempt::Failed(why), _) | (_, Attempt::Failed(why)) => (Found::Untried, Some(why)),
        _ => (Found::Nothing, None),
    };
    let verdict = match (wanted, found) {
        (_, Found::Untried) => Verdict::Untried,
        (Scope::NoPrivilege, Found::Denied) | (Scope::Nobody, Found::Nothing) | (Scope::All, Found::All) => {
            Verdict::Right
        }
        // Rows of nobody are nobody's own.
        (Scope::Own, Found::Own) if probe.personal => Verdict::Right,
        (Scope::All, Found::AppendOnly) if append_only => Verdict::Right,
        (Scope::NoPrivilege | Scope::Nobody, _) | (Scope::Own, Found::All | Found::OthersOnly) => {
            Verdict::Leak
        }
        (Scope::Own | Scope::All, _) => Verdict::Blocked,
    };
    // No privilege at all where there should be one that meets no row: less, not more.
    let verdict = if wanted == Scope::Nobody && found == Found::Denied { Verdict::Blocked } else { verdict };
    Ok(cell(found, verdict, why.filter(|_| verdict != Verdict::Right)))
}

/// What came of a try on the rows of one user.
enum Attempt {
    Denied(String),
    AppendOnly,
    /// Whether the row was met.
    Met(bool),
    Failed(String),
}

async fn attempt(
    client: &Client,
    caller: Asker,
    claims: &str,
    probe: &Probe,
    verb: Verb,
    (user, id): &(String, String),
) -> Result<Attempt, AdminError> {
    let trying = AdminError::reading("the rights");
    client.batch_execute("SAVEPOINT attempt").await.map_err(&trying)?;
    let acting = client.query_typed(BECOME, &[(&caller.role(), Type::TEXT), (&claims, Type::TEXT)]).await;
    acting.map_err(|error| AdminError::Database {
        doing: "act as",
        what: caller.role().to_owned(),
        detail: tell(&error),
    })?;
    let done = match verb {
        Verb::Select => run(client, probe.count, user, id, None).await,
        Verb::Insert => run(client, probe.insert, user, id, Some(true)).await,
        Verb::Update => run(client, probe.update, user, id, None).await,
        Verb::Delete => run(client, probe.delete, user, id, None).await,
    };
    client.batch_execute("ROLLBACK TO SAVEPOINT attempt").await.map_err(&trying)?;
    Ok(match done {
        Ok(rows) => Attempt::Met(rows > 0),
        Err(error) => match error.code() {
            // Also the answer of a policy that takes no such row.
            Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => Attempt::Denied(tell(&error)),
            Some(code) if *code == SqlState::RESTRICT_VIOLATION => Attempt::AppendOnly,
            _ => Attempt::Failed(tell(&error)),
        },
    })
}

/// Runs a statement on a user's rows; gives how many it met.
async fn run(client: &Client, sql: &str, user: &str, id: &str, new: Option<bool>) -> Result<i64, Error> {
    let mut values: Vec<(&(dyn ToSql + Sync), Type)> = vec![(&user, Type::TEXT), (&id, Type::TEXT)];
    if let Some(new) = &new {
        values.push((new, Type::BOOL));
    }
    if sql.starts_with("SELECT") {
        let rows = client.query_typed(sql, &values).await?;
        return Ok(rows.first().map_or(0, |row| row.get(0)));
    }
    Ok(i64::try_from(client.execute_typed(sql, &values).await?).unwrap_or(i64::MAX))
}
