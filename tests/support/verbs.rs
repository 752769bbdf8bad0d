//! The requests of a client, one verb each.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::{Client, Reply, metrics::Metrics, raw::RawConnection};

impl Client {
    /// Starts a request that the test completes. `path` begins with `/`.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.address))
    }

    /// Sends a request and reads the reply to its end.
    pub async fn send(&self, request: RequestBuilder) -> Reply {
        self.try_send(request).await.unwrap_or_else(|error| panic!("no answer: {error:?}"))
    }

    /// Sends a request and returns an error if no server answers.
    pub async fn try_send(&self, request: RequestBuilder) -> reqwest::Result<Reply> {
        let request = request.build()?;
        let line = format!("{} {}", request.method(), request.url().path());
        let response = self.http.execute(request).await?;
        Ok(Reply::read(line, response).await)
    }

    /// `GET path`.
    pub async fn get(&self, path: &str) -> Reply {
        self.send(self.request(Method::GET, path)).await
    }

    /// `GET path` with one header field.
    pub async fn get_with(&self, path: &str, name: &str, value: &str) -> Reply {
        self.send(self.request(Method::GET, path).header(name, value)).await
    }

    /// `GET /products/{id}`.
    pub async fn get_product(&self, id: i64) -> Reply {
        self.get(&format!("/products/{id}")).await
    }

    /// `POST /products`.
    pub async fn create_product(&self, product: impl Into<Value>) -> Reply {
        self.send(self.request(Method::POST, "/products").json(&product.into())).await
    }

    /// Creates a product and returns its id.
    pub async fn product(&self, product: impl Into<Value>) -> i64 {
        self.create_product(product).await.expect(201).int("/id")
    }

    /// `PATCH /products/{id}`.
    pub async fn patch_product(&self, id: i64, change: Value) -> Reply {
        self.send(self.request(Method::PATCH, &format!("/products/{id}")).json(&change)).await
    }

    /// `DELETE /products/{id}`.
    pub async fn delete_product(&self, id: i64) -> Reply {
        self.send(self.request(Method::DELETE, &format!("/products/{id}"))).await
    }

    /// `POST /orders`.
    pub async fn place_order(&self, order: impl Into<Value>) -> Reply {
        self.send(self.request(Method::POST, "/orders").json(&order.into())).await
    }

    /// `POST /orders` with an Idempotency-Key.
    pub async fn place_order_once(&self, key: &str, order: impl Into<Value>) -> Reply {
        let request = self.request(Method::POST, "/orders").header("idempotency-key", key).json(&order.into());
        self.send(request).await
    }

    /// Places an order and returns its id.
    pub async fn order(&self, order: impl Into<Value>) -> i64 {
        self.place_order(order).await.expect(201).int("/id")
    }

    /// `GET /orders/{id}`.
    pub async fn get_order(&self, id: i64) -> Reply {
        self.get(&format!("/orders/{id}")).await
    }

    /// `GET /orders?customer_id=`.
    pub async fn orders_of(&self, customer: i64) -> Reply {
        self.get(&format!("/orders?customer_id={customer}")).await
    }

    /// `PATCH /orders/{id}` to another status.
    pub async fn move_order(&self, id: i64, status: &str) -> Reply {
        self.send(self.request(Method::PATCH, &format!("/orders/{id}")).json(&json!({ "status": status }))).await
    }

    /// `GET path` on the management listener.
    pub async fn manage(&self, path: &str) -> Reply {
        self.send(self.http.get(format!("http://{}{path}", self.management))).await
    }

    /// `GET path` on the management listener with one header field.
    pub async fn manage_with(&self, path: &str, name: &str, value: &str) -> Reply {
        self.send(self.http.get(format!("http://{}{path}", self.management)).header(name, value)).await
    }

    /// `POST path` on the management listener.
    pub async fn order_management(&self, path: &str, body: Value) -> Reply {
        self.send(self.http.post(format!("http://{}{path}", self.management)).json(&body)).await
    }

    /// Returns `Some` if the instance is ready and may use its tiers. Until its first poll of the
    /// ledger every read is a load.
    pub async fn is_current(&self) -> Option<()> {
        let ready = self.try_send(self.request(Method::GET, "/readyz")).await.ok()?.status == 200;
        let scraped = self.try_send(self.scrape()).await.ok()?;
        (ready && Metrics::parse(&scraped.expect(200).text).sum("cache_is_current", &[]) == 1.0).then_some(())
    }

    /// Scrapes the metrics once.
    pub async fn metrics(&self) -> Metrics {
        Metrics::parse(&self.send(self.scrape()).await.expect(200).text)
    }

    fn scrape(&self) -> RequestBuilder {
        let token = self.management_token.as_deref().unwrap_or("none");
        self.http.get(format!("http://{}/metrics", self.management)).bearer_auth(token)
    }

    /// Follows `next_cursor` from `path`, which has a query, to the end and returns all ids.
    pub async fn walk(&self, path: &str) -> Vec<i64> {
        let mut ids = Vec::new();
        let mut next = path.to_owned();
        loop {
            let page = self.get(&next).await;
            ids.extend(page.expect(200).ids());
            assert!(ids.len() < 1_000, "the cursor goes in circles");
            match page.at("/next_cursor").as_str() {
                Some(cursor) => next = format!("{path}&cursor={cursor}"),
                None => return ids,
            }
        }
    }

    /// Opens a connection for raw bytes.
    pub async fn raw(&self) -> RawConnection {
        RawConnection::open(self.address).await
    }
}
