//! An answer and its tag versions come from one moment. Otherwise an old answer could carry new
//! versions, and no later check would find it.

use sqlx::PgPool;

use crate::support::{TestApp, database, eventually, product};

#[sqlx::test]
async fn a_product_is_read_at_the_moment_of_its_versions(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product().price(100)).await;
    // The transaction that locks the ledger also changes the price. A reader that had read the
    // product before the versions would then get the new version with the old price.
    let mut holder = app.pool.begin().await.expect("a transaction");
    sqlx::query("lock table cache_ledger in access exclusive mode").execute(&mut *holder).await.expect("the ledger");
    let reader = app.get_product(id);
    let writer = async {
        let waiting = "select count(*) from pg_stat_activity where datname = current_database() \
             and wait_event_type = 'Lock' and query like '%cache_ledger where tag = $1%'";
        eventually("the load waits", || async { (database::one(&app.pool, waiting).await >= 1).then_some(()) }).await;
        let change = "update products set price_cents = 250 where id = $1";
        sqlx::query(change).bind(id).execute(&mut *holder).await.expect("the change");
        holder.commit().await.expect("a commit");
    };
    let (first, ()) = tokio::join!(reader, writer);
    first.expect(200);
    assert_eq!(app.get_product(id).await.int("/price_cents"), 250);
}
