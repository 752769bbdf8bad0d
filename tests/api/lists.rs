//! Lists: pages by key, caching by tag, and requests for many products by their ids.

use serde_json::json;
use sqlx::PgPool;

use crate::support::{TestApp, order, product};

#[sqlx::test]
async fn pages_follow_the_cursor_and_show_every_product_once(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut made = Vec::new();
    for number in 0..7 {
        made.push(app.product(product().name(&format!("Product {number}"))).await);
    }
    assert_eq!(app.walk("/products?limit=3").await, made);
    assert_eq!(app.walk("/products?limit=7").await, made);
    assert_eq!(app.get("/products?limit=100").await.at("/next_cursor"), json!(null));
}

#[sqlx::test]
async fn a_page_without_a_limit_has_twenty_rows(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for _ in 0..21 {
        app.product(product()).await;
    }
    let page = app.get("/products").await;
    assert_eq!(page.ids().len(), 20);
    assert!(page.at("/next_cursor").is_string());
}

#[sqlx::test]
async fn filters_by_category_and_department(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let apple = app.product(product().department("PRODUCE").category("APPLES")).await;
    let pear = app.product(product().department("PRODUCE").category("PEARS")).await;
    let milk = app.product(product().department("DAIRY").category("MILK & CREAM")).await;
    assert_eq!(app.get("/products?category=APPLES").await.ids(), [apple]);
    assert_eq!(app.get("/products?department=PRODUCE").await.ids(), [apple, pear]);
    assert_eq!(app.get("/products?department=DAIRY&category=MILK%20%26%20CREAM").await.ids(), [milk]);
    assert_eq!(app.get("/products?department=DAIRY&category=APPLES").await.ids(), [] as [i64; 0]);
}

#[sqlx::test]
async fn a_page_is_cached_and_needs_no_database(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product().category("APPLES")).await;
    app.get("/products?category=APPLES").await.cache_status().expect_load();
    app.cut_database();
    let again = app.get("/products?category=APPLES").await;
    again.expect(200).cache_status().expect_hit("l1");
    assert_eq!(again.ids(), [id]);
}

#[sqlx::test]
async fn a_new_product_shows_in_the_lists_it_belongs_to_and_leaves_other_pages_cached(pool: PgPool) {
    let app = TestApp::start(pool).await;
    app.product(product().category("APPLES")).await;
    app.product(product().category("PEARS")).await;
    let lists = ["/products", "/products?category=APPLES", "/products?department=PRODUCE"];
    for list in lists {
        app.get(list).await.expect(200);
    }
    app.get("/products?category=PEARS").await.expect(200);
    let new = app.product(product().category("APPLES")).await;
    for list in lists {
        assert!(app.get(list).await.ids().contains(&new), "{list} does not show the new product");
    }
    app.get("/products?category=PEARS").await.cache_status().expect_hit("l1");
}

#[sqlx::test]
async fn a_price_change_shows_in_every_page_that_holds_the_product_and_spares_the_others(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let first = app.product(product().price(100)).await;
    app.product(product()).await;
    let page_one = app.get("/products?limit=1").await;
    let page_two = format!("/products?limit=1&cursor={}", page_one.at("/next_cursor").as_str().expect("a cursor"));
    app.get(&page_two).await.expect(200);
    app.patch_product(first, json!({ "price_cents": 300 })).await.expect(200);
    assert_eq!(app.get("/products?limit=1").await.at("/items/0/price_cents"), json!(300));
    app.get(&page_two).await.cache_status().expect_hit("l1");
}

#[sqlx::test]
async fn a_product_that_changes_its_category_leaves_the_old_list_and_joins_the_new_one(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product().category("APPLES")).await;
    assert_eq!(app.get("/products?category=APPLES").await.ids(), [id]);
    assert_eq!(app.get("/products?category=PEARS").await.ids(), [] as [i64; 0]);
    app.patch_product(id, json!({ "category": "PEARS" })).await.expect(200);
    assert_eq!(app.get("/products?category=APPLES").await.ids(), [] as [i64; 0]);
    assert_eq!(app.get("/products?category=PEARS").await.ids(), [id]);
}

#[sqlx::test]
async fn a_deleted_product_leaves_its_lists(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (gone, stays) = (app.product(product()).await, app.product(product()).await);
    assert_eq!(app.get("/products").await.ids(), [gone, stays]);
    app.delete_product(gone).await.expect(204);
    assert_eq!(app.get("/products").await.ids(), [stays]);
}

#[sqlx::test]
async fn many_products_come_in_the_order_asked_and_unknown_ids_are_listed(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (a, b, c) = (app.product(product()).await, app.product(product()).await, app.product(product()).await);
    let many = app.get(&format!("/products/batch?ids={c},7,{a},{b},8")).await;
    assert_eq!(many.expect(200).ids(), [c, a, b]);
    assert_eq!(many.at("/unknown"), json!([7, 8]));
}

#[sqlx::test]
async fn many_products_share_the_entries_of_single_reads(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (a, b) = (app.product(product()).await, app.product(product()).await);
    app.get_product(a).await.expect(200);
    app.get(&format!("/products/batch?ids={a},{b}")).await.expect(200);
    app.cut_database();
    assert_eq!(app.get(&format!("/products/batch?ids={b},{a}")).await.ids(), [b, a]);
    app.get_product(b).await.expect(200).cache_status().expect_hit("l1");
    let metrics = app.metrics().await;
    assert_eq!((metrics.requests("product", "loaded_cold"), metrics.requests("product", "l1_hit")), (2, 4));
}

#[sqlx::test]
async fn the_top_products_are_the_most_viewed_in_order(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (few, none, many) = (app.product(product()).await, app.product(product()).await, app.product(product()).await);
    for (id, views) in [(few, 3), (none, 0), (many, 9)] {
        let sql = format!("update products set view_count = {views} where id = {id}");
        crate::support::database::sabotage(&app.pool, &sql).await;
    }
    assert_eq!(app.get("/products/top?limit=2").await.ids(), [many, few]);
    app.patch_product(few, json!({ "price_cents": 5 })).await.expect(200);
    assert_eq!(app.get("/products/top?limit=2").await.at("/items/1/price_cents"), json!(5));
}

#[sqlx::test]
async fn a_customers_list_shows_a_new_order_and_a_new_status_at_once(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    assert_eq!(app.orders_of(749).await.ids(), [] as [i64; 0]);
    let placed = app.order(order(749).item(id, 1)).await;
    assert_eq!(app.orders_of(749).await.ids(), [placed]);
    assert_eq!(app.get("/orders?customer_id=749&status=pending").await.ids(), [placed]);
    app.move_order(placed, "confirmed").await.expect(200);
    assert_eq!(app.get("/orders?customer_id=749&status=pending").await.ids(), [] as [i64; 0]);
    assert_eq!(app.orders_of(749).await.at("/items/0/status"), json!("confirmed"));
}

#[sqlx::test]
async fn an_order_leaves_the_lists_of_other_customers_cached(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    app.orders_of(1).await.expect(200);
    app.orders_of(2).await.expect(200);
    app.order(order(1).item(id, 1)).await;
    app.orders_of(2).await.cache_status().expect_hit("l1");
    app.orders_of(1).await.cache_status().expect_load();
}

#[sqlx::test]
async fn a_customers_orders_are_paged(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(app.order(order(9).item(id, 1)).await);
    }
    let mut walked = app.walk("/orders?customer_id=9&limit=2").await;
    walked.sort_unstable();
    assert_eq!(walked, made);
}
