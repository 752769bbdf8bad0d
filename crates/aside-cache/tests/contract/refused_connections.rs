//! Postgres refuses new connections while the existing ones still work. The cache polls the ledger,
//! and loads fail.

use std::time::Duration;

use aside_cache::{
    Cache, CacheMode, Cacheable, ConnectionPool, DbTime, Key, LoadError, LoadFailure, Loaded, Outcome, Policy,
    TagVersion, is_unavailable,
};
use aside_testkit::eventually;
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, postgres::PgPoolOptions};

use super::bench::{Backend, Bench, Note, until_current};

/// A note that may be answered stale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Memo(String);

impl Cacheable for Memo {
    const POLICY: Policy = Policy {
        name: "memo",
        l1_ttl: Duration::from_secs(10),
        stale_if_error: Duration::from_secs(600),
        ..Note::POLICY
    };
}

/// The error of a load.
#[derive(Clone, Debug, PartialEq)]
enum MemoError {
    Unavailable,
    Other(String),
}

impl From<LoadFailure> for MemoError {
    fn from(failure: LoadFailure) -> Self {
        Self::Other(failure.to_string())
    }
}

impl From<sqlx::Error> for MemoError {
    fn from(error: sqlx::Error) -> Self {
        if is_unavailable(&error) { Self::Unavailable } else { Self::Other(error.to_string()) }
    }
}

impl LoadError for MemoError {
    fn is_unavailable(&self) -> bool {
        *self == Self::Unavailable
    }
}

/// A cache and a loader over one pool of one connection.
struct Fixture {
    bench: Bench,
    pool: ConnectionPool,
    cache: Cache,
}

impl Fixture {
    async fn prepare(pool: &PgPool) -> Self {
        let bench = Bench::new(pool, Backend::None).await;
        let options = PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_millis(300));
        let connection = (*pool.connect_options()).clone();
        let pool = ConnectionPool::new("Postgres", options, connection);
        let cache = Cache::start(bench.config(), pool.clone());
        until_current(&cache).await;
        Self { bench, pool, cache }
    }

    async fn read(&self, id: i64) -> Result<(Option<Memo>, Outcome), MemoError> {
        let pool = self.pool.clone();
        let load = move || async move {
            let sql = "select (extract(epoch from now()) * 1000000)::bigint";
            let loaded_at = DbTime(sqlx::query_scalar(sql).fetch_one(&pool).await?);
            let tag_version = TagVersion { tag: key(id).tag().clone(), version: 1 };
            Ok::<_, MemoError>(Loaded {
                value: Some(Memo(id.to_string())),
                tag_versions: vec![tag_version],
                loaded_at,
                valid_until: None,
            })
        };
        let read = self.cache.get_or_load(&key(id), CacheMode::Default, load).await?;
        Ok((read.entry.value.clone(), read.outcome))
    }

    /// Makes the pool connect to a port without a listener, and closes its existing connection.
    async fn refuse(&self) {
        let last = self.pool.acquire().await.expect("the last connection");
        let nowhere = (*self.bench.pool.connect_options()).clone().host("127.0.0.1").port(1);
        self.pool.inner().set_connect_options(nowhere);
        drop(last.detach());
    }
}

fn key(id: i64) -> Key<Memo> {
    Key::new(id)
}

#[sqlx::test]
async fn what_may_be_stale_is_answered_though_the_ledger_is_followed(pool: PgPool) {
    let fixture = Fixture::prepare(&pool).await;
    assert_eq!(fixture.read(1).await, Ok((Some(Memo("1".into())), Outcome::LoadedCold)));
    fixture.refuse().await;
    // The entry is so old that it is loaded again, although the ledger proves that it has not
    // changed.
    fixture.bench.clock.advance(3 * Memo::POLICY.l1_ttl);
    until_current(&fixture.cache).await;
    assert_eq!(fixture.read(1).await, Ok((Some(Memo("1".into())), Outcome::Stale)));
    assert!(fixture.cache.is_current());
    assert_eq!(fixture.read(2).await, Err(MemoError::Unavailable), "what nobody holds");
    let begun = fixture.cache.begin().await.err().expect("no write without a connection");
    assert!(is_unavailable(&begun), "{begun}");
}

#[sqlx::test]
async fn a_pool_whose_connections_are_all_in_use_is_not_taken_for_an_outage(pool: PgPool) {
    let fixture = Fixture::prepare(&pool).await;
    let _used = fixture.pool.acquire().await.expect("the only connection");
    for error in [fixture.pool.acquire().await.err(), fixture.cache.begin().await.err()] {
        assert!(matches!(error, Some(sqlx::Error::PoolTimedOut)), "{error:?}");
    }
    assert!(!fixture.pool.is_down());
}

#[sqlx::test]
async fn a_refusal_is_an_outage_until_a_connection_is_had_again(pool: PgPool) {
    let fixture = Fixture::prepare(&pool).await;
    let last = fixture.pool.acquire().await.expect("the last connection");
    let unknown = (*pool.connect_options()).clone().database("no-such-database");
    fixture.pool.inner().set_connect_options(unknown);
    drop(last.detach());
    let refused = fixture.pool.acquire().await.expect_err("there is no such database");
    assert!(is_unavailable(&refused) && fixture.pool.is_down(), "{refused}");
    assert_eq!(refused.as_database_error().and_then(|error| error.code()).as_deref(), Some("3D000"));
    fixture.pool.inner().set_connect_options((*pool.connect_options()).clone());
    drop(fixture.pool.acquire().await.expect("a connection again"));
    assert!(!fixture.pool.is_down());
}

async fn backend(pool: &ConnectionPool) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar("select pg_backend_pid()").fetch_one(pool).await
}

#[sqlx::test]
async fn a_select_on_a_connection_that_was_cut_is_answered_on_another(pool: PgPool) {
    let fixture = Fixture::prepare(&pool).await;
    let first = backend(&fixture.pool).await.expect("a connection");
    assert_eq!(backend(&fixture.pool).await.expect("a connection"), first, "the next select reuses it");
    sqlx::query("select pg_terminate_backend($1, 10000)").bind(first).execute(&pool).await.expect("it is ended");
    assert_ne!(backend(&fixture.pool).await.expect("another connection"), first);
    assert!(!fixture.pool.is_down());
}

#[sqlx::test]
async fn a_reusable_connection_returns_to_its_pool(pool: PgPool) {
    let fixture = Fixture::prepare(&pool).await;
    let first = backend(&fixture.pool).await.expect("a connection");
    let mut own = fixture.pool.acquire().await.expect("a task that waits gets the connection");
    let again: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *own).await.expect("an answer");
    assert_eq!(again, first);
    drop(own);
    backend(&fixture.pool).await.expect("a connection");
    eventually("it is back", || async { (fixture.pool.inner().num_idle() == 1).then_some(()) }).await;
    backend(&fixture.pool).await.expect("a connection");
    fixture.pool.close().await;
}
