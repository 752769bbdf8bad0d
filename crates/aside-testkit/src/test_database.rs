//! The database of a test behind a proxy, which ends the test's instances before the database is
//! dropped.

use std::{future::Future, mem, pin::Pin};

use sqlx::{PgPool, Postgres, pool::PoolConnection, postgres::PgConnectOptions};

use super::Proxy;

/// The database of one test. Instances reach it through a proxy, which the test can cut.
pub struct TestDatabase {
    /// The pool of the test, which bypasses the proxy. A write through it is a write of another
    /// program.
    pub pool: PgPool,
    /// The proxy between the instances and Postgres.
    pub proxy: Proxy,
    /// A connection that stays open until the instances end. `#[sqlx::test]` waits for the pool's
    /// connections before it drops the database.
    held: Option<PoolConnection<Postgres>>,
    ends: Vec<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl TestDatabase {
    /// Puts a proxy in front of the database of this pool.
    pub async fn new(pool: PgPool) -> Self {
        let options = pool.connect_options();
        let proxy = Proxy::before(format!("{}:{}", options.get_host(), options.get_port())).await;
        let held = Some(pool.acquire().await.expect("a connection of the test's pool"));
        Self { pool, proxy, held, ends: Vec::new() }
    }

    /// The options with which an instance connects through the proxy.
    pub fn options(&self) -> PgConnectOptions {
        let address = self.proxy.address();
        PgConnectOptions::clone(&self.pool.connect_options()).host(&address.ip().to_string()).port(address.port())
    }

    /// Adds work that ends an instance, such as its shutdown. It runs after the test.
    pub fn at_end(&mut self, end: impl Future<Output = ()> + Send + 'static) {
        self.ends.push(Box::pin(end));
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // Instances end faster when they can reach the database.
        self.proxy.restore();
        let (ends, held) = (mem::take(&mut self.ends), self.held.take());
        tokio::spawn(async move {
            for end in ends {
                end.await;
            }
            drop(held);
        });
    }
}
