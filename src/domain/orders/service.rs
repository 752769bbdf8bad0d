//! The cached service of orders. It follows the same pattern as products, for data that belongs to
//! a tenant. The tenant is part of every key, tag and statement. Placing and cancelling an order
//! change orders and products, so the write invalidates tags of both.

use aside_cache::{Cache, CacheMode, Cached, ExpectedVersion, Loader, Tag, Tenant, Write};

use super::{Idempotency, NewOrder, Order, OrderFilter, OrderPage, OrderStatus, Placed, idempotency, placing, store};
use crate::domain::{error::DomainError, page::PageRequest, products::Product};

/// The cached service of orders. It is cheap to clone.
#[derive(Clone)]
pub struct CachedOrderService {
    pub cache: Cache,
    /// The loader of orders by tenant and id. Waiting loads of one tenant are batched into one
    /// statement.
    pub by_id: Loader<(Tenant, i64), Order, DomainError>,
}

impl CachedOrderService {
    pub fn new(cache: Cache) -> Self {
        let by_id = cache.loader(|(tenant, id)| Order::key(tenant, *id), store::load_one, store::load_many);
        Self { cache, by_id }
    }

    pub async fn get_order(&self, tenant: &Tenant, id: i64, mode: CacheMode) -> Result<Cached<Order>, DomainError> {
        require(id, self.by_id.get((tenant.clone(), id), mode).await?)
    }

    pub async fn list_orders(
        &self,
        tenant: &Tenant,
        filter: OrderFilter,
        page: PageRequest,
        mode: CacheMode,
    ) -> Result<Cached<OrderPage>, DomainError> {
        filter.check()?;
        let (key, tenant) = (filter.key(tenant, page), tenant.clone());
        let load = move |db| store::load_page(db, tenant.clone(), filter.clone(), page);
        self.cache.get(key).mode(mode).load(load).await
    }

    /// Takes stock and prices from the products. With `once`, repeated calls place the order only
    /// once.
    pub async fn place_order(
        &self,
        tenant: &Tenant,
        new: NewOrder,
        once: Option<Idempotency>,
    ) -> Result<Placed, DomainError> {
        new.check()?;
        once.iter().try_for_each(Idempotency::check)?;
        let owner = tenant.clone();
        let place = async move |tx: &mut Write| {
            tx.observe(new.items.iter().map(|item| Product::key(item.product_id)));
            if let Some(once) = &once
                && let Some(answered) = idempotency::claim(tx.conn(), &owner, once).await?
            {
                // The order was placed before, possibly by another instance. This instance may not
                // have polled that change yet.
                tx.observe(answered.order().iter().flat_map(|order| placed_tags(&owner, order)));
                return Ok(answered);
            }
            let order = placing::place(tx.conn(), &owner, &new).await?;
            let placed = Placed::first(&order)?;
            if let Some(once) = &once {
                idempotency::record(tx.conn(), &owner, once, &placed).await?;
            }
            tx.invalidate_all(placed_tags(&owner, &order));
            Ok(placed)
        };
        self.cache.write_for(tenant, place).await
    }

    /// Changes the status of an order by one step. Cancelling returns its stock.
    pub async fn change_status(
        &self,
        tenant: &Tenant,
        id: i64,
        to: OrderStatus,
        expected: ExpectedVersion,
    ) -> Result<Order, DomainError> {
        let owner = tenant.clone();
        let change = async move |tx: &mut Write| {
            tx.observe([Order::key(&owner, id)]);
            let before = store::lock(tx.conn(), &owner, id).await?;
            tx.observe(before.tags(&owner));
            expected.check(before.version)?;
            before.status.check_step(to)?;
            let after = store::set_status(tx.conn(), &owner, id, to).await?;
            if to == OrderStatus::Cancelled {
                store::restock(tx.conn(), &after).await?;
                tx.invalidate_all(product_tags(&after));
            }
            tx.invalidate_all(after.tags(&owner));
            Ok(after)
        };
        self.cache.write_for(tenant, change).await
    }
}

/// The tags that placing an order invalidates.
fn placed_tags(tenant: &Tenant, order: &Order) -> impl Iterator<Item = Tag> {
    order.tags(tenant).into_iter().chain(product_tags(order))
}

/// The tags of the products whose stock an order took or returned.
fn product_tags(order: &Order) -> impl Iterator<Item = Tag> {
    order.items.iter().map(|item| Product::tag_of(item.product_id))
}

fn require(id: i64, read: Cached<Order>) -> Result<Cached<Order>, DomainError> {
    if read.entry.value.is_some() { Ok(read) } else { Err(DomainError::NotFound { kind: "order", id }) }
}
