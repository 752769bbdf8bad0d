//! Tests of the invoice service through its public functions. Every reader sees the latest write,
//! and a failure of Redis changes no answer.

use std::time::Duration;

use invoices::{
    cache::{CacheMode, Outcome, Tenant},
    domain::{
        DomainError,
        invoices::{Invoice, service::CachedInvoiceService},
    },
};
use sqlx::PgPool;

use crate::support::{Fixture, Gate, RedisServer, eventually, triggers};

const CUSTOMER: i64 = 7;

fn tenant(name: &str) -> Tenant {
    Tenant::parse(name).expect("a tenant")
}

/// Reads an invoice and returns it with the outcome of the read.
async fn read(service: &CachedInvoiceService, id: i64) -> (Invoice, Outcome) {
    let read = service.get_invoice(&tenant("demo"), id, CacheMode::Default).await.expect("an invoice");
    (read.entry.value.clone().expect("a value"), read.outcome)
}

/// Returns the ids in the customer's list.
async fn listed(service: &CachedInvoiceService) -> Vec<i64> {
    let read = service.list_invoices(&tenant("demo"), CUSTOMER, CacheMode::Default).await.expect("a list");
    read.entry.value.iter().flat_map(|list| &list.items).map(|invoice| invoice.id).collect()
}

async fn issue(service: &CachedInvoiceService) -> Invoice {
    service.issue_invoice(&tenant("demo"), CUSTOMER, 4_200).await.expect("an invoice is issued")
}

#[sqlx::test]
async fn what_was_written_is_read_back(pool: PgPool) {
    let mut fixture = Fixture::new(pool).await;
    let service = fixture.instance().await;
    assert!(listed(&service).await.is_empty(), "an empty list is cached too");
    let issued = issue(&service).await;
    assert_eq!(read(&service, issued.id).await.0, issued);
    assert_eq!(listed(&service).await, [issued.id]);

    let paid = service.pay_invoice(&tenant("demo"), issued.id).await.expect("it is paid");
    assert_eq!(paid, Invoice { paid: true, version: 2, ..issued.clone() });
    assert_eq!(read(&service, issued.id).await.0, paid);
    let stored: (bool, i64) = sqlx::query_as("select paid, version from invoices where id = $1")
        .bind(issued.id)
        .fetch_one(&fixture.pool)
        .await
        .expect("its row");
    assert_eq!(stored, (true, 2));

    let again = service.pay_invoice(&tenant("demo"), issued.id).await.expect("it stays paid");
    assert_eq!(again, paid, "paying twice changes nothing");
}

#[sqlx::test]
async fn what_one_instance_writes_the_other_shows_within_d(pool: PgPool) {
    let mut fixture = Fixture::new(pool).await;
    let max_staleness = Duration::from_millis(500);
    let one = fixture.instance_with(|config| config.max_staleness = max_staleness).await;
    let other = fixture.instance_with(|config| config.max_staleness = max_staleness).await;
    let issued = issue(&one).await;
    assert!(!read(&other, issued.id).await.0.paid);
    assert_eq!(listed(&other).await, [issued.id]);

    one.pay_invoice(&tenant("demo"), issued.id).await.expect("it is paid");
    let second = issue(&one).await;
    // The test asserts no time limit, because a busy machine could exceed one. D bounds the
    // staleness of answers, not the time of a request.
    eventually("the other instance shows the payment", || async { read(&other, issued.id).await.0.paid.then_some(()) })
        .await;
    eventually("and the list", || async { (listed(&other).await == [second.id, issued.id]).then_some(()) }).await;
}

#[sqlx::test]
async fn a_read_from_memory_needs_no_database(pool: PgPool) {
    let mut fixture = Fixture::new(pool).await;
    let service = fixture.instance().await;
    let issued = issue(&service).await;
    read(&service, issued.id).await;
    fixture.database.cut();
    assert_eq!(read(&service, issued.id).await, (issued, Outcome::L1Hit));
}

#[sqlx::test]
async fn a_read_from_redis_needs_no_database(pool: PgPool) {
    let mut fixture = Fixture::new(pool).await;
    let (one, watcher) = (fixture.instance().await, fixture.instance().await);
    let issued = issue(&one).await;
    read(&one, issued.id).await;
    let key = Invoice::key(&tenant("demo"), issued.id);
    watcher.cache.ensure_tenant_loaded(&tenant("demo")).await;
    eventually("Redis is filled", || async { watcher.cache.get(key).only_if_cached().await }).await;

    let other = fixture.instance().await;
    other.cache.ensure_tenant_loaded(&tenant("demo")).await;
    fixture.database.cut();
    assert_eq!(read(&other, issued.id).await, (issued, Outcome::L2Hit));
}

#[sqlx::test]
async fn without_redis_everything_goes_on(pool: PgPool) {
    let mut redis = RedisServer::start();
    let mut fixture = Fixture::with_redis(pool, &redis.url()).await;
    let service = fixture.instance().await;
    let issued = issue(&service).await;
    read(&service, issued.id).await;

    redis.kill_9();
    let paid = service.pay_invoice(&tenant("demo"), issued.id).await.expect("writes don't need Redis");
    assert_eq!(read(&service, issued.id).await.0, paid);
    let second = issue(&service).await;
    assert_eq!(listed(&service).await, [second.id, issued.id]);

    redis.restart();
    let other = fixture.instance().await;
    assert_eq!(read(&other, issued.id).await.0, paid, "nor does its return bring anything old");
}

#[sqlx::test]
async fn writers_outside_of_the_service_show_too(pool: PgPool) {
    let mut fixture = Fixture::new(pool).await;
    let service = fixture.instance().await;
    let issued = issue(&service).await;
    read(&service, issued.id).await;
    listed(&service).await;

    let sql = "update invoices set amount_cents = 1 where id = $1";
    sqlx::query(sql).bind(issued.id).execute(&fixture.pool).await.expect("an update by somebody else");
    eventually("the change shows", || async { (read(&service, issued.id).await.0.amount_cents == 1).then_some(()) })
        .await;

    sqlx::query("delete from invoices where id = $1").bind(issued.id).execute(&fixture.pool).await.expect("a deletion");
    eventually("it is gone from the list", || async { listed(&service).await.is_empty().then_some(()) }).await;
    eventually("and gone itself", || async {
        let read = service.get_invoice(&tenant("demo"), issued.id, CacheMode::Default).await;
        matches!(read, Err(DomainError::NotFound { .. })).then_some(())
    })
    .await;
}

#[sqlx::test]
async fn a_write_touches_all_that_the_triggers_would_name(pool: PgPool) {
    let mut fixture = Fixture::new(pool).await;
    let service = fixture.instance().await;
    triggers::listen(&fixture.pool).await;
    let issued = issue(&service).await;
    assert_eq!(triggers::heard(&fixture.pool).await, (2, vec![]), "issuing names the invoice and the list");
    service.pay_invoice(&tenant("demo"), issued.id).await.expect("it is paid");
    assert_eq!(triggers::heard(&fixture.pool).await, (2, vec![]), "and so does paying");
}

/// The other instance cannot poll the ledger. Its write still reports the database's state, and its
/// later reads show the same state.
#[sqlx::test]
async fn what_a_write_without_effect_said_is_read_afterwards(pool: PgPool) {
    let mut fixture = Fixture::new(pool).await;
    let (one, other) = (fixture.instance().await, fixture.instance().await);
    let (paid, gone) = (issue(&other).await, issue(&other).await);
    for invoice in [&paid, &gone] {
        assert!(!read(&other, invoice.id).await.0.paid);
    }
    assert_eq!(listed(&other).await.len(), 2);
    let gate = Gate::polls(&fixture.pool).await;
    one.pay_invoice(&tenant("demo"), paid.id).await.expect("it is paid");
    let sql = "delete from invoices where id = $1";
    sqlx::query(sql).bind(gone.id).execute(&fixture.pool).await.expect("a deletion by somebody else");
    for invoice in [&paid, &gone] {
        assert!(!read(&other, invoice.id).await.0.paid, "it has not heard of the change");
    }
    other.pay_invoice(&tenant("demo"), paid.id).await.expect("it stays paid");
    assert!(read(&other, paid.id).await.0.paid);
    assert_eq!(listed(&other).await, [paid.id]);
    let refused = other.pay_invoice(&tenant("demo"), gone.id).await;
    assert!(matches!(refused, Err(DomainError::NotFound { .. })), "{refused:?}");
    let read = other.get_invoice(&tenant("demo"), gone.id, CacheMode::Default).await;
    assert!(matches!(read, Err(DomainError::NotFound { .. })), "{read:?}");
    gate.open().await;
}

#[sqlx::test]
async fn another_tenant_sees_nothing(pool: PgPool) {
    let mut fixture = Fixture::new(pool).await;
    let service = fixture.instance().await;
    let issued = issue(&service).await;
    read(&service, issued.id).await;
    let foreign = service.get_invoice(&tenant("acme"), issued.id, CacheMode::Default).await;
    assert!(matches!(foreign, Err(DomainError::NotFound { .. })), "{foreign:?}");
    let list = service.list_invoices(&tenant("acme"), CUSTOMER, CacheMode::Default).await.expect("a list");
    assert_eq!(list.entry.value.as_ref().map(|list| list.items.len()), Some(0));
    let paid = service.pay_invoice(&tenant("acme"), issued.id).await;
    assert!(matches!(paid, Err(DomainError::NotFound { .. })), "{paid:?}");
}
