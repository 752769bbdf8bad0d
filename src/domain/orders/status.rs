//! The statuses of an order and the transitions between them. The code is pure. The check
//! constraint in the database lists the same five words.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::error::DomainError;

/// Status: pending → confirmed → shipped → delivered. The first two may become cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(examples("pending"))]
pub enum OrderStatus {
    Pending,
    Confirmed,
    Shipped,
    Delivered,
    Cancelled,
}

impl OrderStatus {
    /// All statuses in the order of an order's life.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Confirmed, Self::Shipped, Self::Delivered, Self::Cancelled];

    /// The word that JSON, queries and the database use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::Shipped => "shipped",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status that a word names.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// Returns whether an order may change from its status to `to`. Staying in a status is not a
    /// transition, so a client that repeats a step is told that the step was already taken.
    pub const fn may_become(self, to: Self) -> bool {
        matches!(
            (self, to),
            (Self::Pending, Self::Confirmed | Self::Cancelled)
                | (Self::Confirmed, Self::Shipped | Self::Cancelled)
                | (Self::Shipped, Self::Delivered)
        )
    }

    /// Returns an error if the transition is not allowed.
    pub fn check_step(self, to: Self) -> Result<(), DomainError> {
        if self.may_become(to) {
            Ok(())
        } else {
            Err(DomainError::IllegalTransition { from: self.as_str(), to: to.as_str() })
        }
    }
}

/// An unknown status in the database, which its check constraint should have rejected.
#[derive(Debug, thiserror::Error)]
#[error("no status of an order: {0}")]
pub struct UnknownStatus(String);

impl TryFrom<String> for OrderStatus {
    type Error = UnknownStatus;

    fn try_from(word: String) -> Result<Self, UnknownStatus> {
        Self::parse(&word).ok_or(UnknownStatus(word))
    }
}

#[cfg(test)]
mod tests {
    use super::{OrderStatus::*, *};

    #[test]
    fn an_order_takes_these_five_steps_and_no_other() {
        let steps = [
            (Pending, Confirmed),
            (Pending, Cancelled),
            (Confirmed, Shipped),
            (Confirmed, Cancelled),
            (Shipped, Delivered),
        ];
        for from in OrderStatus::ALL {
            for to in OrderStatus::ALL {
                assert_eq!(from.may_become(to), steps.contains(&(from, to)), "{} to {}", from.as_str(), to.as_str());
            }
        }
    }

    #[test]
    fn json_and_the_database_use_the_same_words() {
        for status in OrderStatus::ALL {
            assert_eq!(serde_json::to_string(&status).unwrap(), format!("\"{}\"", status.as_str()));
            assert_eq!(OrderStatus::parse(status.as_str()), Some(status));
        }
        assert_eq!(OrderStatus::parse("Pending"), None);
    }
}
