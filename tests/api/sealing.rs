//! Attackers with access to Redis. Reading Redis reveals no data, and writing to it causes only a
//! miss.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use aside::config::Config;
use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{RedisServer, Temporary, TestApp, eventually, order, product, redis_keys::RedisKeys};

const CUSTOMERS: std::ops::Range<i64> = 7_000_000_000..7_000_001_000;
/// The test searches for four of its bytes. Three bytes would occur by chance in one of thirty
/// runs.
const TOTAL: i64 = 987_654_321_012;
const NAME: &str = "Zanzibar secret tea";

#[sqlx::test]
async fn a_dump_of_redis_tells_nothing_of_a_thousand_orders(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let product = app.product(product().name(NAME)).await;
    let sql = "with placed as (
                   insert into orders (tenant, customer_id, status, total_cents, currency)
                   select 'demo', customer, 'pending', $3, 'USD' from generate_series($1::bigint, $2 - 1) customer returning id
               ), lines as (
                   insert into order_items select id, $4, $5, 1, 199 from placed
               ) select id from placed";
    let ids: Vec<i64> = sqlx::query_scalar(sql)
        .bind(CUSTOMERS.start)
        .bind(CUSTOMERS.end)
        .bind(TOTAL)
        .bind(product)
        .bind(NAME)
        .fetch_all(&app.pool)
        .await
        .expect("a thousand orders");
    for some in ids.chunks(3) {
        for reply in join_all(some.iter().map(|id| app.get_order(*id))).await {
            assert!(reply.expect(200).text.contains(NAME));
        }
    }
    for customer in CUSTOMERS.take(20) {
        app.orders_of(customer).await.expect(200);
    }
    let mut redis = app.redis_keys().await;
    // On a busy machine some fills come too late, so the test does not wait for them.
    let dump = eventually("most of it is in Redis", || async {
        let dump = app.redis_keys().await.entries().await;
        (dump.len() > ids.len() / 2).then_some(dump)
    })
    .await;
    assert!(redis.ending(&format!("order:demo:{}", ids[0])).await.is_empty());
    for (key, sealed) in dump {
        for number in CUSTOMERS.chain([TOTAL]).chain(ids.iter().copied()) {
            let text = number.to_string();
            assert!(!key.contains(&text), "{key} names {number}");
            assert!(!holds(&sealed, text.as_bytes()), "{key} holds {number}");
        }
        for number in CUSTOMERS.take(1).chain([TOTAL]) {
            let packed = number.to_be_bytes();
            let packed = &packed[packed.iter().take_while(|byte| **byte == 0).count()..];
            assert!(!holds(&sealed, &packed[..packed.len() - 1]), "{key} holds {number} as bytes");
        }
        assert!(!holds(&sealed, b"Zanzibar"), "{key} holds a name");
    }
}

#[sqlx::test]
async fn a_tampered_entry_gives_a_miss_and_the_right_answer(pool: PgPool) {
    // The server belongs to the test, because ten million bytes would disturb other tests.
    let server = RedisServer::start();
    let app = TestApp::builder(pool).redis(&server).l1_bytes(0).build().await;
    let product = app.product(product()).await;
    let (id, other) = (app.order(order(749).item(product, 1)).await, app.order(order(750).item(product, 2)).await);
    let (mut redis, (own, sealed)) = hit(&app, id, None).await;
    let (_, (_, foreign)) = hit(&app, other, Some(&own)).await;
    let right = app.get_order(id).await.ok();

    let flipped = |at: usize| {
        let mut damaged = sealed.clone();
        damaged[at] ^= 1;
        damaged
    };
    let mut attacks: Vec<Vec<u8>> = (0..sealed.len()).step_by(sealed.len() / 40).map(flipped).collect();
    attacks.extend([flipped(sealed.len() - 1), sealed[..40].to_vec(), Vec::new(), vec![0; 10 << 20], foreign]);
    for attack in attacks {
        let before = refused(&app).await;
        redis.plant(&own, &attack).await;
        let reply = app.get_order(id).await;
        assert_eq!(reply.ok(), right);
        assert!(!reply.cache_status().hit("l2"), "{} bytes were believed", attack.len());
        // A value that is longer than any entry never leaves Redis, and it is gone afterwards.
        let fetched = u64::from(attack.len() < 2_000_000);
        assert_eq!(refused(&app).await, before + fetched, "{} bytes", attack.len());
        hit(&app, id, None).await;
    }

    app.move_order(id, "confirmed").await.expect(200);
    hit(&app, id, None).await;
    redis.plant(&own, &sealed).await;
    assert_eq!(app.get_order(id).await.at("/status"), Value::from("confirmed"), "an old entry was believed");
}

#[sqlx::test]
async fn keys_are_changed_under_load_without_a_failure_and_the_old_ones_are_gone(pool: PgPool) {
    let [old, new] = [("old", "1"), ("new", "2")].map(|(id, digit)| format!("{id}:{}", digit.repeat(64)));
    let file = Temporary::file("keys", &old);
    let path = file.to_owned();
    let change = move |config: &mut Config| (config.cache_keys, config.cache_keys_file) = (None, Some(path.clone()));
    let app = TestApp::builder(pool).l1_bytes(0).config(change).build().await;
    let product = app.product(product()).await;
    let mut orders = Vec::new();
    for customer in 1..=20 {
        orders.push(app.order(order(customer).item(product, 1)).await);
    }
    let (ended, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let clients = join_all((0..3).map(async |client| {
        while !ended.load(Ordering::Relaxed) {
            for id in orders.iter().skip(client).step_by(3) {
                app.get_order(*id).await.expect(200);
                answered.fetch_add(1, Ordering::Relaxed);
            }
        }
    }));
    let rotation = async {
        let steps = [
            (old.clone(), json!(["old"])),
            (format!("{old}\n{new}"), json!(["old", "new"])),
            (format!("{new}\n{old}"), json!(["new", "old"])),
            (new.clone(), json!(["new"])),
        ];
        for (keys, ids) in steps {
            std::fs::write(&*file, keys).expect("the keys");
            eventually("they are known", || async {
                (app.manage("/cache/compliance").await.at("/keys") == ids).then_some(())
            })
            .await;
            let sealing = ids[0].as_str().expect("an id");
            // Entries that were sealed before remain until they are written again.
            eventually("all that is written is sealed with the first key", || async {
                app.order_management("/cache/invalidate", json!({ "pattern": "order" })).await.expect(200);
                let entries = app.redis_keys().await.entries().await;
                let mut orders = entries.iter().filter(|(key, _)| key.contains(":order:")).peekable();
                let all = orders.peek().is_some() && orders.all(|(_, sealed)| &sealed[2..5] == sealing.as_bytes());
                all.then_some(())
            })
            .await;
        }
        ended.store(true, Ordering::Relaxed);
    };
    tokio::join!(clients, rotation);
    assert!(answered.into_inner() > 100);
}

/// Reads an order until Redis answers. Returns its entry, which must not be `known`.
async fn hit(app: &TestApp, id: i64, known: Option<&str>) -> (RedisKeys, (String, Vec<u8>)) {
    eventually("Redis answers", || async { app.get_order(id).await.cache_status().hit("l2").then_some(()) }).await;
    let mut redis = app.redis_keys().await;
    let entries = redis.entries().await;
    let mut orders = entries.into_iter().filter(|(key, _)| key.contains(":order:") && Some(key.as_str()) != known);
    let entry = orders.next().expect("an entry");
    (redis, entry)
}

/// Counts the reads of orders whose entry in Redis could not be opened.
async fn refused(app: &TestApp) -> u64 {
    app.metrics().await.requests("order", "loaded_unreadable")
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(bytes, part).is_some()
}
