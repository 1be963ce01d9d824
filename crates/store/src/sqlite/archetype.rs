//! Writes of archetypes: computed ones, which give way to everything newer, and an admin's audited changes.

use jiff::{SignedDuration, Timestamp};
use nudge_engine::{Archetype, UserId};
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::json;

use super::convert::{Within, parsed, statements, time_opt, time_text, to_microsecond, two_decimals};
use super::{audit, change, person};
use crate::error::StoreError;
use crate::job::PersonSaved;
use crate::record::{
    Actor, ArchetypeChange, ArchetypeChanged, ComputedArchetype, FactsVersion, ManualOverride,
    StoredArchetype,
};

statements! {
    UPSERT = "INSERT INTO user_archetypes (user_id, archetype_type, confidence, signals, reasoning, scores,
        is_manual_override, override_reason, override_by, override_expires_at, policy, computed_at, created_at,
        updated_at)
      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?13)
      ON CONFLICT (user_id) DO UPDATE SET archetype_type = excluded.archetype_type,
        confidence = excluded.confidence, signals = excluded.signals, reasoning = excluded.reasoning,
        scores = excluded.scores, is_manual_override = excluded.is_manual_override,
        override_reason = excluded.override_reason, override_by = excluded.override_by,
        override_expires_at = excluded.override_expires_at, policy = excluded.policy,
        computed_at = excluded.computed_at, updated_at = excluded.updated_at";
    DELETE = "DELETE FROM user_archetypes WHERE user_id = ?1";
    /// What of a stored row decides whether another may take its place.
    SELECT_VERSION = "SELECT archetype_type, confidence, is_manual_override, override_expires_at, updated_at
      FROM user_archetypes WHERE user_id = ?1";
}

const TABLE: &str = "user_archetypes";

/// The state of a user that a write has to agree with.
struct Current {
    opted_out: bool,
    version: FactsVersion,
    stored: Option<StoredArchetype>,
}

impl Current {
    fn written_at(&self) -> Option<Timestamp> {
        self.stored.as_ref().map(|stored| stored.updated_at)
    }
}

fn current(conn: &Connection, user: &UserId) -> Result<Current, StoreError> {
    let (stored, row_updated_at) = person::archetype(conn, user)?.unzip();
    Ok(Current {
        opted_out: person::profile(conn, user)?.opted_out,
        version: FactsVersion { stale_revision: person::stale_revision(conn, user)?, row_updated_at },
        stored,
    })
}

/// What of a stored row decides whether another may take its place.
struct Version {
    archetype: Archetype,
    confidence: f64,
    manual: bool,
    ends: Option<Timestamp>,
    updated_at: String,
}

fn version(conn: &Connection, user: &UserId) -> Result<Option<Version>, StoreError> {
    let mut statement = conn.prepare_cached(SELECT_VERSION).within(TABLE)?;
    let version = statement.query_row([user.as_str()], |row| {
        Ok(Version {
            archetype: parsed(row, 0, str::parse)?,
            confidence: row.get(1)?,
            manual: row.get(2)?,
            ends: time_opt(row, 3)?,
            updated_at: row.get(4)?,
        })
    });
    version.optional().within(TABLE)
}

/// Stores a computed archetype if the facts are still those it was computed from.
pub(super) fn save(
    conn: &Connection,
    user: &UserId,
    computed: &ComputedArchetype,
    wanted: &FactsVersion,
) -> Result<PersonSaved, StoreError> {
    if person::profile(conn, user)?.opted_out {
        return Ok(PersonSaved::OptedOut);
    }
    let old = version(conn, user)?;
    let now = computed.computed_at;
    if old.as_ref().is_some_and(|old| old.manual && old.ends.is_none_or(|end| now < end)) {
        return Ok(PersonSaved::Overridden);
    }
    let stale_revision = person::stale_revision(conn, user)?;
    let updated_at = old.as_ref().map(|old| old.updated_at.as_str());
    if wanted.stale_revision != stale_revision || wanted.row_updated_at.as_deref() != updated_at {
        return Ok(PersonSaved::Superseded);
    }
    // A time that cannot be read is written anew with the rest of the row.
    let updated_at: Option<Timestamp> = updated_at.and_then(|text| text.parse().ok());
    put(conn, user, computed, None, updated_at)?;
    if stale_revision.is_some() {
        change::unmark(conn, user)?;
    }
    let seen = (computed.archetype, two_decimals(computed.confidence).to_bits(), false);
    if old.as_ref().map(|old| (old.archetype, old.confidence.to_bits(), old.manual)) != Some(seen) {
        change::announce(conn, user)?;
    }
    Ok(PersonSaved::Saved(old.map(|old| (old.archetype, old.confidence))))
}

/// Makes an admin's change and audits it.
pub(super) fn change(
    conn: &Connection,
    user: &UserId,
    change: &ArchetypeChange,
    actor: &Actor,
    now: Timestamp,
) -> Result<ArchetypeChanged, StoreError> {
    let current = current(conn, user)?;
    if current.opted_out {
        return Ok(ArchetypeChanged::OptedOut);
    }
    let live = current.stored.as_ref().filter(|stored| stored.has_live_override(now));
    let (action, reason) = change.audited_as();
    let audited = |new: Option<&StoredArchetype>| {
        let metadata = json!({
            "old": current.stored.as_ref().map(StoredArchetype::audited_view),
            "new": new.map(StoredArchetype::audited_view),
            "reason": reason,
        });
        audit::append(conn, actor, action, Some(user), &metadata, now)
    };
    match change {
        ArchetypeChange::Recalculate { .. } if live.is_some() => {
            let audit_head = audited(live)?;
            return Ok(live.map_or(ArchetypeChanged::Superseded, |kept| ArchetypeChanged::OverrideKept {
                kept: kept.clone(),
                audit_head,
            }));
        }
        ArchetypeChange::Reset { .. } if live.is_none() => return Ok(ArchetypeChanged::NothingToReset),
        ArchetypeChange::Recalculate { version, .. } | ArchetypeChange::Reset { version, .. }
            if *version != current.version =>
        {
            return Ok(ArchetypeChanged::Superseded);
        }
        ArchetypeChange::Recalculate { computed, .. } | ArchetypeChange::Reset { computed, .. } => {
            match computed {
                Some(computed) => put(conn, user, computed, None, current.written_at())?,
                None => remove(conn, user)?,
            }
            change::unmark(conn, user)?;
        }
        ArchetypeChange::Override { archetype, reason, expires_at, computed } => {
            let manual =
                ManualOverride { reason: reason.clone(), by: actor.id.clone(), expires_at: *expires_at };
            let set = ComputedArchetype {
                archetype: *archetype,
                confidence: 1.0,
                computed_at: now,
                ..computed.clone()
            };
            put(conn, user, &set, Some(&manual), current.written_at())?;
        }
    }
    let new = person::archetype(conn, user)?.map(|(stored, _)| stored);
    let audit_head = audited(new.as_ref())?;
    change::announce(conn, user)?;
    Ok(ArchetypeChanged::Done { old: current.stored, new, audit_head })
}

/// Removes a user's archetype; says nothing to the feed.
pub(super) fn remove(conn: &Connection, user: &UserId) -> Result<(), StoreError> {
    conn.prepare_cached(DELETE).and_then(|mut s| s.execute([user.as_str()])).within(TABLE).map(drop)
}

fn put(
    conn: &Connection,
    user: &UserId,
    computed: &ComputedArchetype,
    manual: Option<&ManualOverride>,
    old: Option<Timestamp>,
) -> Result<(), StoreError> {
    let json = |value: serde_json::Result<String>| {
        value.map_err(|error| StoreError::Refused { table: TABLE, detail: error.to_string() })
    };
    let signals = json(serde_json::to_string(&computed.signals))?;
    let reasoning = json(serde_json::to_string(&computed.reasoning))?;
    let mut statement = conn.prepare_cached(UPSERT).within(TABLE)?;
    let written = statement.execute(params![
        user.as_str(),
        computed.archetype.as_str(),
        two_decimals(computed.confidence),
        signals,
        reasoning,
        computed.scores.to_string(),
        manual.is_some(),
        manual.map(|manual| manual.reason.as_str()),
        manual.map(|manual| manual.by.as_str()),
        manual.and_then(|manual| manual.expires_at).map(time_text),
        computed.policy,
        time_text(computed.computed_at),
        time_text(written_at(computed.computed_at, old)),
    ]);
    written.within(TABLE).map(drop)
}

/// Gives the time of a write, later than that of the row it replaces even when the clock stands still, as it tells
/// versions of the row apart.
fn written_at(now: Timestamp, old: Option<Timestamp>) -> Timestamp {
    let next = old.and_then(|old| old.checked_add(SignedDuration::from_micros(1)).ok());
    next.map_or(to_microsecond(now), |next| next.max(to_microsecond(now)))
}
