//! Orders against a real database, with L1 and without L2.

use std::sync::Arc;

use aside_cache::{Cache, CacheConfig, CacheMode, ExpectedVersion, Tenant, VersionConflict};
use sqlx::PgPool;

use super::{service::CachedOrderService, *};
use crate::{
    audit::AccessRecorder,
    domain::{ListKind, PageRequest, page::Cursor, policies, products::Product},
};

const BANANAS: i64 = 1_082_185;
const MANGO: i64 = 2;

fn demo() -> Tenant {
    Tenant::parse("demo").unwrap()
}

async fn service(db: &PgPool) -> CachedOrderService {
    let sql = "insert into products (id, name, department, brand, category, type, price_cents, currency, stock)
               values ($1, 'Bananas', 'D', 'B', 'C', 'T', 94, 'USD', 10), ($2, 'Mango', 'D', 'B', 'C', 'T', 129, 'USD', 5)";
    sqlx::query(sql).bind(BANANAS).bind(MANGO).execute(db).await.unwrap();
    let (policies, recorder) = (policies(), Some(Arc::new(AccessRecorder::new(None)) as _));
    CachedOrderService::new(Cache::start(CacheConfig { policies, recorder, ..CacheConfig::default() }, db.clone()))
}

fn order(items: &[(i64, i32)]) -> NewOrder {
    let items = items.iter().map(|&(product_id, quantity)| NewOrderItem { product_id, quantity }).collect();
    NewOrder { customer_id: 749, items }
}

fn once(key: &str, fingerprint: u8) -> Option<Idempotency> {
    Some(Idempotency { key: key.into(), fingerprint: vec![fingerprint] })
}

async fn stock(db: &PgPool, id: i64) -> (i32, i64) {
    sqlx::query_as("select stock, version from products where id = $1").bind(id).fetch_one(db).await.unwrap()
}

async fn count(db: &PgPool) -> i64 {
    sqlx::query_scalar("select count(*) from orders").fetch_one(db).await.unwrap()
}

async fn number(db: &PgPool, name: &str) -> i64 {
    let sql = "select coalesce((select version from cache_ledger where tag = $1), 0)";
    sqlx::query_scalar(sql).bind(name).fetch_one(db).await.unwrap()
}

fn any_status() -> OrderFilter {
    OrderFilter { customer_id: 749, status: None }
}

const FIRST_PAGE: PageRequest = PageRequest { limit: 20, after: None };

#[sqlx::test]
async fn many_orders_are_read_as_each_alone_and_never_those_of_another_tenant(db: PgPool) {
    let orders = service(&db).await;
    let mut ids = vec![7];
    for quantity in 1..3 {
        ids.push(orders.place_order(&demo(), order(&[(BANANAS, quantity)]), None).await.unwrap().id);
    }
    let pool = orders.cache.primary().clone();
    let keys: Vec<_> = ids.iter().map(|id| (demo(), *id)).collect();
    let loaded = store::load_many(pool.clone(), keys.clone()).await.unwrap();
    assert_eq!(loaded.len(), 3);
    for id in &keys {
        let one = store::load_one(pool.clone(), id.clone()).await.unwrap();
        assert_eq!((&one.value, &one.tag_versions), (&loaded[id].value, &loaded[id].tag_versions), "{id:?}");
        assert_eq!(one.value.is_some(), one.tag_versions[0].version > 0, "{id:?} has a version since it was placed");
    }
    let foreign = Tenant::parse("other").unwrap();
    let other = store::load_many(pool, ids.into_iter().map(|id| (foreign.clone(), id)).collect()).await.unwrap();
    assert!(other.values().all(|loaded| loaded.value.is_none() && loaded.tag_versions[0].version == 0));
}

#[sqlx::test]
async fn an_order_takes_stock_and_is_read_back_byte_for_byte(db: PgPool) {
    let orders = service(&db).await;
    let empty = orders.list_orders(&demo(), any_status(), FIRST_PAGE, CacheMode::Default).await.unwrap();
    assert_eq!(empty.entry.value.as_ref().unwrap().items, []);

    let placed = orders.place_order(&demo(), order(&[(BANANAS, 3), (MANGO, 1)]), None).await.unwrap();
    assert_eq!((placed.version, placed.replayed), (1, false));
    assert!(placed.id >= 1_000_000_000_000);
    let read = orders.get_order(&demo(), placed.id, CacheMode::Default).await.unwrap();
    assert_eq!(read.entry.body, placed.body, "GET answers what POST answered");
    let value = read.entry.value.as_ref().unwrap();
    assert_eq!((value.total_cents, value.status, value.updated_at), (411, OrderStatus::Pending, value.placed_at));
    assert_eq!((stock(&db, BANANAS).await, stock(&db, MANGO).await), ((7, 2), (4, 2)));
    let list = orders.list_orders(&demo(), any_status(), FIRST_PAGE, CacheMode::Default).await.unwrap();
    assert_eq!(
        list.entry.value.as_ref().unwrap().items,
        std::slice::from_ref(value),
        "the customer's list shows it at once"
    );
    for name in [format!("product:{BANANAS}"), format!("order:demo:{}", placed.id), "order-list:demo:749".into()] {
        assert!(number(&db, &name).await > 0, "{name}");
    }
}

#[sqlx::test]
async fn a_refused_order_changes_nothing(db: PgPool) {
    let orders = service(&db).await;
    let refusal =
        async |items: &[(i64, i32)]| orders.place_order(&demo(), order(items), once("k", 1)).await.unwrap_err();
    assert!(matches!(refusal(&[]).await, DomainError::Invalid(_)));
    assert!(matches!(refusal(&[(BANANAS, 1), (404, 1)]).await, DomainError::UnknownProduct { item: 1, .. }));
    assert!(matches!(
        refusal(&[(BANANAS, 1), (MANGO, 6)]).await,
        DomainError::OutOfStock { item: 1, available: 5, .. }
    ));
    sqlx::query("update products set discontinued_at = now() where id = $1").bind(MANGO).execute(&db).await.unwrap();
    assert!(matches!(refusal(&[(MANGO, 1)]).await, DomainError::UnknownProduct { item: 0, .. }));
    assert_eq!((stock(&db, BANANAS).await, count(&db).await), ((10, 1), 0));
    let placed = orders.place_order(&demo(), order(&[(BANANAS, 1)]), once("k", 1)).await.unwrap();
    assert!(!placed.replayed, "the key of a refused order is free");
}

#[sqlx::test]
async fn orders_for_the_last_units_never_sell_more_than_there_are(db: PgPool) {
    let orders = service(&db).await;
    let buyers = (0..8).map(|buyer| {
        let orders = orders.clone();
        // Half of the orders name the products in reverse order. The locks are still taken by id.
        let items = if buyer % 2 == 0 { [(BANANAS, 1), (MANGO, 1)] } else { [(MANGO, 1), (BANANAS, 1)] };
        tokio::spawn(async move { orders.place_order(&demo(), order(&items), None).await })
    });
    let mut sold = 0;
    for buyer in buyers.collect::<Vec<_>>() {
        match buyer.await.unwrap() {
            Ok(_) => sold += 1,
            Err(error) => assert!(matches!(error, DomainError::OutOfStock { .. }), "{error}"),
        }
    }
    assert_eq!((sold, stock(&db, MANGO).await.0, stock(&db, BANANAS).await.0), (5, 0, 5));
}

#[sqlx::test]
async fn a_repeated_request_is_answered_the_same_and_done_once(db: PgPool) {
    let orders = service(&db).await;
    let new = order(&[(BANANAS, 2)]);
    let first = orders.place_order(&demo(), new.clone(), once("k", 1)).await.unwrap();
    orders.change_status(&demo(), first.id, OrderStatus::Confirmed, ExpectedVersion::any()).await.unwrap();
    let again = orders.place_order(&demo(), new.clone(), once("k", 1)).await.unwrap();
    assert_eq!(again, Placed { replayed: true, ..first }, "as answered then, whatever became of it");
    let other = orders.place_order(&demo(), order(&[(BANANAS, 3)]), once("k", 2)).await.unwrap_err();
    assert!(matches!(other, DomainError::IdempotencyMismatch), "{other}");
    assert_eq!((count(&db).await, stock(&db, BANANAS).await.0), (1, 8));
    let elsewhere = orders.place_order(&Tenant::parse("acme").unwrap(), new, once("k", 1)).await.unwrap();
    assert!(!elsewhere.replayed, "keys belong to a tenant");
}

#[sqlx::test]
async fn concurrent_requests_with_one_key_place_one_order(db: PgPool) {
    let orders = service(&db).await;
    let requests = (0..6).map(|_| {
        let orders = orders.clone();
        tokio::spawn(async move { orders.place_order(&demo(), order(&[(BANANAS, 1)]), once("k", 1)).await.unwrap() })
    });
    let mut answers = Vec::new();
    for request in requests.collect::<Vec<_>>() {
        answers.push(request.await.unwrap());
    }
    assert_eq!(answers.iter().filter(|placed| !placed.replayed).count(), 1);
    assert!(answers.iter().all(|placed| placed.body == answers[0].body));
    assert_eq!((count(&db).await, stock(&db, BANANAS).await.0), (1, 9));
}

#[sqlx::test]
async fn a_key_that_stays_held_is_reported_as_in_progress(db: PgPool) {
    let orders = service(&db).await;
    let mut holder = db.begin().await.unwrap();
    let claimed = idempotency::claim(&mut holder, &demo(), &once("k", 1).unwrap()).await.unwrap();
    assert_eq!(claimed, None);
    let waiting = orders.place_order(&demo(), order(&[(BANANAS, 1)]), once("k", 1)).await.unwrap_err();
    assert!(matches!(waiting, DomainError::IdempotencyInProgress), "{waiting}");
    holder.rollback().await.unwrap();
    assert!(!orders.place_order(&demo(), order(&[(BANANAS, 1)]), once("k", 1)).await.unwrap().replayed);
}

#[sqlx::test]
async fn only_keys_older_than_a_day_are_removed(db: PgPool) {
    let orders = service(&db).await;
    for key in ["old", "new"] {
        orders.place_order(&demo(), order(&[(BANANAS, 1)]), once(key, 1)).await.unwrap();
    }
    let age = "update idempotency_keys set created_at = created_at - interval '25 hours' where key = 'old'";
    sqlx::query(age).execute(&db).await.unwrap();
    assert_eq!(idempotency::remove_expired(&db.clone().into()).await.unwrap(), 1);
    assert!(orders.place_order(&demo(), order(&[(BANANAS, 1)]), once("new", 1)).await.unwrap().replayed);
    assert!(!orders.place_order(&demo(), order(&[(BANANAS, 1)]), once("old", 1)).await.unwrap().replayed);
}

#[sqlx::test]
async fn cancelling_gives_the_stock_back_and_names_the_products(db: PgPool) {
    let orders = service(&db).await;
    let placed = orders.place_order(&demo(), order(&[(BANANAS, 4), (MANGO, 5)]), None).await.unwrap();
    let before = number(&db, Product::tag_of(MANGO).as_str()).await;
    let cancelled =
        orders.change_status(&demo(), placed.id, OrderStatus::Cancelled, ExpectedVersion::one_of([1])).await.unwrap();
    assert_eq!((cancelled.status, cancelled.version, cancelled.items.len()), (OrderStatus::Cancelled, 2, 2));
    assert_eq!((stock(&db, BANANAS).await, stock(&db, MANGO).await), ((10, 3), (5, 3)));
    assert!(number(&db, Product::tag_of(MANGO).as_str()).await > before);
    let again =
        orders.change_status(&demo(), placed.id, OrderStatus::Cancelled, ExpectedVersion::any()).await.unwrap_err();
    assert!(matches!(again, DomainError::IllegalTransition { from: "cancelled", to: "cancelled" }), "{again}");
    assert_eq!(stock(&db, BANANAS).await.0, 10, "given back once");
}

#[sqlx::test]
async fn another_version_or_another_tenant_can_not_change_an_order(db: PgPool) {
    let orders = service(&db).await;
    let acme = Tenant::parse("acme").unwrap();
    let id = orders.place_order(&demo(), order(&[(BANANAS, 1)]), None).await.unwrap().id;
    let stale =
        orders.change_status(&demo(), id, OrderStatus::Confirmed, ExpectedVersion::one_of([7])).await.unwrap_err();
    assert!(matches!(stale, DomainError::VersionConflict(VersionConflict { current: 1 })), "{stale}");
    let foreign = orders.change_status(&acme, id, OrderStatus::Confirmed, ExpectedVersion::any()).await.unwrap_err();
    assert!(matches!(foreign, DomainError::NotFound { kind: "order", .. }), "{foreign}");
    assert!(orders.get_order(&acme, id, CacheMode::Default).await.is_err());
    let list = orders.list_orders(&acme, any_status(), FIRST_PAGE, CacheMode::Default).await.unwrap();
    assert!(list.entry.value.as_ref().unwrap().items.is_empty());
    assert_eq!(
        store::load_one(orders.cache.primary().clone(), (demo(), id)).await.unwrap().value.unwrap().status,
        OrderStatus::Pending
    );
}

#[sqlx::test]
async fn orders_are_listed_newest_first_in_pages_and_by_status(db: PgPool) {
    let orders = service(&db).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.insert(0, orders.place_order(&demo(), order(&[(BANANAS, 1)]), None).await.unwrap().id);
    }
    orders.change_status(&demo(), ids[1], OrderStatus::Confirmed, ExpectedVersion::any()).await.unwrap();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let (pool, page) = (orders.cache.primary().clone(), PageRequest { limit: 2, after });
        let loaded = store::load_page(pool, demo(), any_status(), page).await.unwrap();
        assert_eq!(loaded.tag_versions[0].version, number(&db, "order-list:demo:749").await);
        let page = loaded.value.unwrap();
        seen.extend(page.items.iter().map(|order| order.id));
        match page.next_cursor {
            Some(cursor) => after = Cursor::decode(ListKind::Orders, &cursor),
            None => break,
        }
    }
    assert_eq!(seen, ids);
    let confirmed = OrderFilter { status: Some(OrderStatus::Confirmed), ..any_status() };
    let pool = orders.cache.primary().clone();
    let page = store::load_page(pool, demo(), confirmed, FIRST_PAGE).await.unwrap().value.unwrap();
    assert_eq!(page.items.iter().map(|order| order.id).collect::<Vec<_>>(), [ids[1]]);
}
