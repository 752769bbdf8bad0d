//! START HERE: cache-aside with explicit invalidation.
//!
//! A read is one `cache.get` around one store call. A read of products by id is a loader's `get`,
//! because many products can be loaded at a time. A write is one `cache.write`: it changes the rows
//! and invalidates the tags that changed. The commit raises the versions of those tags in the same
//! transaction. Afterwards this instance drops its own entries that depend on them. The cache is
//! never updated with the new value: the next reader loads it.

use aside_cache::{Cache, CacheMode, Cached, ExpectedVersion, Loader, Tag, Write};

use super::{
    NewProduct, Product, ProductChange, ProductFilter, ProductPage, TopProducts, store, tags::catalogue_tag,
    views::ViewCounter,
};
use crate::domain::{error::DomainError, page::PageRequest};

/// How many products one load reads during warming.
const WARM_BATCH: usize = 100;

/// The cached service of products. It is cheap to clone.
#[derive(Clone)]
pub struct CachedProductService {
    pub cache: Cache,
    /// The loader of products by id. Waiting loads are batched into one statement.
    pub by_id: Loader<i64, Product, DomainError>,
    pub views: ViewCounter,
}

impl CachedProductService {
    pub fn new(cache: Cache) -> Self {
        let by_id = cache.loader(|id| Product::key(*id), store::load_one, store::load_many);
        let views = ViewCounter::new(cache.primary().clone());
        Self { cache, by_id, views }
    }

    pub async fn get_product(&self, id: i64, mode: CacheMode) -> Result<Cached<Product>, DomainError> {
        require(id, self.by_id.get(id, mode).await?)
    }

    /// Returns the products in the order of `ids`. An unknown id has no value.
    pub async fn get_products(
        &self,
        ids: Vec<i64>,
        mode: CacheMode,
    ) -> Result<Vec<(i64, Cached<Product>)>, DomainError> {
        self.by_id.get_many(ids, mode).await
    }

    pub async fn list_products(
        &self,
        filter: ProductFilter,
        page: PageRequest,
        mode: CacheMode,
    ) -> Result<Cached<ProductPage>, DomainError> {
        filter.check()?;
        let read = self.cache.get(filter.key(page)).mode(mode);
        read.load(move |db| store::load_page(db, filter.clone(), page)).await
    }

    pub async fn top_products(&self, limit: u16, mode: CacheMode) -> Result<Cached<TopProducts>, DomainError> {
        self.cache.get(TopProducts::key(limit)).mode(mode).load(move |db| store::load_top(db, limit)).await
    }

    pub async fn create_product(&self, new: NewProduct) -> Result<Product, DomainError> {
        new.check()?;
        let create = async move |tx: &mut Write| {
            let created = store::insert(tx.conn(), &new).await?;
            tx.invalidate_all(membership(&created));
            Ok(created)
        };
        self.cache.write(create).await
    }

    /// A change that modifies nothing writes nothing and returns the current version.
    pub async fn update_product(
        &self,
        id: i64,
        change: ProductChange,
        expected: ExpectedVersion,
    ) -> Result<Product, DomainError> {
        change.check()?;
        if change.keeps_lists()
            && let Some(after) = self.cache.write_one(store::update(id, &change, &expected), [Product::key(id)]).await?
        {
            return Ok(after);
        }
        let update = async move |tx: &mut Write| {
            let before = locked(tx, id, &expected).await?;
            if !change.changes(&before) {
                return Ok(before);
            }
            let after = store::update(id, &change, &expected).fetch_one(tx.conn()).await?;
            tx.invalidate(Product::key(id));
            if before.list_tags() != after.list_tags() {
                tx.invalidate_all(membership(&before));
                tx.invalidate_all(membership(&after));
            }
            Ok(after)
        };
        self.cache.write(update).await
    }

    pub async fn delete_product(&self, id: i64, expected: ExpectedVersion) -> Result<(), DomainError> {
        let delete = async move |tx: &mut Write| {
            let before = locked(tx, id, &expected).await?;
            store::discontinue(tx.conn(), id).await?;
            tx.invalidate_all(membership(&before));
            Ok(())
        };
        self.cache.write(delete).await
    }

    /// Counts a view in memory; see [`ViewCounter`].
    pub fn count_view(&self, id: i64) {
        self.views.count(id);
    }

    /// Loads the `count` most viewed products into the tiers in batches and returns how many it
    /// loaded. `CacheMode::Reload` also reloads products that a tier already holds.
    pub async fn warm_top(&self, count: u32, mode: CacheMode) -> Result<usize, DomainError> {
        let mut warmed = 0;
        for ids in store::top_ids(self.cache.primary(), count).await?.chunks(WARM_BATCH) {
            warmed += self.by_id.warm_many(ids.to_vec(), mode).await?;
        }
        Ok(warmed)
    }
}

/// The tags that change when a product is added, removed or moved. These are its own tag, because
/// its absence may be cached, and the tag of every list that contains it.
fn membership(product: &Product) -> [Tag; 4] {
    let [category, department] = product.list_tags();
    [Product::tag_of(product.id), catalogue_tag().shard(product.id), category, department]
}

/// Reads a product for a write, and checks the version that its client expects.
async fn locked(tx: &mut Write, id: i64, expected: &ExpectedVersion) -> Result<Product, DomainError> {
    tx.observe([Product::key(id)]);
    let product = store::lock(tx.conn(), id).await?;
    tx.observe(membership(&product));
    expected.check(product.version)?;
    Ok(product)
}

fn require(id: i64, read: Cached<Product>) -> Result<Cached<Product>, DomainError> {
    if read.entry.value.is_some() { Ok(read) } else { Err(DomainError::NotFound { kind: "product", id }) }
}
