//! The cached service of orders. It follows the same pattern as products, for data that belongs to
//! a tenant. The tenant is part of every key, tag and statement. Placing and cancelling an order
//! change orders and products, so the write invalidates tags of both.

use std::collections::HashMap;

use super::{
    Idempotency, NewOrder, Order, OrderFilter, OrderPage, OrderStatus, Placed, idempotency, placing,
    store::{self, OrderStore},
};
use crate::{
    cache::{Cache, CacheMode, Cached, Loaded, Tag, Tenant, Write},
    domain::{
        Databases, ExpectedVersion, ReplicaRouter, RoutedLoader, error::DomainError, page::PageRequest,
        products::Product, run_to_completion,
    },
};

/// The cached service of orders. It is cheap to clone.
#[derive(Clone)]
pub struct CachedOrderService {
    pub cache: Cache,
    pub reads: ReplicaRouter<OrderStore>,
    /// The loader of orders by tenant and id. Waiting loads of one tenant are batched into one
    /// statement.
    pub by_id: RoutedLoader<(Tenant, i64), Order>,
}

impl CachedOrderService {
    pub fn new(cache: Cache, databases: &Databases) -> Self {
        let reads = databases.reads(&cache, |db| OrderStore { db });
        let by_id = reads.loader(
            |(tenant, id)| Order::key(tenant, *id),
            |store, (tenant, id)| store.load_one(tenant, id),
            load_many,
        );
        Self { cache, reads, by_id }
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
        let load = move |store: OrderStore| store.load_page(tenant.clone(), filter.clone(), page);
        self.reads.get_or_load(&key, mode, load).await
    }

    /// Reads only from the cache tiers and never loads. It returns `None` if no tier holds an
    /// answer that may be served. A cached absence is `NotFound`.
    pub async fn peek_order(&self, tenant: &Tenant, id: i64) -> Result<Option<Cached<Order>>, DomainError> {
        self.cache.get(&Order::key(tenant, id)).await.map(|read| require(id, read)).transpose()
    }

    /// Reads only from the cache tiers, like [`Self::peek_order`].
    pub async fn peek_orders(
        &self,
        tenant: &Tenant,
        filter: OrderFilter,
        page: PageRequest,
    ) -> Option<Cached<OrderPage>> {
        self.cache.get(&filter.key(tenant, page)).await
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
        let (owner, tenant) = (tenant.clone(), tenant.clone());
        let products: Vec<Tag> = new.items.iter().map(|item| Product::tag_of(item.product_id)).collect();
        let work = async move |write: &mut Write| {
            if let Some(once) = &once
                && let Some(answered) = idempotency::claim(write.conn(), &tenant, once).await?
            {
                // The order was placed before, possibly by another instance. This instance may not
                // have polled that change yet.
                write.observe(answered.order().iter().flat_map(|order| placed_names(&tenant, order)));
                return Ok(answered);
            }
            let order = placing::place(write.conn(), &tenant, &new).await?;
            let placed = Placed::first(&order)?;
            if let Some(once) = &once {
                idempotency::record(write.conn(), &tenant, once, &placed).await?;
            }
            placed_names(&tenant, &order).for_each(|name| write.invalidate(name));
            Ok(placed)
        };
        run_to_completion(self.cache.time_limit(), self.cache.write_for(&owner, products, work)).await
    }

    /// Changes the status of an order by one step. Cancelling returns its stock.
    pub async fn change_status(
        &self,
        tenant: &Tenant,
        id: i64,
        to: OrderStatus,
        expected: ExpectedVersion,
    ) -> Result<Order, DomainError> {
        let (name, owner, tenant) = (Order::key(tenant, id).tag().clone(), tenant.clone(), tenant.clone());
        let work = async move |write: &mut Write| {
            let before = store::lock(write.conn(), &tenant, id).await?;
            write.observe(before.names(&tenant));
            expected.check(before.version)?;
            before.status.check_step(to)?;
            let after = store::set_status(write.conn(), &tenant, id, to).await?;
            if to == OrderStatus::Cancelled {
                store::restock(write.conn(), &after).await?;
                product_names(&after).for_each(|name| write.invalidate(name));
            }
            after.names(&tenant).into_iter().for_each(|name| write.invalidate(name));
            Ok(after)
        };
        run_to_completion(self.cache.time_limit(), self.cache.write_for(&owner, [name], work)).await
    }
}

/// Loads orders by id. All orders of one batch belong to one tenant.
async fn load_many(
    store: OrderStore,
    ids: Vec<(Tenant, i64)>,
) -> Result<HashMap<(Tenant, i64), Loaded<Order>>, DomainError> {
    let Some(tenant) = ids.first().map(|(tenant, _)| tenant.clone()) else { return Ok(HashMap::new()) };
    let found = store.load_many(tenant.clone(), ids.into_iter().map(|(_, id)| id).collect()).await?;
    Ok(found.into_iter().map(|(id, loaded)| ((tenant.clone(), id), loaded)).collect())
}

/// The tags that placing an order invalidates.
fn placed_names(tenant: &Tenant, order: &Order) -> impl Iterator<Item = Tag> {
    order.names(tenant).into_iter().chain(product_names(order))
}

/// The tags of the products whose stock an order took or returned.
fn product_names(order: &Order) -> impl Iterator<Item = Tag> {
    order.items.iter().map(|item| Product::tag_of(item.product_id))
}

fn require(id: i64, read: Cached<Order>) -> Result<Cached<Order>, DomainError> {
    if read.entry.value.is_some() { Ok(read) } else { Err(DomainError::NotFound { kind: "order", id }) }
}
