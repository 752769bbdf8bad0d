//! What the service is about, and how it is cached. Nothing in here knows who calls.

pub mod error;
pub mod invoices;
pub mod run_to_completion;

pub use error::DomainError;
pub use run_to_completion::run_to_completion;

use crate::cache::{Cacheable, Policy};

/// The policies of all cached types.
pub fn policies() -> Vec<Policy> {
    vec![invoices::Invoice::POLICY, invoices::InvoiceList::POLICY]
}
