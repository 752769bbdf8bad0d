//! A read, described step by step: `cache.get(key)`, what the answer depends on, and its source.

use std::{collections::HashMap, fmt, future::Future, hash::Hash, pin::Pin};

use sqlx::{
    FromRow, Postgres,
    postgres::{PgArguments, PgRow},
    query::QueryAs,
};

use crate::{
    Cache, CacheMode, Cached, ConnectionPool, Error, LoadError,
    entry::Loaded,
    key::{Key, Tag},
    policy::Cacheable,
    read::select::{RowTag, Select},
};

/// A read that has not begun. One of its last methods begins it: [`Get::one`], [`Get::list`],
/// [`Get::load`] or [`Get::only_if_cached`].
#[must_use = "a read begins with `one`, `list`, `load` or `only_if_cached`"]
pub struct Get<'c, T> {
    cache: &'c Cache,
    key: Key<T>,
    mode: CacheMode,
    depends_on: Vec<Tag>,
    row_tag: Option<RowTag>,
    valid_until: Option<&'static str>,
}

impl Cache {
    /// Describes a read of one value.
    ///
    /// ```no_run
    /// # use aside_cache::{Cache, Cacheable, Cached, Error, Key, Policy};
    /// # use std::time::Duration;
    /// #[derive(serde::Serialize, serde::Deserialize, sqlx::FromRow)]
    /// struct Product {
    ///     id: i64,
    ///     price_cents: i64,
    /// }
    ///
    /// impl Cacheable for Product {
    ///     const POLICY: Policy = Policy::public("product", Duration::from_hours(1));
    /// }
    ///
    /// async fn product(cache: &Cache, id: i64) -> Result<Cached<Product>, Error> {
    ///     let query = sqlx::query_as("select id, price_cents from products where id = $1").bind(id);
    ///     cache.get(Key::new(id)).one(query).await
    /// }
    /// ```
    pub fn get<T: Cacheable>(&self, key: Key<T>) -> Get<'_, T> {
        let (mode, depends_on) = (CacheMode::Default, Vec::new());
        Get { cache: self, key, mode, depends_on, row_tag: None, valid_until: None }
    }
}

/// A read of several values that has not begun. [`GetMany::rows`] or [`GetMany::only_if_cached`]
/// begins it.
#[must_use = "a read begins with `rows` or `only_if_cached`"]
pub struct GetMany<'c, I, T> {
    cache: &'c Cache,
    keys: Vec<(I, Key<T>)>,
    mode: CacheMode,
}

impl Cache {
    /// Describes a read of several values: their ids, and the key of each id. One call asks L2 for
    /// all that are not in L1, and one select loads the rest.
    ///
    /// ```no_run
    /// # use aside_cache::{Cache, Cacheable, Cached, Error, Key, Policy};
    /// # use std::time::Duration;
    /// # #[derive(serde::Serialize, serde::Deserialize, sqlx::FromRow)]
    /// # struct Product { id: i64, price_cents: i64 }
    /// # impl Cacheable for Product {
    /// #     const POLICY: Policy = Policy::public("product", Duration::from_hours(1));
    /// # }
    /// async fn products(cache: &Cache, ids: Vec<i64>) -> Result<Vec<(i64, Cached<Product>)>, Error> {
    ///     let select = |missing: Vec<i64>| {
    ///         sqlx::query_as("select id, price_cents from products where id = any($1)").bind(missing)
    ///     };
    ///     cache.get_many(ids, |id| Key::new(*id)).rows("id", select).await
    /// }
    /// ```
    pub fn get_many<I, T: Cacheable>(
        &self,
        ids: impl IntoIterator<Item = I>,
        key: impl Fn(&I) -> Key<T>,
    ) -> GetMany<'_, I, T> {
        let keyed = |id| {
            let key = key(&id);
            (id, key)
        };
        GetMany { cache: self, keys: ids.into_iter().map(keyed).collect(), mode: CacheMode::Default }
    }
}

/// A load of many rows, as [`Cache::get_or_load_many`] takes it.
type LoadRows<I, T> = Pin<Box<dyn Future<Output = Result<HashMap<I, Loaded<T>>, Error>> + Send>>;

impl Cache {
    /// A load of the rows that `select` returns for the missing ones of these keys.
    fn load_rows<I, T, F>(
        &self,
        keys: &[(I, Key<T>)],
        mode: CacheMode,
        column: &'static str,
        select: F,
    ) -> impl FnOnce(Vec<I>) -> LoadRows<I, T> + Send + 'static + use<I, T, F>
    where
        I: Clone + Eq + Hash + Send + Sync + 'static,
        T: Cacheable + for<'r> FromRow<'r, PgRow>,
        F: Fn(Vec<I>) -> QueryAs<'static, Postgres, T, PgArguments> + Send + Sync + 'static,
    {
        let (router, by_id): (_, HashMap<I, Key<T>>) = (self.clone(), keys.iter().cloned().collect());
        move |missing| {
            Box::pin(async move {
                let key = |id: &I| by_id[id].clone();
                let load = |pool: ConnectionPool, ids: Vec<I>| {
                    let tags: Vec<Tag> = ids.iter().map(|id| by_id[id].tag().clone()).collect();
                    let select = Select::new(select(ids.clone()));
                    async move {
                        let loaded = select?.load_rows(&pool, &tags, column).await?;
                        Ok::<_, Error>(ids.into_iter().zip(loaded).collect())
                    }
                };
                router.route_many(missing, key, mode, load).await
            })
        }
    }
}

impl<I, T> GetMany<'_, I, T>
where
    I: Clone + Eq + Hash + Send + Sync + 'static,
    T: Cacheable,
{
    /// Sets how the read may use the tiers.
    pub fn mode(mut self, mode: CacheMode) -> Self {
        self.mode = mode;
        self
    }

    /// Reads the values from the tiers, or from the database by one select for the ids that no tier
    /// can answer. The result has the order of the ids, and an id without a row is an absence. The
    /// last segment of each key is the row's value of `column`, and no two rows may share it.
    ///
    /// # Errors
    /// As [`Get::one`].
    pub async fn rows<F>(self, column: &'static str, select: F) -> Result<Vec<(I, Cached<T>)>, Error>
    where
        T: for<'r> FromRow<'r, PgRow>,
        F: Fn(Vec<I>) -> QueryAs<'static, Postgres, T, PgArguments> + Send + Sync + 'static,
    {
        let Self { cache, keys, mode } = self;
        let load = cache.load_rows(&keys, mode, column, select);
        cache.get_or_load_many(keys, mode, load).await
    }

    /// Makes sure that the tiers contain the values, and returns how many they are. No client
    /// requested these reads, so they are not counted as reads. The arguments are those of
    /// [`GetMany::rows`].
    ///
    /// # Errors
    /// As [`Get::one`].
    pub async fn warm<F>(self, column: &'static str, select: F) -> Result<usize, Error>
    where
        T: for<'r> FromRow<'r, PgRow>,
        F: Fn(Vec<I>) -> QueryAs<'static, Postgres, T, PgArguments> + Send + Sync + 'static,
    {
        let Self { cache, keys, mode } = self;
        let load = cache.load_rows(&keys, mode, column, select);
        cache.warm_many(keys, mode, load).await
    }

    /// Reads only from the tiers, in the order of the ids. A value is `None` if no tier holds it.
    pub async fn only_if_cached(self) -> Vec<Option<Cached<T>>> {
        let keys: Vec<Key<T>> = self.keys.into_iter().map(|(_, key)| key).collect();
        self.cache.peek_many(&keys).await
    }
}

impl<T: Cacheable> Get<'_, T> {
    /// Sets how the read may use the tiers.
    pub fn mode(mut self, mode: CacheMode) -> Self {
        self.mode = mode;
        self
    }

    /// Adds a tag whose change makes the answer stale. Every answer of [`Get::one`] depends on the
    /// tag of its key already.
    pub fn depends_on(mut self, tag: impl Into<Tag>) -> Self {
        self.depends_on.push(tag.into());
        self
    }

    /// Makes the answer of [`Get::list`] depend on each of its rows, too. The tag of a row is
    /// `pattern:…`, with the row's value of `column`.
    pub fn row_tag(mut self, pattern: &'static str, column: &'static str) -> Self {
        self.row_tag = Some(RowTag { pattern, column });
        self
    }

    /// Names a column of the select with the end of the answer, a `timestamptz`. From the earliest
    /// end of its rows on, no tier serves the answer, and no HTTP cache either. Rows in which it is
    /// null have no end. An answer without rows has none, so [`Get::load`] is for answers that end
    /// when a row appears by time alone.
    ///
    /// ```no_run
    /// # use aside_cache::{Cache, Cacheable, Cached, Error, Key, Policy};
    /// # use std::time::Duration;
    /// # #[derive(serde::Serialize, serde::Deserialize, sqlx::FromRow)]
    /// # struct Price { cents: i64 }
    /// # impl Cacheable for Price {
    /// #     const POLICY: Policy = Policy::public("price", Duration::from_hours(1));
    /// # }
    /// async fn price(cache: &Cache, id: i64) -> Result<Cached<Price>, Error> {
    ///     let sql = "select cents, ends_at from prices where product = $1 and now() >= starts_at and now() < ends_at";
    ///     cache.get(Key::new(id)).valid_until("ends_at").one(sqlx::query_as(sql).bind(id)).await
    /// }
    /// ```
    pub fn valid_until(mut self, column: &'static str) -> Self {
        self.valid_until = Some(column);
        self
    }

    /// Reads one row from the tiers, or from the database by this select.
    ///
    /// # Errors
    /// Those of the select, and failures of the load. L2 can't fail a read.
    pub async fn one(self, query: QueryAs<'_, Postgres, T, PgArguments>) -> Result<Cached<T>, Error>
    where
        T: for<'r> FromRow<'r, PgRow>,
    {
        let select = Select::new(query)?.ending(self.valid_until);
        let mut tags = vec![self.key.tag().clone()];
        tags.extend(self.depends_on.iter().cloned());
        let load = move |pool| {
            let (select, tags) = (select.clone(), tags.clone());
            async move { select.load_one(&pool, &tags).await.map_err(Error::from) }
        };
        self.load(load).await
    }

    /// Reads a list from the tiers, or from the database by this select. The order of its rows is
    /// kept. The list depends on the tags of [`Get::depends_on`] and [`Get::row_tag`], and not on
    /// the tag of its key.
    ///
    /// # Errors
    /// As [`Get::one`].
    ///
    /// ```no_run
    /// # use aside_cache::{Cache, Cacheable, Cached, Error, Key, Policy, Tag};
    /// # use std::time::Duration;
    /// # #[derive(serde::Serialize, serde::Deserialize, sqlx::FromRow)]
    /// # struct Product { id: i64, price_cents: i64 }
    /// #[derive(serde::Serialize, serde::Deserialize)]
    /// struct Page(Vec<Product>);
    ///
    /// impl From<Vec<Product>> for Page {
    ///     fn from(products: Vec<Product>) -> Self {
    ///         Self(products)
    ///     }
    /// }
    ///
    /// impl Cacheable for Page {
    ///     const POLICY: Policy = Policy::public("product-list", Duration::from_mins(5));
    /// }
    ///
    /// async fn first_page(cache: &Cache, category: &str) -> Result<Cached<Page>, Error> {
    ///     let sql = "select id, price_cents from products where category = $1 order by id limit 50";
    ///     cache
    ///         .get(Key::new((category, "first")))
    ///         .depends_on(Tag::new("product-list", category))
    ///         .row_tag("product", "id")
    ///         .list(sqlx::query_as(sql).bind(category))
    ///         .await
    /// }
    /// ```
    pub async fn list<R>(self, query: QueryAs<'_, Postgres, R, PgArguments>) -> Result<Cached<T>, Error>
    where
        T: From<Vec<R>>,
        R: for<'r> FromRow<'r, PgRow> + Send + 'static,
    {
        let select = Select::new(query)?.ending(self.valid_until);
        let (tags, row_tag) = (self.depends_on.clone(), self.row_tag);
        let load = move |pool| {
            let (select, tags) = (select.clone(), tags.clone());
            async move {
                let loaded = select.load_list(&pool, &tags, row_tag).await?;
                let Loaded { value, tag_versions, loaded_at, valid_until } = loaded;
                Ok::<_, Error>(Loaded { value: value.map(T::from), tag_versions, loaded_at, valid_until })
            }
        };
        self.load(load).await
    }

    /// Reads from the tiers, or by a load of the caller's own. It gets the pool of the primary, or
    /// of the replica if there is one, and may be called again with the other. It reads the value,
    /// the tag versions and the read time ([`READ_AT`](crate::READ_AT)) in one statement.
    ///
    /// # Errors
    /// Those of `load`, and [`LoadFailure`](crate::LoadFailure).
    pub async fn load<E, F, Fut>(self, load: F) -> Result<Cached<T>, E>
    where
        E: LoadError + fmt::Display,
        F: Fn(ConnectionPool) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Loaded<T>, E>> + Send + 'static,
    {
        let Self { cache, key, mode, .. } = self;
        let (router, own) = (cache.clone(), key.clone());
        cache.get_or_load(&key, mode, move || async move { router.route(&own, mode, load).await }).await
    }

    /// Reads only from the tiers. It returns `None` if no tier holds an answer that may be served.
    pub async fn only_if_cached(self) -> Option<Cached<T>> {
        self.cache.peek(&self.key).await
    }
}
