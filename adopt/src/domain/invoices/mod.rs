//! Invoices: the debts of a tenant's customers.
//!
//! Begin reading in `service.rs`. The keys and tags are in `names.rs`, the SQL is in `store.rs`.
//! This file holds the types and their caching policies.

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
    /// Absence is cached only briefly, because clients may ask for an invoice just before its issue
    /// is announced to them.
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
    /// The same lifetimes as for the invoices in the list.
    const POLICY: Policy = Policy { name: "invoice-list", ..Invoice::POLICY };
}
