//! Invoices: what a customer of a tenant owes.
//!
//! `service.rs` is where to begin reading. The keys and names are in `names.rs`, the SQL in `store.rs`. Here: the types, and how each is
//! cached.

pub mod names;
pub mod service;
pub mod store;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cache::{Abroad, Cacheable, Format, Policy, Residency, Sensitivity};

/// An invoice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, sqlx::FromRow)]
pub struct Invoice {
    pub id: i64,
    pub customer_id: i64,
    pub amount_cents: i64,
    pub paid: bool,
    /// Raised by every change.
    pub version: i64,
}

/// A customer's newest invoices, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InvoiceList {
    pub items: Vec<Invoice>,
}

impl Cacheable for Invoice {
    /// Unknown invoices are remembered for a moment only: clients ask for one that they are about to be told of.
    const POLICY: Policy = Policy {
        pattern: "invoice",
        l1: Duration::from_secs(30),
        l2: Duration::from_secs(300),
        absent: Duration::from_secs(10),
        max_age: Duration::from_secs(300),
        stale_on_outage: Duration::ZERO,
        jitter_percent: 10,
        format: Format::MessagePack,
        shape: "1",
        compress_above: 1024,
        sensitivity: Sensitivity::Regulated,
        residency: Residency::Regional(Abroad::NotKept),
    };
}

impl Cacheable for InvoiceList {
    /// As the invoices in it.
    const POLICY: Policy = Policy { pattern: "invoice-list", ..Invoice::POLICY };
}
