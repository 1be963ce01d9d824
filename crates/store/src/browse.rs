//! What people look through: decisions, archetypes and audit entries, page by page.
//!
//! Every list is read by its key (`before` or `after` the last one seen), so that a page far down costs what the first
//! one does, and rows that come in meanwhile move nothing.

use jiff::Timestamp;
use nudge_engine::{Archetype, TransactionType, UserId};
use uuid::Uuid;

use crate::outcome::Outcome;

/// Decisions, newest first, that a search by rule alone looks at before it says how far it has come.
///
/// There is no index by rule: it would be paid for by every decision, and be used by people alone.
pub const SEARCH_WINDOW: usize = 20_000;

/// Which decisions are looked for. All that is given has to hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DecisionSearch {
    /// The requester.
    pub user: Option<UserId>,
    /// The rule, by its wire name.
    pub rule: Option<String>,
    /// Made at this time or later, to the millisecond.
    pub since: Option<Timestamp>,
    /// Made before this time, to the millisecond.
    pub until: Option<Timestamp>,
    /// Only those with a lower id, as a page before this one ended.
    pub before: Option<Uuid>,
    /// Most decisions of the answer.
    pub limit: usize,
}

impl DecisionSearch {
    /// Gives the ids between which the search looks: the lower one included, the upper one not.
    pub(crate) fn bounds(&self) -> (Uuid, Uuid) {
        let low = self.since.map_or(Uuid::nil(), first_id_of);
        let high = self.until.map_or(Uuid::max(), first_id_of);
        (low, self.before.map_or(high, |before| before.min(high)))
    }
}

/// Gives the lowest id of the version 7 that a time can have: its milliseconds and nothing else.
fn first_id_of(at: Timestamp) -> Uuid {
    let millis = u64::try_from(at.as_millisecond()).unwrap_or(0) & 0xffff_ffff_ffff;
    Uuid::from_u64_pair(millis << 16, 0)
}

/// A decision in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct DecisionListed {
    /// Its id.
    pub id: Uuid,
    /// The requester; `None` for an anonymous caller.
    pub user_id: Option<UserId>,
    /// The night asked for.
    pub target_date: jiff::civil::Date,
    /// Days until check-in, never negative.
    pub days_until_checkin: i64,
    /// The pre-selected type.
    pub primary: TransactionType,
    /// The archetype used.
    pub archetype: Archetype,
    /// The rule.
    pub rule: String,
    /// Whether anything personal was used.
    pub personalized: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// What came of it.
    pub outcome: Outcome,
}

/// One page of a search for decisions.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DecisionPage {
    /// Newest first.
    pub rows: Vec<DecisionListed>,
    /// Where to go on, as `before`; `None` when there is nothing older.
    pub next: Option<Uuid>,
    /// Whether the page ended because [`SEARCH_WINDOW`] decisions had been looked at, and not because it was full.
    pub window_ended: bool,
}

/// Which archetypes are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchetypeFilter {
    /// All.
    All,
    /// Of a type.
    Of(Archetype),
    /// Those that an admin set, their override live or expired.
    Overridden,
}

/// An archetype in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct ArchetypeListed {
    /// The user.
    pub user_id: UserId,
    /// The archetype.
    pub archetype: Archetype,
    /// Its confidence, two decimals.
    pub confidence: f64,
    /// Whether an admin set it.
    pub overridden: bool,
    /// When the override ends, if it does.
    pub override_expires_at: Option<Timestamp>,
    /// When it was computed or set.
    pub computed_at: Timestamp,
}

/// Archetypes of a type whose confidence is in the same twentieth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConfidenceStep {
    /// The type.
    pub archetype: Archetype,
    /// The twentieth: 8 is 0.40 to 0.44, 20 is 1.
    pub step: u8,
    /// How many.
    pub count: u64,
    /// The sum of their confidences.
    pub sum: f64,
}

/// An entry of the audit log as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    /// Its number.
    pub id: i64,
    /// Who acted.
    pub admin_id: String,
    /// As what.
    pub actor_role: String,
    /// What was done.
    pub action: String,
    /// To whom.
    pub target_user_id: Option<String>,
    /// Old, new and reason.
    pub metadata: serde_json::Value,
    /// From where.
    pub ip_address: Option<String>,
    /// By what.
    pub user_agent: Option<String>,
    /// When.
    pub created_at: Timestamp,
    /// Its hash.
    pub hash: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_is_bounded_by_the_ids_of_its_times_and_of_its_page() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let search = DecisionSearch {
            since: Some(at("2026-03-01T00:00:00Z")),
            until: Some(at("2026-03-02T00:00:00Z")),
            ..DecisionSearch::default()
        };
        let (low, high) = search.bounds();
        assert_eq!(low.to_string(), "019ca6b1-dc00-0000-0000-000000000000");
        assert!(low < high);
        let before = Uuid::from_u64_pair(0x019c_a6b1_dc00_7001, 1);
        assert_eq!(DecisionSearch { before: Some(before), ..search.clone() }.bounds(), (low, before));
        let later = Uuid::max();
        assert_eq!(DecisionSearch { before: Some(later), ..search }.bounds(), (low, high));
        assert_eq!(DecisionSearch::default().bounds(), (Uuid::nil(), Uuid::max()));
    }
}
