//! What may be wrong with a database before the service trusts it: rights that are not ours, an app's table that does
//! not fit, a month without its partition.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::error::AdminError;
use super::shape;

/// What the service does about a finding at its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It says so and goes on.
    Warning,
    /// It does not start.
    Refusal,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "finding")]
pub enum Finding {
    /// A table has no row security, or it is forced on the owner.
    RowSecurity {
        /// The table.
        table: String,
    },
    /// Somebody may do what the migrations do not grant.
    UnexpectedGrant {
        /// The grant, as in `SELECT ON public.x TO anon`.
        grant: String,
        /// What takes it away and leaves what is ours.
        remedy: Vec<String>,
    },
    /// Somebody may not do what the migrations grant.
    MissingGrant {
        /// The grant.
        grant: String,
        /// What gives it.
        remedy: Vec<String>,
    },
    /// A policy on a table of ours that no migration makes, or one of ours that is gone or changed.
    Policy {
        /// The policy.
        policy: String,
        /// Whether it is there and should not be; else the other way.
        unexpected: bool,
    },
    /// A caller's role may write the column that says who is an admin.
    WritableRole {
        /// The caller's role.
        grantee: String,
        /// INSERT or UPDATE.
        verb: String,
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// What takes it away.
        remedy: Vec<String>,
    },
    /// The app's table cannot be read as these facts; they are empty.
    Misfit {
        /// The facts.
        fact: String,
        /// The column; none for the table as a whole.
        column: Option<String>,
        /// What is wrong.
        problem: String,
        /// What mends it.
        remedy: Option<String>,
    },
    /// Our own table holds rows that nobody sees, because the facts come from elsewhere.
    Hidden {
        /// The table.
        table: String,
    },
    /// A lookup in the app's facts reads the whole table.
    NoIndex {
        /// The facts.
        fact: String,
        /// The columns of the view that are looked up by.
        columns: String,
    },
    /// A month to come has no partition.
    NoPartition {
        /// The table.
        table: String,
        /// The first day of the month.
        month: String,
    },
}

impl Finding {
    /// Says what the service does about it.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Misfit { .. } | Self::NoIndex { .. } | Self::NoPartition { .. } => Severity::Warning,
            Self::RowSecurity { .. }
            | Self::UnexpectedGrant { .. }
            | Self::MissingGrant { .. }
            | Self::Policy { .. }
            | Self::WritableRole { .. }
            | Self::Hidden { .. } => Severity::Refusal,
        }
    }

    /// Gives the statements that mend it, those that are known.
    pub fn remedy(&self) -> Vec<String> {
        match self {
            Self::RowSecurity { table } => {
                vec![format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY;")]
            }
            Self::UnexpectedGrant { remedy, .. }
            | Self::MissingGrant { remedy, .. }
            | Self::WritableRole { remedy, .. } => remedy.clone(),
            Self::Misfit { fact, remedy, .. } => {
                let again = format!("SELECT nudge.map_fact('{fact}');");
                match remedy {
                    // A view that is replaced is in force at once.
                    Some(view) if view.starts_with("CREATE OR REPLACE VIEW") => vec![view.clone()],
                    Some(other) => vec![other.clone(), again],
                    None => vec![again],
                }
            }
            Self::NoPartition { table, month } => {
                vec![format!("SELECT nudge.make_partition('{table}', '{month}');")]
            }
            Self::Policy { .. } | Self::Hidden { .. } | Self::NoIndex { .. } => Vec::new(),
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::RowSecurity { table } => {
                write!(f, "row level security of {table} is off, or forced on the owner")
            }
            Self::UnexpectedGrant { grant, .. } => write!(f, "granted, and not by a migration: {grant}"),
            Self::MissingGrant { grant, .. } => write!(f, "not granted, though a migration did: {grant}"),
            Self::Policy { policy, unexpected: true } => {
                write!(f, "a policy that no migration makes: {policy}")
            }
            Self::Policy { policy, unexpected: false } => write!(f, "a policy is gone or changed: {policy}"),
            Self::WritableRole { grantee, verb, table, column, .. } => {
                write!(f, "{grantee} may {verb} {table}.{column}, and so make anybody an admin")
            }
            Self::Misfit { fact, column: Some(column), problem, .. } => {
                write!(f, "{fact}.{column}: {problem}")
            }
            Self::Misfit { fact, column: None, problem, .. } => write!(f, "{fact}: {problem}"),
            Self::Hidden { table } => {
                write!(f, "{table} holds rows that nobody sees, because the facts are read from elsewhere")
            }
            Self::NoIndex { fact, columns } => {
                write!(
                    f,
                    "looking up nudge.{fact} by {columns} reads the whole table: index what is behind them"
                )
            }
            Self::NoPartition { table, month } => {
                write!(f, "{table} has no partition for the month of {month}")
            }
        }
    }
}

const MISFITS: &str = "SELECT s.name, p.column_name, p.problem, p.remedy FROM nudge.fact_states AS s
  CROSS JOIN LATERAL nudge.fact_problems(s.name) AS p WHERE s.state = 'empty' ORDER BY s.name";
const STATES: &str = "SELECT name, ours, state FROM nudge.fact_states ORDER BY name";
const MISSING_PARTITIONS: &str = "SELECT parent, month::text FROM nudge.missing_partitions(3)";
/// Two phases of one question: which columns the view reads at all, and what `role` is made of.
const READS: &str = "SELECT DISTINCT a.attrelid::regclass::text, c.relname::text, a.attname::text
  FROM pg_catalog.pg_rewrite AS rule
  JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = rule.oid
    AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid <> rule.ev_class AND d.refobjsubid > 0
  JOIN pg_catalog.pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
  JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid
  WHERE rule.ev_class = pg_catalog.to_regclass('nudge.profiles')";
const EXPLAIN_ROLE: &str = "EXPLAIN (VERBOSE, COSTS OFF, FORMAT JSON) SELECT role FROM nudge.profiles";
const WRITABLE: &str = include_str!("check.sql");

/// Whether our own table of these facts holds a row.
const HOLDS_ROWS: &[(&str, &str)] = &[
    ("profiles", "SELECT EXISTS (SELECT FROM public.profiles)"),
    ("leases", "SELECT EXISTS (SELECT FROM public.leases)"),
    ("lease_members", "SELECT EXISTS (SELECT FROM public.lease_members)"),
    ("lease_nights", "SELECT EXISTS (SELECT FROM public.lease_nights)"),
    ("date_change_requests", "SELECT EXISTS (SELECT FROM public.date_change_requests)"),
];

/// The lookups in facts that have to be quick: the facts, by what, and the question.
const LOOKUPS: &[(&str, &str, &str)] = &[
    ("profiles", "id", "EXPLAIN (COSTS OFF) SELECT role FROM nudge.profiles WHERE id = 'x'"),
    (
        "lease_members",
        "user_id",
        "EXPLAIN (COSTS OFF) SELECT lease_id FROM nudge.lease_members WHERE user_id = 'x'",
    ),
    (
        "lease_nights",
        "lease_id, night",
        "EXPLAIN (COSTS OFF) SELECT base_price FROM nudge.lease_nights WHERE lease_id = 'x' AND night = '2026-01-01'",
    ),
    (
        "date_change_requests",
        "requester_id",
        "EXPLAIN (COSTS OFF) SELECT status FROM nudge.date_change_requests WHERE requester_id = 'x'
           ORDER BY created_at DESC LIMIT 50",
    ),
    (
        "date_change_requests",
        "receiver_id",
        "EXPLAIN (COSTS OFF) SELECT status FROM nudge.date_change_requests WHERE receiver_id = 'x'
           ORDER BY created_at DESC LIMIT 50",
    ),
    (
        "date_change_requests",
        "created_at",
        "EXPLAIN (COSTS OFF) SELECT requester_id FROM nudge.date_change_requests
           WHERE created_at > '2026-01-01' ORDER BY created_at LIMIT 1000",
    ),
];

/// Looks for everything; refusals first.
///
/// # Errors
/// [`AdminError::Database`].
pub async fn findings(client: &Client) -> Result<Vec<Finding>, AdminError> {
    let mut found = rights(client).await?;
    found.extend(writable_role(client).await?);
    found.extend(facts(client).await?);
    let missing =
        client.query_typed(MISSING_PARTITIONS, &[]).await.map_err(AdminError::reading("the partitions"))?;
    found.extend(missing.iter().map(|row| Finding::NoPartition { table: row.get(0), month: row.get(1) }));
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity()));
    Ok(found)
}

/// Compares row security, grants and policies with those of the migrations.
async fn rights(client: &Client) -> Result<Vec<Finding>, AdminError> {
    let difference = shape::compare(client).await?;
    let mut found = grants(&difference);
    for line in &difference.unexpected {
        if let Some(table) = line.strip_prefix("table public.") {
            if !line.contains(" row security") || line.contains(" forced") {
                let name = table.split(' ').next().unwrap_or(table);
                found.push(Finding::RowSecurity { table: format!("public.{name}") });
            }
        } else if let Some(policy) = line.strip_prefix("policy ") {
            found.push(Finding::Policy { policy: policy.to_owned(), unexpected: true });
        } else if let Some(partition) = line.strip_prefix("partition ") {
            found.extend(partition_rights(partition));
        }
    }
    let gone = difference.missing.iter().filter_map(|line| line.strip_prefix("policy "));
    found.extend(gone.map(|policy| Finding::Policy { policy: policy.to_owned(), unexpected: false }));
    Ok(found)
}

/// Sets the grants of the migrations against those that are there, privilege by privilege.
fn grants(difference: &shape::Difference) -> Vec<Finding> {
    // By `object TO grantee`: what the migrations grant, and what is granted.
    let mut both: BTreeMap<&str, [BTreeSet<&str>; 2]> = BTreeMap::new();
    for (side, lines) in [&difference.missing, &difference.unexpected].into_iter().enumerate() {
        for line in lines {
            let grant = line.strip_prefix("grant ").and_then(|grant| grant.split_once(" ON "));
            if let Some((privileges, on)) = grant {
                both.entry(on).or_default()[side].extend(privileges.split(", "));
            }
        }
    }
    let joined = |privileges: Vec<&&str>| privileges.iter().map(|word| **word).collect::<Vec<_>>().join(", ");
    let mut found = Vec::new();
    for (on, [ours, live]) in &both {
        let from = on.replacen(" TO ", " FROM ", 1);
        let (more, less) = (joined(live.difference(ours).collect()), joined(ours.difference(live).collect()));
        if !more.is_empty() {
            let remedy = vec![format!("REVOKE {more} ON {from};")];
            found.push(Finding::UnexpectedGrant { grant: format!("{more} ON {on}"), remedy });
        }
        if !less.is_empty() {
            let remedy = vec![format!("GRANT {less} ON {on};")];
            found.push(Finding::MissingGrant { grant: format!("{less} ON {on}"), remedy });
        }
    }
    found
}

/// Tells what is wrong with a partition, which nobody but the owner may reach.
fn partition_rights(line: &str) -> Option<Finding> {
    if let Some(partition) = line.strip_suffix(": no row security") {
        return Some(Finding::RowSecurity { table: partition.to_owned() });
    }
    let (partition, grant) = line.split_once(": grant ")?;
    let (privilege, grantee) = grant.split_once(" TO ")?;
    Some(Finding::UnexpectedGrant {
        grant: format!("{privilege} ON {partition} TO {grantee}"),
        remedy: vec![format!("REVOKE {privilege} ON {partition} FROM {grantee};")],
    })
}

/// Says who but the service may write the columns that decide who is an admin.
async fn writable_role(client: &Client) -> Result<Vec<Finding>, AdminError> {
    let reading = AdminError::reading("who may write roles");
    let mut found = Vec::new();
    for (table, column) in role_columns(client).await? {
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
            [(&table, Type::TEXT), (&column, Type::NAME)];
        for row in client.query_typed(WRITABLE, &parameters).await.map_err(&reading)? {
            let (grantee, verb): (&str, &str) = (row.get(0), row.get(1));
            let (whole_table, to_all, others): (bool, bool, Option<&str>) =
                (row.get(4), row.get(5), row.get(6));
            let from = if to_all { "PUBLIC, anon, authenticated" } else { grantee };
            // Under a grant of the whole table, revoking a column does nothing.
            let remedy = if whole_table {
                let mut remedy = vec![format!("REVOKE {verb} ON {table} FROM {from};")];
                remedy
                    .extend(others.map(|others| format!("GRANT {verb} ({others}) ON {table} TO {grantee};")));
                remedy
            } else {
                vec![format!("REVOKE {verb} ({column}) ON {table} FROM PUBLIC, {grantee};")]
            };
            let (grantee, verb) = (grantee.to_owned(), verb.to_owned());
            found.push(Finding::WritableRole {
                grantee,
                verb,
                table: table.clone(),
                column: column.clone(),
                remedy,
            });
        }
    }
    Ok(found)
}

/// Finds the columns that the view of profiles makes `role` of: those that its plan names in what it puts out, filters
/// and joins by. Where the plan tells nothing, every column that the view reads.
async fn role_columns(client: &Client) -> Result<BTreeSet<(String, String)>, AdminError> {
    let reading = AdminError::reading("nudge.profiles");
    let mut read: Vec<(String, String, String)> = Vec::new();
    for row in client.query_typed(READS, &[]).await.map_err(&reading)? {
        read.push((row.get(0), row.get(1), row.get(2)));
    }
    let plan = client.simple_query(EXPLAIN_ROLE).await.map_err(&reading)?;
    let plan: String = plan
        .iter()
        .filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        })
        .collect();
    let plan: Value = serde_json::from_str(&plan).unwrap_or(Value::Null);
    let (mut expressions, mut aliases) = (Vec::new(), BTreeMap::new());
    walk(&plan[0]["Plan"], true, &mut expressions, &mut aliases);
    let named = |relation: &str, column: &str| {
        aliases.iter().filter(|(_, of)| of.as_str() == relation).any(|(alias, _)| {
            let plain = [format!("{alias}.{column}"), column.to_owned()];
            expressions.iter().any(|text| plain.iter().any(|name| mentions(text, name)))
        })
    };
    let precise: BTreeSet<_> = read
        .iter()
        .filter(|(_, relation, column)| named(relation, column))
        .map(|(table, _, column)| (table.clone(), column.clone()))
        .collect();
    if !precise.is_empty() {
        return Ok(precise);
    }
    Ok(read.into_iter().map(|(table, _, column)| (table, column)).collect())
}

/// Collects from a plan what the rows that come out are made of. Below a join, scans put out columns that nobody takes.
fn walk(node: &Value, puts_out: bool, expressions: &mut Vec<String>, aliases: &mut BTreeMap<String, String>) {
    if let (Some(relation), Some(alias)) = (node["Relation Name"].as_str(), node["Alias"].as_str()) {
        aliases.insert(alias.to_owned(), relation.to_owned());
    }
    let passes_on = matches!(
        node["Node Type"].as_str(),
        Some(
            "Append"
                | "Merge Append"
                | "Subquery Scan"
                | "Unique"
                | "Sort"
                | "Limit"
                | "Materialize"
                | "SetOp"
        )
    );
    for (key, value) in node.as_object().into_iter().flatten() {
        match (key.as_str(), value) {
            ("Output", Value::Array(outputs)) if puts_out => {
                expressions.extend(outputs.iter().filter_map(Value::as_str).map(str::to_owned));
            }
            (key, Value::String(text)) if key.ends_with("Cond") || key.ends_with("Filter") => {
                expressions.push(text.clone());
            }
            ("Plans", Value::Array(plans)) => {
                for plan in plans {
                    walk(plan, puts_out && passes_on, expressions, aliases);
                }
            }
            _ => {}
        }
    }
}

/// Says whether a text has a name in it as a whole.
fn mentions(text: &str, name: &str) -> bool {
    let part_of_name = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(name).any(|(at, _)| {
        let (before, after) = (text[..at].chars().next_back(), text[at + name.len()..].chars().next());
        !part_of_name(before) && before != Some('.') && !part_of_name(after)
    })
}

/// Looks at where the facts come from.
async fn facts(client: &Client) -> Result<Vec<Finding>, AdminError> {
    let reading = AdminError::reading("where facts come from");
    let mut found: Vec<Finding> = Vec::new();
    for row in client.query_typed(MISFITS, &[]).await.map_err(&reading)? {
        found.push(Finding::Misfit {
            fact: row.get(0),
            column: row.get(1),
            problem: row.get(2),
            remedy: row.get(3),
        });
    }
    let mut mapped = Vec::new();
    for row in client.query_typed(STATES, &[]).await.map_err(&reading)? {
        let (name, ours, state): (String, bool, &str) = (row.get(0), row.get(1), row.get(2));
        if state == "own" {
            continue;
        }
        if let (true, Some((_, sql))) = (ours, HOLDS_ROWS.iter().find(|(fact, _)| *fact == name)) {
            let rows = client.query_typed(sql, &[]).await.map_err(&reading)?;
            if rows.first().is_some_and(|row| row.get(0)) {
                found.push(Finding::Hidden { table: format!("public.{name}") });
            }
        }
        if state == "mapped" {
            mapped.push(name);
        }
    }
    for (fact, columns, question) in
        LOOKUPS.iter().filter(|(fact, ..)| mapped.iter().any(|name| name == fact))
    {
        if !is_indexed(client, question).await.map_err(&reading)? {
            found.push(Finding::NoIndex { fact: (*fact).to_owned(), columns: (*columns).to_owned() });
        }
    }
    Ok(found)
}

/// Says whether a question can be answered without reading a whole table, however small it is now.
async fn is_indexed(client: &Client, question: &str) -> Result<bool, tokio_postgres::Error> {
    client.batch_execute("BEGIN; SET LOCAL enable_seqscan = off").await?;
    let plan = client.simple_query(question).await;
    client.batch_execute("ROLLBACK").await?;
    Ok(!plan?.iter().any(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => {
            row.get(0).is_some_and(|line| line.contains("Seq Scan"))
        }
        _ => false,
    }))
}
