//! The users of a run: found by id, read in one read transaction for a batch, stored with the run's cursor.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use nudge_engine::{Role, UserId};
use rusqlite::{Connection, OptionalExtension, params};

use super::super::convert::{Within, parsed, parsed_opt, statements, time, time_opt, time_text};
use super::super::{archetype, fact, person};
use super::{FAILURES, RUNS, execute, renew};
use crate::error::StoreError;
use crate::job::{
    BatchSaved, IdPage, PeoplePage, PersonSaved, PersonState, RunBatch, RunLease, RunSelection, Worked,
};
use crate::record::FactsVersion;

statements! {
    NEXT_REQUESTER = "SELECT min(requester_id) FROM date_change_requests WHERE requester_id > ?1";
    NEXT_RECEIVER = "SELECT min(receiver_id) FROM date_change_requests WHERE receiver_id > ?1";
    NEXT_PROFILE = "SELECT min(id) FROM profiles WHERE id > ?1";
    SELECT_MARKED = "SELECT user_id FROM nudge_stale_users WHERE user_id > ?1 ORDER BY user_id LIMIT ?2";
    SELECT_ENDED = "SELECT user_id FROM user_archetypes INDEXED BY user_archetypes_overridden
      WHERE user_id > ?1 AND is_manual_override = 1 AND override_expires_at <= ?3 ORDER BY user_id LIMIT ?2";
    /// The next archetypes whatever their age, so that a search that finds nothing ends.
    SELECT_AGES = "SELECT user_id, is_manual_override, computed_at FROM user_archetypes
      WHERE user_id > ?1 ORDER BY user_id LIMIT ?2";
    SELECT_STATE = "SELECT archetype_type, confidence, is_manual_override, override_expires_at, updated_at
      FROM user_archetypes WHERE user_id = ?1";
    SAVE_PROGRESS = "UPDATE archetype_job_logs SET processed_count = ?2, updated_count = ?3, failed_count = ?4,
        cursor = coalesce(?5, cursor), heartbeat_at = ?6, metadata = json_set(metadata, '$.totals', json(?7))
      WHERE id = ?1";
    SAVE_FAILURE = "INSERT INTO nudge_job_failures (run_id, user_id, attempts, reason, failed_at)
      VALUES (?1, ?2, 1, ?3, ?4)
      ON CONFLICT (run_id, user_id) DO UPDATE SET attempts = attempts + 1, reason = excluded.reason,
        failed_at = excluded.failed_at";
    FORGET_CURED = "DELETE FROM nudge_job_failures WHERE run_id = ?1 AND user_id = ?2";
}

const ARCHETYPES: &str = "user_archetypes";
const REQUESTS: &str = "date_change_requests";

/// Archetypes whose age is looked at in one read.
const AGES: u32 = 2_000;

/// How long a batch may keep the writer; the rest of it comes in the next one. Decisions wait that long behind it.
const WRITES_FOR: Duration = Duration::from_millis(2);

/// Lists the next users of a run.
pub(in crate::sqlite) fn people(
    conn: &Connection,
    selection: RunSelection,
    after: Option<&UserId>,
    limit: u32,
) -> Result<PeoplePage, StoreError> {
    let mut after = after.map_or_else(String::new, ToString::to_string);
    loop {
        let page = match selection {
            RunSelection::Everybody => everybody(conn, &after, limit)?,
            RunSelection::Stale { computed_before, now } => stale(conn, computed_before, now, &after, limit)?,
        };
        match page.usable() {
            Ok(page) => return Ok(page),
            Err(further) => after = further,
        }
    }
}

/// Goes from one user to the next by the indexes, whatever the number of their rows.
fn everybody(conn: &Connection, after: &str, limit: u32) -> Result<IdPage, StoreError> {
    let statements = [(NEXT_REQUESTER, REQUESTS), (NEXT_RECEIVER, REQUESTS), (NEXT_PROFILE, "profiles")];
    let next = |(sql, table): (&str, &'static str), after: &str| -> Result<Option<String>, StoreError> {
        let mut statement = conn.prepare_cached(sql).within(table)?;
        statement.query_row([after], |row| row.get(0)).within(table)
    };
    let mut heads = Vec::with_capacity(statements.len());
    for statement in statements {
        heads.push((statement, next(statement, after)?));
    }
    let mut ids = Vec::new();
    while ids.len() < limit as usize {
        let Some(lowest) = heads.iter().filter_map(|(_, head)| head.clone()).min() else {
            return Ok(IdPage { ids, upto: None });
        };
        for (statement, head) in &mut heads {
            if head.as_deref() == Some(lowest.as_str()) {
                *head = next(*statement, &lowest)?;
            }
        }
        ids.push(lowest);
    }
    Ok(IdPage::of(ids, limit))
}

fn stale(
    conn: &Connection,
    computed_before: Option<Timestamp>,
    now: Timestamp,
    after: &str,
    limit: u32,
) -> Result<IdPage, StoreError> {
    let listed = |sql: &str, params: &[&dyn rusqlite::ToSql]| -> Result<IdPage, StoreError> {
        let mut statement = conn.prepare_cached(sql).within(ARCHETYPES)?;
        let rows = statement.query_map(params, |row| row.get(0));
        Ok(IdPage::of(rows.and_then(Iterator::collect).within(ARCHETYPES)?, limit))
    };
    let marked = listed(SELECT_MARKED, &[&after, &limit])?;
    let ended = listed(SELECT_ENDED, &[&after, &limit, &time_text(now)])?;
    let found = marked.merge(ended, limit);
    let Some(computed_before) = computed_before else { return Ok(found) };
    let mut statement = conn.prepare_cached(SELECT_AGES).within(ARCHETYPES)?;
    let rows = statement
        .query_map(params![after, AGES], |row| Ok((row.get(0)?, row.get::<_, bool>(1)?, time(row, 2).ok())));
    let ages: Vec<(String, bool, Option<Timestamp>)> = rows.and_then(Iterator::collect).within(ARCHETYPES)?;
    let upto = ages.last().filter(|_| ages.len() >= AGES as usize).map(|(user, ..)| user.clone());
    let aged = ages
        .into_iter()
        .filter(|(_, overridden, at)| !overridden && RunSelection::is_old(*at, computed_before, now));
    let aged = IdPage { ids: aged.map(|(user, ..)| user).collect(), upto };
    Ok(found.merge(aged, limit))
}

/// Reads what is known of users, given in order; those whose rows cannot be read come with the reason.
pub(in crate::sqlite) fn facts(
    conn: &Connection,
    users: &[UserId],
    newest: usize,
    now: Timestamp,
) -> Result<Vec<Result<PersonState, String>>, StoreError> {
    let mut people = Vec::with_capacity(users.len());
    for user in users {
        people.push(match state(conn, user, newest, now) {
            Ok(known) => Ok(known),
            Err(StoreError::Inconsistent { table, detail }) => Err(format!("{table}: {detail}")),
            Err(error) => return Err(error),
        });
    }
    Ok(people)
}

fn state(conn: &Connection, user: &UserId, newest: usize, now: Timestamp) -> Result<PersonState, StoreError> {
    let mut statement = conn.prepare_cached(SELECT_STATE).within(ARCHETYPES)?;
    let stored = statement
        .query_row([user.as_str()], |row| {
            let archetype = (parsed(row, 0, str::parse)?, row.get::<_, f64>(1)?);
            let ends = time_opt(row, 3)?;
            let overridden = row.get::<_, bool>(2)? && ends.is_none_or(|end| now < end);
            Ok((archetype, overridden, parsed_opt(row, 4, |text| Ok::<_, std::io::Error>(text.to_owned()))?))
        })
        .optional()
        .within(ARCHETYPES)?;
    let mut requests = person::requests(conn, user, Role::Requester, newest)?;
    requests.extend(person::requests(conn, user, Role::Receiver, newest)?);
    requests.sort_unstable_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| b.id.cmp(&a.id)));
    requests.truncate(newest);
    let (archetype, overridden, row_updated_at) =
        stored.map_or((None, false, None), |(archetype, overridden, at)| (Some(archetype), overridden, at));
    Ok(PersonState {
        opted_out: person::profile(conn, user)?.opted_out,
        stored: archetype,
        overridden,
        version: FactsVersion { stale_revision: person::stale_revision(conn, user)?, row_updated_at },
        requests,
    })
}

/// Stores a batch, or as much of it as there is time for, with the run's cursor, unless the lease is lost.
pub(in crate::sqlite) fn save(
    conn: &Connection,
    lease: RunLease,
    batch: &RunBatch,
) -> Result<BatchSaved, StoreError> {
    if !renew(conn, lease)? {
        return Ok(BatchSaved::LeaseLost);
    }
    let begun = Instant::now();
    let id = lease.run_id.to_string();
    let now = time_text(fact::clock(conn)?);
    let mut totals = batch.totals.clone();
    let mut done = 0;
    for (user, worked) in &batch.items {
        if done > 0 && begun.elapsed() >= WRITES_FOR {
            break;
        }
        let saved: Option<PersonSaved> = match worked {
            Worked::Computed(computed, version) => Some(archetype::save(conn, user, computed, version)?),
            Worked::Failed(reason) => {
                execute(conn, SAVE_FAILURE, FAILURES, params![id, user.as_str(), reason, now])?;
                None
            }
            Worked::Overridden | Worked::OptedOut => None,
        };
        if batch.again && !matches!(worked, Worked::Failed(_)) {
            execute(conn, FORGET_CURED, FAILURES, params![id, user.as_str()])?;
        }
        totals.count(worked, saved, batch.again);
        done += 1;
    }
    let cursor = match (&batch.upto, batch.items.get(done)) {
        (None, _) => None,
        (Some(upto), None) => Some(upto),
        (Some(_), Some(_)) => batch.items.get(done.saturating_sub(1)).map(|(user, _)| user),
    };
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let text = serde_json::to_string(&totals)
        .map_err(|error| StoreError::Refused { table: RUNS, detail: error.to_string() })?;
    let progress = params![
        id,
        count(totals.processed),
        count(totals.updated),
        count(totals.failed),
        cursor.map(UserId::as_str),
        now,
        text
    ];
    execute(conn, SAVE_PROGRESS, RUNS, progress)?;
    Ok(BatchSaved::Saved { items: done, totals })
}
