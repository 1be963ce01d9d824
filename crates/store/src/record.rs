//! The record types of the contract: what goes into the store and what comes out of it.

use jiff::Timestamp;
use jiff::civil::Date;
use nudge_engine::{Archetype, EntityId, History, Request, Signals, TransactionType, UserId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::StoreError;
use crate::format::time_text;

/// One finished run, one row of `archetype_job_logs`.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRow {
    /// UUIDv7 of the run.
    pub id: Uuid,
    /// What kind of run.
    pub job_type: String,
    /// `completed`, `failed` or `cancelled`.
    pub status: String,
    /// Users looked at.
    pub processed_count: i64,
    /// Users whose archetype was stored.
    pub updated_count: i64,
    /// Users that failed.
    pub failed_count: i64,
    /// What went wrong, if anything.
    pub error_message: Option<String>,
    /// Anything else.
    pub metadata: serde_json::Value,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub completed_at: Timestamp,
}

/// Whether a user is an admin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProfileRole {
    /// An ordinary user.
    #[default]
    Member,
    /// May see and do everything.
    Admin,
}

/// A row of `profiles`, as far as the service looks at it. A user without a row is a member who has not opted out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Profile {
    /// The role.
    pub role: ProfileRole,
    /// Whether the user refuses personalization.
    pub opted_out: bool,
}

/// An archetype as stored, one row of `user_archetypes`.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredArchetype {
    /// The archetype.
    pub archetype: Archetype,
    /// Its confidence, two decimals.
    pub confidence: f64,
    /// The signals that it stands beside.
    pub signals: Signals,
    /// The texts of the first rows that fired.
    pub reasoning: Vec<String>,
    /// The whole breakdown as JSON (`engine::archetype::Scores`).
    pub scores: serde_json::Value,
    /// The admin's word, when there is one, live or expired.
    pub manual: Option<ManualOverride>,
    /// The policy that computed it.
    pub policy: String,
    /// When it was computed or set.
    pub computed_at: Timestamp,
    /// When the row was last written.
    pub updated_at: Timestamp,
}

/// An admin's override.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManualOverride {
    /// Why.
    pub reason: String,
    /// Who: a user id, or `service_role`, or `cli`.
    pub by: String,
    /// When it ends, if it does.
    pub expires_at: Option<Timestamp>,
}

impl StoredArchetype {
    /// Writes what the audit log keeps of an archetype.
    pub(crate) fn audited_view(&self) -> serde_json::Value {
        serde_json::json!({
            "archetypeType": self.archetype,
            "confidence": self.confidence,
            "isManualOverride": self.manual.is_some(),
            "overrideReason": self.manual.as_ref().map(|manual| &manual.reason),
            "overrideBy": self.manual.as_ref().map(|manual| &manual.by),
            "expiresAt": self.manual.as_ref().and_then(|manual| manual.expires_at).map(time_text),
            "policy": self.policy,
            "computedAt": time_text(self.computed_at),
        })
    }

    /// Says whether an override is in force at `now`: it ends at `expires_at` to the second.
    pub fn has_live_override(&self, now: Timestamp) -> bool {
        self.manual.as_ref().is_some_and(|m| m.expires_at.is_none_or(|end| now < end))
    }
}

/// A computed archetype, to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct ComputedArchetype {
    /// The archetype.
    pub archetype: Archetype,
    /// Its confidence.
    pub confidence: f64,
    /// The signals it was computed from.
    pub signals: Signals,
    /// The texts of the first rows that fired.
    pub reasoning: Vec<String>,
    /// The whole breakdown as JSON.
    pub scores: serde_json::Value,
    /// The policy's name.
    pub policy: String,
    /// When it was computed.
    pub computed_at: Timestamp,
}

/// The state that a person's facts were read in. A write that carries it goes through only if nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FactsVersion {
    /// Revision of the user's row in `stale_users`, if there is one.
    pub stale_revision: Option<i64>,
    /// `updated_at` of the user's row in `user_archetypes`, if there is one, as stored.
    pub row_updated_at: Option<String>,
}

/// Whether a read of a person brings their requests too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithRequests<'a> {
    /// Always.
    Always,
    /// Only when the stored archetype cannot be used: none, stale, computed before `fresh_after`, or with another policy. A live override at
    /// `now` can always be used.
    IfNotFresh {
        /// Oldest usable `computed_at`.
        fresh_after: Timestamp,
        /// The time of the request.
        now: Timestamp,
        /// The policy that it must have been computed with.
        policy: &'a str,
    },
}

/// All that is known of one person, read in one transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct PersonFacts {
    /// Their profile.
    pub profile: Profile,
    /// Their stored archetype.
    pub archetype: Option<StoredArchetype>,
    /// The state in which this was read.
    pub version: FactsVersion,
    /// Number of the newest ten requests as requester, and the newest of them.
    pub history: History,
    /// The newest requests in either role, newest first, when asked for.
    pub requests: Option<Vec<Request>>,
}

/// The night that a recommendation is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NightQuery<'a> {
    /// Who asks.
    pub requester: &'a UserId,
    /// The leases that the two share, in ascending order.
    pub shared_leases: &'a [EntityId],
    /// The night.
    pub target_date: Date,
    /// The day of the request in the service's time zone.
    pub today: Date,
    /// Days around the target date in which an own night counts as offerable.
    pub swap_window_days: i64,
}

/// What the two share on that night.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NightFacts {
    /// The shared lease: the one with a night on the date, else the one with the lowest id. `None`: they share none.
    pub lease_id: Option<EntityId>,
    /// The night, if that lease has one on the date.
    pub night: Option<NightRow>,
    /// The requester's own nights after today on that lease within the window around the target date, the target date
    /// itself left out. `None` where they share no lease.
    pub offerable_nights: Option<u32>,
}

/// A row of `lease_nights`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NightRow {
    /// Who holds it.
    pub held_by: Option<UserId>,
    /// Base price in cents.
    pub base_price_cents: i64,
    /// Market demand in ten-thousandths, as stored (not limited yet).
    pub demand_ten_thousandths: i64,
}

/// A night of a lease and its date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatedNight {
    /// The date.
    pub night: Date,
    /// The rest of the row.
    pub row: NightRow,
}

/// One decision, one row of `recommendation_logs`. JSON columns are given as serialized text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecisionRow {
    /// UUIDv7 of the decision.
    pub id: Uuid,
    /// The requester; `None` for an anonymous caller (stored as `anonymous`).
    pub user_id: Option<UserId>,
    /// The roommate; `None` for an anonymous caller.
    pub roommate_id: Option<UserId>,
    /// The shared lease.
    pub lease_id: Option<EntityId>,
    /// The night asked for.
    pub target_date: Date,
    /// The pre-selected type.
    pub primary: TransactionType,
    /// The archetype used.
    pub archetype: Archetype,
    /// Its confidence.
    pub archetype_confidence: f64,
    /// Days until check-in, never negative.
    pub days_until_checkin: i64,
    /// The urgency's wire name.
    pub urgency_level: String,
    /// The three options as answered, JSON text.
    pub options: String,
    /// What the decision used, JSON text.
    pub context: String,
    /// The rule.
    pub rule: String,
    /// The policy.
    pub policy: String,
    /// Whether anything personal was used.
    pub personalized: bool,
    /// Probability with which this default was shown; 1 for a deterministic policy.
    pub propensity: f64,
    /// The decision's confidence.
    pub confidence: f64,
    /// The caller's session.
    pub session_id: Option<String>,
    /// The caller's user agent.
    pub user_agent: Option<String>,
    /// Time from request to decision, whole milliseconds.
    pub response_time_ms: i64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What came of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// The options were shown.
    Viewed,
    /// The requester chose a type.
    Selected,
    /// The requester sent the request.
    Submitted,
    /// The roommate accepted.
    Accepted,
    /// The roommate declined.
    Declined,
    /// The roommate did not answer in time.
    Expired,
    /// The requester took it back.
    Cancelled,
    /// The requester gave a score.
    Nps,
}

impl EventKind {
    /// Every kind, in the order in which they usually happen.
    pub const ALL: &'static [Self] = &[
        Self::Viewed,
        Self::Selected,
        Self::Submitted,
        Self::Accepted,
        Self::Declined,
        Self::Expired,
        Self::Cancelled,
        Self::Nps,
    ];

    /// Gives the wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewed => "viewed",
            Self::Selected => "selected",
            Self::Submitted => "submitted",
            Self::Accepted => "accepted",
            Self::Declined => "declined",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Nps => "nps",
        }
    }

    /// Says whether this is the roommate's answer, or its absence.
    pub const fn is_answer(self) -> bool {
        matches!(self, Self::Accepted | Self::Declined | Self::Expired)
    }
}

/// One outcome, validated: `transaction_type` is there for selected and submitted, `nps_score` for nps alone,
/// `time_to_decision_seconds` with selected at most.
#[derive(Debug, Clone, PartialEq)]
pub struct OutcomeEvent {
    /// The decision.
    pub recommendation_id: Uuid,
    /// What happened.
    pub kind: EventKind,
    /// The type selected, submitted or answered.
    pub transaction_type: Option<TransactionType>,
    /// Seconds from decision to selection.
    pub time_to_decision_seconds: Option<f64>,
    /// 0 to 10.
    pub nps_score: Option<u8>,
    /// When it happened, if the caller said so.
    pub occurred_at: Option<Timestamp>,
}

/// Who reports an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutcomeReporter {
    /// The user: only their own decisions.
    User(UserId),
    /// The service: any decision.
    Service,
}

/// What became of a call with outcomes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutcomesRecorded {
    /// Events appended.
    pub recorded: usize,
    /// Events that were there already.
    pub duplicates: usize,
    /// What the appended events are, in their order; with a choice whether it was what had been recommended.
    pub appended: Vec<(EventKind, Option<bool>)>,
}

impl OutcomesRecorded {
    pub(crate) fn note(&mut self, event: &crate::outcome::Event, decided: &crate::outcome::Decided) {
        let chosen = (event.kind == EventKind::Selected).then_some(event.transaction_type);
        self.recorded += 1;
        self.appended.push((event.kind, chosen.map(|chosen| chosen == Some(decided.primary))));
    }
}

/// Why a call with outcomes changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum OutcomeError {
    /// The decision at this index does not exist or is another's: one answer for both.
    #[error("event {index}: not a recommendation of this caller")]
    NotYours {
        /// Index in the call.
        index: usize,
    },
    /// The event at this index cannot have happened.
    #[error("event {index}: {why}")]
    Impossible {
        /// Index in the call.
        index: usize,
        /// Why not, for people.
        why: &'static str,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Who acts in an audited change, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// A user id, `service_role`, or `cli`.
    pub id: String,
    /// `admin`, `service_role` or `operator`.
    pub role: String,
    /// The caller's address.
    pub ip_address: Option<String>,
    /// The caller's user agent.
    pub user_agent: Option<String>,
}

/// An audited change of one user's archetype.
#[derive(Debug, Clone, PartialEq)]
pub enum ArchetypeChange {
    /// Stores the outcome of a recalculation, unless an override is live. Action `recalculate_archetype`.
    Recalculate {
        /// What was computed; `None` when the user has no history (any stored row is removed).
        computed: Option<ComputedArchetype>,
        /// The state that it was computed in.
        version: FactsVersion,
    },
    /// Sets an override with confidence 1.0. Action `override_archetype`.
    Override {
        /// The archetype.
        archetype: Archetype,
        /// Why.
        reason: String,
        /// When it ends.
        expires_at: Option<Timestamp>,
        /// The user's current signals, breakdown and policy, to stand beside it.
        computed: ComputedArchetype,
    },
    /// Ends an override, if there is one, and stores what the history says. Action `reset_archetype`.
    Reset {
        /// What was computed; `None` when the user has no history (the row is removed).
        computed: Option<ComputedArchetype>,
        /// The state that it was computed in.
        version: FactsVersion,
    },
}

impl ArchetypeChange {
    /// Gives the action that the audit log names, and the reason if there is one.
    pub(crate) fn audited_as(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::Recalculate { .. } => ("recalculate_archetype", None),
            Self::Override { reason, .. } => ("override_archetype", Some(reason)),
            Self::Reset { .. } => ("reset_archetype", None),
        }
    }
}

/// What became of an archetype change.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one value a call, taken apart at once; a box would only hide it"
)]
pub enum ArchetypeChanged {
    /// Done and audited. The row as it stands now (`None`: no row), the one before, and the audit chain's new head.
    Done {
        /// Before.
        old: Option<StoredArchetype>,
        /// After.
        new: Option<StoredArchetype>,
        /// Hash of the newest audit entry.
        audit_head: String,
    },
    /// A live override was kept (recalculate only). Audited too.
    OverrideKept {
        /// The override.
        kept: StoredArchetype,
        /// Hash of the newest audit entry.
        audit_head: String,
    },
    /// There is no override to reset; nothing was changed, nothing audited.
    NothingToReset,
    /// The user opted out; nothing was changed.
    OptedOut,
    /// The facts have changed since they were read; read again.
    Superseded,
}

/// What became of a plain write of a computed archetype.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchetypeSaved {
    /// Stored; the user is stale no more.
    Saved,
    /// Not stored: the facts have changed, an override is live, or the user opted out. The user stays stale.
    Superseded,
}

/// Which changes of facts the feed tells of. Facts that the app keeps itself change without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// Profiles and requests.
    pub people: bool,
    /// Memberships and nights.
    pub homes: bool,
}

/// Users whose cached facts are out of date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// These.
    Users(Vec<UserId>),
    /// Possibly everybody.
    Everybody,
}

/// A decision as stored, with everything that came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredDecision {
    /// The decision.
    pub row: DecisionRow,
    /// The columns that outcomes fill.
    pub outcome: crate::outcome::Outcome,
    /// The events, by time.
    pub events: Vec<StoredEvent>,
}

/// One row of `recommendation_events`.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEvent {
    /// What happened.
    pub kind: EventKind,
    /// The type, if it has one.
    pub transaction_type: Option<TransactionType>,
    /// The rest, as JSON.
    pub payload: serde_json::Value,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// When it was recorded.
    pub recorded_at: Timestamp,
}

/// What `audit verify` found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditReport {
    /// Number of entries read.
    pub entries: u64,
    /// Hash of the newest entry; `None` for an empty log.
    pub head: Option<String>,
    /// The first entry whose hash, predecessor or number is wrong, and how.
    pub broken: Option<(i64, String)>,
}
