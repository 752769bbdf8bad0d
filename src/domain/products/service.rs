//! START HERE: cache-aside with explicit invalidation.
//!
//! A read is one `get_or_load` around one store call. A read of products by id is a loader's `get`,
//! because many products can be loaded at a time. A write begins a transaction, changes the rows,
//! names the tags that changed, and commits. The commit raises the versions of those tags in the
//! same transaction. Afterwards this instance drops its own entries that depend on them. The cache
//! is never updated with the new value: the next reader loads it.

use super::{
    NewProduct, Product, ProductChange, ProductFilter, ProductPage, TopProducts,
    names::catalogue_tag,
    store::{self, ProductStore},
    views::ViewCounter,
};
use crate::{
    cache::{Cache, CacheMode, Cached, Tag, Write},
    domain::{
        Databases, ExpectedVersion, ReplicaRouter, RoutedLoader, error::DomainError, page::PageRequest,
        run_to_completion,
    },
};

/// How many products one load reads during warming.
const WARM_BATCH: usize = 100;

/// The cached service of products. It is cheap to clone.
#[derive(Clone)]
pub struct CachedProductService {
    pub cache: Cache,
    pub reads: ReplicaRouter<ProductStore>,
    /// The loader of products by id. Waiting loads are batched into one statement.
    pub by_id: RoutedLoader<i64, Product>,
    pub views: ViewCounter,
}

impl CachedProductService {
    pub fn new(cache: Cache, databases: &Databases) -> Self {
        let reads = databases.reads(&cache, |db| ProductStore { db });
        let by_id = reads.loader(|id| Product::key(*id), ProductStore::load_one, ProductStore::load_many);
        Self { cache, reads, by_id, views: ViewCounter::new(databases.primary.clone()) }
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
        self.reads.get_or_load(&filter.key(page), mode, move |store| store.load_page(filter.clone(), page)).await
    }

    pub async fn top_products(&self, limit: u16, mode: CacheMode) -> Result<Cached<TopProducts>, DomainError> {
        self.reads.get_or_load(&TopProducts::key(limit), mode, move |store| store.load_top(limit)).await
    }

    /// Reads only from the cache tiers and never loads. It returns `None` if no tier holds an
    /// answer that may be served. A cached absence is `NotFound`.
    pub async fn peek_product(&self, id: i64) -> Result<Option<Cached<Product>>, DomainError> {
        self.cache.get(&Product::key(id)).await.map(|read| require(id, read)).transpose()
    }

    /// Reads only from the cache tiers, like [`Self::peek_product`].
    pub async fn peek_products(&self, filter: ProductFilter, page: PageRequest) -> Option<Cached<ProductPage>> {
        self.cache.get(&filter.key(page)).await
    }

    /// Reads only from the cache tiers, like [`Self::peek_product`].
    pub async fn peek_top(&self, limit: u16) -> Option<Cached<TopProducts>> {
        self.cache.get(&TopProducts::key(limit)).await
    }

    pub async fn create_product(&self, new: NewProduct) -> Result<Product, DomainError> {
        new.check()?;
        let work = async move |write: &mut Write| {
            let created = store::insert(write.conn(), &new).await?;
            invalidate_all(write, membership(&created));
            Ok(created)
        };
        run_to_completion(self.cache.time_limit(), self.cache.write([], work)).await
    }

    /// A change that modifies nothing writes nothing and returns the current version.
    pub async fn update_product(
        &self,
        id: i64,
        change: ProductChange,
        expected: ExpectedVersion,
    ) -> Result<Product, DomainError> {
        change.check()?;
        let work = async move |write: &mut Write| {
            let before = store::lock(write.conn(), id).await?;
            write.observe(membership(&before));
            expected.check(before.version)?;
            if !change.changes(&before) {
                return Ok(before);
            }
            let after = store::update(write.conn(), id, &change).await?;
            write.invalidate(Product::tag_of(id));
            if before.list_tags() != after.list_tags() {
                invalidate_all(write, membership(&before));
                invalidate_all(write, membership(&after));
            }
            Ok(after)
        };
        run_to_completion(self.cache.time_limit(), self.cache.write([Product::tag_of(id)], work)).await
    }

    pub async fn delete_product(&self, id: i64, expected: ExpectedVersion) -> Result<(), DomainError> {
        let work = async move |write: &mut Write| {
            let before = store::lock(write.conn(), id).await?;
            write.observe(membership(&before));
            expected.check(before.version)?;
            store::discontinue(write.conn(), id).await?;
            invalidate_all(write, membership(&before));
            Ok(())
        };
        run_to_completion(self.cache.time_limit(), self.cache.write([Product::tag_of(id)], work)).await
    }

    /// Counts a view in memory; see [`ViewCounter`].
    pub fn count_view(&self, id: i64) {
        self.views.count(id);
    }

    /// Loads the `count` most viewed products into the tiers in batches and returns how many it
    /// loaded. `CacheMode::Reload` also reloads products that a tier already holds.
    pub async fn warm_top(&self, count: u32, mode: CacheMode) -> Result<usize, DomainError> {
        let mut warmed = 0;
        for ids in self.reads.primary().top_ids(count).await?.chunks(WARM_BATCH) {
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

fn invalidate_all(write: &mut Write, names: impl IntoIterator<Item = Tag>) {
    names.into_iter().for_each(|name| write.invalidate(name));
}

fn require(id: i64, read: Cached<Product>) -> Result<Cached<Product>, DomainError> {
    if read.entry.value.is_some() { Ok(read) } else { Err(DomainError::NotFound { kind: "product", id }) }
}
