//! The SQL that reads and changes orders; `placing.rs` places them. This file does not depend on
//! the cache.
//!
//! Every read is one statement and thus one snapshot. The data, the versions of the tags on which
//! it depends, and the read time (`READ_AT`) belong together. Every statement names the tenant,
//! so another tenant's order looks like one that does not exist.

use std::{collections::HashMap, sync::LazyLock};

use aside_cache::{ConnectionPool, Loaded, READ_AT, TagVersion, Tenant};
use sqlx::{AssertSqlSafe, FromRow, PgConnection, Row, postgres::PgRow, types::Json};

use super::{Order, OrderFilter, OrderPage, OrderStatus};
use crate::domain::{
    date,
    error::DomainError,
    page::{ListKind, PageRequest},
    products::rules::MAX_STOCK,
};

/// The columns are listed, because with `*` a new column would break the prepared statements of
/// running instances.
const COLUMNS: &str = "o.id, o.customer_id, o.status, o.total_cents, o.currency, o.placed_at, o.version, o.updated_at";

/// The items of an order as JSON, by product id. One statement thus loads a complete order, or a
/// page of complete orders.
const ITEMS: &str = "(select coalesce(json_agg(json_build_object('product_id', i.product_id, 'name', i.name,
     'quantity', i.quantity, 'unit_price_cents', i.unit_price_cents) order by i.product_id), '[]')
     from order_items i where i.order_id = o.id) as items";

/// Loads one existing order, with the read time and the version of its tag `$1`.
static LOAD_ONE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "select {READ_AT} as read_at, (select version from cache_ledger where tag = $1) as tag_version, {COLUMNS}, {ITEMS}
         from orders o where o.tenant = $2 and o.id = $3"
    )
});

/// Loads a tenant's orders by id, one row for each id of `$2`. A tenant's name needs no escaping.
static LOAD_MANY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "select head.*, asked.id as asked, {COLUMNS}, {ITEMS},
             coalesce((select version from cache_ledger where tag = 'order:' || $1 || ':' || asked.id), 0) as tag_version
         from (select {READ_AT} as read_at) as head cross join unnest($2::bigint[]) as asked (id)
         left join orders o on o.tenant = $1 and o.id = asked.id"
    )
});

/// Loads a page of a customer's orders, for any status and for one status. Each statement is
/// planned for its own index.
static LOAD_PAGE: LazyLock<[String; 2]> = LazyLock::new(|| {
    let head = head();
    ["$6::text is null", "status = $6"].map(|condition| {
        format!(
            "select head.*, {COLUMNS}, {ITEMS} from {head} left join lateral (
                 select * from orders where tenant = $2 and customer_id = $3 and id < $4 and {condition}
                 order by id desc limit $5
             ) o on true
             order by o.id desc"
        )
    })
});

/// One row that is always returned: the read time and the version of the tag `$1`.
fn head() -> String {
    format!(
        "(select {READ_AT} as read_at, coalesce((select version from cache_ledger where tag = $1), 0) as tag_version) as head"
    )
}

/// Loads one order of the tenant.
pub async fn load_one(db: ConnectionPool, (tenant, id): (Tenant, i64)) -> Result<Loaded<Order>, DomainError> {
    let name = Order::key(&tenant, id).tag().clone();
    let row =
        sqlx::query(LOAD_ONE.as_str()).bind(name.as_str()).bind(tenant.as_str()).bind(id).fetch_optional(&db).await?;
    let Some(row) = row else {
        // An absence needs a tag version and a read time too. If the statement above returned
        // them for absent orders, every load would pay for it.
        let asked = (tenant, id);
        let mut found = load_many(db, vec![asked.clone()]).await?;
        return found.remove(&asked).ok_or_else(|| sqlx::Error::RowNotFound.into());
    };
    let tag_versions =
        vec![TagVersion { tag: name, version: row.try_get::<Option<i64>, _>("tag_version")?.unwrap_or(0) }];
    Ok(Loaded { value: order(&row)?, tag_versions, loaded_at: row.try_get("read_at")?, valid_until: None })
}

/// Loads orders by id. All of them belong to the same tenant. The result contains every requested
/// id, and unknown ids are absent.
pub async fn load_many(
    db: ConnectionPool,
    asked: Vec<(Tenant, i64)>,
) -> Result<HashMap<(Tenant, i64), Loaded<Order>>, DomainError> {
    let Some(tenant) = asked.first().map(|(tenant, _)| tenant.clone()) else { return Ok(HashMap::new()) };
    let ids: Vec<i64> = asked.into_iter().map(|(_, id)| id).collect();
    let rows = sqlx::query(LOAD_MANY.as_str()).bind(tenant.as_str()).bind(&ids).fetch_all(&db).await?;
    rows.iter()
        .map(|row| {
            let id = row.try_get("asked")?;
            let tag = Order::key(&tenant, id).tag().clone();
            let tag_versions = vec![TagVersion { tag, version: row.try_get("tag_version")? }];
            let loaded =
                Loaded { value: order(row)?, tag_versions, loaded_at: row.try_get("read_at")?, valid_until: None };
            Ok(((tenant.clone(), id), loaded))
        })
        .collect()
}

/// Loads a page of a customer's orders by descending id.
pub async fn load_page(
    db: ConnectionPool,
    tenant: Tenant,
    filter: OrderFilter,
    page: PageRequest,
) -> Result<Loaded<OrderPage>, DomainError> {
    let name = OrderPage::tag(&tenant, filter.customer_id);
    let rows = sqlx::query(LOAD_PAGE[usize::from(filter.status.is_some())].as_str())
        .bind(name.as_str())
        .bind(tenant.as_str())
        .bind(filter.customer_id)
        .bind(page.after.unwrap_or(i64::MAX))
        .bind(page.rows_to_read())
        .bind(filter.status.map(OrderStatus::as_str))
        .fetch_all(&db)
        .await?;
    let head = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let tag_versions = vec![TagVersion { tag: name, version: head.try_get("tag_version")? }];
    let loaded_at = head.try_get("read_at")?;
    let ids = rows.iter().filter_map(|row| row.try_get("id").transpose());
    let mut ids: Vec<i64> = ids.collect::<Result<_, _>>()?;
    let next_cursor = page.cut(ListKind::Orders, &mut ids, |id| *id);
    let readable = |(row, id)| {
        let found: Result<Order, sqlx::Error> = Order::from_row(row);
        found.inspect_err(|error| tracing::error!(id, %error, "failed to decode an order; lists omit it")).ok()
    };
    let items = rows.iter().zip(ids).filter_map(readable).collect();
    Ok(Loaded { value: Some(OrderPage { items, next_cursor }), tag_versions, loaded_at, valid_until: None })
}
/// Reads an order and locks it until the transaction ends.
pub async fn lock(db: &mut PgConnection, tenant: &Tenant, id: i64) -> Result<Order, DomainError> {
    let sql =
        format!("select {COLUMNS}, {ITEMS} from orders o where o.tenant = $1 and o.id = $2 for no key update of o");
    let found: Option<Order> =
        sqlx::query_as(AssertSqlSafe(sql)).bind(tenant.as_str()).bind(id).fetch_optional(db).await?;
    found.ok_or(DomainError::NotFound { kind: "order", id })
}

/// Sets the next status of a locked order.
pub async fn set_status(
    db: &mut PgConnection,
    tenant: &Tenant,
    id: i64,
    to: OrderStatus,
) -> Result<Order, DomainError> {
    let sql = format!(
        "update orders o set status = $3, version = version + 1, updated_at = clock_timestamp()
         where o.tenant = $1 and o.id = $2 returning {COLUMNS}, {ITEMS}"
    );
    Ok(sqlx::query_as(AssertSqlSafe(sql)).bind(tenant.as_str()).bind(id).bind(to.as_str()).fetch_one(db).await?)
}

/// Returns the stock of a cancelled order, including products that are no longer for sale. Rows are
/// locked in the order of their ids, as everywhere. Stock that would exceed the maximum is set to
/// the maximum.
pub async fn restock(db: &mut PgConnection, order: &Order) -> Result<(), DomainError> {
    let sql = "with locked as (select id from products where id = any($1) order by id for no key update)
               update products p set stock = least(p.stock + line.quantity, $3), version = p.version + 1,
                   updated_at = clock_timestamp()
               from locked join unnest($1::bigint[], $2::integer[]) as line (id, quantity) using (id)
               where p.id = locked.id";
    let (ids, quantities): (Vec<i64>, Vec<i32>) = order.items.iter().map(|i| (i.product_id, i.quantity)).unzip();
    sqlx::query(sql).bind(ids).bind(quantities).bind(MAX_STOCK).execute(db).await?;
    Ok(())
}

impl FromRow<'_, PgRow> for Order {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let status = OrderStatus::try_from(row.try_get::<String, _>("status")?);
        let Json(items) = row.try_get("items")?;
        Ok(Self {
            id: row.try_get("id")?,
            customer_id: row.try_get("customer_id")?,
            status: status.map_err(|unknown| sqlx::Error::Decode(unknown.into()))?,
            items,
            total_cents: row.try_get("total_cents")?,
            currency: row.try_get("currency")?,
            placed_at: date(row, "placed_at")?,
            version: row.try_get("version")?,
            updated_at: date(row, "updated_at")?,
        })
    }
}

/// The order of a row, or `None` if the outer join found no order.
fn order(row: &PgRow) -> Result<Option<Order>, sqlx::Error> {
    let there = row.try_get::<Option<i64>, _>("id")?.is_some();
    there.then(|| Order::from_row(row)).transpose()
}
