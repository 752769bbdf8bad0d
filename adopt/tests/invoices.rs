//! Tests of invoices through their routes, on real servers. Every reader sees the latest write, and
//! a failure of Redis changes no answer.

mod support;

use aside_cache::CacheMode;
use aside_testkit::{Gate, RedisServer, eventually};
use serde_json::{Value, json};
use sqlx::PgPool;
use support::{Client, Fixture, Reply};

/// The slash shows that a number needs no special care in tags.
const NUMBER: &str = "2026/7";
const PATH: &str = "/invoices/2026%2F7";

async fn create(client: &Client) -> Reply {
    let lines = [json!({ "text": "a chair", "amount_cents": 4200 })];
    let new = json!({ "number": NUMBER, "customer": 7, "due_at": "2026-12-24T18:00:00Z", "lines": lines });
    client.send("POST", "/invoices", ("accept", "*/*"), new).await
}

/// The numbers in a list of the customer.
async fn listed(client: &Client, status: &str) -> Vec<Value> {
    let list = client.get(&format!("/customers/7/invoices/{status}")).await.body;
    list.as_array().expect("a list").iter().map(|invoice| invoice["number"].clone()).collect()
}

async fn set_status(client: &Client, status: &str, if_match: &str) -> Reply {
    client.send("PATCH", PATH, ("if-match", if_match), json!({ "status": status })).await
}

#[sqlx::test(migrations = false)]
async fn a_reader_sees_every_write_and_the_invoice_moves_between_lists(pool: PgPool) {
    let (_fixture, client) = Fixture::start(pool).await;
    assert_eq!((client.get(PATH).await.status, listed(&client, "draft").await.len()), (404, 0));
    let created = create(&client).await;
    assert_eq!((created.status, &created.body["lines"][0]["text"]), (201, &json!("a chair")));
    assert_eq!((client.get(PATH).await.body, listed(&client, "draft").await), (created.body, vec![json!(NUMBER)]));
    assert_eq!(create(&client).await.status, 409);

    let sent = set_status(&client, "sent", &created.etag).await;
    assert_eq!((sent.status, &sent.body["status"], &sent.body["version"]), (200, &json!("sent"), &json!(2)));
    assert_eq!((listed(&client, "draft").await.len(), listed(&client, "sent").await), (0, vec![json!(NUMBER)]));
    assert_eq!(client.get(PATH).await.body, sent.body);
    assert_eq!(client.send("GET", PATH, ("if-none-match", &sent.etag), Value::Null).await.status, 304);
}

/// The other instance can't poll the ledger. Its refusal still reports the database's state, and its
/// later reads show the same state.
#[sqlx::test(migrations = false)]
async fn an_outdated_if_match_is_refused_and_no_later_read_is_older(pool: PgPool) {
    let (mut fixture, one) = Fixture::start(pool).await;
    let other = fixture.client().await;
    let created = create(&other).await;
    assert_eq!((other.get(PATH).await.etag, listed(&other, "sent").await.len()), (created.etag.clone(), 0));
    let gate = Gate::polls(&fixture.database.pool).await;
    assert_eq!(set_status(&one, "sent", "*").await.status, 200);
    assert_eq!(other.get(PATH).await.etag, created.etag, "it has not heard of the change");
    assert_eq!(set_status(&other, "sent", &created.etag).await.status, 412);
    assert_eq!((other.get(PATH).await.body["version"].clone(), listed(&other, "sent").await.len()), (json!(2), 1));
    assert_eq!(set_status(&other, "draft", "*").await.status, 409);
    gate.open().await;
}

#[sqlx::test(migrations = false)]
async fn a_hit_needs_no_database_and_a_write_no_redis(pool: PgPool) {
    let mut redis = RedisServer::start();
    let mut fixture = Fixture::new(pool, &redis).await;
    let (one, other) = (fixture.client().await, fixture.client().await);
    create(&one).await;
    one.get(PATH).await;
    // The first read of a tenant loads its record. The second one may load nothing.
    listed(&other, "draft").await;
    let cached = async || other.send("GET", PATH, ("cache-control", "only-if-cached"), Value::Null).await;
    eventually("Redis answers", || async { (cached().await.status == 200).then_some(()) }).await;
    redis.kill_9();
    let sent = set_status(&one, "sent", "*").await;
    assert_eq!((one.get(PATH).await.body, listed(&one, "sent").await.len()), (sent.body.clone(), 1));
    fixture.database.proxy.cut();
    assert_eq!(one.get(PATH).await.body, sent.body);
}

#[sqlx::test(migrations = false)]
async fn writers_outside_of_the_service_show_too(pool: PgPool) {
    let (fixture, client) = Fixture::start(pool).await;
    create(&client).await;
    assert_eq!((client.get(PATH).await.status, listed(&client, "draft").await.len()), (200, 1));
    let pool = fixture.database.pool.clone();
    let execute = async |sql| sqlx::query(sql).execute(&pool).await.expect("a write by another program");
    let line = async || client.get(PATH).await.body["lines"][0]["text"].clone();
    execute("update invoice_lines set text = 'a table'").await;
    eventually("the line shows", || async { (line().await == "a table").then_some(()) }).await;
    execute("update invoices set status = 'paid'").await;
    eventually("it is in the other list", || async { listed(&client, "paid").await.pop() }).await;
}

#[sqlx::test(migrations = false)]
async fn every_change_raises_a_tag_of_each_answer_that_it_makes_wrong(pool: PgPool) {
    let (fixture, client) = Fixture::start(pool).await;
    create(&client).await;
    let others = "insert into invoices values ('demo', 'b', 7, 'sent', now()); insert into invoice_lines values ('demo', 'b', 2, 'b', 9)";
    let mut check = fixture.check(others).await;
    check.read("invoice", |session| async move { session.invoice(NUMBER, CacheMode::NoStore).await });
    check.read("invoice-list", |session| async move { session.invoices(7, "draft", CacheMode::NoStore).await });
    check.write("an invoice is sent", async move { _ = set_status(&client, "sent", "*").await });
    check.run().await.assert_complete();
}

#[sqlx::test(migrations = false)]
async fn accesses_are_recorded_and_another_tenant_sees_nothing(pool: PgPool) {
    let (fixture, client) = Fixture::start(pool).await;
    create(&client).await;
    client.get(PATH).await;
    let records = fixture.accesses().join("\n");
    assert_eq!(records.matches("demo alice Invalidation").count(), 2, "the invoice and its list: {records}");
    assert!(records.contains("demo alice Read") && !records.contains(NUMBER), "{records}");

    let other = client.of_tenant("acme");
    assert_eq!((other.get(PATH).await.status, listed(&other, "draft").await.len()), (404, 0));
    assert_eq!(set_status(&other, "sent", "*").await.status, 404);
    assert_eq!(client.of_tenant("").get(PATH).await.status, 401);
}
