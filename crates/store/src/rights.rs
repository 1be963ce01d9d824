//! Who may do what with which rows: the table of rights as data, default deny.
//!
//! PostgreSQL enforces the same table by grants and policies; here the query layer does. Where next:
//! `sqlite/rights.rs` holds the statement of each table and scope.

use nudge_engine::UserId;

use crate::error::StoreError;

/// Who asks, as the credentials say. Whether a user is an admin is read from `profiles` at the time of the query.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Caller {
    /// Nobody in particular.
    Anonymous,
    /// A user.
    User(UserId),
    /// The service.
    Service,
}

/// The rank of a caller, once it is known whether a user is an admin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grade {
    /// No user.
    Anonymous,
    /// An ordinary user.
    Member,
    /// A user whose profile says admin.
    Admin,
    /// The service.
    Service,
}

/// What is done with rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Reads.
    Select,
    /// Adds.
    Insert,
    /// Changes.
    Update,
    /// Removes.
    Delete,
}

/// The rows that a grade may do a verb with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// No privilege: the query is refused.
    NoPrivilege,
    /// The query runs and meets no row.
    Nobody,
    /// The caller's own rows.
    Own,
    /// Every row.
    All,
}

/// Why a query gave no rows at all.
#[derive(Debug, thiserror::Error)]
pub enum RightsError {
    /// The caller has no privilege for this table and verb.
    #[error("permission denied for table {table}")]
    Denied {
        /// The table.
        table: &'static str,
    },
    /// No such table is exposed.
    #[error("no table `{table}` is exposed")]
    UnknownTable {
        /// The name as given.
        table: String,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How the rows of a table belong to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Rows of users: they see their own.
    Personal,
    /// The audit log: admins see it, the service reads and appends.
    Audit,
    /// Logs of the service: admins see them.
    Operational,
}

/// Every exposed table.
const TABLES: &[(&str, Kind)] = &[
    ("user_archetypes", Kind::Personal),
    ("recommendation_logs", Kind::Personal),
    ("recommendation_events", Kind::Personal),
    ("admin_audit_log", Kind::Audit),
    ("archetype_job_logs", Kind::Operational),
    ("edge_function_logs", Kind::Operational),
    ("profiles", Kind::Personal),
    ("leases", Kind::Personal),
    ("lease_members", Kind::Personal),
    ("lease_nights", Kind::Personal),
    ("date_change_requests", Kind::Personal),
];

/// Lists the exposed tables.
pub fn exposed_tables() -> impl Iterator<Item = &'static str> {
    TABLES.iter().map(|(name, _)| *name)
}

/// Finds an exposed table by name, and gives its name as a constant.
///
/// # Errors
/// [`RightsError::UnknownTable`] for everything else, the service's own tables included.
pub fn exposed(table: &str) -> Result<&'static str, RightsError> {
    exposed_tables()
        .find(|name| *name == table)
        .ok_or_else(|| RightsError::UnknownTable { table: table.chars().take(64).collect() })
}

/// Gives the rows that a grade may do a verb with; a table that is not exposed gives no privilege to anybody.
pub fn scope(grade: Grade, table: &str, verb: Verb) -> Scope {
    let Some((_, kind)) = TABLES.iter().find(|(name, _)| *name == table) else {
        return Scope::NoPrivilege;
    };
    match (grade, verb, kind) {
        (Grade::Anonymous, ..) => Scope::NoPrivilege,
        (Grade::Member, Verb::Select, Kind::Personal) => Scope::Own,
        (Grade::Member, Verb::Select, Kind::Audit | Kind::Operational) => Scope::Nobody,
        (Grade::Admin, Verb::Select, _) => Scope::All,
        (Grade::Member | Grade::Admin, Verb::Insert | Verb::Update | Verb::Delete, _) => Scope::NoPrivilege,
        (Grade::Service, Verb::Select | Verb::Insert, _) => Scope::All,
        (Grade::Service, Verb::Update | Verb::Delete, Kind::Audit) => Scope::NoPrivilege,
        (Grade::Service, Verb::Update | Verb::Delete, _) => Scope::All,
    }
}
