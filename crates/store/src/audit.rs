//! The hash chain of the audit log.
//!
//! Each entry carries the hash of the one before and its own: SHA-256, in lower-case hexadecimal, over a canonical form
//! named `nudge-audit-v1`. The form is the line `nudge-audit-v1`, then every field in the order of [`Entry`], each as
//! `<length in bytes>:<bytes>` and a newline, an absent one as `-` and a newline. Numbers are decimal text, times UTC
//! with six decimals, metadata is JSON without spaces and with sorted keys. The first entry's predecessor is
//! [`GENESIS`].

use std::fmt::Write as _;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::record::AuditReport;

/// The predecessor's hash of the first entry.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// An entry of the audit log, without its hash.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Its number: one more than the predecessor's.
    pub id: i64,
    /// The predecessor's hash.
    pub prev_hash: &'a str,
    /// Who acted.
    pub admin_id: &'a str,
    /// As what.
    pub actor_role: &'a str,
    /// What was done.
    pub action: &'a str,
    /// To whom.
    pub target_user_id: Option<&'a str>,
    /// Old, new and reason, canonical JSON.
    pub metadata: &'a str,
    /// From where.
    pub ip_address: Option<&'a str>,
    /// By what.
    pub user_agent: Option<&'a str>,
    /// When, as stored.
    pub created_at: &'a str,
}

impl Entry<'_> {
    /// Computes the entry's hash.
    pub fn hash(&self) -> String {
        let id = self.id.to_string();
        let fields = [
            Some(id.as_str()),
            Some(self.prev_hash),
            Some(self.admin_id),
            Some(self.actor_role),
            Some(self.action),
            self.target_user_id,
            Some(self.metadata),
            self.ip_address,
            self.user_agent,
            Some(self.created_at),
        ];
        let mut hasher = Sha256::new();
        hasher.update(b"nudge-audit-v1\n");
        for field in fields {
            match field {
                Some(text) => {
                    hasher.update(text.len().to_string());
                    hasher.update(b":");
                    hasher.update(text);
                    hasher.update(b"\n");
                }
                None => hasher.update(b"-\n"),
            }
        }
        hasher.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

/// The check of a log, entry by entry in the order of their numbers.
pub(crate) struct Chain<'a> {
    expected_head: Option<&'a str>,
    expected_is_there: bool,
    last: Option<i64>,
    report: AuditReport,
}

impl<'a> Chain<'a> {
    /// Begins a check; with a hash also that this is the newest entry's.
    pub(crate) fn expecting(expected_head: Option<&'a str>) -> Self {
        let report = AuditReport { entries: 0, head: None, broken: None };
        Self { expected_head, expected_is_there: false, last: None, report }
    }

    /// Gives the number of the newest entry so far.
    pub(crate) fn last_id(&self) -> Option<i64> {
        self.last
    }

    /// Checks an entry, with its hash as stored, against its predecessor.
    pub(crate) fn add(&mut self, entry: &Entry<'_>, hash: &str) {
        let problem = if entry.id != self.last.unwrap_or(0) + 1 {
            Some("its number does not follow the one before")
        } else if entry.prev_hash != self.report.head.as_deref().unwrap_or(GENESIS) {
            Some("it does not name the hash of the entry before")
        } else if entry.hash() != hash {
            Some("its hash is not that of its content")
        } else {
            None
        };
        if let (Some(problem), None) = (problem, &self.report.broken) {
            self.report.broken = Some((entry.id, problem.to_owned()));
        }
        self.expected_is_there |= self.expected_head == Some(hash);
        self.report.entries += 1;
        self.report.head = Some(hash.to_owned());
        self.last = Some(entry.id);
    }

    /// Gives what was found.
    pub(crate) fn report(mut self) -> AuditReport {
        let another = self.expected_head.is_some() && self.report.head.as_deref() != self.expected_head;
        if self.report.broken.is_none() && another {
            let problem = if self.expected_is_there {
                "the expected newest entry is there, but others follow it"
            } else {
                "the expected newest entry is not in the log"
            };
            self.report.broken = Some((self.last.unwrap_or(0), problem.to_owned()));
        }
        self.report
    }
}

/// Writes JSON without spaces and with sorted keys, whatever order the map type keeps.
pub fn canonical_json(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            let body: Vec<String> = entries
                .into_iter()
                .map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), canonical_json(value)))
                .collect();
            format!("{{{}}}", body.join(","))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(canonical_json).collect::<Vec<_>>().join(","))
        }
        scalar => scalar.to_string(),
    }
}
