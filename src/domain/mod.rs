//! What the service is about: products and orders, their rules, their storage, and how they are cached.
//!
//! Each has the same files. `mod.rs` holds the types and how they are cached, `names.rs` their keys and names, `rules.rs` what is
//! valid, `store.rs` the SQL, and `service.rs` the pattern that this project exists to show: begin reading there. Nothing in here knows HTTP.

pub mod detached;
pub mod error;
pub mod expected;
pub mod names;
pub mod orders;
pub mod page;
pub mod products;
pub mod read_at;
pub mod reads;
pub mod violation;

pub use detached::detached;
pub use error::DomainError;
pub use expected::ExpectedVersion;
pub use page::{Cursor, ListKind, PageRequest};
pub use reads::{Databases, Loads, Reads};
pub use violation::{MAX_ID, Violation};

use crate::cache::{Cacheable, Policy};

/// The policies of all cached types, in the order of the documentation.
pub fn policies() -> Vec<Policy> {
    use orders::{Order, OrderPage};
    use products::{Product, ProductPage, TopProducts};
    vec![Product::POLICY, ProductPage::POLICY, TopProducts::POLICY, Order::POLICY, OrderPage::POLICY]
}
