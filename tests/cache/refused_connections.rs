//! Connections that Postgres refuses while the ones it gave before go on: the ledger is followed, and loads fail.

use std::time::Duration;

use aside::cache::{
    Cache, Cacheable, ConnectionPool, DbTime, Key, Label, LoadError, Loaded, NotLoaded, Outcome, Policy, Reuse,
    is_unavailable,
};
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, postgres::PgPoolOptions};

use super::bench::{Backend, Bench, Note, trusted};
use crate::support::eventually;

/// A note that may be answered stale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Memo(String);

impl Cacheable for Memo {
    const POLICY: Policy = Policy {
        pattern: "memo",
        l1: Duration::from_secs(10),
        stale_on_outage: Duration::from_secs(600),
        ..Note::POLICY
    };
}

/// The error of a load.
#[derive(Clone, Debug, PartialEq)]
enum MemoError {
    Unavailable,
    Other(String),
}

impl From<NotLoaded> for MemoError {
    fn from(not_loaded: NotLoaded) -> Self {
        Self::Other(not_loaded.to_string())
    }
}

impl From<sqlx::Error> for MemoError {
    fn from(error: sqlx::Error) -> Self {
        if is_unavailable(&error) { Self::Unavailable } else { Self::Other(error.to_string()) }
    }
}

impl LoadError for MemoError {
    fn is_outage(&self) -> bool {
        *self == Self::Unavailable
    }
}

/// A cache and a loader over one pool of one connection.
struct Ground {
    bench: Bench,
    pool: ConnectionPool,
    cache: Cache,
}

impl Ground {
    async fn prepare(pool: &PgPool) -> Self {
        let bench = Bench::new(pool, Backend::None).await;
        let options = PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_millis(300));
        let connection = (*pool.connect_options()).clone();
        let pool = ConnectionPool::new("Postgres", options, connection);
        let cache = Cache::start(bench.config(), pool.clone());
        trusted(&cache).await;
        Self { bench, pool, cache }
    }

    async fn read(&self, id: i64) -> Result<(Option<Memo>, Outcome), MemoError> {
        let pool = self.pool.clone();
        let load = move || async move {
            let sql = "select (extract(epoch from now()) * 1000000)::bigint";
            let loaded_at = DbTime(sqlx::query_scalar(sql).fetch_one(&pool).await?);
            let label = Label { name: key(id).name().clone(), version: 1 };
            Ok::<_, MemoError>(Loaded { value: Some(Memo(id.to_string())), labels: vec![label], loaded_at })
        };
        let read = self.cache.get_or_load(&key(id), Reuse::Allowed, load).await?;
        Ok((read.entry.value.clone(), read.outcome))
    }

    /// From now on nobody listens where the pool connects to, and its connection is gone.
    async fn refuse(&self) {
        let last = self.pool.acquire().await.expect("the last connection");
        let nowhere = (*self.bench.pool.connect_options()).clone().host("127.0.0.1").port(1);
        self.pool.inner().set_connect_options(nowhere);
        drop(last.detach());
    }
}

fn key(id: i64) -> Key<Memo> {
    Key::shared(&[&id])
}

#[sqlx::test]
async fn what_may_be_stale_is_answered_though_the_ledger_is_followed(pool: PgPool) {
    let ground = Ground::prepare(&pool).await;
    assert_eq!(ground.read(1).await, Ok((Some(Memo("1".into())), Outcome::LoadedCold)));
    ground.refuse().await;
    // Nobody has asked for it for so long that it is loaded again, though the ledger proves that nothing has changed.
    ground.bench.clock.advance(3 * Memo::POLICY.l1);
    trusted(&ground.cache).await;
    assert_eq!(ground.read(1).await, Ok((Some(Memo("1".into())), Outcome::Stale)));
    assert!(ground.cache.trusted());
    assert_eq!(ground.read(2).await, Err(MemoError::Unavailable), "what nobody holds");
    let begun = ground.cache.begin().await.err().expect("no write without a connection");
    assert!(is_unavailable(&begun), "{begun}");
}

#[sqlx::test]
async fn a_pool_whose_connections_are_all_in_use_is_not_taken_for_an_outage(pool: PgPool) {
    let ground = Ground::prepare(&pool).await;
    let _used = ground.pool.acquire().await.expect("the only connection");
    for error in [ground.pool.acquire().await.err(), ground.cache.begin().await.err()] {
        assert!(matches!(error, Some(sqlx::Error::PoolTimedOut)), "{error:?}");
    }
    assert!(!ground.pool.is_down());
}

#[sqlx::test]
async fn a_refusal_is_an_outage_until_a_connection_is_had_again(pool: PgPool) {
    let ground = Ground::prepare(&pool).await;
    let last = ground.pool.acquire().await.expect("the last connection");
    let unknown = (*pool.connect_options()).clone().database("no-such-database");
    ground.pool.inner().set_connect_options(unknown);
    drop(last.detach());
    let refused = ground.pool.acquire().await.expect_err("there is no such database");
    assert!(is_unavailable(&refused) && ground.pool.is_down(), "{refused}");
    assert_eq!(refused.as_database_error().and_then(|error| error.code()).as_deref(), Some("3D000"));
    ground.pool.inner().set_connect_options((*pool.connect_options()).clone());
    drop(ground.pool.acquire().await.expect("a connection again"));
    assert!(!ground.pool.is_down());
}

async fn backend(pool: &ConnectionPool) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar("select pg_backend_pid()").fetch_one(pool).await
}

#[sqlx::test]
async fn a_select_on_a_connection_that_was_cut_is_answered_on_another(pool: PgPool) {
    let ground = Ground::prepare(&pool).await;
    let first = backend(&ground.pool).await.expect("a connection");
    assert_eq!(backend(&ground.pool).await.expect("a connection"), first, "kept for the next select");
    sqlx::query("select pg_terminate_backend($1, 10000)").bind(first).execute(&pool).await.expect("it is ended");
    assert_ne!(backend(&ground.pool).await.expect("another connection"), first);
    assert!(!ground.pool.is_down());
}

#[sqlx::test]
async fn a_connection_that_is_kept_goes_back_to_its_pool(pool: PgPool) {
    let ground = Ground::prepare(&pool).await;
    let first = backend(&ground.pool).await.expect("a connection");
    let mut own = ground.pool.acquire().await.expect("kept for nobody who waits");
    let again: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *own).await.expect("an answer");
    assert_eq!(again, first);
    drop(own);
    backend(&ground.pool).await.expect("a connection");
    eventually("it is back", || async { (ground.pool.inner().num_idle() == 1).then_some(()) }).await;
    backend(&ground.pool).await.expect("a connection");
    ground.pool.close().await;
}
