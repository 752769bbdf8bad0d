//! The business rules of the service, and how its data is cached. The domain does not depend on its
//! callers.

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
