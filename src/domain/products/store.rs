//! The SQL of products. Nothing in here knows how answers are cached.
//!
//! Every read is one statement, thus one snapshot: the data, the numbers of all names the answer depends on, and the time all
//! belong together. A `head` row always comes, so that also an empty answer brings its numbers and its time.
//! Writes take the connection of the caller's transaction, and lock products in the order of their ids.

use std::collections::HashMap;

use sqlx::{AssertSqlSafe, FromRow, PgConnection, Row, postgres::PgRow};

use super::{NewProduct, Product, ProductChange, ProductFilter, ProductPage, TopProducts};
use crate::{
    cache::{ConnectionPool, DbTime, Label, Loaded, Name},
    domain::{
        error::DomainError,
        page::{ListKind, PageRequest},
    },
};

/// Columns are named: with `*`, adding one would break the prepared statements of instances that are running.
const COLUMNS: &str = "p.id, p.name, p.department, p.brand, p.category, p.type, p.package_size, p.price_cents, p.currency, \
     p.stock, p.view_count, p.version, p.updated_at";

/// A moment that is not after the statement's snapshot, in microseconds.
const NOW: &str = "(select cache_read_at()) as loaded_at";

/// The number of the product's name. Not a join: where the planner can't foresee how few rows a limit leaves, it would join
/// by reading the whole ledger.
const VER: &str = "coalesce((select ver from cache_ledger where name = 'product:' || p.id), 0) as ver";

/// Products in Postgres. Cheap to clone.
#[derive(Clone)]
pub struct ProductStore {
    pub db: ConnectionPool,
}

impl ProductStore {
    /// One product.
    pub async fn load(self, id: i64) -> Result<Loaded<Product>, DomainError> {
        let mut found = self.load_many(vec![id]).await?;
        found.remove(&id).ok_or_else(|| sqlx::Error::RowNotFound.into())
    }

    /// Products by id; every id asked for is answered, unknown ones as absent.
    pub async fn load_many(self, ids: Vec<i64>) -> Result<HashMap<i64, Loaded<Product>>, DomainError> {
        let sql = format!(
            "select {NOW}, asked.id as asked, {COLUMNS},
                 coalesce((select ver from cache_ledger where name = 'product:' || asked.id), 0) as ver
             from unnest($1::bigint[]) as asked (id)
             left join products p on p.id = asked.id and p.discontinued_at is null"
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(&ids).fetch_all(&self.db).await?;
        rows.iter()
            .map(|row| {
                let id = row.try_get("asked")?;
                let value = product(row)?;
                Ok((id, Loaded { value, labels: vec![row_label(id, row)?], loaded_at: loaded_at(row)? }))
            })
            .collect()
    }

    /// A page by id, ascending.
    pub async fn load_page(self, filter: ProductFilter, page: PageRequest) -> Result<Loaded<ProductPage>, DomainError> {
        // Comparing and ordering by (category, id) leaves the planner no choice but the index that has both: with `=` it
        // may prefer to walk the primary key, and read the whole table when few products match.
        let (condition, order) = match (&filter.category, &filter.department) {
            (None, None) => ("id > $2 and $4::text is null and $5::text is null", "id"),
            (Some(_), None) => ("(category, id) > ($4, $2) and category <= $4 and $5::text is null", "category, id"),
            (None, Some(_)) => {
                ("(department, id) > ($5, $2) and department <= $5 and $4::text is null", "department, id")
            }
            (Some(_), Some(_)) => ("(category, id) > ($4, $2) and category <= $4 and department = $5", "category, id"),
        };
        let sql = format!(
            "select head.*, {COLUMNS}, {VER}
             from (select {NOW}, array(
                 select coalesce(ver, 0) from unnest($1::text[]) with ordinality as tag (name, at)
                 left join cache_ledger ledger using (name) order by tag.at
             ) as tag_vers) as head
             left join lateral (
                 select * from products where discontinued_at is null and {condition} order by {order} limit $3
             ) p on true
             order by p.id"
        );
        let tags = filter.tags();
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(tags.iter().map(Name::as_str).collect::<Vec<_>>())
            .bind(page.after.unwrap_or(0))
            .bind(page.rows_to_read())
            .bind(&filter.category)
            .bind(&filter.department)
            .fetch_all(&self.db)
            .await?;
        let head = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        let numbers: Vec<i64> = head.try_get("tag_vers")?;
        let (mut items, mut labels) = shown(&rows)?;
        let next_cursor = page.cut(ListKind::Products, &mut items, |p| p.id);
        labels.truncate(items.len());
        labels.extend(tags.into_iter().zip(numbers).map(|(name, version)| Label { name, version }));
        Ok(Loaded { value: Some(ProductPage { items, next_cursor }), labels, loaded_at: loaded_at(head)? })
    }

    /// The most viewed products, most viewed first.
    pub async fn load_top(self, limit: u16) -> Result<Loaded<TopProducts>, DomainError> {
        let sql = format!(
            "select head.*, {COLUMNS}, {VER}
             from (select {NOW}) as head
             left join lateral (
                 select * from products where discontinued_at is null order by view_count desc, id limit $1
             ) p on true
             order by p.view_count desc, p.id"
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(i64::from(limit)).fetch_all(&self.db).await?;
        let head = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        let (items, labels) = shown(&rows)?;
        Ok(Loaded { value: Some(TopProducts { items }), labels, loaded_at: loaded_at(head)? })
    }

    /// The ids of the most viewed products, most viewed first: what is worth warming.
    pub async fn top_ids(&self, count: u32) -> Result<Vec<i64>, DomainError> {
        let sql = "select id from products where discontinued_at is null order by view_count desc, id limit $1";
        Ok(sqlx::query_scalar(sql).bind(i64::from(count)).fetch_all(&self.db).await?)
    }
}

/// Inserts a product.
pub async fn insert(db: &mut PgConnection, new: &NewProduct) -> Result<Product, DomainError> {
    let sql = format!(
        "insert into products as p (name, department, brand, category, type, package_size, price_cents, currency, stock)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9) returning {COLUMNS}"
    );
    let inserted = sqlx::query_as(AssertSqlSafe(sql))
        .bind(&new.name)
        .bind(&new.department)
        .bind(&new.brand)
        .bind(&new.category)
        .bind(&new.kind)
        .bind(&new.package_size)
        .bind(new.price_cents)
        .bind(&new.currency)
        .bind(new.stock)
        .fetch_one(db)
        .await?;
    Ok(inserted)
}

/// Reads a product and keeps others from changing it until the transaction ends.
pub async fn lock(db: &mut PgConnection, id: i64) -> Result<Product, DomainError> {
    let sql =
        format!("select {COLUMNS} from products p where p.id = $1 and p.discontinued_at is null for no key update");
    let found: Option<Product> = sqlx::query_as(AssertSqlSafe(sql)).bind(id).fetch_optional(db).await?;
    found.ok_or(DomainError::NotFound { kind: "product", id })
}

/// Applies a change to a locked product.
pub async fn update(db: &mut PgConnection, id: i64, change: &ProductChange) -> Result<Product, DomainError> {
    let sql = format!(
        "update products p set
             name = coalesce($2, name), department = coalesce($3, department), brand = coalesce($4, brand),
             category = coalesce($5, category), type = coalesce($6, type),
             package_size = case when $7 then $8 else package_size end,
             price_cents = coalesce($9, price_cents), currency = coalesce($10, currency), stock = coalesce($11, stock),
             version = version + 1, updated_at = clock_timestamp()
         where id = $1 returning {COLUMNS}"
    );
    let updated = sqlx::query_as(AssertSqlSafe(sql))
        .bind(id)
        .bind(&change.name)
        .bind(&change.department)
        .bind(&change.brand)
        .bind(&change.category)
        .bind(&change.kind)
        .bind(change.package_size.is_some())
        .bind(change.package_size.as_ref().and_then(Option::as_deref))
        .bind(change.price_cents)
        .bind(&change.currency)
        .bind(change.stock)
        .fetch_one(db)
        .await?;
    Ok(updated)
}

/// Takes a locked product off sale. Its row stays for the orders that point at it.
pub async fn discontinue(db: &mut PgConnection, id: i64) -> Result<(), DomainError> {
    let sql =
        "update products set discontinued_at = clock_timestamp(), updated_at = clock_timestamp(), version = version + 1
               where id = $1";
    sqlx::query(sql).bind(id).execute(db).await?;
    Ok(())
}

impl FromRow<'_, PgRow> for Product {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            department: row.try_get("department")?,
            brand: row.try_get("brand")?,
            category: row.try_get("category")?,
            kind: row.try_get("type")?,
            package_size: row.try_get("package_size")?,
            price_cents: row.try_get("price_cents")?,
            currency: row.try_get("currency")?,
            stock: row.try_get("stock")?,
            view_count: row.try_get("view_count")?,
            version: row.try_get("version")?,
            updated_at: row.try_get("updated_at")?,
        })
    }
}

/// The product of a row, or `None` where the outer join found none.
fn product(row: &PgRow) -> Result<Option<Product>, sqlx::Error> {
    let there = row.try_get::<Option<i64>, _>("id")?.is_some();
    there.then(|| Product::from_row(row)).transpose()
}

/// The products that rows show, each with its label.
fn shown(rows: &[PgRow]) -> Result<(Vec<Product>, Vec<Label>), sqlx::Error> {
    let mut items = Vec::with_capacity(rows.len());
    let mut labels = Vec::with_capacity(rows.len() + 1);
    for row in rows {
        if let Some(product) = product(row)? {
            labels.push(row_label(product.id, row)?);
            items.push(product);
        }
    }
    Ok((items, labels))
}

fn row_label(id: i64, row: &PgRow) -> Result<Label, sqlx::Error> {
    Ok(Label { name: Product::name_of(id), version: row.try_get("ver")? })
}

fn loaded_at(row: &PgRow) -> Result<DbTime, sqlx::Error> {
    row.try_get("loaded_at").map(DbTime)
}
