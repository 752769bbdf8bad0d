//! The memory of Redis. The service sees in time that it fills up, reports it everywhere and
//! reduces it before Redis evicts.

use deadpool_redis::redis::{self, AsyncCommands, aio::MultiplexedConnection};
use sqlx::PgPool;

use crate::support::{RedisServer, TestApp, eventually, product};

const LIMIT: u64 = 20 << 20;
const BLOCK: usize = 64 << 10;

#[sqlx::test]
async fn a_redis_that_fills_up_is_seen_at_its_marks_and_eased(pool: PgPool) {
    let redis = RedisServer::start();
    let mut other = Other::of(&redis).await;
    let app =
        TestApp::builder(pool).redis(&redis).l1_bytes(0).config(|config| config.cache_warm_top = 10).build().await;
    let (early, late) = (app.product(product()).await, app.product(product()).await);
    shows(&app, "normal", 0.0).await;
    app.get_product(early).await.expect(200);
    let whole = lifetime(&app, early).await;

    other.fill_to(0.75).await;
    shows(&app, "warning", 1.0).await;

    other.fill_to(0.90).await;
    shows(&app, "critical", 2.0).await;
    app.get_product(late).await.expect(200);
    let shortened = lifetime(&app, late).await;
    assert!(shortened < whole / 2, "{shortened} ms instead of {whole} ms");
    let newcomer = app.another().await;
    assert_eq!(newcomer.metrics().await.sum("cache_loads_total", &[]), 0.0, "nor at start");
    assert_eq!(warmed(&app).await, 0, "a Redis that is nearly full is not warmed");

    other.empty().await;
    shows(&app, "normal", 0.0).await;
    assert!(warmed(&app).await > 0);
}

#[sqlx::test]
async fn a_redis_without_a_limit_or_without_eviction_says_so(pool: PgPool) {
    let redis = RedisServer::start();
    let mut other = Other::of(&redis).await;
    other.set("maxmemory", "0").await;
    other.set("maxmemory-policy", "noeviction").await;
    let app = TestApp::builder(pool).redis(&redis).build().await;
    eventually("the memory of Redis is known", || async {
        let metrics = app.metrics().await;
        let of = |name| metrics.sum(name, &[("tier", "l2")]);
        (of("cache_memory_used_bytes") > 0.0).then(|| {
            assert_eq!((of("cache_memory_limit_bytes"), of("cache_memory_refuses_when_full")), (0.0, 1.0));
        })
    })
    .await;
}

#[sqlx::test]
async fn a_redis_that_does_not_say_how_full_it_is_works_all_the_same(pool: PgPool) {
    let redis = RedisServer::start();
    let mut other = Other::of(&redis).await;
    let app = TestApp::builder(pool).redis(&redis).build().await;
    shows(&app, "normal", 0.0).await;
    other.command("ACL", &["SETUSER", "default", "-info"]).await;
    let told = async || app.metrics().await.values("cache_memory_state", "tier").contains(&"l2".to_owned());
    eventually("what it said before is forgotten", || async { (!told().await).then_some(()) }).await;
    let ready = app.get("/readyz").await;
    assert_eq!((ready.at("/redis"), ready.at("/redis_memory")), ("up".into(), "unknown".into()));
    assert_eq!(app.metrics().await.sum("cache_l2_breaker_open", &[]), 0.0);
    other.command("ACL", &["SETUSER", "default", "+info"]).await;
    shows(&app, "normal", 0.0).await;
}

#[sqlx::test]
async fn a_redis_that_may_not_evict_refuses_fills_when_it_is_full(pool: PgPool) {
    let redis = RedisServer::start();
    let mut other = Other::of(&redis).await;
    other.set("maxmemory-policy", "noeviction").await;
    other.fill_to(0.99).await;
    let used = other.used().await;
    other.set("maxmemory", &used.to_string()).await;
    let app = TestApp::builder(pool).redis(&redis).build().await;
    for _ in 0..5 {
        app.get_product(app.product(product()).await).await.expect(200);
    }
    eventually("a fill is refused", || async {
        let metrics = app.metrics().await;
        let failed = metrics.sum("cache_l2_calls_total", &[("operation", "fill"), ("result", "failed")]);
        (failed > 0.0).then(|| assert_eq!(metrics.sum("cache_l2_fills_total", &[("result", "kept")]), 0.0))
    })
    .await;
}

/// Waits until the metric and the readiness report both show this state.
async fn shows(app: &TestApp, state: &str, number: f64) {
    eventually(&format!("the memory of Redis is {state}"), || async {
        let metric = app.metrics().await.sum("cache_memory_state", &[("tier", "l2")]);
        let ready = app.get("/readyz").await;
        (metric == number && ready.at("/redis_memory") == state).then_some(())
    })
    .await;
}

async fn warmed(app: &TestApp) -> i64 {
    let done = app.order_management("/cache/warm", serde_json::Value::Null).await;
    done.expect(200).int("/warmed")
}

async fn lifetime(app: &TestApp, product: i64) -> i64 {
    let key = format!("product:{product}");
    eventually("Redis is filled", || async { app.redis_keys().await.holds(&key).await.then_some(()) }).await;
    app.redis_keys().await.lifetime_ms(&key).await
}

/// Another program that fills the same Redis.
struct Other(MultiplexedConnection);

impl Other {
    async fn of(redis: &RedisServer) -> Self {
        let mut other = Self(redis.connect().await);
        other.set("maxmemory", &LIMIT.to_string()).await;
        other.set("maxmemory-policy", "allkeys-lfu").await;
        other
    }

    async fn set(&mut self, name: &str, value: &str) {
        self.command("CONFIG", &["SET", name, value]).await;
    }

    async fn command(&mut self, name: &str, arguments: &[&str]) {
        redis::cmd(name).arg(arguments).exec_async(&mut self.0).await.expect("a command");
    }

    async fn used(&mut self) -> u64 {
        let info: redis::InfoDict = redis::cmd("INFO").arg("memory").query_async(&mut self.0).await.expect("INFO");
        info.get("used_memory").expect("used_memory")
    }

    async fn fill_to(&mut self, part: f64) {
        let block = vec![b'x'; BLOCK];
        while (self.used().await as f64) < part * LIMIT as f64 {
            let _: usize = self.0.rpush("other", &block).await.expect("RPUSH");
        }
    }

    async fn empty(&mut self) {
        let _: usize = self.0.del("other").await.expect("DEL");
    }
}
