//! The SQL that places an order. It locks the products, checks the items against them, takes the
//! stock, and writes the order.
//!
//! Products are locked in the order of their ids, so two orders for the same products wait for each
//! other and never deadlock. The order gets the names and prices of the locked rows, which can't
//! change before the commit.

use aside_cache::Tenant;
use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection, Row, postgres::PgRow};

use super::{NewOrder, Order, OrderItem, OrderStatus};
use crate::domain::error::DomainError;

/// The columns of a product that placing an order needs.
#[derive(Clone, Debug)]
struct StockRow {
    id: i64,
    name: String,
    price_cents: i64,
    currency: String,
    stock: i32,
}

impl FromRow<'_, PgRow> for StockRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            price_cents: row.try_get("price_cents")?,
            currency: row.try_get("currency")?,
            stock: row.try_get("stock")?,
        })
    }
}

/// The priced items of a new order by product id, with the currency and the total.
#[derive(Debug, PartialEq)]
struct Priced {
    items: Vec<OrderItem>,
    currency: String,
    total_cents: i64,
}

/// Places an order in the caller's transaction.
pub async fn place(db: &mut PgConnection, tenant: &Tenant, new: &NewOrder) -> Result<Order, DomainError> {
    let rows = lock_stock(db, new).await?;
    let priced = price(new, &rows)?;
    take_stock(db, &priced.items).await?;
    insert(db, tenant, new.customer_id, priced).await
}

async fn lock_stock(db: &mut PgConnection, new: &NewOrder) -> Result<Vec<StockRow>, DomainError> {
    let sql = "select id, name, price_cents, currency, stock from products
               where id = any($1) and discontinued_at is null order by id for no key update";
    let ids: Vec<i64> = new.items.iter().map(|item| item.product_id).collect();
    Ok(sqlx::query_as(sql).bind(ids).fetch_all(db).await?)
}

/// Checks the items against the products, in the order of the request, and prices them. This is a
/// pure function.
fn price(new: &NewOrder, rows: &[StockRow]) -> Result<Priced, DomainError> {
    let mut items = Vec::with_capacity(new.items.len());
    let mut currency: Option<&str> = None;
    let mut total = Some(0_i64);
    for (item, line) in new.items.iter().enumerate() {
        let product_id = line.product_id;
        let row = rows.iter().find(|row| row.id == product_id);
        let row = row.ok_or(DomainError::UnknownProduct { item, product_id })?;
        if row.currency != *currency.get_or_insert(&row.currency) {
            return Err(rule(format!("/items/{item}/product_id"), "must be sold in the currency of the other items"));
        }
        if row.stock < line.quantity {
            return Err(DomainError::OutOfStock { item, product_id, available: row.stock });
        }
        let sum = row.price_cents.checked_mul(line.quantity.into());
        total = total.zip(sum).and_then(|(total, sum)| total.checked_add(sum));
        items.push(OrderItem {
            product_id,
            name: row.name.clone(),
            quantity: line.quantity,
            unit_price_cents: row.price_cents,
        });
    }
    items.sort_unstable_by_key(|item| item.product_id);
    let total_cents = total.ok_or_else(|| rule("/items".into(), "must not cost more than can be counted"))?;
    Ok(Priced { items, currency: currency.unwrap_or_default().to_owned(), total_cents })
}

fn rule(field: String, rule: &str) -> DomainError {
    DomainError::Rule { field, rule: rule.into() }
}

async fn take_stock(db: &mut PgConnection, items: &[OrderItem]) -> Result<(), DomainError> {
    let sql =
        "update products p set stock = p.stock - line.quantity, version = p.version + 1, updated_at = clock_timestamp()
               from unnest($1::bigint[], $2::integer[]) as line (id, quantity) where p.id = line.id";
    let (ids, quantities): (Vec<i64>, Vec<i32>) = items.iter().map(|i| (i.product_id, i.quantity)).unzip();
    sqlx::query(sql).bind(ids).bind(quantities).execute(db).await?;
    Ok(())
}

async fn insert(
    db: &mut PgConnection,
    tenant: &Tenant,
    customer_id: i64,
    priced: Priced,
) -> Result<Order, DomainError> {
    let status = OrderStatus::Pending;
    let Priced { items, currency, total_cents } = priced;
    // Both times are equal, which shows that the order never changed.
    let sql = "insert into orders (tenant, customer_id, status, total_cents, currency, placed_at, updated_at)
               values ($1, $2, $3, $4, $5, statement_timestamp(), statement_timestamp()) returning id, placed_at, version";
    let (id, placed_at, version): (i64, DateTime<Utc>, i64) = sqlx::query_as(sql)
        .bind(tenant.as_str())
        .bind(customer_id)
        .bind(status.as_str())
        .bind(total_cents)
        .bind(&currency)
        .fetch_one(&mut *db)
        .await?;

    let sql = "insert into order_items (order_id, product_id, name, quantity, unit_price_cents)
               select $1, * from unnest($2::bigint[], $3::text[], $4::integer[], $5::bigint[])";
    sqlx::query(sql)
        .bind(id)
        .bind(items.iter().map(|item| item.product_id).collect::<Vec<_>>())
        .bind(items.iter().map(|item| item.name.as_str()).collect::<Vec<_>>())
        .bind(items.iter().map(|item| item.quantity).collect::<Vec<_>>())
        .bind(items.iter().map(|item| item.unit_price_cents).collect::<Vec<_>>())
        .execute(db)
        .await?;
    Ok(Order { id, customer_id, status, items, total_cents, currency, placed_at, version, updated_at: placed_at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::orders::NewOrderItem;

    fn row(id: i64, price_cents: i64, currency: &str, stock: i32) -> StockRow {
        StockRow { id, name: format!("Product {id}"), price_cents, currency: currency.into(), stock }
    }

    fn order(items: &[(i64, i32)]) -> NewOrder {
        let items = items.iter().map(|&(product_id, quantity)| NewOrderItem { product_id, quantity }).collect();
        NewOrder { customer_id: 749, items }
    }

    #[test]
    fn lines_take_name_and_price_of_the_product_and_stand_by_its_id() {
        let priced = price(&order(&[(2, 3), (1, 1)]), &[row(1, 94, "USD", 5), row(2, 50, "USD", 3)]).unwrap();
        assert_eq!((priced.total_cents, priced.currency.as_str()), (244, "USD"));
        assert_eq!(
            priced.items.iter().map(|i| (i.product_id, i.unit_price_cents)).collect::<Vec<_>>(),
            [(1, 94), (2, 50)]
        );
        assert_eq!(priced.items[0].name, "Product 1");
    }

    #[test]
    fn an_unknown_product_is_named_with_its_line() {
        let refused = price(&order(&[(1, 1), (9, 1)]), &[row(1, 94, "USD", 5)]).unwrap_err();
        assert!(matches!(refused, DomainError::UnknownProduct { item: 1, product_id: 9 }), "{refused}");
    }

    #[test]
    fn more_than_there_is_is_refused_and_all_there_is_is_sold() {
        let refused = price(&order(&[(1, 6)]), &[row(1, 94, "USD", 5)]).unwrap_err();
        assert!(matches!(refused, DomainError::OutOfStock { item: 0, product_id: 1, available: 5 }), "{refused}");
        assert!(price(&order(&[(1, 5)]), &[row(1, 94, "USD", 5)]).is_ok());
    }

    #[test]
    fn an_order_has_one_currency() {
        let refused = price(&order(&[(1, 1), (2, 1)]), &[row(1, 94, "USD", 5), row(2, 50, "EUR", 3)]).unwrap_err();
        assert!(matches!(&refused, DomainError::Rule { field, .. } if field == "/items/1/product_id"), "{refused}");
    }

    #[test]
    fn a_total_that_overflows_is_refused() {
        let refused = price(&order(&[(1, 1), (2, 1)]), &[row(1, i64::MAX, "USD", 5), row(2, 1, "USD", 3)]).unwrap_err();
        assert!(matches!(&refused, DomainError::Rule { field, .. } if field == "/items"), "{refused}");
    }
}
