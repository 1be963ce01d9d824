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
