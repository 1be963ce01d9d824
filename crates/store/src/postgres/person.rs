//! The reads of a person: profile, archetype, history and requests, in one statement, so that they are of one moment.

use jiff::Timestamp;
use nudge_engine::{
    Archetype, Cents, History, LastRequest, Request, RequestStatus, Role, TransactionType, UserId,
};
use tokio_postgres::Row;

use super::convert::{At, get, parsed, statements, time, time_opt, unavailable};
use super::lanes::Lanes;
use super::pool::Transaction;
use crate::error::StoreError;
use crate::format::time_text;
use crate::record::{
    FactsVersion, ManualOverride, PersonFacts, Profile, ProfileRole, StoredArchetype, WithRequests,
};

statements! {
    SELECT_PROFILE [TEXT] = "SELECT role, personalization_opt_out FROM nudge.profiles WHERE id = $1 LIMIT 1";
    /// The first row is the person, the others are requests: those that the person made (1), those that they got (2).
    /// `wanted`: the stored archetype cannot be used, so that its requests are read too. $2: always. $3 to $5: now, the
    /// oldest computation that can be used, and its policy. $6 and $7: requests for signals, and for the history.
    SELECT_PERSON [TEXT, BOOL, TIMESTAMPTZ, TIMESTAMPTZ, TEXT, INT8, INT8] = "WITH who AS MATERIALIZED (
        SELECT p.role, p.personalization_opt_out, s.revision, a.archetype_type, a.confidence::double precision,
          a.signals::text, a.reasoning, a.scores::text, a.is_manual_override, a.override_reason, a.override_by,
          a.override_expires_at, a.policy, a.computed_at, a.updated_at,
          NOT coalesce(NOT $2 AND (
            a.is_manual_override AND (a.override_expires_at IS NULL OR $3 < a.override_expires_at)
            OR s.revision IS NULL AND NOT a.is_manual_override AND a.computed_at >= $4 AND a.policy = $5
          ), false) AS wanted
        FROM (VALUES ($1)) AS me (id)
        LEFT JOIN nudge.profiles AS p ON p.id = me.id
        LEFT JOIN nudge.stale_users AS s ON s.user_id = me.id
        LEFT JOIN public.user_archetypes AS a ON a.user_id = me.id
        LIMIT 1
      )
      SELECT 0, who.role, who.personalization_opt_out, who.revision, who.archetype_type, who.confidence, who.signals,
        who.reasoning, who.scores, who.is_manual_override, who.override_reason, who.override_by,
        who.override_expires_at, who.policy, who.computed_at, who.updated_at, who.wanted,
        NULL::text, NULL::text, NULL::text, NULL::bigint, NULL::bigint, NULL::timestamptz, NULL::timestamptz
      FROM who
      UNION ALL (
        SELECT 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
          r.id, r.transaction_type, r.status, round(r.proposed_price * 100)::bigint, round(r.base_price * 100)::bigint,
          r.created_at, r.responded_at
        FROM nudge.date_change_requests AS r WHERE r.requester_id = $1
        ORDER BY r.created_at DESC, r.id DESC
        LIMIT (SELECT CASE WHEN who.wanted THEN greatest($6, $7) ELSE $7 END FROM who)
      )
      UNION ALL (
        SELECT 2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
          r.id, r.transaction_type, r.status, round(r.proposed_price * 100)::bigint, round(r.base_price * 100)::bigint,
          r.created_at, r.responded_at
        FROM nudge.date_change_requests AS r WHERE r.receiver_id = $1
        ORDER BY r.created_at DESC, r.id DESC
        LIMIT (SELECT CASE WHEN who.wanted THEN $6 ELSE 0 END FROM who)
      )";
    /// Each branch gives the next ids of an index, so that none is read to its end.
    SELECT_PEOPLE [TEXT, INT8] = "SELECT people.user_id FROM (
        (SELECT DISTINCT r.requester_id AS user_id FROM nudge.date_change_requests AS r WHERE r.requester_id > $1
          AND NOT EXISTS (SELECT FROM nudge.profiles AS p WHERE p.id = r.requester_id AND p.personalization_opt_out)
          ORDER BY r.requester_id LIMIT $2)
        UNION
        (SELECT DISTINCT r.receiver_id FROM nudge.date_change_requests AS r WHERE r.receiver_id > $1
          AND NOT EXISTS (SELECT FROM nudge.profiles AS p WHERE p.id = r.receiver_id AND p.personalization_opt_out)
          ORDER BY r.receiver_id LIMIT $2)
        UNION
        (SELECT DISTINCT m.user_id FROM nudge.lease_members AS m WHERE m.user_id > $1
          AND NOT EXISTS (SELECT FROM nudge.profiles AS p WHERE p.id = m.user_id AND p.personalization_opt_out)
          ORDER BY m.user_id LIMIT $2)
        UNION
        (SELECT p.id FROM nudge.profiles AS p WHERE p.id > $1 AND NOT p.personalization_opt_out
          ORDER BY p.id LIMIT $2)
      ) AS people ORDER BY people.user_id LIMIT $2";
    COUNT_ARCHETYPES [] = "SELECT archetype_type, count(*) FROM public.user_archetypes GROUP BY archetype_type
      ORDER BY archetype_type";
}

const PROFILES: &str = "profiles";
const ARCHETYPES: &str = "user_archetypes";
const REQUESTS: &str = "date_change_requests";

/// Where the columns of requests begin.
const FIRST_OF_REQUEST: usize = 17;

/// Reads a profile; a user without one is a member.
pub(super) async fn profile(lanes: &Lanes, user: &UserId) -> Result<Profile, StoreError> {
    let rows = lanes.query(PROFILES, &SELECT_PROFILE, &[&user.as_str()]).await?;
    rows.first().map_or(Ok(Profile::default()), |row| profile_of(row, 0))
}

fn profile_of(row: &Row, first: usize) -> Result<Profile, StoreError> {
    let Some(word) = get::<Option<&str>>(row, first, PROFILES)? else { return Ok(Profile::default()) };
    Ok(Profile { role: role(Some(word))?, opted_out: get(row, first + 1, PROFILES)? })
}

/// Reads the role of a profile; a user without one is a member.
pub(super) fn role(word: Option<&str>) -> Result<ProfileRole, StoreError> {
    match word {
        None | Some("member") => Ok(ProfileRole::Member),
        Some("admin") => Ok(ProfileRole::Admin),
        Some(_) => Err(StoreError::Inconsistent { table: PROFILES, detail: "an unknown role".to_owned() }),
    }
}

/// Reads all that is known of a person.
pub(super) async fn load(
    lanes: &Lanes,
    user: &UserId,
    with: WithRequests<'_>,
    signal_requests: usize,
    history_requests: u32,
) -> Result<PersonFacts, StoreError> {
    let (always, now, fresh_after, policy) = match with {
        WithRequests::Always => (true, Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH, ""),
        WithRequests::IfNotFresh { fresh_after, now, policy } => (false, now, fresh_after, policy),
    };
    let history_length = usize::try_from(history_requests).unwrap_or(usize::MAX);
    let limit = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let rows = lanes
        .query(
            REQUESTS,
            &SELECT_PERSON,
            &[
                &user.as_str(),
                &always,
                &At(now),
                &At(in_range(fresh_after)),
                &policy,
                &limit(signal_requests),
                &limit(history_length),
            ],
        )
        .await?;
    let mut parts = [Vec::new(), Vec::new()];
    let mut who = None;
    for row in &rows {
        match get::<i32>(row, 0, REQUESTS)? {
            0 => who = Some(row),
            1 => parts[0].push(request(row, Role::Requester)?),
            _ => parts[1].push(request(row, Role::Receiver)?),
        }
    }
    let who = who.ok_or_else(|| unavailable("the read of a person gave no row"))?;
    let archetype = archetype_of(who, 4)?;
    let version = FactsVersion {
        stale_revision: get(who, 3, "stale_users")?,
        row_updated_at: archetype.as_ref().map(|stored| time_text(stored.updated_at)),
    };
    let [mut asked, mut got] = parts;
    let newest_first =
        |a: &Request, b: &Request| b.created_at.cmp(&a.created_at).then_with(|| b.id.cmp(&a.id));
    asked.sort_by(newest_first);
    let history = history(asked.get(..history_length).unwrap_or(&asked));
    let requests = if get(who, 16, REQUESTS)? {
        asked.append(&mut got);
        asked.sort_by(newest_first);
        asked.truncate(signal_requests);
        Some(asked)
    } else {
        None
    };
    Ok(PersonFacts { profile: profile_of(who, 1)?, archetype, version, history, requests })
}

/// Keeps a time within what PostgreSQL can compare with.
fn in_range(at: Timestamp) -> Timestamp {
    // PostgreSQL's calendar begins in 4713 BC.
    at.max(Timestamp::from_second(-100_000_000_000).unwrap_or(at))
}

/// Reads the stored archetype whose columns begin at `first`; `None` where there is none.
pub(super) fn archetype_of(row: &Row, first: usize) -> Result<Option<StoredArchetype>, StoreError> {
    let table = ARCHETYPES;
    if get::<Option<&str>>(row, first, table)?.is_none() {
        return Ok(None);
    }
    let manual = match get::<bool>(row, first + 5, table)? {
        true => Some(ManualOverride {
            reason: get(row, first + 6, table)?,
            by: get(row, first + 7, table)?,
            expires_at: time_opt(row, first + 8, table)?,
        }),
        false => None,
    };
    Ok(Some(StoredArchetype {
        archetype: parsed(row, first, table, str::parse)?,
        confidence: get(row, first + 1, table)?,
        signals: parsed(row, first + 2, table, |text| serde_json::from_str(text))?,
        reasoning: get(row, first + 3, table)?,
        scores: parsed(row, first + 4, table, |text| serde_json::from_str(text))?,
        manual,
        policy: get(row, first + 9, table)?,
        computed_at: time(row, first + 10, table)?,
        updated_at: time(row, first + 11, table)?,
    }))
}

fn request(row: &Row, role: Role) -> Result<Request, StoreError> {
    let at = |n: usize| FIRST_OF_REQUEST + n;
    Ok(Request {
        id: get::<String>(row, at(0), REQUESTS)?.into(),
        role,
        transaction_type: parsed::<TransactionType, _>(row, at(1), REQUESTS, str::parse)?,
        status: parsed::<RequestStatus, _>(row, at(2), REQUESTS, str::parse)?,
        proposed_price: get::<Option<i64>>(row, at(3), REQUESTS)?.map(Cents),
        base_price: get::<Option<i64>>(row, at(4), REQUESTS)?.map(Cents),
        created_at: time(row, at(5), REQUESTS)?,
        responded_at: time_opt(row, at(6), REQUESTS)?,
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

/// Lists people after a user, in order of their ids.
pub(super) async fn people_after(
    transaction: &Transaction<'_>,
    after: Option<&UserId>,
    limit: usize,
) -> Result<Vec<UserId>, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let after = after.map_or("", UserId::as_str);
    let rows = transaction.query(REQUESTS, &SELECT_PEOPLE, &[&after, &limit]).await?;
    rows.iter().map(|row| parsed(row, 0, REQUESTS, UserId::parse)).collect()
}

/// Counts the stored archetypes by type.
pub(super) async fn archetype_counts(lanes: &Lanes) -> Result<Vec<(Archetype, u64)>, StoreError> {
    let rows = lanes.query(ARCHETYPES, &COUNT_ARCHETYPES, &[]).await?;
    rows.iter()
        .map(|row| {
            let count = get::<i64>(row, 1, ARCHETYPES)?;
            Ok((parsed(row, 0, ARCHETYPES, str::parse)?, u64::try_from(count).unwrap_or_default()))
        })
        .collect()
}
