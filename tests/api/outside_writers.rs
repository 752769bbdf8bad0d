//! Writers outside of the service, such as psql or another program. Triggers invalidate the tags of
//! their changes, so the changes show. The service's own writes invalidate all tags that the
//! triggers would invalidate.

use std::sync::atomic::{AtomicI64, Ordering};

use aside::app::database::serving_pool;
use aside_cache::{Cache, CacheConfig, Tag};
use reqwest::Method;
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::{Reply, TestApp, database, eventually, order, product, together, triggers};

/// Changes the database from outside, then reads `path` until `right` accepts the reply.
async fn shows(app: &TestApp, sql: &str, path: &str, right: impl Fn(&Reply) -> bool) {
    app.get(path).await;
    database::outside(&app.pool, sql).await;
    eventually(&format!("{path} shows {sql}"), || async {
        let reply = app.get(path).await;
        right(&reply).then_some(())
    })
    .await;
}

#[sqlx::test]
async fn a_changed_product_shows_alone_and_in_its_pages(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product().price(100)).await;
    let (single, page) = (format!("/products/{id}"), "/products?category=TROPICAL%20FRUIT");
    app.get(page).await.expect(200);
    let sql = format!("update products set price_cents = 7 where id = {id}");
    shows(&app, &sql, &single, |reply| reply.int("/price_cents") == 7).await;
    assert_eq!(app.get(page).await.int("/items/0/price_cents"), 7);
}

#[sqlx::test]
async fn products_that_come_move_and_go_show_in_lists(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product().category("APPLES & PEARS")).await;
    let (old, new) = ("/products?category=APPLES%20%26%20PEARS", "/products?category=%C3%84PFEL");
    assert_eq!((app.get(old).await.ids(), app.get(new).await.ids()), (vec![id], vec![]));
    let moved = format!("update products set category = 'ÄPFEL' where id = {id}");
    shows(&app, &moved, new, |reply| reply.ids() == [id]).await;
    assert_eq!(app.get(old).await.ids(), [] as [i64; 0]);
    let copied = format!(
        "insert into products (name, department, brand, category, type, price_cents, currency, stock)
         select name, department, brand, category, type, price_cents, currency, stock from products where id = {id}"
    );
    shows(&app, &copied, new, |reply| reply.ids().len() == 2).await;
    shows(&app, &format!("delete from products where id = {id}"), new, |reply| reply.ids().len() == 1).await;
    app.get_product(id).await.problem("not-found", 404);
}

#[sqlx::test]
async fn changed_orders_and_lines_show(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    let number = app.order(order(749).item(id, 1)).await;
    let (single, list) = (format!("/orders/{number}"), "/orders?customer_id=749");
    app.get(list).await.expect(200);
    let sql = format!("update orders set status = 'shipped' where id = {number}");
    shows(&app, &sql, &single, |reply| reply.at("/status") == "shipped").await;
    assert_eq!(app.get(list).await.at("/items/0/status"), json!("shipped"));
    let sql = format!("update order_items set quantity = 3 where order_id = {number}");
    shows(&app, &sql, &single, |reply| reply.int("/items/0/quantity") == 3).await;
    assert_eq!(app.get(list).await.int("/items/0/items/0/quantity"), 3);
}

#[sqlx::test]
async fn what_the_service_changes_outside_of_a_write_shows_too(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product().price(100)).await;
    app.get_product(id).await.expect(200);
    // The pool is made like the service's and has one connection. An earlier write on it must leave
    // no setting behind.
    let mut config = app.config.clone();
    config.database_connections = 1;
    let own = serving_pool(&config).await.expect("the service's pool");
    let cache = Cache::start(CacheConfig::default(), own.clone());
    cache.begin().await.expect("a write").commit().await.expect("a commit");
    cache.shutdown().await;
    database::outside(own.inner(), &format!("update products set price_cents = 7 where id = {id}")).await;
    eventually("the price shows", || async { (app.get_product(id).await.int("/price_cents") == 7).then_some(()) })
        .await;
    own.inner().close().await;
}

/// The test checks each write alone, because a later write of the same tag would hide an omission.
#[sqlx::test]
async fn a_write_of_the_service_invalidates_all_that_the_triggers_would(pool: PgPool) {
    let app = TestApp::start(pool).await;
    triggers::listen(&app.pool).await;
    let invalidated = async |what: &str, names: usize| {
        let (named, missed) = triggers::heard(&app.pool).await;
        assert!(missed.is_empty(), "{what} does not touch {missed:?}");
        assert_eq!(named, names, "what the triggers named when: {what}");
    };
    let id = app.product(product().stock(9)).await;
    invalidated("a product comes", 4).await;
    app.patch_product(id, json!({ "price_cents": 7 })).await.expect(200);
    invalidated("its price changes", 1).await;
    app.patch_product(id, json!({ "category": "ÄPFEL", "department": "OBST" })).await.expect(200);
    invalidated("it moves", 6).await;
    let number = app.order(order(749).item(id, 2)).await;
    invalidated("an order is placed", 3).await;
    app.move_order(number, "confirmed").await.expect(200);
    invalidated("an order is confirmed", 2).await;
    app.move_order(number, "cancelled").await.expect(200);
    invalidated("an order is cancelled", 3).await;
    app.delete_product(id).await.expect(204);
    invalidated("a product goes", 4).await;
}

/// Prepared statements fail after it ("cached plan must not change result type"), and each
/// connection has its own.
#[sqlx::test]
async fn a_column_that_gets_another_type_fails_no_request(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (id, moved) = (app.product(product().stock(1_000)).await, app.product(product()).await);
    let customers = AtomicI64::new(1);
    // Each request is sent so often at once that all connections execute it.
    let turn = async || {
        let load = |path: String| app.request(Method::GET, &path).header("cache-control", "no-cache");
        let mut requests = Vec::new();
        for price in 1..=6 {
            let customer = customers.fetch_add(1, Ordering::Relaxed);
            let change = json!({ "price_cents": price, "type": format!("KIND {customer}") });
            let bought = serde_json::Value::from(order(customer).item(id, 1));
            requests.push(load(format!("/products/{id}")));
            requests.push(load(format!("/products/batch?ids={id},{moved}")));
            requests.push(load("/products?category=TROPICAL%20FRUIT".into()));
            requests.push(app.request(Method::PATCH, &format!("/products/{moved}")).json(&change));
            requests.push(app.request(Method::POST, "/orders").json(&bought));
        }
        together(requests.into_iter().map(|request| app.send(request))).await
    };
    for sql in [
        "alter table products alter column brand type varchar(90), alter column name type varchar(200)",
        "alter table products alter column brand type text, alter column name type text",
    ] {
        for reply in turn().await {
            reply.ok();
        }
        sqlx::query(sql).execute(&app.pool).await.expect("another type");
        for reply in turn().await {
            reply.ok();
        }
    }
}

#[sqlx::test]
async fn emptied_tables_show_as_empty(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    app.get_product(id).await.expect(200);
    app.get("/products").await.expect(200);
    sqlx::query("truncate products cascade").execute(&app.pool).await.expect("emptied");
    eventually("the product is gone", || async { (app.get_product(id).await.status == 404).then_some(()) }).await;
    assert_eq!(app.get("/products").await.ids(), [] as [i64; 0]);
}

#[sqlx::test]
async fn counted_views_invalidate_nothing(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    let number = "select max(version) from cache_ledger";
    let before = database::one(&app.pool, number).await;
    database::outside(&app.pool, &format!("update products set view_count = view_count + 5 where id = {id}")).await;
    assert_eq!(database::one(&app.pool, number).await, before);
}

#[sqlx::test]
async fn postgres_and_the_service_spell_names_alike(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut random = fastrand::Rng::with_seed(4_711);
    let mut texts: Vec<String> = ["", "a", "A-Z_0.9", "a b", "a:b", "a%b", "ÄÖÜ", "\u{1F34C}", "%41", "*", "a/b\\c'\""]
        .map(String::from)
        .to_vec();
    texts.extend((0..300).map(|_| (0..random.usize(0..12)).map(|_| random.char('\u{1}'..)).collect()));
    for text in texts {
        let spelt: String = sqlx::query_scalar("select 'tag:' || cache_segment($1)")
            .bind(&text)
            .fetch_one(&app.pool)
            .await
            .unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(spelt, Tag::new("tag", &text).as_str(), "{text:?}");
    }
}

/// Runs SQL as another program would, in one session.
async fn session(app: &TestApp, sql: &str) -> Result<(), sqlx::Error> {
    let mut connection = app.pool.acquire().await?.detach();
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.map(drop)
}

async fn price_shows(app: &TestApp, id: i64, price: i64) {
    eventually("the price shows", || async { (app.get_product(id).await.int("/price_cents") == price).then_some(()) })
        .await;
}

/// Restores and the first copy of logical replication use an empty search path, so a bare name
/// finds no table.
#[sqlx::test]
async fn a_session_that_finds_nothing_by_its_bare_name_raises_tags_too(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product().price(100).stock(9)).await;
    let number = app.order(order(749).item(id, 1)).await;
    app.get_product(id).await.expect(200);
    app.get_order(number).await.expect(200);
    let sql = format!(
        "set search_path = '';
         update public.products set price_cents = 7 where id = {id};
         update public.order_items set quantity = 3 where order_id = {number}"
    );
    session(&app, &sql).await.expect("the triggers find their functions");
    price_shows(&app, id, 7).await;
    eventually("the line shows", || async {
        (app.get_order(number).await.int("/items/0/quantity") == 3).then_some(())
    })
    .await;
    session(&app, "set search_path = ''; truncate public.products cascade").await.expect("emptied");
    eventually("the product is gone", || async { (app.get_product(id).await.status == 404).then_some(()) }).await;
}

/// The role is that of another service or of a job. It may change products and no other data.
#[sqlx::test]
async fn a_role_that_may_only_write_products_can_raise_and_not_lower(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product().price(100)).await;
    app.get_product(id).await.expect(200);
    let role = format!("writer_of_{id}_{}", std::process::id());
    session(&app, &format!("create role {role}; grant select, update on products to {role}")).await.expect("a role");
    let as_role = |sql: &str| format!("set role {role}; {sql}");
    let changed = session(&app, &as_role(&format!("update products set price_cents = 7 where id = {id}"))).await;
    let by_hand = session(&app, &as_role(&format!("select cache_raise(array['product:{id}'])"))).await;
    let mut refused = Vec::new();
    for sql in [
        "update cache_ledger set version = 0",
        "delete from cache_ledger",
        "truncate cache_ledger",
        "select setval('cache_version', 1)",
        "update cache_epochs set id = gen_random_uuid()",
        // The function must not use the role's own table instead of the ledger.
        "create temporary table cache_ledger (tag text primary key, version bigint, xid xid8, at timestamptz default now()); \
         select cache_raise(array['captured']); select 1 / (select 1 - count(*)::int from pg_temp.cache_ledger)",
    ] {
        refused.push((sql, session(&app, &as_role(sql)).await));
    }
    session(&app, &format!("drop owned by {role}; drop role {role}")).await.expect("the role goes");
    changed.expect("it may change a price");
    by_hand.expect("it may raise");
    let (captured, forbidden) = refused.split_last().expect("statements");
    captured.1.as_ref().expect("its own table stays empty");
    for (sql, result) in forbidden {
        let code = result.as_ref().err().and_then(|error| error.as_database_error()?.code().map(String::from));
        assert_eq!(code.as_deref(), Some("42501"), "{sql}: {result:?}");
    }
    price_shows(&app, id, 7).await;
}

#[sqlx::test]
async fn a_statement_that_changes_thousands_of_rows_names_their_patterns(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product().price(100).category("KEPT")).await;
    let names = "select count(*) from cache_ledger where tag like 'product%' and tag not like '%*'";
    let copies = format!(
        "insert into products (name, department, brand, category, type, price_cents, currency, stock)
         select name, department, brand, 'MASS', type, price_cents, currency, stock
         from products, generate_series(1, 3000) where id = {id}"
    );
    let before = database::one(&app.pool, names).await;
    assert_eq!(app.get("/products?category=MASS").await.ids(), [] as [i64; 0]);
    shows(&app, &copies, "/products?category=MASS", |reply| reply.ids().len() == 20).await;
    assert_eq!(app.get("/products?category=KEPT").await.ids(), [id]);
    // A price change affects no list. The first thousand rows do not tell whether another row has
    // moved.
    let sql =
        format!("update products set price_cents = 7, category = case when id = {id} then 'MASS' else category end");
    app.get_product(id).await.expect(200);
    shows(&app, &sql, &format!("/products/{id}"), |reply| reply.int("/price_cents") == 7).await;
    assert_eq!(app.get("/products?category=KEPT").await.ids(), [] as [i64; 0]);
    assert_eq!(database::one(&app.pool, names).await, before, "no row of these changes has a name of its own");
}

#[sqlx::test]
async fn a_version_that_another_writer_replaced_is_no_longer_the_current_one(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product().price(100)).await;
    let tag = app.get_product(id).await.header("etag").expect("a tag").to_owned();
    database::outside(&app.pool, &format!("update products set price_cents = 250 where id = {id}")).await;
    let path = format!("/products/{id}");
    let stock = app.request(Method::PATCH, &path).header("if-match", &tag).json(&json!({ "price_cents": 1 }));
    app.send(stock).await.problem("version-conflict", 412);
    assert_eq!(app.get_product(id).await.int("/price_cents"), 250, "the other change is not lost");
    let version = app.get_product(id).await.int("/version");
    database::outside(&app.pool, &format!("update products set view_count = 9 where id = {id}")).await;
    database::outside(&app.pool, &format!("update products set price_cents = 251, version = 77 where id = {id}")).await;
    price_shows(&app, id, 251).await;
    assert_eq!((version, app.get_product(id).await.int("/version")), (2, 77), "views make no version");
}

/// The service does not know the changes of the meantime.
#[sqlx::test]
async fn where_triggers_were_disabled_everything_is_refused_once_it_is_noticed(pool: PgPool) {
    for (disabled, enabled) in [("disable trigger all", "enable trigger all"), ("disable trigger all", "")] {
        let app = TestApp::start(pool.clone()).await;
        let id = app.product(product().price(100)).await;
        app.get_product(id).await.expect(200);
        session(&app, &format!("alter table products {disabled}")).await.expect("disabled");
        database::outside(&app.pool, &format!("update products set price_cents = 7 where id = {id}")).await;
        if !enabled.is_empty() {
            session(&app, &format!("alter table products {enabled}")).await.expect("enabled");
        }
        assert_eq!(app.get_product(id).await.int("/price_cents"), 100, "nobody could know");
        // Each instance checks the triggers when it starts and every minute.
        let another = app.another().await;
        price_shows(&app, id, 7).await;
        drop(another);
        session(&app, "select cache_generate_triggers('products')").await.expect("as before");
    }
}

#[sqlx::test]
async fn a_moment_that_no_client_could_be_shown_is_refused(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let id = app.product(product()).await;
    for wrong in ["infinity", "-infinity", "20000-01-01"] {
        let refused = session(&app, &format!("update products set updated_at = '{wrong}' where id = {id}")).await;
        let code = refused.as_ref().err().and_then(|error| error.as_database_error()?.code().map(String::from));
        assert_eq!(code.as_deref(), Some("23514"), "{wrong}: {refused:?}");
    }
}

#[sqlx::test]
async fn a_row_that_can_not_be_read_takes_only_itself_along(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(app.product(product()).await);
    }
    session(&app, "alter table products drop constraint products_updated_at_check").await.expect("no constraint");
    let spoilt = format!("update products set updated_at = 'infinity', version = version + 1 where id = {}", ids[1]);
    session(&app, &spoilt).await.expect("spoilt");
    let others = [ids[0], ids[2]];
    eventually("the list goes without it", || async {
        (app.get("/products?category=TROPICAL%20FRUIT").await.ids() == others).then_some(())
    })
    .await;
    assert_eq!(app.walk("/products?limit=1").await, others, "pages go on behind it");
    assert_eq!(app.get("/products/top").await.ids().len(), 2);
    app.get_product(ids[1]).await.problem("internal", 500);
    app.get_product(ids[0]).await.expect(200);
    // The row shows again after its repair.
    let repaired = format!("update products set updated_at = now(), version = version + 1 where id = {}", ids[1]);
    session(&app, &repaired).await.expect("repaired");
    eventually("the list shows it again", || async {
        (app.get("/products?category=TROPICAL%20FRUIT").await.ids() == ids).then_some(())
    })
    .await;
}
