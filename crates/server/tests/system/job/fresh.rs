//! Archetypes computed from the raw rows by the engine, with nothing of the job's.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use nudge_engine::{Cents, Policy, Request, Role, classify, compute_signals};

use crate::server_database::Site;
use crate::support::texts;

/// The time, by the machine's clock.
pub fn now() -> Timestamp {
    nudge::clock::Clock::default().now()
}

/// The stored table and what it should be made of.
pub struct Rows {
    /// `requester|receiver|id|type|status|proposed cents|base cents|created at|responded at`
    pub requests: Vec<String>,
    /// `user|archetype|confidence|manual|computed at`
    pub archetypes: Vec<String>,
    pub opted_out: Vec<String>,
    pub profiles: Vec<String>,
}

impl Rows {
    pub fn of_file(conn: &rusqlite::Connection) -> Self {
        Self {
            requests: texts(
                conn,
                "SELECT requester_id || '|' || receiver_id || '|' || id || '|' || transaction_type || '|' || status || '|' ||
                   coalesce(cast(round(proposed_price * 100) AS integer), '') || '|' ||
                   coalesce(cast(round(base_price * 100) AS integer), '') || '|' || created_at || '|' ||
                   coalesce(responded_at, '') FROM date_change_requests",
            ),
            archetypes: texts(
                conn,
                "SELECT user_id || '|' || archetype_type || '|' || confidence || '|' || is_manual_override || '|' ||
                   computed_at FROM user_archetypes",
            ),
            opted_out: texts(conn, "SELECT id FROM profiles WHERE personalization_opt_out = 1"),
            profiles: texts(conn, "SELECT id FROM profiles"),
        }
    }

    pub fn of_server(site: &Site) -> Self {
        let time = |column: &str| {
            format!("to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
        };
        Self {
            requests: site.texts(&format!(
                "SELECT requester_id || '|' || receiver_id || '|' || id || '|' || transaction_type || '|' || status || '|' ||
                   coalesce((proposed_price * 100)::bigint::text, '') || '|' || coalesce((base_price * 100)::bigint::text, '')
                   || '|' || CASE WHEN isfinite(created_at) THEN {} ELSE 'infinity' END || '|' || coalesce({}, '')
                 FROM public.date_change_requests",
                time("created_at"),
                time("responded_at")
            )),
            archetypes: site.texts(&format!(
                "SELECT user_id || '|' || archetype_type || '|' || confidence || '|' || is_manual_override::int || '|' || {}
                 FROM public.user_archetypes",
                time("computed_at")
            )),
            opted_out: site.texts("SELECT id FROM public.profiles WHERE personalization_opt_out"),
            profiles: site.texts("SELECT id FROM public.profiles"),
        }
    }
}

fn request(fields: &[&str], role: Role) -> Option<Request> {
    let cents = |text: &str| text.parse().ok().map(Cents);
    Some(Request {
        id: fields[2].into(),
        role,
        transaction_type: fields[3].parse().ok()?,
        status: fields[4].parse().ok()?,
        proposed_price: cents(fields[5]),
        base_price: cents(fields[6]),
        created_at: fields[7].parse().ok()?,
        responded_at: if fields[8].is_empty() { None } else { Some(fields[8].parse().ok()?) },
    })
}

/// Compares the whole table with a fresh computation: all archetypes were computed `since` then or later and are what the
/// engine makes of the requests; overrides stand as `overridden` says, those who opted out and those of `failed` have none.
pub fn compare(rows: &Rows, since: Timestamp, overridden: &[String], failed: &[String]) {
    let mut requests: BTreeMap<&str, Vec<Result<Request, &str>>> =
        rows.profiles.iter().map(|id| (id.as_str(), Vec::new())).collect();
    for line in &rows.requests {
        let fields: Vec<&str> = line.split('|').collect();
        for (user, role) in [(fields[0], Role::Requester), (fields[1], Role::Receiver)] {
            requests.entry(user).or_default().push(request(&fields, role).ok_or(fields[7]));
        }
    }
    let policy = Policy::default();
    let mut stored: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in &rows.archetypes {
        let (user, rest) = line.split_once('|').unwrap();
        assert!(stored.insert(user, rest.split('|').collect()).is_none(), "{user} twice");
    }
    let opted_out: BTreeSet<&str> = rows.opted_out.iter().map(String::as_str).collect();
    let mut wrong = Vec::new();
    for (user, of) in &requests {
        let row = stored.remove(user);
        if opted_out.contains(user) || failed.iter().any(|name| name == user) {
            if row.is_some() {
                wrong.push(format!("{user} has {row:?}"));
            }
            continue;
        }
        let Some(row) = row else {
            wrong.push(format!("{user} has none"));
            continue;
        };
        if overridden.iter().any(|name| name == user) {
            if (row[0], row[2]) != ("big_spender", "1") {
                wrong.push(format!("the override of {user} is {row:?}"));
            }
            continue;
        }
        let mut of: Vec<Request> = of.iter().filter_map(|request| request.clone().ok()).collect();
        of.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| b.id.cmp(&a.id)));
        of.truncate(policy.signal_requests);
        let computed_at: Timestamp = row[3].parse().unwrap();
        let fresh = classify(&compute_signals(&of, computed_at, &policy), &policy);
        let confidence: f64 = row[1].parse().unwrap();
        if row[0] != fresh.archetype.as_str()
            || (confidence - fresh.confidence).abs() > 0.005 + 1e-9
            || row[2] != "0"
            || computed_at < since
            || computed_at > now()
        {
            wrong.push(format!("{user} is {row:?}, not {} {}", fresh.archetype.as_str(), fresh.confidence));
        }
    }
    wrong.extend(stored.keys().map(|user| format!("{user} is nobody")));
    assert!(
        wrong.is_empty(),
        "{} wrong since {since}, such as {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(5)]
    );
}
