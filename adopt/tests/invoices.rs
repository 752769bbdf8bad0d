//! Tests of the service of invoices on real servers. Every reader sees the latest write, and a
//! failure of Redis changes no answer.

use std::{sync::Arc, time::Duration};

use aside_cache::{Cache, CacheConfig, CacheMode, ConnectionPool, Error, Keyring, L2, Outcome, RedisL2, Tenant};
use aside_testkit::{Gate, RedisServer, TestDatabase, eventually, redis_server::fresh_namespace, triggers};
use chrono::DateTime;
use invoices::audit::AccessLog;
use invoices::invoices::{CachedInvoiceService, Invoice, Line, Refusal, Status};
use sqlx::{PgPool, postgres::PgPoolOptions};

/// These keys seal the entries in Redis. They are not secret.
const KEYS: &str = "test:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
/// The slash shows that a number needs no special care in tags.
const NUMBER: &str = "2026/7";
const CUSTOMER: i64 = 7;

/// Instances over one database and one Redis.
struct Fixture {
    database: TestDatabase,
    redis: String,
    namespace: String,
}

impl Fixture {
    async fn new(pool: PgPool, redis: &RedisServer) -> Self {
        invoices::migrate(&pool).await.expect("the migrations run");
        Self { database: TestDatabase::new(pool).await, redis: redis.url(), namespace: fresh_namespace() }
    }

    /// Starts one more instance. Its limits are long, so that a busy machine causes no extra loads.
    async fn instance(&mut self) -> Service {
        let pool = PgPoolOptions::new().max_connections(5);
        let db = ConnectionPool::new("Postgres", pool, self.database.options());
        let config = CacheConfig {
            namespace: self.namespace.clone(),
            keys: Some(Keyring::parse(KEYS).expect("keys")),
            l2: Some(Arc::new(RedisL2::standalone(&self.redis).expect("the URL of Redis")) as Arc<dyn L2>),
            l2_deadline: Duration::from_secs(2),
            max_staleness: Duration::from_secs(60),
            policies: invoices::policies(),
            recorder: Some(Arc::new(AccessLog(std::sync::mpsc::channel().0))),
            ..CacheConfig::default()
        };
        let cache = Cache::start(config, db);
        eventually("the ledger is followed", || async { cache.is_current().then_some(()) }).await;
        let ending = cache.clone();
        self.database.at_end(async move {
            ending.shutdown().await;
            ending.close_pools().await;
        });
        Service { service: CachedInvoiceService { cache }, tenant: Tenant::parse("demo").expect("a tenant") }
    }
}

/// The service as one tenant uses it.
struct Service {
    service: CachedInvoiceService,
    tenant: Tenant,
}

impl Service {
    async fn create(&self, number: &str) -> Invoice {
        let due_at = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
        let lines = vec![Line { text: "a chair".into(), amount_cents: 4_200 }];
        let new =
            Invoice { number: number.into(), customer: CUSTOMER, status: Status::Draft, due_at, lines, version: 1 };
        self.service.create(&self.tenant, new).await.expect("an invoice is created")
    }

    /// Returns the invoice, if there is one, with the source of the answer.
    async fn read(&self, number: &str) -> (Option<Invoice>, Outcome) {
        let read = self.service.get(&self.tenant, number, CacheMode::Default).await.expect("an answer");
        (read.entry.value.clone(), read.outcome)
    }

    async fn numbers(&self, status: Status) -> Vec<String> {
        let read = self.service.list(&self.tenant, CUSTOMER, status, CacheMode::Default).await.expect("a list");
        read.entry.value.iter().flat_map(|list| &list.0).map(|invoice| invoice.number.clone()).collect()
    }

    async fn set_status(&self, to: Status, expected: Option<i64>) -> Result<Invoice, Error> {
        self.service.set_status(&self.tenant, NUMBER, to, expected).await
    }
}

fn refusal<T>(result: Result<T, Error>) -> Option<Refusal> {
    match result {
        Err(Error::Other(error)) => error.downcast_ref().cloned(),
        _ => None,
    }
}

#[sqlx::test(migrations = false)]
async fn a_reader_sees_every_write_and_the_invoice_moves_between_lists(pool: PgPool) {
    let mut fixture = Fixture::new(pool, RedisServer::shared()).await;
    let service = fixture.instance().await;
    assert_eq!(service.read(NUMBER).await.0, None);
    assert!(service.numbers(Status::Draft).await.is_empty());

    let created = service.create(NUMBER).await;
    assert_eq!(service.read(NUMBER).await.0, Some(created.clone()));
    assert_eq!(service.numbers(Status::Draft).await, [NUMBER]);
    assert!(service.numbers(Status::Sent).await.is_empty());

    let sent = service.set_status(Status::Sent, Some(1)).await.expect("it is sent");
    assert_eq!(sent, Invoice { status: Status::Sent, version: 2, ..created });
    assert_eq!(service.read(NUMBER).await.0, Some(sent));
    assert!(service.numbers(Status::Draft).await.is_empty());
    assert_eq!(service.numbers(Status::Sent).await, [NUMBER]);
    let stored: (String, i64) = sqlx::query_as("select status, version from invoices where number = $1")
        .bind(NUMBER)
        .fetch_one(&fixture.database.pool)
        .await
        .expect("its row");
    assert_eq!(stored, ("sent".to_owned(), 2));
}

#[sqlx::test(migrations = false)]
async fn a_write_of_one_instance_shows_on_another(pool: PgPool) {
    let mut fixture = Fixture::new(pool, RedisServer::shared()).await;
    let (one, other) = (fixture.instance().await, fixture.instance().await);
    one.create(NUMBER).await;
    eventually("the invoice shows", || async { other.read(NUMBER).await.0 }).await;
    assert_eq!(other.numbers(Status::Draft).await, [NUMBER]);
    one.set_status(Status::Sent, None).await.expect("it is sent");
    eventually("the change shows", || async { other.read(NUMBER).await.0.filter(|it| it.status == Status::Sent) })
        .await;
    eventually("it left the list", || async { other.numbers(Status::Draft).await.is_empty().then_some(()) }).await;
}

#[sqlx::test(migrations = false)]
async fn a_hit_needs_no_database(pool: PgPool) {
    let mut fixture = Fixture::new(pool, RedisServer::shared()).await;
    let (one, watcher) = (fixture.instance().await, fixture.instance().await);
    let created = one.create(NUMBER).await;
    one.read(NUMBER).await;
    watcher.service.cache.ensure_tenant_loaded(&watcher.tenant).await;
    let key = Invoice::key(&watcher.tenant, NUMBER);
    eventually("Redis is filled", || watcher.service.cache.get(key.clone()).only_if_cached()).await;
    let other = fixture.instance().await;
    other.service.cache.ensure_tenant_loaded(&other.tenant).await;
    fixture.database.proxy.cut();
    assert_eq!(one.read(NUMBER).await, (Some(created.clone()), Outcome::L1Hit));
    assert_eq!(other.read(NUMBER).await, (Some(created), Outcome::L2Hit));
}

#[sqlx::test(migrations = false)]
async fn everything_works_without_redis(pool: PgPool) {
    let mut redis = RedisServer::start();
    let mut fixture = Fixture::new(pool, &redis).await;
    let service = fixture.instance().await;
    service.create(NUMBER).await;
    service.read(NUMBER).await;
    redis.kill_9();
    let sent = service.set_status(Status::Sent, None).await.expect("writes don't need Redis");
    assert_eq!(service.read(NUMBER).await.0, Some(sent.clone()));
    assert_eq!(service.numbers(Status::Sent).await, [NUMBER]);
    redis.restart();
    assert_eq!(fixture.instance().await.read(NUMBER).await.0, Some(sent));
}

#[sqlx::test(migrations = false)]
async fn writers_outside_of_the_service_show_too(pool: PgPool) {
    let mut fixture = Fixture::new(pool, RedisServer::shared()).await;
    let service = fixture.instance().await;
    service.create(NUMBER).await;
    service.read(NUMBER).await;
    service.numbers(Status::Draft).await;
    let pool = fixture.database.pool.clone();
    let execute = async |sql| drop(sqlx::query(sql).execute(&pool).await.expect("a write by another program"));

    execute("update invoice_lines set text = 'a table'").await;
    let is_table = |invoice: &Invoice| invoice.lines[0].text == "a table";
    eventually("the line shows", || async { service.read(NUMBER).await.0.filter(is_table) }).await;
    execute("update invoices set status = 'paid'").await;
    eventually("it left one list", || async { service.numbers(Status::Draft).await.is_empty().then_some(()) }).await;
    eventually("it is in the other", || async { service.numbers(Status::Paid).await.pop() }).await;
    execute("delete from invoices").await;
    eventually("it is gone", || async { service.read(NUMBER).await.0.is_none().then_some(()) }).await;
    eventually("also from its list", || async { service.numbers(Status::Paid).await.is_empty().then_some(()) }).await;
}

#[sqlx::test(migrations = false)]
async fn a_write_invalidates_all_that_the_triggers_would(pool: PgPool) {
    let mut fixture = Fixture::new(pool, RedisServer::shared()).await;
    let service = fixture.instance().await;
    triggers::listen(&fixture.database.pool).await;
    service.create(NUMBER).await;
    assert_eq!(triggers::heard(&fixture.database.pool).await, (2, vec![]), "the invoice and its list");
    service.set_status(Status::Sent, None).await.expect("it is sent");
    assert_eq!(triggers::heard(&fixture.database.pool).await, (3, vec![]), "the invoice and both lists");
}

/// The other instance can't poll the ledger. Its refusal still reports the database's state, and its
/// later reads show the same state.
#[sqlx::test(migrations = false)]
async fn a_read_is_not_older_than_a_refusal(pool: PgPool) {
    let mut fixture = Fixture::new(pool, RedisServer::shared()).await;
    let (one, other) = (fixture.instance().await, fixture.instance().await);
    other.create(NUMBER).await;
    other.read(NUMBER).await;
    other.numbers(Status::Draft).await;
    let gate = Gate::polls(&fixture.database.pool).await;
    one.set_status(Status::Sent, None).await.expect("it is sent");
    let is_draft = other.read(NUMBER).await.0.is_some_and(|invoice| invoice.status == Status::Draft);
    assert!(is_draft, "it has not heard of the change");

    assert_eq!(refusal(other.set_status(Status::Sent, Some(1)).await), Some(Refusal::VersionConflict(2)));
    assert_eq!(other.read(NUMBER).await.0.map(|invoice| invoice.version), Some(2));
    assert_eq!(other.numbers(Status::Sent).await, [NUMBER]);
    let refused = other.set_status(Status::Draft, None).await;
    assert_eq!(refusal(refused), Some(Refusal::IllegalStep(Status::Sent, Status::Draft)));
    gate.open().await;
}

#[sqlx::test(migrations = false)]
async fn another_tenant_sees_nothing(pool: PgPool) {
    let mut fixture = Fixture::new(pool, RedisServer::shared()).await;
    let service = fixture.instance().await;
    service.create(NUMBER).await;
    service.read(NUMBER).await;
    let other = Service { tenant: Tenant::parse("acme").expect("a tenant"), ..service };
    assert_eq!(other.read(NUMBER).await.0, None);
    assert!(other.numbers(Status::Draft).await.is_empty());
    assert_eq!(refusal(other.set_status(Status::Sent, None).await), Some(Refusal::NotFound));
}
