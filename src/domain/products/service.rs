//! START HERE: cache-aside with explicit invalidation.
//!
//! A read is one `get_or_load` around one store call; of products by id it is a loader's `get`, because they can be loaded many at a time. A write begins a transaction, changes the rows, names what changed, and
//! commits; the commit raises the numbers of those names in the same transaction and then makes this instance forget what
//! it holds under them. The cache is never updated with the new value: the next reader loads it.

use super::{
    NewProduct, Product, ProductChange, ProductFilter, ProductPage, TopProducts,
    names::catalogue_tag,
    store::{self, ProductStore},
    views::ViewCounter,
};
use crate::{
    cache::{Cache, Name, Read, Reuse, Write},
    domain::{Databases, ExpectedVersion, Loads, Reads, detached, error::DomainError, page::PageRequest},
};

/// Products of one load while warming.
const WARM_BATCH: usize = 100;

/// Products, cached. Cheap to clone.
#[derive(Clone)]
pub struct CachedProductService {
    pub cache: Cache,
    pub reads: Reads<ProductStore>,
    /// Products by id: loads that wait for their turn travel together.
    pub by_id: Loads<i64, Product>,
    pub views: ViewCounter,
}

impl CachedProductService {
    pub fn new(cache: Cache, databases: &Databases) -> Self {
        let reads = databases.reads(&cache, |db| ProductStore { db });
        let by_id = reads.loader(|id| Product::key(*id), ProductStore::load_one, ProductStore::load_many);
        Self { cache, reads, by_id, views: ViewCounter::new(databases.primary.clone()) }
    }

    pub async fn get_product(&self, id: i64, reuse: Reuse) -> Result<Read<Product>, DomainError> {
        present(id, self.by_id.get(id, reuse).await?)
    }

    /// Answers in the order of `ids`; an unknown one has no value.
    pub async fn get_products(&self, ids: Vec<i64>, reuse: Reuse) -> Result<Vec<(i64, Read<Product>)>, DomainError> {
        self.by_id.get_many(ids, reuse).await
    }

    pub async fn list_products(
        &self,
        filter: ProductFilter,
        page: PageRequest,
        reuse: Reuse,
    ) -> Result<Read<ProductPage>, DomainError> {
        filter.check()?;
        self.reads.get_or_load(&filter.key(page), reuse, move |store| store.load_page(filter.clone(), page)).await
    }

    pub async fn top_products(&self, limit: u16, reuse: Reuse) -> Result<Read<TopProducts>, DomainError> {
        self.reads.get_or_load(&TopProducts::key(limit), reuse, move |store| store.load_top(limit)).await
    }

    /// Only from the tiers, never loads; `None`: they hold nothing that may be served. A cached absence is `NotFound`.
    pub async fn peek_product(&self, id: i64) -> Result<Option<Read<Product>>, DomainError> {
        self.cache.get(&Product::key(id)).await.map(|read| present(id, read)).transpose()
    }

    /// Only from the tiers, as [`Self::peek_product`].
    pub async fn peek_products(&self, filter: ProductFilter, page: PageRequest) -> Option<Read<ProductPage>> {
        self.cache.get(&filter.key(page)).await
    }

    /// Only from the tiers, as [`Self::peek_product`].
    pub async fn peek_top(&self, limit: u16) -> Option<Read<TopProducts>> {
        self.cache.get(&TopProducts::key(limit)).await
    }

    pub async fn create_product(&self, new: NewProduct) -> Result<Product, DomainError> {
        new.check()?;
        let work = async move |write: &mut Write| {
            let created = store::insert(write.db(), &new).await?;
            touch_all(write, membership(&created));
            Ok(created)
        };
        detached(self.cache.time_limit(), self.cache.write([], work)).await
    }

    /// A change to what already is writes nothing and answers with the version that stands.
    pub async fn update_product(
        &self,
        id: i64,
        change: ProductChange,
        expected: ExpectedVersion,
    ) -> Result<Product, DomainError> {
        change.check()?;
        let work = async move |write: &mut Write| {
            let before = store::lock(write.db(), id).await?;
            write.saw(membership(&before));
            expected.check(before.version)?;
            if !change.alters(&before) {
                return Ok(before);
            }
            let after = store::update(write.db(), id, &change).await?;
            write.touch(Product::name_of(id));
            if before.list_tags() != after.list_tags() {
                touch_all(write, membership(&before));
                touch_all(write, membership(&after));
            }
            Ok(after)
        };
        detached(self.cache.time_limit(), self.cache.write([Product::name_of(id)], work)).await
    }

    pub async fn delete_product(&self, id: i64, expected: ExpectedVersion) -> Result<(), DomainError> {
        let work = async move |write: &mut Write| {
            let before = store::lock(write.db(), id).await?;
            write.saw(membership(&before));
            expected.check(before.version)?;
            store::discontinue(write.db(), id).await?;
            touch_all(write, membership(&before));
            Ok(())
        };
        detached(self.cache.time_limit(), self.cache.write([Product::name_of(id)], work)).await
    }

    /// Counts a view, in memory: see [`ViewCounter`].
    pub fn count_view(&self, id: i64) {
        self.views.count(id);
    }

    /// Loads the `count` most viewed products into the tiers, in batches; returns how many. `Reuse::Refresh` also those that a
    /// tier holds.
    pub async fn warm_top(&self, count: u32, reuse: Reuse) -> Result<usize, DomainError> {
        let mut warmed = 0;
        for ids in self.reads.primary().top_ids(count).await?.chunks(WARM_BATCH) {
            warmed += self.by_id.warm_many(ids.to_vec(), reuse).await?;
        }
        Ok(warmed)
    }
}

/// What changes when a product comes, goes or moves: itself (its absence may be cached) and every list that it belongs to.
fn membership(product: &Product) -> [Name; 4] {
    let [category, department] = product.list_tags();
    [Product::name_of(product.id), catalogue_tag().of(product.id), category, department]
}

fn touch_all(write: &mut Write, names: impl IntoIterator<Item = Name>) {
    names.into_iter().for_each(|name| write.touch(name));
}

fn present(id: i64, read: Read<Product>) -> Result<Read<Product>, DomainError> {
    if read.entry.value.is_some() { Ok(read) } else { Err(DomainError::NotFound { kind: "product", id }) }
}
