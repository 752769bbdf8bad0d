//! Aside: the reference order/product service that shows distributed caching done right.

pub mod cache;
