//! Kills a read that misses every tier, at each step of its load and its write-back. Then another
//! instance writes without Redis. The entry that the killed process left in Redis is old, and it
//! remains there.

use std::time::Instant;

use reqwest::Method;
use serde_json::json;
use sqlx::PgPool;

use super::{
    PROMISED, SLACK,
    kill::{Calls, Steps, kill},
};
use crate::support::{ChildProcess, TestApp, database, eventually::within, product};

/// The observations of a walk. Each of them must have occurred, or the walk proved nothing.
#[derive(Debug, Default)]
struct Seen {
    /// Kills that left no entry in Redis, or only a lease.
    unfilled: usize,
    /// Kills that left the answer in Redis.
    filled: usize,
    replied: usize,
}

pub async fn killed_at_every_step(pool: PgPool) {
    let (begun, app) = (Instant::now(), TestApp::builder(pool).max_staleness(PROMISED).build().await);
    let writer = app.another_with(|config| config.l2 = None).await;
    let mut child = ChildProcess::begin(&app).await;
    let (mut kills, mut seen) = (0, Seen::default());
    for steps in Steps::ALL {
        for stop in Steps::stops() {
            let (spare, calls) = (writer.product(product()).await, Calls::of(&child, "fill").await);
            child.get_product(spare).await.expect(200);
            calls.goes_on(&child).await;
            let id = writer.product(product().price(100)).await;
            let before = database::digest(&app.pool).await;

            let request = child.request(Method::GET, &format!("/products/{id}"));
            let killed = kill(child, request, steps, stop, "fill").await;
            kills += 1;
            let context = format!("killed {stop:?} of {steps:?}, reply {:?}", killed.reply);
            assert!(killed.reply.is_none_or(|status| status == 200), "{context}");
            assert_eq!(database::digest(&app.pool).await, before, "a read writes nothing: {context}");
            let filled = app.redis_keys().await.holds(&format!("product:{id}")).await;
            *if filled { &mut seen.filled } else { &mut seen.unfilled } += 1;
            seen.replied += usize::from(killed.reply.is_some());

            writer.patch_product(id, json!({ "price_cents": 200 })).await.expect(200);
            let written = Instant::now();
            child = ChildProcess::begin(&app).await;
            assert_eq!(child.get_product(id).await.int("/price_cents"), 200, "started again: {context}");
            let what = format!("another instance shows the write: {context}");
            within((PROMISED + SLACK).saturating_sub(written.elapsed()), &what, || async {
                (app.get_product(id).await.int("/price_cents") == 200).then_some(())
            })
            .await;
            if killed.beyond {
                break;
            }
        }
    }
    child.kill_9().await;
    println!("a read: killed {kills} times in {:.1?}: {seen:?}", begun.elapsed());
    let Seen { unfilled, filled, replied } = seen;
    assert!([unfilled, filled, replied].iter().all(|count| *count > 0), "not all that matters has happened: {seen:?}");
}
