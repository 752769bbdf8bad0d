//! The consistency monitor checks the answers that are really served.

use std::time::Duration;

use aside_testkit::eventually;
use sqlx::PgPool;

use super::bench::{Backend, Bench};

#[sqlx::test]
async fn what_another_instance_changed_is_compared_and_found_to_be_new_enough(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let (writer, id) = (bench.cache().await, bench.fresh_id());
    let reader = bench.cache_with(|config| config.max_staleness = Duration::from_millis(400)).await;
    bench.write(&writer, id, "old").await;
    bench.read(&reader, id).await;
    bench.write(&writer, id, "new").await;
    // The consistency monitor reads the versions within a second and compares the served answers D
    // later.
    eventually("answers are compared", || async {
        for _ in 0..100 {
            bench.read(&reader, id).await;
        }
        (reader.stats().served_checked >= 20).then_some(())
    })
    .await;
    assert_eq!(reader.stats().stale_served, 0);
}
