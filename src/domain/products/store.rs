//! The SQL of products. This file does not depend on the cache.
//!
//! Every read is one statement and thus one snapshot. The data, the versions of all tags on which
//! the answer depends, and the read time (`READ_AT`) belong together. A `head` row is always
//! returned, so an empty answer has its versions and its read time too. Writes use the connection
//! of the caller's transaction and lock products in the order of their ids.

use std::{cmp::Reverse, collections::HashMap, sync::LazyLock};

use aside_cache::{ConnectionPool, ExpectedVersion, Loaded, READ_AT, Tag, TagVersion};
use sqlx::{
    AssertSqlSafe, FromRow, PgConnection, Postgres, Row,
    postgres::{PgArguments, PgRow},
    query::QueryAs,
};

use super::{NewProduct, Product, ProductChange, ProductFilter, ProductPage, TopProducts};
use crate::domain::{
    date,
    error::DomainError,
    page::{ListKind, PageRequest},
};

/// The columns are listed, because with `*` a new column would break the prepared statements of
/// running instances.
const COLUMNS: &str = "p.id, p.name, p.department, p.brand, p.category, p.type, p.package_size, p.price_cents, p.currency, \
     p.stock, p.view_count, p.version, p.updated_at";

/// The version of a row's tag. It is a subquery, because the planner can't foresee how few rows a
/// limit leaves. For a join it would read the whole ledger.
const ROW_VERSION: &str =
    "coalesce((select version from cache_ledger where tag = 'product:' || p.id), 0) as tag_version";

/// Loads one existing product, with the read time and the version of its tag `$1`.
static LOAD_ONE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "select {READ_AT} as read_at, (select version from cache_ledger where tag = $1) as tag_version, {COLUMNS}
         from products p where p.id = $2 and p.discontinued_at is null"
    )
});

/// Loads products by id, one row for each id of `$1`.
static LOAD_MANY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "select head.*, asked.id as asked, {COLUMNS},
             coalesce((select version from cache_ledger where tag = 'product:' || asked.id), 0) as tag_version
         from (select {READ_AT} as read_at) as head cross join unnest($1::bigint[]) as asked (id)
         left join products p on p.id = asked.id and p.discontinued_at is null"
    )
});

/// Loads a page. The condition and the order select the index. The head row, which is always
/// returned, contains the versions of the tags `$1` in their order.
static LOAD_PAGE: LazyLock<[String; 4]> = LazyLock::new(|| {
    // Comparing and ordering by (category, id) leaves the planner only the index that has both.
    // With `=` it may prefer the primary key, and then it reads the whole table when few products
    // match.
    [
        ("id > $2 and $4::text is null and $5::text is null", "id"),
        ("(category, id) > ($4, $2) and category <= $4 and $5::text is null", "category, id"),
        ("(department, id) > ($5, $2) and department <= $5 and $4::text is null", "department, id"),
        ("(category, id) > ($4, $2) and category <= $4 and department = $5", "category, id"),
    ]
    .map(|(condition, order)| {
        format!(
            "select head.*, {COLUMNS}, {ROW_VERSION}
             from (select {READ_AT} as read_at, array(
                 select coalesce((select version from cache_ledger where cache_ledger.tag = asked.tag), 0) from unnest($1::text[]) as asked (tag)
             ) as tag_versions) as head
             left join lateral (
                 select * from products where discontinued_at is null and {condition} order by {order} limit $3
             ) p on true"
        )
    })
});

/// Loads the most viewed products.
static LOAD_TOP: LazyLock<String> = LazyLock::new(|| {
    format!(
        "select head.*, {COLUMNS}, {ROW_VERSION}
         from (select {READ_AT} as read_at) as head
         left join lateral (
             select * from products where discontinued_at is null order by view_count desc, id limit $1
         ) p on true"
    )
});

/// Changes a product. Arguments that are null leave their columns unchanged.
static UPDATE: LazyLock<String> = LazyLock::new(|| {
    let columns = "name, department, brand, category, type, package_size, price_cents, currency, stock";
    let values = "coalesce($2, name), coalesce($3, department), coalesce($4, brand), coalesce($5, category), coalesce($6, type),
         case when $7 then $8 else package_size end, coalesce($9, price_cents), coalesce($10, currency), coalesce($11, stock)";
    format!(
        "update products p set ({columns}) = row({values}), version = version + 1, updated_at = clock_timestamp()
         where id = $1 and discontinued_at is null and ({columns}) is distinct from ({values})
             and ($12::bigint[] is null or version = any($12)) and version <> all($13) and not $14
         returning {COLUMNS}"
    )
});

/// Loads one product.
pub async fn load_one(db: ConnectionPool, id: i64) -> Result<Loaded<Product>, DomainError> {
    let name = Product::tag_of(id);
    let row = sqlx::query(LOAD_ONE.as_str()).bind(name.as_str()).bind(id).fetch_optional(&db).await?;
    let Some(row) = row else {
        // An absence needs a tag version and a read time too. If the statement above returned
        // them for absent products, every load would pay for it.
        return load_many(db, vec![id]).await?.remove(&id).ok_or_else(|| sqlx::Error::RowNotFound.into());
    };
    let tag_versions =
        vec![TagVersion { tag: name, version: row.try_get::<Option<i64>, _>("tag_version")?.unwrap_or(0) }];
    Ok(Loaded { value: product(&row)?, tag_versions, loaded_at: row.try_get("read_at")?, valid_until: None })
}

/// Loads products by id. The result contains every requested id, and unknown ids are absent.
pub async fn load_many(db: ConnectionPool, ids: Vec<i64>) -> Result<HashMap<i64, Loaded<Product>>, DomainError> {
    let rows = sqlx::query(LOAD_MANY.as_str()).bind(&ids).fetch_all(&db).await?;
    rows.iter()
        .map(|row| {
            let id = row.try_get("asked")?;
            let tag_versions = vec![row_tag_version(id, row)?];
            Ok((
                id,
                Loaded { value: product(row)?, tag_versions, loaded_at: row.try_get("read_at")?, valid_until: None },
            ))
        })
        .collect()
}

/// Loads a page by ascending id.
pub async fn load_page(
    db: ConnectionPool,
    filter: ProductFilter,
    page: PageRequest,
) -> Result<Loaded<ProductPage>, DomainError> {
    let statement = usize::from(filter.category.is_some()) + 2 * usize::from(filter.department.is_some());
    let tags = filter.tags();
    let rows = sqlx::query(LOAD_PAGE[statement].as_str())
        .bind(tags.iter().map(Tag::as_str).collect::<Vec<_>>())
        .bind(page.after.unwrap_or(0))
        .bind(page.rows_to_read())
        .bind(&filter.category)
        .bind(&filter.department)
        .fetch_all(&db)
        .await?;
    let head = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let versions: Vec<i64> = head.try_get("tag_versions")?;
    let mut shown = shown(&rows)?;
    // A join guarantees no order, and sorting in the database would cost more.
    shown.sort_unstable_by_key(|row| row.id);
    let next_cursor = page.cut(ListKind::Products, &mut shown, |row| row.id);
    let (items, mut tag_versions) = apart(shown);
    tag_versions.extend(tags.into_iter().zip(versions).map(|(name, version)| TagVersion { tag: name, version }));
    Ok(Loaded {
        value: Some(ProductPage { items, next_cursor }),
        tag_versions,
        loaded_at: head.try_get("read_at")?,
        valid_until: None,
    })
}

/// Loads the most viewed products, most viewed first.
pub async fn load_top(db: ConnectionPool, limit: u16) -> Result<Loaded<TopProducts>, DomainError> {
    let rows = sqlx::query(LOAD_TOP.as_str()).bind(i64::from(limit)).fetch_all(&db).await?;
    let head = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let (mut items, tag_versions) = apart(shown(&rows)?);
    items.sort_by_key(|product| (Reverse(product.view_count), product.id));
    Ok(Loaded {
        value: Some(TopProducts { items }),
        tag_versions,
        loaded_at: head.try_get("read_at")?,
        valid_until: None,
    })
}

/// The ids of the most viewed products, most viewed first, which warming loads.
pub async fn top_ids(db: &ConnectionPool, count: u32) -> Result<Vec<i64>, DomainError> {
    let sql = "select id from products where discontinued_at is null order by view_count desc, id limit $1";
    Ok(sqlx::query_scalar(sql).bind(i64::from(count)).fetch_all(db).await?)
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

/// Reads a product and locks it until the transaction ends.
pub async fn lock(db: &mut PgConnection, id: i64) -> Result<Product, DomainError> {
    let sql =
        format!("select {COLUMNS} from products p where p.id = $1 and p.discontinued_at is null for no key update");
    let found: Option<Product> = sqlx::query_as(AssertSqlSafe(sql)).bind(id).fetch_optional(db).await?;
    found.ok_or(DomainError::NotFound { kind: "product", id })
}

/// A statement that applies a change to a product. It changes no row if the product is absent, has
/// another version than expected, or already has these values.
pub fn update(
    id: i64,
    change: &ProductChange,
    expected: &ExpectedVersion,
) -> QueryAs<'static, Postgres, Product, PgArguments> {
    sqlx::query_as(UPDATE.as_str())
        .bind(id)
        .bind(change.name.clone())
        .bind(change.department.clone())
        .bind(change.brand.clone())
        .bind(change.category.clone())
        .bind(change.kind.clone())
        .bind(change.package_size.is_some())
        .bind(change.package_size.clone().flatten())
        .bind(change.price_cents)
        .bind(change.currency.clone())
        .bind(change.stock)
        .bind(expected.one_of.clone())
        .bind(expected.none_of.clone())
        .bind(expected.absent)
}

/// Takes a locked product off sale. Its row remains, because orders refer to it.
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
            updated_at: date(row, "updated_at")?,
        })
    }
}

/// The product of a row, or `None` if the outer join found no product.
fn product(row: &PgRow) -> Result<Option<Product>, sqlx::Error> {
    let there = row.try_get::<Option<i64>, _>("id")?.is_some();
    there.then(|| Product::from_row(row)).transpose()
}

/// A row of a list.
struct PageRow {
    id: i64,
    tag_version: TagVersion,
    /// `None` if the row can't be decoded; the list then omits it.
    product: Option<Product>,
}

/// The rows of a list.
fn shown(rows: &[PgRow]) -> Result<Vec<PageRow>, sqlx::Error> {
    let mut shown = Vec::with_capacity(rows.len());
    for row in rows {
        if let Some(id) = row.try_get("id")? {
            let product = Product::from_row(row)
                .inspect_err(|error| tracing::error!(id, %error, "failed to decode a product; lists omit it"));
            shown.push(PageRow { id, tag_version: row_tag_version(id, row)?, product: product.ok() });
        }
    }
    Ok(shown)
}

/// Splits the rows into products and tag versions. A row that can't be decoded still has a tag
/// version, so the list shows the product as soon as it can be decoded.
fn apart(shown: Vec<PageRow>) -> (Vec<Product>, Vec<TagVersion>) {
    let (products, tag_versions): (Vec<_>, Vec<_>) =
        shown.into_iter().map(|row| (row.product, row.tag_version)).unzip();
    (products.into_iter().flatten().collect(), tag_versions)
}

fn row_tag_version(id: i64, row: &PgRow) -> Result<TagVersion, sqlx::Error> {
    Ok(TagVersion { tag: Product::tag_of(id), version: row.try_get("tag_version")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of a statement, so that line breaks and indentation do not matter.
    fn words(statement: &str) -> String {
        let statement: String = statement.lines().filter(|line| !line.starts_with('\\')).collect::<Vec<_>>().join(" ");
        statement.replace(['(', ')', ','], " ").trim_end_matches(';').split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_cost_of_loads_is_measured_with_these_statements() {
        let one = LOAD_ONE.replace("$1", "'product:' || :id").replace("$2", ":id");
        assert_eq!(words(&one), words(include_str!("../../../scripts/load-cost/one.sql")));
        let category = "'CATEGORY' || :n";
        let page = LOAD_PAGE[1]
            .replace("$1", "array[E'product-list\\x3acategory\\x3aCATEGORY' || :n]")
            .replace("$2", ":after")
            .replace("$3", ":rows")
            .replace("$4", category)
            .replace("$5", "null");
        assert_eq!(words(&page), words(include_str!("../../../scripts/load-cost/page.sql")));
    }
}
