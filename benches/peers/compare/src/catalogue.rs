//! The seeded products: their ids, and a choice of them for the requests.

use sqlx::PgPool;

pub struct Catalogue {
    /// Ids with the sum of the weights up to each, most viewed first.
    products: Vec<(i64, f64)>,
}

impl Catalogue {
    pub async fn read(db: &PgPool) -> sqlx::Result<Self> {
        let sql = "select id, view_count from products where discontinued_at is null order by view_count desc, id";
        let rows: Vec<(i64, i64)> = sqlx::query_as(sql).fetch_all(db).await?;
        let mut sum = 0.0;
        let weighed = rows.into_iter().map(|(id, views)| {
            sum += views as f64 + 1.0;
            (id, sum)
        });
        Ok(Self { products: weighed.collect() })
    }

    /// All products once, in random order.
    pub fn shuffled(&self) -> Vec<i64> {
        let mut ids: Vec<i64> = self.products.iter().map(|(id, _)| *id).collect();
        fastrand::shuffle(&mut ids);
        ids
    }

    /// `count` products by their popularity.
    pub fn popular(&self, count: usize) -> Vec<i64> {
        let total = self.products.last().map_or(0.0, |(_, sum)| *sum);
        let draw = |_| {
            let point = fastrand::f64() * total;
            let at = self.products.partition_point(|(_, sum)| *sum <= point);
            self.products[at.min(self.products.len() - 1)].0
        };
        (0..count).map(draw).collect()
    }
}

/// The paths of these products below a route.
pub fn paths(route: &str, ids: &[i64]) -> Vec<String> {
    ids.iter().map(|id| format!("/{route}/{id}")).collect()
}
