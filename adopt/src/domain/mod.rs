//! What the service is about, and how it is cached. Nothing in here knows who calls.

pub mod detached;
pub mod error;
pub mod invoices;

pub use detached::detached;
pub use error::DomainError;

use crate::cache::{Cacheable, Policy};

/// The policies of all cached types.
pub fn policies() -> Vec<Policy> {
    vec![invoices::Invoice::POLICY, invoices::InvoiceList::POLICY]
}
