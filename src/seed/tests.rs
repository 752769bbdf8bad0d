//! Tests that load the sample into a real database.

use sqlx::PgPool;

use super::*;

async fn load(db: &PgPool) -> (u64, u64, u64) {
    let report = seed(db, Source::Sample, Progress::Silent).await.unwrap();
    (report.products, report.orders, report.lines)
}

async fn number<T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin>(
    db: &PgPool,
    sql: &'static str,
) -> T {
    sqlx::query_scalar(sql).fetch_one(db).await.unwrap()
}

#[sqlx::test]
async fn the_sample_is_loaded_once_however_often_and_leaves_changes_alone(db: PgPool) {
    let (first, second) = tokio::join!(load(&db), load(&db));
    assert_eq!(first.0 + second.0, 15_701, "two loads at once add each row once");
    assert_eq!((first.1 + second.1, first.2 + second.2), (4_734, 56_228));
    let name: String = number(&db, "select name from products where id = 1082185").await;
    assert_eq!(name, "Bananas, tropical fruit, 40 lb");
    let wrong: i64 = number(
        &db,
        "select count(*) from orders o where total_cents <>
             (select sum(quantity * unit_price_cents) from order_items where order_id = o.id)",
    )
    .await;
    assert_eq!(wrong, 0, "every total is the sum of its lines");
    let unnamed: i64 = number(
        &db,
        "select count(*) from products
         where not exists (select from cache_ledger where tag in ('product:' || id, 'product:*'))",
    )
    .await;
    assert_eq!(unnamed, 0, "every new row is invalidated, by its name or with all of its pattern");

    sqlx::query("update products set stock = 7, discontinued_at = now() where id = 1082185")
        .execute(&db)
        .await
        .unwrap();
    let before: i64 = number(&db, "select max(version) from cache_ledger").await;
    assert_eq!(load(&db).await, (0, 0, 0));
    let kept: i64 = number(&db, "select count(*) from products where stock = 7 and discontinued_at is not null").await;
    assert_eq!(kept, 1);
    let after: i64 = number(&db, "select max(version) from cache_ledger").await;
    assert_eq!(before, after, "what adds nothing invalidates nothing");
}

#[sqlx::test]
async fn a_damaged_file_loads_nothing_and_is_named(db: PgPool) {
    let folder = std::env::temp_dir().join(format!("aside-seed-{}", uuid::Uuid::now_v7()));
    std::fs::create_dir_all(&folder).unwrap();
    let missing = seed(&db, Source::Full(folder.clone()), Progress::Silent).await.unwrap_err();
    assert!(missing.to_string().contains("products.csv.gz"), "{missing}");

    let cut_short = &include_bytes!("../../data/sample/products.csv.gz")[..100_000];
    std::fs::write(folder.join("products.csv.gz"), cut_short).unwrap();
    let damaged = seed(&db, Source::Full(folder.clone()), Progress::Silent).await.unwrap_err();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(matches!(damaged, SeedError::Row { file: "products.csv.gz", .. }), "{damaged}");
    assert_eq!(number::<i64>(&db, "select count(*) from products").await, 0);
}
