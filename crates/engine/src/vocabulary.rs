//! The closed sets of words of the domain, with their wire names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A word that is not in the closed set it was read for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is not one of {}", valid.join(", "))]
pub struct UnknownWord {
    /// The word as given.
    pub word: String,
    /// The words that would have been accepted.
    pub valid: &'static [&'static str],
}

macro_rules! vocabulary {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $word)] $variant),+
        }

        impl $name {
            /// Every value, in the order of the specification.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// Every wire name, in the same order.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// Gives the wire name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;
            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(UnknownWord { word: word.chars().take(64).collect(), valid: Self::WORDS }),
                }
            }
        }
    };
}
pub(crate) use vocabulary;

vocabulary! {
    /// What a requester proposes to the roommate who holds the night.
    TransactionType {
        /// The requester pays for exclusive use of the night.
        Buyout = "buyout",
        /// The requester stays while the roommate is there too, and pays a part.
        Crash = "crash",
        /// The two exchange nights; there is no price.
        Swap = "swap",
    }
}

vocabulary! {
    /// A behavioural archetype.
    Archetype {
        /// Pays well and answers rarely.
        BigSpender = "big_spender",
        /// Accepts often and answers fast.
        HighFlexibility = "high_flexibility",
        /// Everybody else.
        AverageUser = "average_user",
    }
}

impl Archetype {
    /// Gives the label that people see.
    pub const fn label(self) -> &'static str {
        match self {
            Self::BigSpender => "Premium Booker",
            Self::HighFlexibility => "Flexible Scheduler",
            Self::AverageUser => "Standard User",
        }
    }

    /// Describes the archetype in one sentence, without claiming anything about one person.
    pub const fn description(self) -> &'static str {
        match self {
            Self::BigSpender => "Requests that pay well for a night of one's own.",
            Self::HighFlexibility => "Requests and answers that exchange and accommodate readily.",
            Self::AverageUser => "Requests without a strong lean to either side, or too few to tell.",
        }
    }
}

vocabulary! {
    /// Where a date change request stands.
    RequestStatus {
        /// Waiting for the roommate.
        Pending = "pending",
        /// The roommate agreed.
        Accepted = "accepted",
        /// The roommate refused.
        Rejected = "rejected",
        /// Nobody answered in time.
        Expired = "expired",
        /// The requester took it back.
        Cancelled = "cancelled",
    }
}
