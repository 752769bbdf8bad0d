//! The roles of docs/production.md: the service runs as a role that owns nothing, and neither it
//! nor another writer can lower a version.

use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::{SERVICE_ROLE, TestApp, database, eventually, order, product};

#[sqlx::test]
async fn the_service_works_as_a_role_that_owns_nothing_and_can_only_raise(pool: PgPool) {
    let app = TestApp::builder(pool).instances(2).with_service_role().build().await;
    let owned: i64 = sqlx::query_scalar("select count(*) from pg_class where relowner = $1::regrole")
        .bind(SERVICE_ROLE)
        .fetch_one(&app.pool)
        .await
        .expect("a number");
    assert_eq!(owned, 0, "the role owns nothing");
    let id = app.product(product().price(1).stock(5)).await;
    app.order(order(1).item(id, 1)).await;
    app.patch_product(id, json!({ "price_cents": 2 })).await.expect(200);
    eventually("the other instance follows", || async {
        (app.instance(1).get_product(id).await.int("/price_cents") == 2).then_some(())
    })
    .await;
    database::outside(&app.pool, &format!("update products set price_cents = 3 where id = {id}")).await;
    eventually("other writers are followed", || async {
        (app.get_product(id).await.int("/price_cents") == 3).then_some(())
    })
    .await;

    let lowering = [
        "update cache_ledger set version = version - 1",
        "insert into cache_ledger (tag, version) select tag, 0 from cache_ledger on conflict (tag) do update set version = 0",
        "update cache_ledger set tag = 'other:' || tag",
        "delete from cache_ledger",
        "truncate cache_ledger",
        "select setval('cache_version', 1)",
        "alter table cache_ledger disable trigger only_raises",
        "alter table products disable trigger invalidates_updated",
        "set session_replication_role = replica",
        "drop function cache_raise(text[]) cascade",
    ];
    for sql in lowering {
        let mut transaction = app.pool.begin().await.expect("a transaction");
        sqlx::raw_sql(AssertSqlSafe(format!("set local role {SERVICE_ROLE}")))
            .execute(&mut *transaction)
            .await
            .expect("a role");
        sqlx::raw_sql(sql).execute(&mut *transaction).await.expect_err(sql);
    }
    // The owner can't lower a version by mistake either.
    sqlx::raw_sql("update cache_ledger set version = version - 1").execute(&app.pool).await.expect_err("only raising");
}
