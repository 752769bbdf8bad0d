//! Invoices: what a customer of a tenant owes.
//!
//! `service.rs` is where to begin reading. The keys and names are in `names.rs`, the SQL in `store.rs`. Here: the types, and how each is
//! cached.

pub mod names;
pub mod service;
pub mod store;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cache::{Cacheable, Format, OutOfRegion, Policy, Residency, Sensitivity};

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
        name: "invoice",
        l1_ttl: Duration::from_secs(30),
        l2_ttl: Duration::from_secs(300),
        negative_ttl: Duration::from_secs(10),
        max_age: Duration::from_secs(300),
        stale_if_error: Duration::ZERO,
        jitter_percent: 10,
        format: Format::MessagePack,
        schema_version: "1",
        compress_above: 1024,
        sensitivity: Sensitivity::Regulated,
        residency: Residency::Regional(OutOfRegion::NoStore),
    };
}

impl Cacheable for InvoiceList {
    /// As the invoices in it.
    const POLICY: Policy = Policy { name: "invoice-list", ..Invoice::POLICY };
}
