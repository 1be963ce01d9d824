//! The users of a run: found by id, read in one statement for a batch, stored in one transaction with the run's cursor.

use std::collections::BTreeMap;

use jiff::Timestamp;
use nudge_engine::{Cents, Request, RequestStatus, Role, TransactionType, UserId};
use tokio_postgres::Row;

use super::super::archetype;
use super::super::convert::{At, Doing, get, parsed, statements, store_error, time, time_opt};
use super::super::pool::{Connection, Pool, Transaction};
use super::super::source::Sources;
use super::{FAILURES, RUNS, limit, renew};
use crate::error::StoreError;
use crate::fact::FactTable;
use crate::format::time_text;
use crate::job::{
    BatchSaved, IdPage, PeoplePage, PersonSaved, PersonState, RunBatch, RunLease, RunSelection, RunTotals,
    Worked,
};
use crate::record::FactsVersion;

statements! {
    /// Each branch goes from one user to the next by the index, whatever the number of their rows.
    SELECT_EVERYBODY [TEXT, INT8] = "WITH RECURSIVE asked (id) AS (
        SELECT min(r.requester_id) FROM nudge.date_change_requests AS r WHERE r.requester_id > $1
        UNION ALL
        SELECT (SELECT min(r.requester_id) FROM nudge.date_change_requests AS r WHERE r.requester_id > a.id)
        FROM asked AS a WHERE a.id IS NOT NULL
      ), got (id) AS (
        SELECT min(r.receiver_id) FROM nudge.date_change_requests AS r WHERE r.receiver_id > $1
        UNION ALL
        SELECT (SELECT min(r.receiver_id) FROM nudge.date_change_requests AS r WHERE r.receiver_id > g.id)
        FROM got AS g WHERE g.id IS NOT NULL
      )
      SELECT people.id FROM (
        (SELECT id FROM asked LIMIT $2)
        UNION (SELECT id FROM got LIMIT $2)
        UNION (SELECT p.id FROM nudge.profiles AS p WHERE p.id > $1 ORDER BY p.id LIMIT $2)
      ) AS people
      WHERE people.id IS NOT NULL ORDER BY people.id LIMIT $2";
    /// Users marked as stale, and those whose override has ended.
    SELECT_STALE [TEXT, INT8, TIMESTAMPTZ] = "SELECT people.id FROM (
        (SELECT s.user_id AS id FROM nudge.stale_users AS s WHERE s.user_id > $1 ORDER BY s.user_id LIMIT $2)
        UNION
        (SELECT a.user_id FROM public.user_archetypes AS a WHERE a.user_id > $1 AND a.is_manual_override
          AND a.override_expires_at <= $3 ORDER BY a.user_id LIMIT $2)
      ) AS people ORDER BY people.id LIMIT $2";
    /// The next archetypes whatever their age, so that a search that finds nothing ends.
    SELECT_AGES [TEXT, INT8] = "SELECT a.user_id, a.is_manual_override, a.computed_at
      FROM public.user_archetypes AS a WHERE a.user_id > $1 ORDER BY a.user_id LIMIT $2";
    /// Marks who has asked or been asked since a time: an app's own requests come without a word.
    MARK_RECENT [TIMESTAMPTZ] = "INSERT INTO nudge.stale_users (user_id, revision)
      SELECT people.id, nextval('nudge.revisions') FROM (
        SELECT r.requester_id AS id FROM nudge.date_change_requests AS r WHERE r.created_at >= $1
        UNION SELECT r.receiver_id FROM nudge.date_change_requests AS r WHERE r.created_at >= $1
      ) AS people ORDER BY people.id
      ON CONFLICT (user_id) DO UPDATE SET revision = excluded.revision";
    SELECT_LAST_START [TEXT] = "SELECT max(started_at) FROM public.archetype_job_logs
      WHERE job_type = $1 AND status = 'completed'";
    /// The users (0), their requests as requesters (1) and as receivers (2), the newest of each.
    SELECT_FACTS [TEXT_ARRAY, INT8] = "WITH wanted AS MATERIALIZED (
        SELECT w.id COLLATE \"C\" AS id, w.n::int4 AS n FROM unnest($1) WITH ORDINALITY AS w (id, n)
      )
      SELECT w.n, 0, p.personalization_opt_out, a.archetype_type, a.confidence::double precision, NULL::bigint, NULL::bigint,
        a.updated_at, a.override_expires_at, a.is_manual_override, s.revision
      FROM wanted AS w
      LEFT JOIN LATERAL (SELECT p.personalization_opt_out FROM nudge.profiles AS p WHERE p.id = w.id LIMIT 1) AS p ON true
      LEFT JOIN nudge.stale_users AS s ON s.user_id = w.id
      LEFT JOIN public.user_archetypes AS a ON a.user_id = w.id
      UNION ALL
      SELECT w.n, 1, NULL, r.id || ' ' || r.transaction_type || ' ' || r.status, NULL,
        round(r.proposed_price * 100)::bigint, round(r.base_price * 100)::bigint, r.created_at, r.responded_at, NULL, NULL
      FROM wanted AS w CROSS JOIN LATERAL (
        SELECT q.id, q.transaction_type, q.status, q.proposed_price, q.base_price, q.created_at, q.responded_at
        FROM nudge.date_change_requests AS q WHERE q.requester_id = w.id
        ORDER BY q.created_at DESC, q.id DESC LIMIT $2
      ) AS r
      UNION ALL
      SELECT w.n, 2, NULL, r.id || ' ' || r.transaction_type || ' ' || r.status, NULL,
        round(r.proposed_price * 100)::bigint, round(r.base_price * 100)::bigint, r.created_at, r.responded_at, NULL, NULL
      FROM wanted AS w CROSS JOIN LATERAL (
        SELECT q.id, q.transaction_type, q.status, q.proposed_price, q.base_price, q.created_at, q.responded_at
        FROM nudge.date_change_requests AS q WHERE q.receiver_id = w.id
        ORDER BY q.created_at DESC, q.id DESC LIMIT $2
      ) AS r";
    SAVE_PROGRESS [UUID, INT8, INT8, INT8, TEXT, TEXT] = "UPDATE public.archetype_job_logs SET processed_count = $2,
        updated_count = $3, failed_count = $4, cursor = coalesce($5, cursor), heartbeat_at = clock_timestamp(),
        metadata = jsonb_set(metadata, '{totals}', $6::jsonb)
      WHERE id = $1";
    SAVE_FAILURES [UUID, TEXT_ARRAY, TEXT_ARRAY] = "INSERT INTO nudge.job_failures AS f (run_id, user_id, attempts, reason,
        failed_at)
      SELECT $1, v.user_id, 1, v.reason, clock_timestamp() FROM unnest($2, $3) AS v (user_id, reason)
      ON CONFLICT (run_id, user_id) DO UPDATE SET attempts = f.attempts + 1, reason = excluded.reason,
        failed_at = excluded.failed_at";
    FORGET_CURED [UUID, TEXT_ARRAY] = "DELETE FROM nudge.job_failures WHERE run_id = $1 AND user_id = ANY ($2)";
}

const ARCHETYPES: &str = "user_archetypes";
const REQUESTS: &str = "date_change_requests";
const PROFILES: &str = "profiles";

/// Archetypes whose age is looked at in one statement.
const AGES: i64 = 5_000;

/// Lists the next users of a run.
pub(in crate::postgres) async fn people(
    pool: &Pool,
    selection: RunSelection,
    after: Option<&UserId>,
    limit: u32,
) -> Result<PeoplePage, StoreError> {
    let transaction = pool.begin_reading().await?;
    let mut after = after.map_or_else(String::new, ToString::to_string);
    let page = loop {
        let page = match selection {
            RunSelection::Everybody => everybody(&transaction, &after, limit).await,
            RunSelection::Stale { computed_before, now } => {
                stale(&transaction, computed_before, now, &after, limit).await
            }
        };
        match page.map(IdPage::usable) {
            Ok(Ok(page)) => break Ok(page),
            Ok(Err(further)) => after = further,
            Err(error) => break Err(error),
        }
    };
    transaction.rollback().await;
    page
}

async fn everybody(transaction: &Transaction<'_>, after: &str, limit: u32) -> Result<IdPage, StoreError> {
    let rows = transaction.query(REQUESTS, &SELECT_EVERYBODY, &[&after, &i64::from(limit)]).await?;
    Ok(IdPage::of(ids(&rows, REQUESTS)?, limit))
}

fn ids(rows: &[Row], table: &'static str) -> Result<Vec<String>, StoreError> {
    rows.iter().map(|row| get(row, 0, table)).collect()
}

async fn stale(
    transaction: &Transaction<'_>,
    computed_before: Option<Timestamp>,
    now: Timestamp,
    after: &str,
    limit: u32,
) -> Result<IdPage, StoreError> {
    let rows = transaction.query(ARCHETYPES, &SELECT_STALE, &[&after, &i64::from(limit), &At(now)]).await?;
    let marked = ids(&rows, ARCHETYPES)?;
    let Some(computed_before) = computed_before else { return Ok(IdPage::of(marked, limit)) };
    let rows = transaction.query(ARCHETYPES, &SELECT_AGES, &[&after, &AGES]).await?;
    let mut aged = Vec::new();
    for row in &rows {
        let (overridden, at) = (get::<bool>(row, 1, ARCHETYPES)?, time(row, 2, ARCHETYPES).ok());
        if !overridden && RunSelection::is_old(at, computed_before, now) {
            aged.push(get(row, 0, ARCHETYPES)?);
        }
    }
    let seen_upto = match rows.last() {
        Some(row) if rows.len() >= AGES as usize => Some(get(row, 0, ARCHETYPES)?),
        _ => None,
    };
    Ok(IdPage::of(marked, limit).merge(IdPage { ids: aged, upto: seen_upto }, limit))
}

/// Marks who has asked or been asked since the last run, where the app keeps its requests itself.
pub(in crate::postgres) async fn mark_recent(
    transaction: &Transaction<'_>,
    sources: Sources,
    margin: jiff::SignedDuration,
) -> Result<u64, StoreError> {
    if sources.is_own(FactTable::DateChangeRequests) {
        return Ok(0);
    }
    let rows = transaction.query(RUNS, &SELECT_LAST_START, &[&crate::job::ARCHETYPE_RECALCULATION]).await?;
    let last = rows.first().map_or(Ok(None), |row| time_opt(row, 0, RUNS))?;
    let since = last.and_then(|last| last.checked_sub(margin).ok()).unwrap_or(Timestamp::UNIX_EPOCH);
    transaction.execute("stale_users", &MARK_RECENT, &[&At(since)]).await
}

/// Reads what is known of users, given in order; those whose rows cannot be read come with the reason.
///
/// # Errors
/// [`StoreError::Inconsistent`] also when the server cannot give a row of one of them: which, a smaller batch tells.
pub(in crate::postgres) async fn facts(
    pool: &Pool,
    users: &[UserId],
    newest: usize,
    now: Timestamp,
) -> Result<Vec<Result<PersonState, String>>, StoreError> {
    let texts: Vec<&str> = users.iter().map(UserId::as_str).collect();
    let newest_each = i64::try_from(newest).unwrap_or(i64::MAX);
    let connection: Connection<'_> = pool.take().await?;
    let mut people: Vec<Result<PersonState, String>> =
        users.iter().map(|_| Err("the read gave no row".to_owned())).collect();
    let mut requests: Vec<Result<Vec<Request>, String>> = users.iter().map(|_| Ok(Vec::new())).collect();
    let mut unreadable = None;
    let read = connection
        .each(&SELECT_FACTS, &[&texts, &newest_each], |row| {
            if let Err(error) = sort_in(row, now, &mut people, &mut requests) {
                unreadable = Some(error);
            }
        })
        .await?;
    if let Err(error) = read {
        let error = store_error(&error, REQUESTS, Doing::Reading);
        if !error.is_unavailable() {
            connection.give_back();
        }
        return Err(error);
    }
    connection.give_back();
    if let Some(error) = unreadable {
        return Err(error);
    }
    for (person, of) in people.iter_mut().zip(requests) {
        let Ok(known) = person else { continue };
        match of {
            Ok(mut of) => {
                of.sort_unstable_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| b.id.cmp(&a.id)));
                of.truncate(newest);
                known.requests = of;
            }
            Err(error) => *person = Err(error),
        }
    }
    Ok(people)
}

/// Puts what a row tells where its user is.
fn sort_in(
    row: &Row,
    now: Timestamp,
    people: &mut [Result<PersonState, String>],
    requests: &mut [Result<Vec<Request>, String>],
) -> Result<(), StoreError> {
    let n = usize::try_from(get::<i32>(row, 0, REQUESTS)? - 1).unwrap_or(usize::MAX);
    let kind: i32 = get(row, 1, REQUESTS)?;
    let role = match (kind, people.get_mut(n)) {
        (_, None) => return Ok(()),
        (0, Some(person)) => {
            *person = state(row, now).map_err(StoreError::into_detail);
            return Ok(());
        }
        (1, _) => Role::Requester,
        _ => Role::Receiver,
    };
    if let Some(of) = requests.get_mut(n)
        && let Ok(known) = of
    {
        match request(row, role) {
            Ok(request) => known.push(request),
            Err(error) => *of = Err(error.into_detail()),
        }
    }
    Ok(())
}

fn state(row: &Row, now: Timestamp) -> Result<PersonState, StoreError> {
    let stored = match get::<Option<&str>>(row, 3, ARCHETYPES)? {
        Some(_) => Some((parsed(row, 3, ARCHETYPES, str::parse)?, get(row, 4, ARCHETYPES)?)),
        None => None,
    };
    let ends = time_opt(row, 8, ARCHETYPES)?;
    let is_manual = get::<Option<bool>>(row, 9, ARCHETYPES)?.unwrap_or(false);
    Ok(PersonState {
        opted_out: get::<Option<bool>>(row, 2, PROFILES)?.unwrap_or(false),
        stored,
        overridden: is_manual && ends.is_none_or(|end| now < end),
        version: FactsVersion {
            stale_revision: get(row, 10, "stale_users")?,
            row_updated_at: time_opt(row, 7, ARCHETYPES)?.map(time_text),
        },
        requests: Vec::new(),
    })
}

fn request(row: &Row, role: Role) -> Result<Request, StoreError> {
    let bad = || StoreError::Inconsistent { table: REQUESTS, detail: "an unknown type or status".to_owned() };
    // An id may hold spaces, the two words after it do not.
    let words: &str = get(row, 3, REQUESTS)?;
    let (words, status) = words.rsplit_once(' ').ok_or_else(bad)?;
    let (id, kind) = words.rsplit_once(' ').ok_or_else(bad)?;
    Ok(Request {
        id: id.into(),
        role,
        transaction_type: kind.parse::<TransactionType>().map_err(|_| bad())?,
        status: status.parse::<RequestStatus>().map_err(|_| bad())?,
        proposed_price: get::<Option<i64>>(row, 5, REQUESTS)?.map(Cents),
        base_price: get::<Option<i64>>(row, 6, REQUESTS)?.map(Cents),
        created_at: time(row, 7, REQUESTS)?,
        responded_at: time_opt(row, 8, REQUESTS)?,
    })
}

/// Stores a batch with the run's cursor, unless the lease is lost.
pub(in crate::postgres) async fn save(
    transaction: &Transaction<'_>,
    sources: Sources,
    lease: RunLease,
    batch: &RunBatch,
) -> Result<BatchSaved, StoreError> {
    limit(transaction).await?;
    if !renew(transaction, lease).await? {
        return Ok(BatchSaved::LeaseLost);
    }
    archetype::keep_opt_outs_out(transaction).await?;
    let computed: BTreeMap<_, _> = batch
        .items
        .iter()
        .filter_map(|(user, worked)| match worked {
            Worked::Computed(computed, version) => Some((user, (computed.as_ref(), version))),
            _ => None,
        })
        .collect();
    let saved = match computed.is_empty() {
        true => Vec::new(),
        false => archetype::save_round(transaction, sources, &computed).await?,
    };
    let saved: BTreeMap<&UserId, PersonSaved> = computed.into_keys().zip(saved).collect();
    let mut totals: RunTotals = batch.totals.clone();
    let mut failed: (Vec<&str>, Vec<&str>) = Default::default();
    let mut cured = Vec::new();
    for (user, worked) in &batch.items {
        totals.count(worked, saved.get(user).copied(), batch.again);
        match worked {
            Worked::Failed(reason) => {
                failed.0.push(user.as_str());
                failed.1.push(reason);
            }
            _ => cured.push(user.as_str()),
        }
    }
    if !failed.0.is_empty() {
        transaction.execute(FAILURES, &SAVE_FAILURES, &[&lease.run_id, &failed.0, &failed.1]).await?;
    }
    if batch.again && !cured.is_empty() {
        transaction.execute(FAILURES, &FORGET_CURED, &[&lease.run_id, &cured]).await?;
    }
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let text = serde_json::to_string(&totals)
        .map_err(|error| StoreError::Refused { table: RUNS, detail: error.to_string() })?;
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 6] = [
        &lease.run_id,
        &count(totals.processed),
        &count(totals.updated),
        &count(totals.failed),
        &batch.upto.as_ref().map(UserId::as_str),
        &text,
    ];
    transaction.execute(RUNS, &SAVE_PROGRESS, &values).await?;
    Ok(BatchSaved::Saved { items: batch.items.len(), totals })
}
