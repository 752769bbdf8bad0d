//! Health checks. Liveness checks no dependency. Readiness needs Postgres and only reports Redis.

use std::time::Duration;

use sqlx::PgPool;

use crate::support::{Redis, RedisServer, TestApp, eventually};

#[sqlx::test]
async fn a_healthy_instance_is_alive_and_ready(pool: PgPool) {
    let app = TestApp::start(pool).await;
    app.get("/livez").await.expect(200);
    let ready = app.get("/readyz").await;
    ready.expect(200);
    assert!(ready.must_have("cache-control").contains("no-store"), "{ready:#?}");
}

#[sqlx::test]
async fn without_postgres_an_instance_is_alive_but_not_ready(pool: PgPool) {
    let app = TestApp::start(pool).await;
    app.cut_database();
    app.get("/livez").await.expect(200);
    eventually("not ready", || async { (app.get("/readyz").await.status == 503).then_some(()) }).await;
    app.restore_database();
    eventually("ready again", || async { (app.get("/readyz").await.status == 200).then_some(()) }).await;
}

#[sqlx::test]
async fn without_redis_an_instance_is_ready_and_says_degraded_once_it_has_noticed(pool: PgPool) {
    let redis = RedisServer::absent();
    let app = TestApp::builder(pool).redis(&redis).build().await;
    let mut unknown = 0;
    eventually("degraded", || {
        unknown += 1;
        let (app, path) = (&app, format!("/products/{unknown}"));
        async move {
            app.get(&path).await.expect(404);
            let ready = app.get("/readyz").await;
            (ready.expect(200).at("/status") == "degraded").then_some(())
        }
    })
    .await;
}

#[sqlx::test]
async fn an_instance_that_is_meant_to_run_without_redis_is_not_degraded(pool: PgPool) {
    let app = TestApp::builder(pool).redis(Redis::None).build().await;
    app.get("/products/1").await.expect(404);
    assert_eq!(app.get("/readyz").await.expect(200).at("/status"), "ready");
}

#[sqlx::test]
async fn readiness_answers_in_time_though_postgres_hangs(pool: PgPool) {
    let app = TestApp::start(pool).await;
    app.database.set(crate::support::Fault::BlackHole);
    let asked = tokio::time::timeout(Duration::from_secs(10), app.get("/readyz")).await;
    asked.expect("an answer within ten seconds").expect(503);
}
