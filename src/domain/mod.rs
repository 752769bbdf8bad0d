//! The business rules of the service: products and orders, their rules, their storage, and how they
//! are cached.
//!
//! Both folders have the same files. `mod.rs` holds the types and their caching policies,
//! `names.rs` their keys and tags, `rules.rs` the rules of valid input, and `store.rs` the SQL.
//! `service.rs` shows the pattern for which this project exists: begin reading there. The domain
//! does not depend on HTTP.

pub mod error;
pub mod expected;
pub mod names;
pub mod orders;
pub mod page;
pub mod products;
pub mod read_at;
pub mod replica_router;
pub mod run_to_completion;
pub mod violation;

pub use error::DomainError;
pub use expected::ExpectedVersion;
pub use page::{Cursor, ListKind, PageRequest};
pub use replica_router::{Databases, ReplicaRouter, RoutedLoader};
pub use run_to_completion::run_to_completion;
pub use violation::{MAX_ID, Violation};

use crate::cache::{Cacheable, Policy};

/// The policies of all cached types, in the order of the documentation.
pub fn policies() -> Vec<Policy> {
    use orders::{Order, OrderPage};
    use products::{Product, ProductPage, TopProducts};
    vec![Product::POLICY, ProductPage::POLICY, TopProducts::POLICY, Order::POLICY, OrderPage::POLICY]
}
