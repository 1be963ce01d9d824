//! Opaque identifiers, built only by parsing.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Empty, or longer than 64 characters.
    #[error("an id has 1 to 64 characters")]
    Length,
    /// A character outside `[A-Za-z0-9._:-]`.
    #[error("an id holds only letters, digits, '.', '_', ':' and '-'")]
    Character,
    /// The reserved word `anonymous`, as a user id.
    #[error("`anonymous` is reserved")]
    Reserved,
}

/// Checks the form of an id and folds one that parses as a UUID to its canonical lower-case form.
fn parse_opaque(text: &str) -> Result<Box<str>, InvalidId> {
    if text.is_empty() || text.len() > 64 {
        return Err(if text.chars().count() > 64 || text.is_empty() {
            InvalidId::Length
        } else {
            InvalidId::Character
        });
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-')) {
        return Err(InvalidId::Character);
    }
    Ok(canonical_uuid(text).unwrap_or_else(|| text.into()))
}

/// Gives the canonical form of a UUID written with hyphens or as 32 hexadecimal digits; nothing else counts as one.
fn canonical_uuid(text: &str) -> Option<Box<str>> {
    let bytes = text.as_bytes();
    let hyphen = |i: usize| matches!(i, 8 | 13 | 18 | 23);
    match bytes.len() {
        36 => bytes
            .iter()
            .enumerate()
            .all(|(i, b)| if hyphen(i) { *b == b'-' } else { b.is_ascii_hexdigit() })
            .then(|| text.to_ascii_lowercase().into()),
        32 if bytes.iter().all(u8::is_ascii_hexdigit) => {
            let t = text.to_ascii_lowercase();
            Some(format!("{}-{}-{}-{}-{}", &t[..8], &t[8..12], &t[12..16], &t[16..20], &t[20..]).into())
        }
        _ => None,
    }
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, |$id:ident| $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// Parses an id: 1–64 characters of `[A-Za-z0-9._:-]`; a UUID is folded to its canonical form.
            ///
            /// # Errors
            /// [`InvalidId`] says which condition does not hold.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                let $id = parse_opaque(text)?;
                $check?;
                Ok(Self($id))
            }

            /// Gives the id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.into()
            }
        }
    };
}

id_type! {
    /// The id of a user. `anonymous` is reserved and refused.
    UserId, |id| if &*id == "anonymous" { Err(InvalidId::Reserved) } else { Ok(()) }
}
id_type! {
    /// The id of a lease, a request or another thing of the app: the same form as a user id, nothing reserved.
    EntityId, |id| Ok::<(), InvalidId>(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_folded_and_nothing_else_is() {
        let canonical = "0198c0de-aaaa-7bbb-8ccc-ddddeeeeffff";
        for text in [canonical, "0198C0DE-AAAA-7BBB-8CCC-DDDDEEEEFFFF", "0198C0DEAAAA7BBB8CCCDDDDEEEEFFFF"] {
            assert_eq!(UserId::parse(text).unwrap().as_str(), canonical);
        }
        for text in
            ["Alice", "0198c0de-aaaa7bbb-8ccc-ddddeeeeffff", "urn:uuid:0198c0de-aaaa-7bbb-8ccc-DDDDEEEEFFFF"]
        {
            assert_eq!(UserId::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn bad_ids_say_why() {
        assert_eq!(UserId::parse(""), Err(InvalidId::Length));
        assert_eq!(UserId::parse(&"x".repeat(65)), Err(InvalidId::Length));
        for text in ["a b", "x,id.not.is.null", "\0", "é", "a/b", "{0198c0de-aaaa-7bbb-8ccc-ddddeeeeffff}"] {
            assert_eq!(UserId::parse(text), Err(InvalidId::Character), "{text:?}");
        }
        assert_eq!(UserId::parse("anonymous"), Err(InvalidId::Reserved));
        assert_eq!(EntityId::parse("anonymous").unwrap().as_str(), "anonymous");
    }
}
