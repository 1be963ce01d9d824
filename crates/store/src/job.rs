//! Runs of the recalculation job: who has the lease, how far a run is, and what goes in and out of a batch.
//!
//! A run is a row of `archetype_job_logs`. Whoever holds the lease works on it; the lease has a *term*, which rises with
//! every holder, and every write of a run begins by renewing the lease of its own term. A holder that was away for too long
//! finds that its term is over, and nothing of what it wanted to write is written. Cancelling a run ends its term.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nudge_engine::{Archetype, Request, UserId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::record::{Actor, ArchetypeSaved, ComputedArchetype, FactsVersion};

/// The kind of job, as in `archetype_job_logs.job_type`.
pub const ARCHETYPE_RECALCULATION: &str = "archetype_recalculation";

/// How long a lease lasts after each write, by the database's clock.
pub const LEASE: Duration = Duration::from_secs(10);

/// No lease is held for longer than this from now on, but where a clock was set back.
pub(crate) const FURTHEST_LEASE: SignedDuration = SignedDuration::from_mins(1);

/// A stored time that is further in the future than this is of a clock that was wrong.
pub(crate) const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_hours(1);

/// How long a backend that keeps the lease's row locked is let alone once the lease is over.
pub(crate) const LENIENCE: Duration = Duration::from_secs(5);

/// Confidence has to move by more than this for a user of the same type to count as updated (job.md).
const CONFIDENCE_MOVED: f64 = 0.1;

/// The right to write for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunLease {
    /// The run.
    pub run_id: Uuid,
    /// The term.
    pub term: i64,
}

/// Why a run is to be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunCause {
    /// Somebody asked.
    Asked,
    /// The schedule said so, at this time. Seen to once, whatever the number of servers.
    Due(Timestamp),
    /// A row of `job_requests`. Taken once.
    Requested(i64),
}

/// A run to be started.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRun {
    /// UUIDv7 of the run.
    pub id: Uuid,
    /// The process that will work on it.
    pub holder: String,
    /// Why.
    pub cause: RunCause,
    /// The settings, kept in the run's metadata under `config`.
    pub config: serde_json::Value,
    /// Who or what asked, kept under `trigger`.
    pub trigger: String,
    /// Whoever asked, for the audit log; nobody, where a schedule or a row of `job_requests` did.
    pub actor: Option<Actor>,
    /// The time of the start, by the service's clock.
    pub now: Timestamp,
}

impl NewRun {
    /// What the audit log keeps of the start.
    pub(crate) fn audited(&self) -> serde_json::Value {
        serde_json::json!({ "jobId": self.id, "config": self.config })
    }
}

/// What the audit log keeps of a run that was cancelled.
pub(crate) fn audited_cancel(run_id: Uuid) -> serde_json::Value {
    serde_json::json!({ "jobId": run_id })
}

/// What became of the wish to start a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunStarted {
    /// It has begun, and this process has its lease.
    Started(RunLease),
    /// Another run is not finished: this one.
    Running(Uuid),
    /// What asked for it has been seen to before.
    SeenTo,
}

/// A run that is gone on with.
#[derive(Debug, Clone, PartialEq)]
pub struct TakenRun {
    /// The lease.
    pub lease: RunLease,
    /// The last user done.
    pub cursor: Option<UserId>,
    /// What has been done.
    pub totals: RunTotals,
    /// The settings.
    pub config: serde_json::Value,
    /// When it began.
    pub started_at: Timestamp,
}

/// The lease as it stands, and what waits for somebody.
#[derive(Debug, Clone, PartialEq)]
pub struct JobState {
    /// The newest term.
    pub term: i64,
    /// The run that is not finished.
    pub run_id: Option<Uuid>,
    /// Whether its lease is over.
    pub expired: bool,
    /// The oldest row of `job_requests` that nobody has taken: its number and settings.
    pub request: Option<(i64, serde_json::Value)>,
    /// The newest time of the schedule that has been seen to.
    pub scheduled_at: Option<Timestamp>,
    /// Who starts runs.
    pub scheduler: Scheduler,
    /// No stored archetype is older, but those of overrides.
    pub computed_floor: Option<Timestamp>,
}

/// Who starts the nightly run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheduler {
    /// The servers.
    BuiltIn,
    /// The database, by the extension pg_cron.
    PgCron,
}

impl Scheduler {
    /// Gives the stored name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BuiltIn => "built_in",
            Self::PgCron => "pg_cron",
        }
    }
}

impl std::str::FromStr for Scheduler {
    type Err = std::io::Error;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "built_in" => Ok(Self::BuiltIn),
            "pg_cron" => Ok(Self::PgCron),
            _ => Err(std::io::Error::other("an unknown scheduler")),
        }
    }
}

/// Whom a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunSelection {
    /// Everybody with a request or a profile.
    Everybody,
    /// Users marked as stale, those whose override has ended, and those whose archetype is old.
    Stale {
        /// Archetypes computed then or earlier are old; `None`: none is that old.
        computed_before: Option<Timestamp>,
        /// The time at which overrides count as ended. Archetypes of more than an hour later are old as well: the clock
        /// that made them was wrong.
        now: Timestamp,
    },
}

/// The next users of a run, in order of their ids.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeoplePage {
    /// The users. There may be none although the end is not reached.
    pub users: Vec<UserId>,
    /// Everybody up to here has been looked through; `None`: to the end.
    pub upto: Option<UserId>,
}

/// What is known of one user, read in one statement for all users of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct PersonState {
    /// Whether they refuse personalization.
    pub opted_out: bool,
    /// The stored archetype and its confidence.
    pub stored: Option<(Archetype, f64)>,
    /// Whether an override is in force.
    pub overridden: bool,
    /// The state in which this was read.
    pub version: FactsVersion,
    /// The newest requests in either role, newest first.
    pub requests: Vec<Request>,
}

/// What a run has found for one user.
#[derive(Debug, Clone, PartialEq)]
pub enum Worked {
    /// A fresh archetype, to be stored if nothing has changed since the facts were read.
    Computed(Box<ComputedArchetype>, FactsVersion),
    /// The rows cannot be used, for this reason.
    Failed(String),
    /// An override is in force.
    Overridden,
    /// The user has opted out.
    OptedOut,
}

/// A batch to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct RunBatch {
    /// The users in order of their ids, each once.
    pub items: Vec<(UserId, Worked)>,
    /// The cursor once all of it is stored; `None` leaves it as it is.
    pub upto: Option<UserId>,
    /// Whether these users have failed before in this run.
    pub again: bool,
    /// What the run has done so far.
    pub totals: RunTotals,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum BatchSaved {
    /// The first so many items are stored, with the cursor and these totals.
    Saved {
        /// How many.
        items: usize,
        /// The totals.
        totals: RunTotals,
    },
    /// Another has the lease, or the run was cancelled: nothing was stored.
    LeaseLost,
}

/// What became of one user's archetype.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum PersonSaved {
    /// Stored; so it was before.
    Saved(Option<(Archetype, f64)>),
    /// An override is in force.
    Overridden,
    /// The user opted out meanwhile.
    OptedOut,
    /// The facts or the row have changed since they were read.
    Superseded,
}

impl From<PersonSaved> for ArchetypeSaved {
    fn from(saved: PersonSaved) -> Self {
        match saved {
            PersonSaved::Saved(_) => Self::Saved,
            PersonSaved::Overridden | PersonSaved::OptedOut | PersonSaved::Superseded => Self::Superseded,
        }
    }
}

/// Users that went from one archetype to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// From; `None`: there was none.
    pub from: Option<Archetype>,
    /// To.
    pub to: Archetype,
    /// How many users.
    pub count: u64,
}

/// What a run has done so far. Kept in the run's metadata under `totals`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunTotals {
    /// Users looked at.
    pub processed: u64,
    /// Users whose type changed, or whose confidence moved by more than 0.1.
    pub updated: u64,
    /// Users whose rows could not be used.
    pub failed: u64,
    /// Users left alone because of an override in force.
    pub override_skipped: u64,
    /// Users left out because they opted out.
    pub opted_out: u64,
    /// Users whose facts changed between the read and the write; they stay marked as stale.
    pub superseded: u64,
    /// Times that the run was taken up again.
    pub resumed: u64,
    /// Users by how their type changed, those without a change left out.
    pub moves: Vec<Move>,
}

impl RunTotals {
    /// Counts a user. `again`: the user has been counted as processed and failed before.
    pub(crate) fn count(&mut self, worked: &Worked, saved: Option<PersonSaved>, again: bool) {
        if !again {
            self.processed += 1;
        }
        match (worked, saved) {
            (Worked::Failed(_), _) if again => {}
            (Worked::Failed(_), _) => self.failed += 1,
            (..) => {
                if again {
                    self.failed = self.failed.saturating_sub(1);
                }
                self.count_usable(worked, saved);
            }
        }
    }

    /// Counts a user as if what was found had been stored; `before`: what is stored.
    pub fn rehearse(&mut self, worked: &Worked, before: Option<(Archetype, f64)>) {
        let saved = matches!(worked, Worked::Computed(..)).then_some(PersonSaved::Saved(before));
        self.count(worked, saved, false);
    }

    fn count_usable(&mut self, worked: &Worked, saved: Option<PersonSaved>) {
        match (worked, saved) {
            (Worked::Computed(computed, _), Some(PersonSaved::Saved(before))) => {
                let confidence = crate::format::two_decimals(computed.confidence);
                // Two decimals each: a hundredth of tolerance keeps 0.1 itself out.
                let moved = |was: f64| (was - confidence).abs() > CONFIDENCE_MOVED + 1e-9;
                match before {
                    Some((was, confidence)) if was == computed.archetype => {
                        self.updated += u64::from(moved(confidence));
                    }
                    _ => {
                        self.updated += 1;
                        self.count_move(before.map(|(was, _)| was), computed.archetype);
                    }
                }
            }
            (Worked::Overridden, _) | (_, Some(PersonSaved::Overridden)) => self.override_skipped += 1,
            (Worked::OptedOut, _) | (_, Some(PersonSaved::OptedOut)) => self.opted_out += 1,
            _ => self.superseded += 1,
        }
    }

    fn count_move(&mut self, from: Option<Archetype>, to: Archetype) {
        match self.moves.iter_mut().find(|known| known.from == from && known.to == to) {
            Some(known) => known.count += 1,
            None => self.moves.push(Move { from, to, count: 1 }),
        }
    }
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// Somebody works on it.
    Running,
    /// All users have been looked at, also when some of them failed.
    Completed,
    /// Nobody works on it; it will be gone on with.
    Interrupted,
    /// It was given up.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
}

impl RunStatus {
    /// Gives the stored name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Says whether nothing more will be done.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

impl std::str::FromStr for RunStatus {
    type Err = std::io::Error;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        const ALL: [RunStatus; 5] = [
            RunStatus::Running,
            RunStatus::Completed,
            RunStatus::Interrupted,
            RunStatus::Failed,
            RunStatus::Cancelled,
        ];
        ALL.into_iter()
            .find(|status| status.as_str() == name)
            .ok_or_else(|| std::io::Error::other("an unknown status"))
    }
}

/// How a run ends, or pauses.
#[derive(Debug, Clone, PartialEq)]
pub struct RunEnd {
    /// Completed, failed, or interrupted.
    pub status: RunStatus,
    /// What went wrong.
    pub error: Option<String>,
    /// What came of it, kept in the run's metadata under `result`.
    pub result: Option<serde_json::Value>,
    /// From now on no archetype is older, but those of overrides.
    pub computed_floor: Option<Timestamp>,
    /// The time of the end, by the service's clock.
    pub now: Timestamp,
}

/// A run as it stands, one row of `archetype_job_logs`.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// The run.
    pub id: Uuid,
    /// What kind.
    pub job_type: String,
    /// Where it stands; one whose lease is over reads as interrupted.
    pub status: RunStatus,
    /// Users looked at.
    pub processed: i64,
    /// Users whose archetype changed.
    pub updated: i64,
    /// Users that failed.
    pub failed: i64,
    /// The last user done.
    pub cursor: Option<String>,
    /// When it last said that it lives, by the database's clock.
    pub heartbeat_at: Option<Timestamp>,
    /// How long it took.
    pub duration_ms: Option<i64>,
    /// What went wrong.
    pub error_message: Option<String>,
    /// Settings, totals and result.
    pub metadata: serde_json::Value,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
}

/// What became of the wish to cancel a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunCancelled {
    /// Nothing more will be written for it.
    Cancelled,
    /// It had ended before, like this.
    Ended(RunStatus),
    /// There is no such run.
    Unknown,
}

/// A user that could not be used, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunFailure {
    /// The user.
    pub user_id: UserId,
    /// How often it was tried.
    pub attempts: i64,
    /// Why it failed, the last time.
    pub reason: String,
}

impl RunSelection {
    /// Says whether an archetype of this time is old. One that cannot be read is.
    pub(crate) fn is_old(computed_at: Option<Timestamp>, computed_before: Timestamp, now: Timestamp) -> bool {
        computed_at.is_none_or(|at| at <= computed_before || at.duration_since(now) > CLOCKS_DIFFER)
    }
}

/// A page of ids as they stand in rows, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct IdPage {
    pub(crate) ids: Vec<String>,
    /// As in [`PeoplePage`].
    pub(crate) upto: Option<String>,
}

impl IdPage {
    /// Makes a page of ids of which so many were wanted: one that is not full reaches to the end.
    pub(crate) fn of(ids: Vec<String>, limit: u32) -> Self {
        let full = ids.len() >= limit as usize;
        Self { upto: ids.last().filter(|_| full).cloned(), ids }
    }

    /// Puts two pages of the same order together, without repeating anybody.
    pub(crate) fn merge(self, other: Self, limit: u32) -> Self {
        let bound = match (self.upto, other.upto) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let ids: std::collections::BTreeSet<String> = self.ids.into_iter().chain(other.ids).collect();
        let mut ids: Vec<String> =
            ids.into_iter().filter(|id| bound.as_ref().is_none_or(|bound| id <= bound)).collect();
        if ids.len() > limit as usize {
            ids.truncate(limit as usize);
            return Self { upto: ids.last().cloned(), ids };
        }
        Self { ids, upto: bound }
    }

    /// Gives the users, without what is no id of a user, or stands there in another form than rows are found by: one row
    /// must not keep a run from all others. `Err`: there was nothing else on this page, so read on after this id.
    pub(crate) fn usable(self) -> Result<PeoplePage, String> {
        let usable = |text: &String| UserId::parse(text).ok().filter(|id| id.as_str() == text);
        let users: Vec<UserId> = self.ids.iter().filter_map(usable).collect();
        let Some(upto) = self.upto else {
            warn_of_unusable(self.ids.len() - users.len());
            return Ok(PeoplePage { users, upto: None });
        };
        match usable(&upto).or_else(|| users.last().cloned()) {
            Some(upto) => {
                // Those behind it come again with the next page, and are warned of then.
                let seen = self.ids.iter().filter(|id| id.as_str() <= upto.as_str()).count();
                warn_of_unusable(seen.saturating_sub(users.len()));
                Ok(PeoplePage { users, upto: Some(upto) })
            }
            None => {
                warn_of_unusable(self.ids.len());
                Err(upto)
            }
        }
    }
}

fn warn_of_unusable(ids: usize) {
    if ids > 0 {
        tracing::warn!(ids, "job.user_ids_unusable");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_id_is_left_out_and_the_search_goes_on_behind_it() {
        let page =
            |ids: &[&str], limit| IdPage::of(ids.iter().map(ToString::to_string).collect(), limit).usable();
        let users = |ids: &[&str], upto: Option<&str>| {
            Ok(PeoplePage {
                users: ids.iter().map(|id| UserId::parse(id).unwrap()).collect(),
                upto: upto.map(|id| UserId::parse(id).unwrap()),
            })
        };
        assert_eq!(page(&["a", "b"], 2), users(&["a", "b"], Some("b")));
        assert_eq!(page(&["a", "b c", "d"], 9), users(&["a", "d"], None));
        assert_eq!(page(&["a", "b c", "d e"], 3), users(&["a"], Some("a")));
        assert_eq!(page(&["a b", "b c"], 2), Err("b c".to_owned()));
        assert_eq!(page(&["a b"], 2), users(&[], None));
        // Rows are not found by it: its canonical form is in small letters, and far behind it.
        let capitals = "0198F000-0000-7000-8000-ABCDEFABCDEF";
        assert_eq!(page(&["0", capitals], 2), users(&["0"], Some("0")));
    }
}
