//! The requests of the clients: the real products by their real popularity, their lists, and
//! orders.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use reqwest::RequestBuilder;
use serde_json::json;
use sqlx::PgPool;

/// A workload is cheap to clone.
#[derive(Clone)]
pub struct Workload(Arc<Stock>);

struct Stock {
    /// Products with the sum of the weights up to each.
    products: Vec<(i64, f64)>,
    categories: Vec<String>,
    orders: Vec<i64>,
    /// All products in random order, and how many of them were already returned.
    shuffled: Vec<i64>,
    given: AtomicUsize,
}

impl Workload {
    pub async fn of(db: &PgPool) -> Result<Self, sqlx::Error> {
        // A run cannot sell out this much stock.
        sqlx::query("update products set stock = 900000000").execute(db).await?;
        let rows: Vec<(i64, i64)> =
            sqlx::query_as("select id, view_count from products order by view_count desc, id").fetch_all(db).await?;
        let mut sum = 0.0;
        let products = rows.into_iter().map(|(id, views)| {
            sum += views as f64 + 1.0;
            (id, sum)
        });
        let products: Vec<(i64, f64)> = products.collect();
        let categories = sqlx::query_scalar("select distinct category from products order by 1").fetch_all(db).await?;
        let orders = sqlx::query_scalar("select id from orders order by id").fetch_all(db).await?;
        let mut shuffled: Vec<i64> = products.iter().map(|(id, _)| *id).collect();
        fastrand::shuffle(&mut shuffled);
        Ok(Self(Arc::new(Stock { products, categories, orders, shuffled, given: AtomicUsize::new(0) })))
    }

    /// A product, chosen by its popularity.
    pub fn popular(&self) -> i64 {
        let products = &self.0.products;
        let point = fastrand::f64() * products.last().map_or(0.0, |(_, sum)| *sum);
        let at = products.partition_point(|(_, sum)| *sum <= point);
        products[at.min(products.len() - 1)].0
    }

    /// Any product, all with the same probability.
    pub fn any(&self) -> i64 {
        self.0.products[fastrand::usize(..self.0.products.len())].0
    }

    /// A product that was not returned yet. After all were returned, the order starts again.
    pub fn next(&self) -> i64 {
        let at = self.0.given.fetch_add(1, Ordering::Relaxed);
        self.0.shuffled[at % self.0.shuffled.len()]
    }

    /// A request of a typical client, mostly a read.
    pub fn request(&self, http: &reqwest::Client, base: &str) -> RequestBuilder {
        let of = |from: &[String]| from[fastrand::usize(..from.len())].clone();
        match fastrand::u8(..100) {
            0..72 => http.get(format!("{base}/products/{}", self.popular())),
            72..80 => http.get(format!("{base}/products")).query(&[("category", of(&self.0.categories))]),
            80..84 => http.get(format!("{base}/products/top?limit=20")),
            84..89 => {
                let ids: Vec<String> = (0..10).map(|_| self.popular().to_string()).collect();
                http.get(format!("{base}/products/batch?ids={}", ids.join(",")))
            }
            89..94 => {
                let order = self.0.orders[fastrand::usize(..self.0.orders.len())];
                http.get(format!("{base}/orders/{order}"))
            }
            94..98 => {
                let price = json!({ "price_cents": fastrand::u32(1..1_000_000) });
                http.patch(format!("{base}/products/{}", self.popular())).json(&price)
            }
            _ => {
                let order = json!({ "customer_id": fastrand::u32(1..5_000), "items": [{ "product_id": self.popular(), "quantity": 1 }] });
                let key = format!("\"{:032x}\"", fastrand::u128(..));
                http.post(format!("{base}/orders")).header("idempotency-key", key).json(&order)
            }
        }
    }
}
