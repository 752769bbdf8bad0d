//! Orders. They are placed with the current stock and prices, they move along their states, and
//! caches of other tenants never show them.

use serde_json::json;
use sqlx::PgPool;

use crate::support::{TestApp, database, order, product, together};

#[sqlx::test]
async fn an_order_takes_stock_and_keeps_the_price_of_its_moment(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product().price(250).stock(10)).await;
    let other = app.product(product().price(99).stock(5)).await;
    let placed = app.place_order(order(749).item(id, 4).item(other, 1)).await;
    let number = placed.expect(201).int("/id");
    assert_eq!(placed.must_have("location"), format!("/orders/{number}"));
    assert_eq!(
        (placed.int("/total_cents"), placed.at("/status"), placed.int("/version")),
        (1_099, json!("pending"), 1)
    );
    assert_eq!(app.get_product(id).await.int("/stock"), 6);
    assert_eq!(app.get_product(other).await.int("/stock"), 4);
    app.patch_product(id, json!({ "price_cents": 1 })).await.expect(200);
    let read = app.get_order(number).await;
    assert_eq!(read.ok(), placed.json());
    assert_eq!(database::one(&app.pool, &format!("select total_cents from orders where id = {number}")).await, 1_099);
    assert_eq!(database::count(&app.pool, "order_items").await, 2);
}

#[sqlx::test]
async fn an_order_is_private_to_its_reader_and_must_be_validated(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    let number = app.order(order(1).item(id, 1)).await;
    let read = app.get_order(number).await;
    let control = read.expect(200).must_have("cache-control");
    assert!(control.contains("private") && control.contains("no-cache"), "{control}");
    let list = app.orders_of(1).await.must_have("cache-control");
    assert!(list.contains("private"), "{list}");
}

#[sqlx::test]
async fn an_order_is_read_from_l1_without_the_database(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    let number = app.order(order(1).item(id, 1)).await;
    let loaded = app.get_order(number).await;
    app.cut_database();
    let hit = app.get_order(number).await;
    hit.expect(200).cache_status().expect_hit("l1");
    assert_eq!(hit.json(), loaded.json());
}

#[sqlx::test]
async fn the_stock_that_an_order_took_shows_in_cached_products_and_pages(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product().stock(3)).await;
    app.get_product(id).await.expect(200);
    app.get("/products").await.expect(200);
    app.order(order(1).item(id, 2)).await;
    assert_eq!(app.get_product(id).await.int("/stock"), 1);
    assert_eq!(app.get("/products").await.int("/items/0/stock"), 1);
}

#[sqlx::test]
async fn concurrent_orders_never_sell_more_than_there_is(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product().stock(5)).await;
    let orders = (0..12).map(|customer| app.place_order(order(customer + 1).item(id, 1)));
    let replies = together(orders).await;
    let placed = replies.iter().filter(|reply| reply.status == 201).count();
    replies.iter().filter(|reply| reply.status != 201).for_each(|reply| {
        reply.problem("out-of-stock", 409);
    });
    assert_eq!(placed, 5);
    assert_eq!(app.get_product(id).await.int("/stock"), 0);
    assert_eq!(database::count(&app.pool, "orders").await, 5);
}

#[sqlx::test]
async fn an_order_moves_along_its_states_and_shows_each(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    let number = app.order(order(1).item(id, 1)).await;
    for (version, status) in [(2, "confirmed"), (3, "shipped"), (4, "delivered")] {
        let moved = app.move_order(number, status).await;
        assert_eq!((moved.expect(200).at("/status"), moved.int("/version")), (json!(status), version));
        assert_eq!(app.get_order(number).await.ok(), moved.json());
    }
}

#[sqlx::test]
async fn a_state_is_never_reached_out_of_turn(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    let reach = |path: &'static [&'static str]| {
        let app = &app;
        async move {
            let number = app.order(order(1).item(id, 1)).await;
            for status in path {
                app.move_order(number, status).await.expect(200);
            }
            number
        }
    };
    let forbidden: [(&[&str], &[&str]); 5] = [
        (&[], &["pending", "shipped", "delivered"]),
        (&["confirmed"], &["pending", "confirmed", "delivered"]),
        (&["confirmed", "shipped"], &["pending", "confirmed", "shipped", "cancelled"]),
        (&["confirmed", "shipped", "delivered"], &["pending", "confirmed", "shipped", "delivered", "cancelled"]),
        (&["cancelled"], &["pending", "confirmed", "shipped", "delivered", "cancelled"]),
    ];
    for (path, targets) in forbidden {
        let number = reach(path).await;
        for target in targets {
            app.move_order(number, target).await.problem("invalid-transition", 409);
        }
        assert_eq!(app.get_order(number).await.int("/version"), path.len() as i64 + 1);
    }
    let number = reach(&["confirmed"]).await;
    app.move_order(number, "cancelled").await.expect(200);
}

#[sqlx::test]
async fn a_cancelled_order_gives_its_stock_back(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product().stock(5)).await;
    let number = app.order(order(1).item(id, 4)).await;
    assert_eq!(app.get_product(id).await.int("/stock"), 1);
    app.move_order(number, "cancelled").await.expect(200);
    assert_eq!(app.get_product(id).await.int("/stock"), 5);
}

#[sqlx::test]
async fn an_unknown_order_is_not_found(pool: PgPool) {
    let app = TestApp::start(pool).await;
    app.get_order(1).await.problem("not-found", 404);
    app.move_order(1, "confirmed").await.problem("not-found", 404);
}

#[sqlx::test]
async fn an_order_of_another_region_is_not_said_to_be_stored(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    let (own, listed) = (app.order(order(749).item(id, 1)).await, 749);
    sqlx::query("insert into cache_tenants (tenant, home_region) values ('demo', 'elsewhere')")
        .execute(&app.pool)
        .await
        .expect("a home elsewhere");
    for reply in [app.get_order(own).await, app.orders_of(listed).await, app.get_order(own).await] {
        let status = reply.expect(200).must_have("cache-status");
        assert!(status.contains("aside-l1; fwd=miss") && !status.contains("stored"), "{status}");
    }
    let status = app.get_product(id).await.must_have("cache-status");
    assert!(status.contains("aside-l1; fwd=miss; stored"), "{status}");
}
