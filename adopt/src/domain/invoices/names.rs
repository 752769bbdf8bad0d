//! Under which keys invoices are cached, and under which names their changes are counted. All of them name the tenant.
//!
//! A customer's list depends on its own name alone: every change of one of the customer's invoices raises it.

use super::{Invoice, InvoiceList};
use crate::cache::{Key, Tag, Tenant};

impl Invoice {
    /// The key of one invoice.
    pub fn key(tenant: &Tenant, id: i64) -> Key<Self> {
        Key::tenant(tenant, &[&id])
    }

    /// The names that every change of this invoice raises: the invoice itself and its customer's list.
    pub fn names(&self, tenant: &Tenant) -> [Tag; 2] {
        [Self::key(tenant, self.id).tag().clone(), InvoiceList::key(tenant, self.customer_id).tag().clone()]
    }
}

impl InvoiceList {
    /// The key of a customer's list.
    pub fn key(tenant: &Tenant, customer_id: i64) -> Key<Self> {
        Key::tenant(tenant, &[&customer_id])
    }
}
