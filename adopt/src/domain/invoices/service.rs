//! START HERE: cache-aside with explicit invalidation, for data that belongs to a tenant.
//!
//! A read is one `get_or_load` around one store call. A write is one `write` around its statements.
//! It states the tags that it observes, changes the row, and names the tags that changed.
//!
//! The end of the write commits and raises the versions of those tags in the same transaction. If
//! the write changed nothing or was refused, this instance serves nothing older than the write saw.
//! The tenant is part of every key, tag and statement.

use super::{
    Invoice, InvoiceList,
    store::{self, InvoiceStore},
};
use crate::{
    cache::{Cache, CacheMode, Cached, ConnectionPool, Tenant, Write},
    domain::{error::DomainError, run_to_completion},
};

/// The cached service of invoices. It is cheap to clone.
#[derive(Clone)]
pub struct CachedInvoiceService {
    pub cache: Cache,
    pub store: InvoiceStore,
}

impl CachedInvoiceService {
    pub fn new(cache: Cache, db: ConnectionPool) -> Self {
        Self { cache, store: InvoiceStore { db } }
    }

    pub async fn get_invoice(&self, tenant: &Tenant, id: i64, mode: CacheMode) -> Result<Cached<Invoice>, DomainError> {
        let (store, tenant) = (self.store.clone(), tenant.clone());
        let key = Invoice::key(&tenant, id);
        let read = self.cache.get_or_load(&key, mode, move || async move { store.load(&tenant, id).await }).await?;
        if read.entry.value.is_some() { Ok(read) } else { Err(DomainError::NotFound { kind: "invoice", id }) }
    }

    pub async fn list_invoices(
        &self,
        tenant: &Tenant,
        customer_id: i64,
        mode: CacheMode,
    ) -> Result<Cached<InvoiceList>, DomainError> {
        let (store, tenant) = (self.store.clone(), tenant.clone());
        let key = InvoiceList::key(&tenant, customer_id);
        self.cache.get_or_load(&key, mode, move || async move { store.load_list(&tenant, customer_id).await }).await
    }

    pub async fn issue_invoice(
        &self,
        tenant: &Tenant,
        customer_id: i64,
        amount_cents: i64,
    ) -> Result<Invoice, DomainError> {
        let (owner, tenant) = (tenant.clone(), tenant.clone());
        let work = async move |write: &mut Write| {
            let issued = store::insert(write.conn(), &tenant, customer_id, amount_cents).await?;
            issued.names(&tenant).into_iter().for_each(|name| write.invalidate(name));
            Ok(issued)
        };
        run_to_completion(self.cache.time_limit(), self.cache.write_for(&owner, [], work)).await
    }

    /// Paying a paid invoice changes nothing and returns the current version.
    pub async fn pay_invoice(&self, tenant: &Tenant, id: i64) -> Result<Invoice, DomainError> {
        let (name, owner, tenant) = (Invoice::key(tenant, id).tag().clone(), tenant.clone(), tenant.clone());
        let work = async move |write: &mut Write| {
            let before = store::lock(write.conn(), &tenant, id).await?;
            write.observe(before.names(&tenant));
            if before.paid {
                return Ok(before);
            }
            let after = store::set_paid(write.conn(), &tenant, id).await?;
            after.names(&tenant).into_iter().for_each(|name| write.invalidate(name));
            Ok(after)
        };
        run_to_completion(self.cache.time_limit(), self.cache.write_for(&owner, [name], work)).await
    }
}
