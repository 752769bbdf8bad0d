//! The keys of cached orders, and the tags that their changes invalidate. All of them contain the
//! tenant.
//!
//! A page of orders depends only on its customer's tag. Every change of one of the customer's
//! orders raises that tag's version.

use aside_cache::{Cacheable, Key, Tag, Tenant};

use super::{Order, OrderFilter, OrderPage, OrderStatus};
use crate::domain::page::PageRequest;

impl Order {
    /// The key of one order.
    pub fn key(tenant: &Tenant, id: i64) -> Key<Self> {
        Key::of_tenant(tenant, id)
    }

    /// The tags that every change of this order invalidates: the order's own tag and its customer's
    /// list tag.
    pub fn tags(&self, tenant: &Tenant) -> [Tag; 2] {
        [Self::key(tenant, self.id).tag().clone(), OrderPage::tag(tenant, self.customer_id)]
    }
}

impl OrderPage {
    /// The tag of all lists of one customer's orders.
    pub fn tag(tenant: &Tenant, customer_id: i64) -> Tag {
        Tag::of_tenant(Self::POLICY.name, tenant, customer_id)
    }
}

impl OrderFilter {
    /// The key of one page of this filter.
    pub fn key(&self, tenant: &Tenant, page: PageRequest) -> Key<OrderPage> {
        let status = self.status.map_or("any", OrderStatus::as_str);
        Key::of_tenant(tenant, (self.customer_id, status, page.limit, page.after.unwrap_or(0)))
    }
}
