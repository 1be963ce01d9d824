//! Date change requests as the app would have stored them.

use jiff::Timestamp;
use jiff::civil::Date;
use nudge_engine::{Cents, EntityId, Request, RequestStatus, Role, TransactionType, UserId};

/// One date change request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRow {
    /// The request's id.
    pub id: EntityId,
    /// The lease.
    pub lease_id: EntityId,
    /// Who asks.
    pub requester: UserId,
    /// Who holds the night.
    pub receiver: UserId,
    /// What is proposed.
    pub transaction_type: TransactionType,
    /// The night asked for.
    pub target_night: Date,
    /// The night offered in exchange; on a swap only.
    pub offered_night: Option<Date>,
    /// The price proposed; none on a swap.
    pub proposed_price: Option<Cents>,
    /// The night's base price at that time.
    pub base_price: Cents,
    /// Where it stands.
    pub status: RequestStatus,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was answered; nothing where nobody did.
    pub responded_at: Option<Timestamp>,
}

/// Days without an answer after which a request expires.
const EXPIRES_AFTER_DAYS: i64 = 7;

impl RequestRow {
    /// Gives the row as it stood at a moment: nothing before it was made, pending until it was answered or expired.
    pub fn as_of(&self, at: Timestamp) -> Option<Self> {
        if self.created_at > at {
            return None;
        }
        let settled = match (self.status, self.responded_at) {
            (RequestStatus::Expired, _) => self.expires_at() <= at,
            (_, Some(responded)) => responded <= at,
            (_, None) => true,
        };
        let mut row = self.clone();
        if !settled {
            row.status = RequestStatus::Pending;
            row.responded_at = None;
        }
        Some(row)
    }

    /// Gives the moment at which the request expires unless it has been answered.
    pub fn expires_at(&self) -> Timestamp {
        let after = jiff::SignedDuration::from_hours(24 * EXPIRES_AFTER_DAYS);
        self.created_at.saturating_add(after).unwrap_or(self.created_at)
    }

    /// Gives the row as the engine takes it, seen from one side.
    pub fn seen_as(&self, role: Role) -> Request {
        Request {
            id: self.id.as_str().into(),
            role,
            transaction_type: self.transaction_type,
            status: self.status,
            proposed_price: self.proposed_price,
            base_price: Some(self.base_price),
            created_at: self.created_at,
            responded_at: self.responded_at,
        }
    }
}
