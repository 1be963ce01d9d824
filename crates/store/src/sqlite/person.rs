//! The read of a person: profile, archetype, history and requests, in one read transaction.

use jiff::Timestamp;
use nudge_engine::{History, LastRequest, Request, RequestStatus, Role, UserId};
use rusqlite::{Connection, OptionalExtension, Row};

use super::convert::{Within, cents_opt, parsed, parsed_opt, statements, time, time_opt};
use crate::error::StoreError;
use crate::record::{
    FactsVersion, ManualOverride, PersonFacts, Profile, ProfileRole, StoredArchetype, WithRequests,
};

statements! {
    SELECT_PROFILE = "SELECT role, personalization_opt_out FROM profiles WHERE id = ?1";
    SELECT_STALE = "SELECT revision FROM nudge_stale_users WHERE user_id = ?1";
    SELECT_ARCHETYPE = "SELECT archetype_type, confidence, signals, reasoning, scores, is_manual_override,
        override_reason, override_by, override_expires_at, policy, computed_at, updated_at
      FROM user_archetypes WHERE user_id = ?1";
    /// Answered from the covering index alone.
    SELECT_ASKED = "SELECT id, transaction_type, status, proposed_price, base_price, created_at, responded_at
      FROM date_change_requests WHERE requester_id = ?1 ORDER BY created_at DESC, id DESC LIMIT ?2";
    /// Answered from the covering index alone.
    SELECT_GOT = "SELECT id, transaction_type, status, proposed_price, base_price, created_at, responded_at
      FROM date_change_requests WHERE receiver_id = ?1 ORDER BY created_at DESC, id DESC LIMIT ?2";
    SELECT_PEOPLE = "SELECT requester_id AS user_id FROM date_change_requests WHERE requester_id > ?1
      UNION SELECT receiver_id FROM date_change_requests WHERE receiver_id > ?1
      UNION SELECT user_id FROM lease_members WHERE user_id > ?1
      UNION SELECT id FROM profiles WHERE id > ?1
      EXCEPT SELECT id FROM profiles WHERE id > ?1 AND personalization_opt_out = 1
      ORDER BY user_id LIMIT ?2";
    COUNT_ARCHETYPES = "SELECT archetype_type, count(*) FROM user_archetypes GROUP BY archetype_type";
}

const REQUESTS: &str = "date_change_requests";

/// Reads a profile; a user without one is a member.
pub(super) fn profile(conn: &Connection, user: &UserId) -> Result<Profile, StoreError> {
    let mut statement = conn.prepare_cached(SELECT_PROFILE).within("profiles")?;
    let found = statement
        .query_row([user.as_str()], |row| {
            let role = parsed(row, 0, |word| match word {
                "member" => Ok(ProfileRole::Member),
                "admin" => Ok(ProfileRole::Admin),
                _ => Err(std::io::Error::other("an unknown role")),
            })?;
            Ok(Profile { role, opted_out: row.get(1)? })
        })
        .optional();
    Ok(found.within("profiles")?.unwrap_or_default())
}

/// Reads the revision at which a user was last marked for recomputation.
pub(super) fn stale_revision(conn: &Connection, user: &UserId) -> Result<Option<i64>, StoreError> {
    let mut statement = conn.prepare_cached(SELECT_STALE).within("nudge_stale_users")?;
    statement.query_row([user.as_str()], |row| row.get(0)).optional().within("nudge_stale_users")
}

/// Reads a stored archetype and its `updated_at` as stored.
pub(super) fn archetype(
    conn: &Connection,
    user: &UserId,
) -> Result<Option<(StoredArchetype, String)>, StoreError> {
    let mut statement = conn.prepare_cached(SELECT_ARCHETYPE).within("user_archetypes")?;
    statement.query_row([user.as_str()], stored_archetype).optional().within("user_archetypes")
}

fn stored_archetype(row: &Row<'_>) -> rusqlite::Result<(StoredArchetype, String)> {
    let manual = match row.get::<_, bool>(5)? {
        true => Some(ManualOverride { reason: row.get(6)?, by: row.get(7)?, expires_at: time_opt(row, 8)? }),
        false => None,
    };
    let stored = StoredArchetype {
        archetype: parsed(row, 0, str::parse)?,
        confidence: row.get(1)?,
        signals: parsed(row, 2, |text| serde_json::from_str(text))?,
        reasoning: parsed(row, 3, |text| serde_json::from_str(text))?,
        scores: parsed(row, 4, |text| serde_json::from_str(text))?,
        manual,
        policy: row.get(9)?,
        computed_at: time(row, 10)?,
        updated_at: time(row, 11)?,
    };
    Ok((stored, row.get(11)?))
}

/// Reads all that is known of a person.
pub(super) fn load(
    conn: &Connection,
    user: &UserId,
    with: WithRequests<'_>,
    signal_requests: usize,
    history_requests: u32,
) -> Result<PersonFacts, StoreError> {
    let profile = profile(conn, user)?;
    let stale_revision = stale_revision(conn, user)?;
    let (archetype, row_updated_at) = archetype(conn, user)?.unzip();
    let history_requests = history_requests as usize;
    let wanted = match with {
        WithRequests::Always => true,
        WithRequests::IfNotFresh { fresh_after, now, policy } => {
            !is_usable(archetype.as_ref(), stale_revision, fresh_after, now, policy)
        }
    };
    let newest = if wanted { signal_requests.max(history_requests) } else { history_requests };
    let mut asked = requests(conn, user, Role::Requester, newest)?;
    let history = history(asked.get(..history_requests).unwrap_or(&asked));
    let requests = if wanted {
        let got = requests(conn, user, Role::Receiver, signal_requests)?;
        asked.extend(got);
        asked.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| b.id.cmp(&a.id)));
        asked.truncate(signal_requests);
        Some(asked)
    } else {
        None
    };
    let version = FactsVersion { stale_revision, row_updated_at };
    Ok(PersonFacts { profile, archetype, version, history, requests })
}

/// Says whether a stored archetype can be used as it is: a live override always, else one that is young, not stale, of this
/// policy and not the rest of an override that has ended.
fn is_usable(
    archetype: Option<&StoredArchetype>,
    stale: Option<i64>,
    fresh_after: Timestamp,
    now: Timestamp,
    policy: &str,
) -> bool {
    archetype.is_some_and(|stored| {
        stored.has_live_override(now)
            || (stale.is_none()
                && stored.manual.is_none()
                && stored.computed_at >= fresh_after
                && stored.policy == policy)
    })
}

fn history(newest_first: &[Request]) -> History {
    History {
        prior_requests: u32::try_from(newest_first.len()).unwrap_or(u32::MAX),
        last: newest_first.first().map(|request| LastRequest {
            transaction_type: request.transaction_type,
            accepted: request.status == RequestStatus::Accepted,
        }),
    }
}

/// Reads a user's newest requests in one role, newest first.
pub(super) fn requests(
    conn: &Connection,
    user: &UserId,
    role: Role,
    limit: usize,
) -> Result<Vec<Request>, StoreError> {
    let sql = match role {
        Role::Requester => SELECT_ASKED,
        Role::Receiver => SELECT_GOT,
    };
    let mut statement = conn.prepare_cached(sql).within(REQUESTS)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map((user.as_str(), limit), |row| {
        Ok(Request {
            id: row.get::<_, String>(0)?.into(),
            role,
            transaction_type: parsed(row, 1, str::parse)?,
            status: parsed(row, 2, str::parse)?,
            proposed_price: cents_opt(row, 3)?.map(nudge_engine::Cents),
            base_price: cents_opt(row, 4)?.map(nudge_engine::Cents),
            created_at: time(row, 5)?,
            responded_at: time_opt(row, 6)?,
        })
    });
    rows.and_then(Iterator::collect).within(REQUESTS)
}

/// Lists people after a user, in order of their ids.
pub(super) fn people_after(
    conn: &Connection,
    after: Option<&UserId>,
    limit: usize,
) -> Result<Vec<UserId>, StoreError> {
    let mut statement = conn.prepare_cached(SELECT_PEOPLE).within(REQUESTS)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement
        .query_map((after.map_or("", UserId::as_str), limit), |row| parsed_opt(row, 0, UserId::parse));
    let people: Vec<Option<UserId>> = rows.and_then(Iterator::collect).within(REQUESTS)?;
    Ok(people.into_iter().flatten().collect())
}

/// Counts the stored archetypes by type.
pub(super) fn archetype_counts(conn: &Connection) -> Result<Vec<(nudge_engine::Archetype, u64)>, StoreError> {
    let mut statement = conn.prepare_cached(COUNT_ARCHETYPES).within("user_archetypes")?;
    let rows = statement.query_map([], |row| {
        let count: i64 = row.get(1)?;
        let count = u64::try_from(count).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(1, count))?;
        Ok((parsed(row, 0, str::parse)?, count))
    });
    rows.and_then(Iterator::collect).within("user_archetypes")
}
