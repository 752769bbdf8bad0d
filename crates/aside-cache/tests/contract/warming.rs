//! Warming. Each warmer has a report, and one that fails or hangs stops no other.

use std::time::Duration;

use aside_cache::{CacheWarmer, Outcome};
use sqlx::PgPool;

use super::bench::{Backend, Bench, key};

#[sqlx::test]
async fn what_a_warmer_fills_is_served_without_a_load(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let (cache, id) = (bench.cache().await, bench.fresh_id());
    bench.sabotage(id, "warm").await;
    let (this, filled) = (bench.clone(), cache.clone());
    let warming = async move {
        let loaded = this.load(id).await;
        filled.put_many(vec![(key(id), loaded)]).map(|()| 1)
    };
    let warmer = CacheWarmer::new().with("notes", warming);
    let result = cache.warm(warmer, Duration::from_secs(20)).await;
    assert_eq!((result.warmed, result.failed), (1, 0));
    assert_eq!(bench.read(&cache, id).await.outcome, Outcome::L1Hit);
}

#[sqlx::test]
async fn a_warmer_that_fails_panics_or_hangs_stops_no_other(pool: PgPool) {
    let cache = Bench::new(&pool, Backend::None).await.cache().await;
    let warmer = CacheWarmer::new()
        .with("good", async { Ok::<_, String>(3) })
        .with("bad", async { Err::<usize, _>("no connection") })
        .with("ugly", async { panic_in_warmer() })
        .with("endless", std::future::pending::<Result<usize, String>>());
    let result = cache.warm(warmer, Duration::from_millis(50)).await;
    assert_eq!((result.warmed, result.failed, result.warmers.len()), (3, 3, 4));
    let bad = result.warmers.iter().find(|report| report.name == "bad").expect("its report");
    assert_eq!(bad.error.as_deref(), Some("no connection"));
    assert!(result.duration_ms >= 50);
}

#[sqlx::test]
async fn nothing_to_warm_is_no_failure(pool: PgPool) {
    let cache = Bench::new(&pool, Backend::None).await.cache().await;
    let result = cache.warm(CacheWarmer::new(), Duration::from_secs(1)).await;
    assert_eq!((result.warmed, result.failed), (0, 0));
}

fn panic_in_warmer() -> Result<usize, String> {
    panic!("a warmer that panics, as this test wants");
}
