//! A read, described step by step: `cache.get(key)`, what the answer depends on, and its source.

use std::{fmt, future::Future};

use sqlx::{
    FromRow, Postgres,
    postgres::{PgArguments, PgRow},
    query::QueryAs,
};

use super::{
    Cache, CacheMode, Cached, ConnectionPool, Error, LoadError,
    entry::Loaded,
    key::{Key, Tag},
    policy::Cacheable,
    select::{RowTag, Select},
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
        Get { cache: self, key, mode: CacheMode::Default, depends_on: Vec::new(), row_tag: None }
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

    /// Reads one row from the tiers, or from the database by this select.
    ///
    /// # Errors
    /// Those of the select, and failures of the load. L2 can't fail a read.
    pub async fn one(self, query: QueryAs<'_, Postgres, T, PgArguments>) -> Result<Cached<T>, Error>
    where
        T: for<'r> FromRow<'r, PgRow>,
    {
        let select = Select::new(query)?;
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
        let select = Select::new(query)?;
        let (tags, row_tag) = (self.depends_on.clone(), self.row_tag);
        let load = move |pool| {
            let (select, tags) = (select.clone(), tags.clone());
            async move {
                let Loaded { value, tag_versions, loaded_at } = select.load_list(&pool, &tags, row_tag).await?;
                Ok::<_, Error>(Loaded { value: value.map(T::from), tag_versions, loaded_at })
            }
        };
        self.load(load).await
    }

    /// Reads from the tiers, or by a load of the caller's own. It gets the pool of the primary, or
    /// of the replica if there is one, and may be called again with the other. It reads the value,
    /// the tag versions and the read time ([`READ_AT`](super::READ_AT)) in one statement.
    ///
    /// # Errors
    /// Those of `load`, and [`LoadFailure`](super::LoadFailure).
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
