//! The exposed tables as data: their columns, types and keys, the same on every engine.
//!
//! A caller's names are looked up here, so that only names from here get into statements. A test of each engine compares
//! the catalogue with the real schema. Where next: [`crate::query`] for what is asked of the tables, [`crate::rights`]
//! for who may ask.

/// The type of a column, by PostgreSQL's name; SQLite keeps the same values in its own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// `text COLLATE "C"`: compared and ordered by bytes.
    Text,
    /// `uuid`: on SQLite its lower-case text.
    Uuid,
    /// `integer`.
    Integer,
    /// `bigint`.
    BigInt,
    /// `numeric` with a number of decimals.
    Numeric {
        /// The decimals that are kept and printed.
        scale: u8,
    },
    /// `double precision`.
    Double,
    /// `boolean`.
    Boolean,
    /// `date`.
    Date,
    /// `timestamptz`.
    Timestamp,
    /// `jsonb`.
    Json,
    /// `text[]`.
    TextArray,
}

impl ColumnType {
    /// Gives PostgreSQL's name of the type, as its errors say it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Uuid => "uuid",
            Self::Integer => "integer",
            Self::BigInt => "bigint",
            Self::Numeric { .. } => "numeric",
            Self::Double => "double precision",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::Timestamp => "timestamp with time zone",
            Self::Json => "jsonb",
            Self::TextArray => "text[]",
        }
    }
}

/// A column.
#[derive(Debug, PartialEq, Eq)]
pub struct Column {
    /// The name.
    pub name: &'static str,
    /// The type.
    pub column_type: ColumnType,
    /// Whether it may be empty.
    pub nullable: bool,
}

/// A table.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// The name.
    pub name: &'static str,
    /// The columns, in the order in which `select=*` gives them.
    pub columns: &'static [Column],
    /// The columns that tell rows apart: the order of rows that are otherwise equal.
    pub key: &'static [&'static str],
}

impl Table {
    /// Finds a column by name.
    pub fn column(&self, name: &str) -> Option<&'static Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// Finds a table by name.
pub fn table(name: &str) -> Option<&'static Table> {
    TABLES.iter().find(|table| table.name == name)
}

use ColumnType::{BigInt, Boolean, Date, Double, Integer, Json, Text, TextArray, Timestamp, Uuid};

/// Dollars.
const MONEY: ColumnType = ColumnType::Numeric { scale: 2 };
/// A confidence.
const CONFIDENCE: ColumnType = ColumnType::Numeric { scale: 2 };
/// A demand factor.
const FACTOR: ColumnType = ColumnType::Numeric { scale: 4 };

const fn always(name: &'static str, column_type: ColumnType) -> Column {
    Column { name, column_type, nullable: false }
}

const fn maybe(name: &'static str, column_type: ColumnType) -> Column {
    Column { name, column_type, nullable: true }
}

/// Every exposed table.
pub const TABLES: &[Table] = &[
    Table {
        name: "user_archetypes",
        columns: &[
            always("user_id", Text),
            always("archetype_type", Text),
            always("confidence", CONFIDENCE),
            always("signals", Json),
            always("reasoning", TextArray),
            always("scores", Json),
            always("is_manual_override", Boolean),
            maybe("override_reason", Text),
            maybe("override_by", Text),
            maybe("override_expires_at", Timestamp),
            always("policy", Text),
            always("computed_at", Timestamp),
            always("created_at", Timestamp),
            always("updated_at", Timestamp),
        ],
        key: &["user_id"],
    },
    Table {
        name: "recommendation_logs",
        columns: &[
            always("id", Uuid),
            always("user_id", Text),
            maybe("roommate_id", Text),
            maybe("lease_id", Text),
            always("target_date", Date),
            always("primary_recommendation", Text),
            always("archetype_type", Text),
            always("archetype_confidence", Double),
            always("days_until_checkin", Integer),
            always("urgency_level", Text),
            always("options", Json),
            always("context", Json),
            always("rule", Text),
            always("policy", Text),
            always("personalized", Boolean),
            always("propensity", Double),
            always("confidence", Double),
            maybe("user_selected", Text),
            maybe("time_to_decision_seconds", Double),
            maybe("followed_recommendation", Boolean),
            always("request_submitted", Boolean),
            maybe("request_accepted", Boolean),
            maybe("final_transaction_type", Text),
            maybe("nps_score", Integer),
            maybe("session_id", Text),
            maybe("user_agent", Text),
            always("response_time_ms", Integer),
            maybe("experiment_id", Text),
            maybe("experiment_variant", Text),
            always("created_at", Timestamp),
        ],
        key: &["id"],
    },
    Table {
        name: "recommendation_events",
        columns: &[
            always("user_id", Text),
            always("recommendation_id", Uuid),
            always("event", Text),
            always("occurrence", Text),
            maybe("transaction_type", Text),
            always("payload", Json),
            always("occurred_at", Timestamp),
            always("recorded_at", Timestamp),
        ],
        key: &["user_id", "recommendation_id", "event", "occurrence"],
    },
    Table {
        name: "admin_audit_log",
        columns: &[
            always("id", BigInt),
            always("admin_id", Text),
            always("actor_role", Text),
            always("action", Text),
            maybe("target_user_id", Text),
            always("metadata", Json),
            maybe("ip_address", Text),
            maybe("user_agent", Text),
            always("created_at", Timestamp),
            always("prev_hash", Text),
            always("hash", Text),
        ],
        key: &["id"],
    },
    Table {
        name: "archetype_job_logs",
        columns: &[
            always("id", Uuid),
            always("job_type", Text),
            always("status", Text),
            always("processed_count", BigInt),
            always("updated_count", BigInt),
            always("failed_count", BigInt),
            maybe("cursor", Text),
            maybe("heartbeat_at", Timestamp),
            maybe("duration_ms", BigInt),
            maybe("error_message", Text),
            always("metadata", Json),
            always("started_at", Timestamp),
            maybe("completed_at", Timestamp),
        ],
        key: &["id"],
    },
    Table {
        name: "edge_function_logs",
        columns: &[
            always("id", Uuid),
            always("function_name", Text),
            always("method", Text),
            always("status", Integer),
            always("response_time_ms", Integer),
            maybe("user_id", Text),
            always("request_id", Text),
            maybe("error_code", Text),
            always("created_at", Timestamp),
        ],
        key: &["id"],
    },
    Table {
        name: "profiles",
        columns: &[
            always("id", Text),
            always("role", Text),
            always("personalization_opt_out", Boolean),
            always("created_at", Timestamp),
        ],
        key: &["id"],
    },
    Table {
        name: "leases",
        columns: &[always("id", Text), maybe("name", Text), always("created_at", Timestamp)],
        key: &["id"],
    },
    Table {
        name: "lease_members",
        columns: &[always("lease_id", Text), always("user_id", Text)],
        key: &["lease_id", "user_id"],
    },
    Table {
        name: "lease_nights",
        columns: &[
            always("lease_id", Text),
            always("night", Date),
            maybe("held_by", Text),
            always("base_price", MONEY),
            always("market_demand", FACTOR),
        ],
        key: &["lease_id", "night"],
    },
    Table {
        name: "date_change_requests",
        columns: &[
            always("id", Text),
            maybe("lease_id", Text),
            always("requester_id", Text),
            always("receiver_id", Text),
            always("transaction_type", Text),
            always("target_night", Date),
            maybe("offered_night", Date),
            maybe("proposed_price", MONEY),
            maybe("base_price", MONEY),
            always("status", Text),
            maybe("recommendation_id", Text),
            always("created_at", Timestamp),
            maybe("responded_at", Timestamp),
        ],
        key: &["id"],
    },
];
