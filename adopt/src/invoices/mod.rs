//! Invoices of a tenant's customers. An invoice has lines, and it is in the list of its customer and
//! its status.

pub mod routes;
mod service;

use std::time::Duration;

use aside_cache::{Cacheable, Key, Listed, Policy, Tag, Tenant};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::FromRow;

/// An invoice with its lines.
#[derive(Clone, Debug, Serialize, Deserialize, FromRow)]
pub struct Invoice {
    pub number: String,
    pub customer: i64,
    /// `draft`, `sent` or `paid`.
    pub status: String,
    pub due_at: DateTime<Utc>,
    #[sqlx(json)]
    pub lines: Vec<Line>,
    /// Raised by every change.
    pub version: i64,
}

/// A line of an invoice.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    pub text: String,
    pub amount_cents: i64,
}

/// An invoice to be created.
#[derive(Clone, Debug, Deserialize)]
pub struct NewInvoice {
    pub number: String,
    pub customer: i64,
    pub due_at: DateTime<Utc>,
    pub lines: Vec<Line>,
}

impl Cacheable for Invoice {
    const POLICY: Policy = Policy::regulated("invoice", Duration::from_mins(5));
}

impl Listed for Invoice {
    const LIST: Policy = Self::POLICY.named("invoice-list");
}

impl Invoice {
    /// The key of one invoice.
    pub fn key(tenant: &Tenant, number: &str) -> Key<Self> {
        Key::of_tenant(tenant, number)
    }

    /// The key of a customer's invoices in one status, and the tag on which they depend.
    pub fn list_key(tenant: &Tenant, customer: i64, status: &str) -> Key<Vec<Self>> {
        Key::of_tenant(tenant, (customer, status))
    }

    /// The tags that a change of this invoice invalidates: its own, and the tag of its list.
    pub fn tags(&self, tenant: &Tenant) -> [Tag; 2] {
        [Self::key(tenant, &self.number).into(), Self::list_key(tenant, self.customer, &self.status).into()]
    }
}
