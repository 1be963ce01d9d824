//! Writes of archetypes: computed ones, which give way to everything newer, and an admin's audited changes.
//!
//! Two things must not come in between the reading of a user's facts and the write: newer facts, or another write, which
//! the revision and the row's time tell; and an opt-out. Against the latter the profile's row is locked first, and so that a
//! profile which is not there yet counts too, whoever writes an opt-out waits for those who write archetypes
//! ([`LOCK_OPT_OUTS_SHARED`]). Over profiles of the app neither lock reaches, so they are read again after the write.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use nudge_engine::{Archetype, UserId};
use serde_json::json;
use tokio_postgres::Row;

use super::convert::{At, get, parsed, statements, time, time_opt};
use super::person::archetype_of;
use super::pool::Transaction;
use super::source::Sources;
use super::{audit, change};
use crate::error::StoreError;
use crate::fact::FactTable;
use crate::format::{time_text, to_microsecond, two_decimals};
use crate::job::PersonSaved;
use crate::record::{
    Actor, ArchetypeChange, ArchetypeChanged, ArchetypeSaved, ComputedArchetype, FactsVersion,
    ManualOverride, StoredArchetype,
};

statements! {
    LOCK_OPT_OUTS [] = "SELECT pg_catalog.pg_advisory_xact_lock(1853187175, 4)";
    LOCK_OPT_OUTS_SHARED [] = "SELECT pg_catalog.pg_advisory_xact_lock_shared(1853187175, 4)";
    /// Of our own table only.
    LOCK_PROFILES [TEXT_ARRAY] = "SELECT id, personalization_opt_out FROM public.profiles WHERE id = ANY ($1)
      ORDER BY id FOR SHARE";
    SELECT_OPTED_OUT [TEXT_ARRAY] = "SELECT id FROM nudge.profiles WHERE id = ANY ($1) AND personalization_opt_out";
    LOCK_VERSIONS [TEXT_ARRAY] = "SELECT user_id, archetype_type, confidence::double precision, is_manual_override,
        override_expires_at, updated_at
      FROM public.user_archetypes WHERE user_id = ANY ($1) ORDER BY user_id FOR UPDATE";
    LOCK_ARCHETYPE [TEXT] = "SELECT archetype_type, confidence::double precision, signals::text, reasoning, scores::text,
        is_manual_override, override_reason, override_by, override_expires_at, policy, computed_at, updated_at
      FROM public.user_archetypes WHERE user_id = $1 FOR UPDATE";
    /// Rows that were not there when they were locked.
    INSERT [TEXT_ARRAY, TEXT_ARRAY, FLOAT8_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, BOOL_ARRAY, TEXT_ARRAY, TEXT_ARRAY,
      TIMESTAMPTZ_ARRAY, TEXT_ARRAY, TIMESTAMPTZ_ARRAY, TIMESTAMPTZ_ARRAY] =
      "INSERT INTO public.user_archetypes (user_id, archetype_type, confidence, signals, reasoning, scores,
        is_manual_override, override_reason, override_by, override_expires_at, policy, computed_at, created_at,
        updated_at)
      SELECT v.user_id, v.archetype_type, v.confidence, v.signals::jsonb,
        ARRAY(SELECT t.line FROM jsonb_array_elements_text(v.reasoning::jsonb) WITH ORDINALITY AS t (line, n) ORDER BY t.n),
        v.scores::jsonb, v.is_manual_override, v.override_reason, v.override_by, v.override_expires_at, v.policy,
        v.computed_at, v.updated_at, v.updated_at
      FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        AS v (user_id, archetype_type, confidence, signals, reasoning, scores, is_manual_override, override_reason,
          override_by, override_expires_at, policy, computed_at, updated_at)
      ORDER BY v.user_id COLLATE \"C\"
      ON CONFLICT (user_id) DO NOTHING
      RETURNING user_id";
    /// Rows that are locked.
    UPDATE [TEXT_ARRAY, TEXT_ARRAY, FLOAT8_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, BOOL_ARRAY, TEXT_ARRAY, TEXT_ARRAY,
      TIMESTAMPTZ_ARRAY, TEXT_ARRAY, TIMESTAMPTZ_ARRAY, TIMESTAMPTZ_ARRAY] =
      "UPDATE public.user_archetypes AS a SET archetype_type = v.archetype_type, confidence = v.confidence,
        signals = v.signals::jsonb,
        reasoning = ARRAY(
          SELECT t.line FROM jsonb_array_elements_text(v.reasoning::jsonb) WITH ORDINALITY AS t (line, n) ORDER BY t.n),
        scores = v.scores::jsonb, is_manual_override = v.is_manual_override, override_reason = v.override_reason,
        override_by = v.override_by, override_expires_at = v.override_expires_at, policy = v.policy,
        computed_at = v.computed_at, updated_at = v.updated_at
      FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        AS v (user_id, archetype_type, confidence, signals, reasoning, scores, is_manual_override, override_reason,
          override_by, override_expires_at, policy, computed_at, updated_at)
      WHERE a.user_id = v.user_id
      RETURNING a.user_id";
    DELETE [TEXT_ARRAY] = "DELETE FROM public.user_archetypes AS a USING (
        SELECT user_id FROM public.user_archetypes WHERE user_id = ANY ($1) ORDER BY user_id FOR UPDATE
      ) AS locked WHERE a.user_id = locked.user_id";
}

const TABLE: &str = "user_archetypes";
const PROFILES: &str = "profiles";

/// A computed archetype to be stored, and the state in which it was computed.
pub(super) type ToSave = (UserId, ComputedArchetype, FactsVersion);

/// Makes the transaction one that writes an opt-out: it waits for those that write archetypes, and they for it.
pub(super) async fn lock_opt_outs(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    transaction.query(PROFILES, &LOCK_OPT_OUTS, &[]).await.map(drop)
}

/// Lists those of the users who have opted out.
pub(super) async fn opted_out(
    transaction: &Transaction<'_>,
    users: &[&str],
) -> Result<BTreeSet<String>, StoreError> {
    let rows = transaction.query(PROFILES, &SELECT_OPTED_OUT, &[&users]).await?;
    rows.iter().map(|row| get(row, 0, PROFILES)).collect()
}

/// Removes archetypes; says nothing to the feed.
pub(super) async fn remove(transaction: &Transaction<'_>, users: &[&str]) -> Result<(), StoreError> {
    if users.is_empty() {
        return Ok(());
    }
    transaction.execute(TABLE, &DELETE, &[&users]).await.map(drop)
}

/// Stores computed archetypes where the facts are still those they were computed from; the answers are in the order
/// given.
pub(super) async fn save_all(
    transaction: &Transaction<'_>,
    sources: Sources,
    many: &[ToSave],
) -> Result<Vec<ArchetypeSaved>, StoreError> {
    let mut answers = vec![ArchetypeSaved::Superseded; many.len()];
    let mut left: Vec<usize> = (0..many.len()).collect();
    keep_opt_outs_out(transaction).await?;
    while !left.is_empty() {
        // A user who is there twice comes twice, the second time after the first write.
        let mut round = BTreeMap::new();
        left.retain(|n| match many.get(*n) {
            Some(item) if !round.contains_key(&item.0) => {
                round.insert(&item.0, (*n, item));
                false
            }
            Some(_) => true,
            None => false,
        });
        let these = round.iter().map(|(user, (_, (_, computed, version)))| (*user, (computed, version)));
        let saved = save_round(transaction, sources, &these.collect()).await?;
        for ((n, _), saved) in round.values().zip(saved) {
            if let (Some(answer), PersonSaved::Saved(_)) = (answers.get_mut(*n), saved) {
                *answer = ArchetypeSaved::Saved;
            }
        }
    }
    Ok(answers)
}

/// Stores those of different users, in the order of their ids; gives what became of each, in that order.
pub(super) async fn save_round(
    transaction: &Transaction<'_>,
    sources: Sources,
    round: &BTreeMap<&UserId, (&ComputedArchetype, &FactsVersion)>,
) -> Result<Vec<PersonSaved>, StoreError> {
    let users: Vec<&str> = round.keys().map(|user| user.as_str()).collect();
    let out = locked_opt_outs(transaction, sources, &users).await?;
    let marks: BTreeMap<String, i64> = change::lock_marks(transaction, &users).await?.into_iter().collect();
    let rows = transaction.query(TABLE, &LOCK_VERSIONS, &[&users]).await?;
    let stored: Vec<(String, Stored)> = rows
        .iter()
        .map(|row| Ok((get(row, 0, TABLE)?, Stored::of(row)?)))
        .collect::<Result<_, StoreError>>()?;
    let stored: BTreeMap<String, Stored> = stored.into_iter().collect();

    let (mut inserts, mut updates) = (Columns::default(), Columns::default());
    let mut changed = BTreeSet::new();
    let mut answers = Vec::with_capacity(round.len());
    for (user, (computed, version)) in round {
        let old = stored.get(user.as_str());
        let is_same = version.stale_revision == marks.get(user.as_str()).copied()
            && version.row_updated_at == old.map(|old| time_text(old.updated_at));
        answers.push(if out.contains(user.as_str()) {
            PersonSaved::OptedOut
        } else if old.is_some_and(|old| old.has_live_override(computed.computed_at)) {
            PersonSaved::Overridden
        } else if is_same {
            PersonSaved::Saved(old.map(|old| (old.archetype, old.confidence)))
        } else {
            PersonSaved::Superseded
        });
        if !matches!(answers.last(), Some(PersonSaved::Saved(_))) {
            continue;
        }
        let seen = (computed.archetype, two_decimals(computed.confidence).to_bits(), false);
        if old.map(|old| (old.archetype, old.confidence.to_bits(), old.is_manual)) != Some(seen) {
            changed.insert(*user);
        }
        let columns = if old.is_some() { &mut updates } else { &mut inserts };
        columns.push(user, computed, None, old.map(|old| old.updated_at))?;
    }
    let mut written = inserts.insert(transaction).await?;
    written.extend(updates.update(transaction).await?);
    let late_out = match sources.is_own(FactTable::Profiles) {
        true => BTreeSet::new(),
        false => opted_out(transaction, &users).await?,
    };
    let late: Vec<&str> = late_out.iter().map(String::as_str).collect();
    remove(transaction, &late).await?;
    written.retain(|user| !late_out.contains(user));
    let done: Vec<&str> =
        written.iter().map(String::as_str).filter(|user| marks.contains_key(*user)).collect();
    change::unmark(transaction, &done).await?;
    changed.retain(|user| written.contains(user.as_str()));
    let changed: Vec<&UserId> = changed.into_iter().collect();
    change::announce(transaction, &changed).await?;
    for (answer, user) in answers.iter_mut().zip(&users) {
        match answer {
            PersonSaved::Saved(_) if late_out.contains(*user) => *answer = PersonSaved::OptedOut,
            PersonSaved::Saved(_) if !written.contains(*user) => *answer = PersonSaved::Superseded,
            _ => {}
        }
    }
    Ok(answers)
}

/// Takes the lock that keeps opt-outs of users without a profile out until the end.
pub(super) async fn keep_opt_outs_out(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    transaction.query(PROFILES, &LOCK_OPT_OUTS_SHARED, &[]).await.map(drop)
}

/// Locks the profiles of users, where they are ours, and lists those who have opted out.
async fn locked_opt_outs(
    transaction: &Transaction<'_>,
    sources: Sources,
    users: &[&str],
) -> Result<BTreeSet<String>, StoreError> {
    if !sources.is_own(FactTable::Profiles) {
        return opted_out(transaction, users).await;
    }
    let rows = transaction.query(PROFILES, &LOCK_PROFILES, &[&users]).await?;
    let mut out = BTreeSet::new();
    for row in &rows {
        if get(row, 1, PROFILES)? {
            out.insert(get(row, 0, PROFILES)?);
        }
    }
    Ok(out)
}

/// What of a stored row decides whether another may take its place.
struct Stored {
    archetype: Archetype,
    confidence: f64,
    is_manual: bool,
    override_expires_at: Option<Timestamp>,
    updated_at: Timestamp,
}

impl Stored {
    fn of(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            archetype: parsed(row, 1, TABLE, str::parse)?,
            confidence: get(row, 2, TABLE)?,
            is_manual: get(row, 3, TABLE)?,
            override_expires_at: time_opt(row, 4, TABLE)?,
            updated_at: time(row, 5, TABLE)?,
        })
    }

    fn has_live_override(&self, now: Timestamp) -> bool {
        self.is_manual && self.override_expires_at.is_none_or(|end| now < end)
    }
}

/// Rows by column.
#[derive(Default)]
struct Columns<'a> {
    user_id: Vec<&'a str>,
    archetype: Vec<&'static str>,
    confidence: Vec<f64>,
    signals: Vec<String>,
    reasoning: Vec<String>,
    scores: Vec<String>,
    is_manual: Vec<bool>,
    override_reason: Vec<Option<&'a str>>,
    override_by: Vec<Option<&'a str>>,
    override_expires_at: Vec<Option<At>>,
    policy: Vec<&'a str>,
    computed_at: Vec<At>,
    updated_at: Vec<At>,
}

impl<'a> Columns<'a> {
    fn push(
        &mut self,
        user: &'a UserId,
        computed: &'a ComputedArchetype,
        manual: Option<&'a ManualOverride>,
        old: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let json = |value: serde_json::Result<String>| {
            value.map_err(|error| StoreError::Refused { table: TABLE, detail: error.to_string() })
        };
        self.signals.push(json(serde_json::to_string(&computed.signals))?);
        self.reasoning.push(json(serde_json::to_string(&computed.reasoning))?);
        self.scores.push(computed.scores.to_string());
        self.user_id.push(user.as_str());
        self.archetype.push(computed.archetype.as_str());
        self.confidence.push(two_decimals(computed.confidence));
        self.is_manual.push(manual.is_some());
        self.override_reason.push(manual.map(|manual| manual.reason.as_str()));
        self.override_by.push(manual.map(|manual| manual.by.as_str()));
        self.override_expires_at.push(manual.and_then(|manual| manual.expires_at).map(At));
        self.policy.push(&computed.policy);
        self.computed_at.push(At(computed.computed_at));
        self.updated_at.push(At(written_at(computed.computed_at, old)));
        Ok(())
    }

    async fn insert(&self, transaction: &Transaction<'_>) -> Result<BTreeSet<String>, StoreError> {
        self.write(transaction, &INSERT).await
    }

    async fn update(&self, transaction: &Transaction<'_>) -> Result<BTreeSet<String>, StoreError> {
        self.write(transaction, &UPDATE).await
    }

    async fn write(
        &self,
        transaction: &Transaction<'_>,
        statement: &'static super::convert::Statement,
    ) -> Result<BTreeSet<String>, StoreError> {
        if self.user_id.is_empty() {
            return Ok(BTreeSet::new());
        }
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 13] = [
            &self.user_id,
            &self.archetype,
            &self.confidence,
            &self.signals,
            &self.reasoning,
            &self.scores,
            &self.is_manual,
            &self.override_reason,
            &self.override_by,
            &self.override_expires_at,
            &self.policy,
            &self.computed_at,
            &self.updated_at,
        ];
        let rows = transaction.query(TABLE, statement, &values).await?;
        rows.iter().map(|row| get(row, 0, TABLE)).collect()
    }
}

/// Gives the time of a write, later than that of the row it replaces even when the clock stands still, as it tells
/// versions of the row apart.
fn written_at(now: Timestamp, old: Option<Timestamp>) -> Timestamp {
    let next = old.and_then(|old| old.checked_add(SignedDuration::from_micros(1)).ok());
    next.map_or(to_microsecond(now), |next| next.max(to_microsecond(now)))
}

/// The state of a user that an admin's change has to agree with, locked.
struct Current {
    version: FactsVersion,
    stored: Option<StoredArchetype>,
}

impl Current {
    async fn lock(transaction: &Transaction<'_>, user: &UserId) -> Result<Self, StoreError> {
        let marks = change::lock_marks(transaction, &[user.as_str()]).await?;
        let stored = locked(transaction, user).await?;
        let version = FactsVersion {
            stale_revision: marks.first().map(|(_, revision)| *revision),
            row_updated_at: stored.as_ref().map(|stored| time_text(stored.updated_at)),
        };
        Ok(Self { version, stored })
    }
}

async fn locked(transaction: &Transaction<'_>, user: &UserId) -> Result<Option<StoredArchetype>, StoreError> {
    let rows = transaction.query(TABLE, &LOCK_ARCHETYPE, &[&user.as_str()]).await?;
    match rows.first() {
        Some(row) => archetype_of(row, 0),
        None => Ok(None),
    }
}

/// Makes an admin's change and audits it.
pub(super) async fn change(
    transaction: &Transaction<'_>,
    sources: Sources,
    user: &UserId,
    change: &ArchetypeChange,
    actor: &Actor,
    now: Timestamp,
) -> Result<ArchetypeChanged, StoreError> {
    keep_opt_outs_out(transaction).await?;
    if !locked_opt_outs(transaction, sources, &[user.as_str()]).await?.is_empty() {
        return Ok(ArchetypeChanged::OptedOut);
    }
    let current = Current::lock(transaction, user).await?;
    let planned = match planned(change, &current, actor, now) {
        Plan::NothingToReset => return Ok(ArchetypeChanged::NothingToReset),
        Plan::Superseded => return Ok(ArchetypeChanged::Superseded),
        Plan::Keep(kept) => {
            let audit_head = audited(transaction, change, &current, Some(kept), (actor, user, now)).await?;
            return Ok(ArchetypeChanged::OverrideKept { kept: kept.clone(), audit_head });
        }
        Plan::Put(computed, manual) => Some((computed, manual)),
        Plan::Remove => None,
    };
    match &planned {
        Some((computed, manual)) => {
            let mut columns = Columns::default();
            let old = current.stored.as_ref().map(|stored| stored.updated_at);
            columns.push(user, computed, manual.as_ref(), old)?;
            let written = match old {
                Some(_) => columns.update(transaction).await?,
                None => columns.insert(transaction).await?,
            };
            if written.is_empty() {
                // A row that was not there when it was locked.
                return Err(transaction.came_late());
            }
        }
        None => remove(transaction, &[user.as_str()]).await?,
    }
    if !sources.is_own(FactTable::Profiles) && !opted_out(transaction, &[user.as_str()]).await?.is_empty() {
        return Err(transaction.came_late());
    }
    if !matches!(change, ArchetypeChange::Override { .. }) && current.version.stale_revision.is_some() {
        self::change::unmark(transaction, &[user.as_str()]).await?;
    }
    let new = locked(transaction, user).await?;
    self::change::announce(transaction, &[user]).await?;
    let audit_head = audited(transaction, change, &current, new.as_ref(), (actor, user, now)).await?;
    Ok(ArchetypeChanged::Done { old: current.stored, new, audit_head })
}

/// What a change comes to.
enum Plan<'a> {
    NothingToReset,
    Superseded,
    Keep(&'a StoredArchetype),
    Put(Box<ComputedArchetype>, Option<ManualOverride>),
    Remove,
}

fn planned<'a>(change: &ArchetypeChange, current: &'a Current, actor: &Actor, now: Timestamp) -> Plan<'a> {
    let live = current.stored.as_ref().filter(|stored| stored.has_live_override(now));
    match (change, live) {
        (ArchetypeChange::Recalculate { .. }, Some(kept)) => Plan::Keep(kept),
        (ArchetypeChange::Reset { .. }, None) => Plan::NothingToReset,
        (ArchetypeChange::Recalculate { version, .. } | ArchetypeChange::Reset { version, .. }, _)
            if *version != current.version =>
        {
            Plan::Superseded
        }
        (ArchetypeChange::Recalculate { computed, .. } | ArchetypeChange::Reset { computed, .. }, _) => {
            computed.clone().map_or(Plan::Remove, |computed| Plan::Put(Box::new(computed), None))
        }
        (ArchetypeChange::Override { archetype, reason, expires_at, computed }, _) => {
            let manual =
                ManualOverride { reason: reason.clone(), by: actor.id.clone(), expires_at: *expires_at };
            let set = ComputedArchetype {
                archetype: *archetype,
                confidence: 1.0,
                computed_at: now,
                ..computed.clone()
            };
            Plan::Put(Box::new(set), Some(manual))
        }
    }
}

async fn audited(
    transaction: &Transaction<'_>,
    change: &ArchetypeChange,
    current: &Current,
    new: Option<&StoredArchetype>,
    (actor, user, now): (&Actor, &UserId, Timestamp),
) -> Result<String, StoreError> {
    let (action, reason) = change.audited_as();
    let metadata = json!({
        "old": current.stored.as_ref().map(StoredArchetype::audited_view),
        "new": new.map(StoredArchetype::audited_view),
        "reason": reason,
    });
    audit::append(transaction, actor, action, Some(user), &metadata, now).await
}
