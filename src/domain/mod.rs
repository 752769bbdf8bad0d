//! The business rules of the service: products and orders, their rules, their storage, and how they
//! are cached.
//!
//! Both folders have the same files. `mod.rs` holds the types and their caching policies,
//! `tags.rs` their keys and tags, `rules.rs` the rules of valid input, and `store.rs` the SQL.
//! `service.rs` shows the pattern for which this project exists: begin reading there. The domain
//! does not depend on HTTP.

pub mod error;
pub mod names;
pub mod orders;
pub mod page;
pub mod products;
pub mod violation;

use aside_cache::{Cacheable, DbTime, Policy};
use chrono::{DateTime, Utc};
use sqlx::{Row, postgres::PgRow};

pub use error::DomainError;
pub use page::{Cursor, ListKind, PageRequest};
pub use violation::{MAX_ID, Violation};

/// The policies of all cached types, in the order of the documentation.
pub fn policies() -> Vec<Policy> {
    use orders::{Order, OrderPage};
    use products::{Product, ProductPage, TopProducts};
    vec![Product::POLICY, ProductPage::POLICY, TopProducts::POLICY, Order::POLICY, OrderPage::POLICY]
}

/// The date and time in a column of a row. Infinity is an error, while a plain decode of a date
/// panics.
fn date(row: &PgRow, column: &str) -> sqlx::Result<DateTime<Utc>> {
    let DbTime(micros) = row.try_get(column)?;
    DateTime::from_timestamp_micros(micros).ok_or_else(|| sqlx::Error::Decode("not a date".into()))
}
