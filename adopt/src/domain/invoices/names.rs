//! The keys of cached invoices, and the tags that their changes invalidate. All of them contain the
//! tenant.
//!
//! A customer's list depends only on its own tag. Every change of one of the customer's invoices
//! raises that tag's version.

use super::{Invoice, InvoiceList};
use crate::cache::{Key, Tag, Tenant};

impl Invoice {
    /// The key of one invoice.
    pub fn key(tenant: &Tenant, id: i64) -> Key<Self> {
        Key::of_tenant(tenant, id)
    }

    /// The tags that every change of this invoice invalidates: the invoice's own tag and its
    /// customer's list tag.
    pub fn names(&self, tenant: &Tenant) -> [Tag; 2] {
        [Self::key(tenant, self.id).tag().clone(), InvoiceList::key(tenant, self.customer_id).tag().clone()]
    }
}

impl InvoiceList {
    /// The key of a customer's list.
    pub fn key(tenant: &Tenant, customer_id: i64) -> Key<Self> {
        Key::of_tenant(tenant, customer_id)
    }
}
