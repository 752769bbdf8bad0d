//! What the service is about: products and orders, their rules, their storage, and how they are cached.
//!
//! Each has the same files. `mod.rs` holds the types and how they are cached, `names.rs` their keys and names, `rules.rs` what is
//! valid, `store.rs` the SQL, and `service.rs` the pattern that this project exists to show: begin reading there. Nothing in here knows HTTP.

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
