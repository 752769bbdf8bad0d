//! The writes that are killed: the request of each, and its two states in the database and for
//! clients.

use reqwest::{Method, RequestBuilder};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::{Client, order, product};

/// A kind of write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    NewPrice,
    Removal,
    Order,
    Cancellation,
}

/// The data of one write. No other write uses them.
pub struct Subject {
    pub product: i64,
    /// The order that is cancelled.
    order: i64,
    pub customer: i64,
    category: String,
    pub key: String,
}

impl Work {
    /// Creates the data for a write of this kind.
    pub async fn subject(self, client: &Client, number: i64) -> Subject {
        let category = format!("SHELF {number}");
        let product = client.product(product().price(100).stock(100).category(&category)).await;
        let order = match self {
            Self::Cancellation => client.order(order(number).item(product, 2)).await,
            _ => 0,
        };
        Subject { product, order, customer: number, category, key: format!("key-{number}") }
    }

    /// Returns the request of the write.
    pub fn request(self, client: &Client, of: &Subject) -> RequestBuilder {
        let product = format!("/products/{}", of.product);
        match self {
            Self::NewPrice => client.request(Method::PATCH, &product).json(&json!({ "price_cents": 200 })),
            Self::Removal => client.request(Method::DELETE, &product),
            Self::Order => {
                let new = serde_json::Value::from(order(of.customer).item(of.product, 2));
                client.request(Method::POST, "/orders").header("idempotency-key", &of.key).json(&new)
            }
            Self::Cancellation => {
                let change = json!({ "status": "cancelled" });
                client.request(Method::PATCH, &format!("/orders/{}", of.order)).json(&change)
            }
        }
    }

    /// Returns the states before and after the write, in the form of [`Work::stored`] and
    /// [`Work::shown`].
    pub fn states(self) -> [&'static str; 2] {
        match self {
            Self::NewPrice => ["costs 100, listed at 100", "costs 200, listed at 200"],
            Self::Removal => ["status 200, 1 listed", "status 404, 0 listed"],
            Self::Order => ["orders [], stock 100", "orders [2], stock 98"],
            Self::Cancellation => ["pending, listed as pending, stock 98", "cancelled, listed as cancelled, stock 100"],
        }
    }

    /// Returns words of the message to Postgres that commits.
    pub fn commits(self, of: &Subject) -> String {
        match self {
            // One statement, with the tag as its argument.
            Self::NewPrice => format!("product:{}", of.product),
            Self::Removal | Self::Order | Self::Cancellation => "COMMIT".to_owned(),
        }
    }

    /// Returns the state in Postgres, read past the service.
    pub async fn stored(self, pool: &PgPool, of: &Subject) -> String {
        let Subject { product, order, customer, .. } = of;
        let sql = match self {
            Self::NewPrice => {
                format!("select format('costs %s, listed at %1$s', price_cents) from products where id = {product}")
            }
            Self::Removal => format!(
                "select case when discontinued_at is null then 'status 200, 1 listed' else 'status 404, 0 listed' end
                 from products where id = {product}"
            ),
            Self::Order => format!(
                "select format('orders [%s], stock %s', string_agg(i.quantity::text, ', '), min(p.stock))
                 from products p left join orders o on o.customer_id = {customer}
                 left join order_items i on i.order_id = o.id where p.id = {product}"
            ),
            Self::Cancellation => format!(
                "select format('%s, listed as %1$s, stock %s', o.status, p.stock)
                 from orders o, products p where o.id = {order} and p.id = {product}"
            ),
        };
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(pool).await.expect("the state in Postgres")
    }

    /// Returns the state that an instance shows, in the resource itself and in the lists that
    /// contain it.
    pub async fn shown(self, client: &Client, of: &Subject) -> String {
        let product = client.get_product(of.product).await;
        let category_page =
            async || client.get(&format!("/products?category={}", of.category.replace(' ', "%20"))).await;
        match self {
            Self::NewPrice => {
                format!(
                    "costs {}, listed at {}",
                    product.int("/price_cents"),
                    category_page().await.int("/items/0/price_cents")
                )
            }
            Self::Removal => {
                format!("status {}, {} listed", product.status.as_u16(), category_page().await.ids().len())
            }
            Self::Order => {
                let orders = client.orders_of(of.customer).await.at("/items");
                let orders = orders.as_array().expect("a list").clone();
                let quantities: Vec<i64> =
                    orders.iter().filter_map(|order| order["items"][0]["quantity"].as_i64()).collect();
                format!("orders {quantities:?}, stock {}", product.int("/stock"))
            }
            Self::Cancellation => {
                let order = client.get_order(of.order).await;
                let listed = client.orders_of(of.customer).await;
                let text = |value: serde_json::Value| value.as_str().unwrap_or("?").to_owned();
                let (itself, listed) = (text(order.at("/status")), text(listed.at("/items/0/status")));
                format!("{itself}, listed as {listed}, stock {}", product.int("/stock"))
            }
        }
    }
}
