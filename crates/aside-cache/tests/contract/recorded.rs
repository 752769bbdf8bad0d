//! Records of accesses to regulated data: which accesses a recorder hears of, and that a regulated
//! type does not work without one.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};

use aside_cache::{
    Access, AccessKind, Cache, CacheMode, Cacheable, Error, Key, LoadFailure, Outcome, Policy, Recorder, Tag, Tenant,
    Write, on_behalf_of,
};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use super::bench::{Backend, Bench};

/// A note of a tenant whose accesses must be recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, sqlx::FromRow)]
struct Chart {
    text: String,
}

impl Cacheable for Chart {
    const POLICY: Policy = Policy::regulated("chart", Duration::from_mins(1));
}

/// Notes the accesses as texts.
#[derive(Default)]
struct Journal(Mutex<Vec<String>>);

impl Recorder for Journal {
    fn record(&self, access: &Access<'_>) {
        let kind = match access.kind {
            AccessKind::Read { outcome, found } => format!("{} {found}", outcome.as_str()),
            AccessKind::Invalidation => "invalidation".to_owned(),
        };
        let text = |part: Option<&str>| part.unwrap_or("-").to_owned();
        let tenant = access.tenant.as_ref().map(Tenant::as_str);
        let parts = [access.policy.to_owned(), text(tenant), text(access.subject.as_deref()), kind];
        self.0.lock().expect("nobody panicked").push(parts.join(" "));
    }
}

impl Journal {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("nobody panicked"))
    }
}

fn demo() -> Tenant {
    Tenant::parse("demo").expect("a tenant")
}

async fn recorded(bench: &Bench) -> (Cache, Arc<Journal>) {
    let journal = Arc::new(Journal::default());
    let recorder = Arc::clone(&journal) as Arc<dyn Recorder>;
    let cache = bench.cache_with(|config| {
        config.recorder = Some(recorder);
        config.policies.push(Chart::POLICY);
    });
    (cache.await, journal)
}

async fn read(cache: &Cache, id: i64) -> Result<Option<Chart>, Error> {
    let select = sqlx::query_as("select text from notes where id = $1").bind(id);
    Ok(cache.get(Key::<Chart>::of_tenant(&demo(), id)).one(select).await?.entry.value.clone())
}

async fn write(cache: &Cache, id: i64, text: &'static str) -> Result<(), Error> {
    let write = async move |tx: &mut Write| {
        let sql = "insert into notes values ($1, $2) on conflict (id) do update set text = excluded.text";
        sqlx::query(sql).bind(id).bind(text).execute(tx.conn()).await?;
        tx.invalidate(Key::<Chart>::of_tenant(&demo(), id));
        tx.invalidate(Tag::new("note", id));
        Ok(())
    };
    cache.write(write).await
}

#[sqlx::test]
async fn reads_and_writes_of_a_regulated_type_are_recorded(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::Memory).await;
    let (cache, journal) = recorded(&bench).await;
    let id = bench.fresh_id();
    assert_eq!(read(&cache, id).await.expect("an absence"), None);
    assert_eq!(journal.take(), ["chart demo - loaded_cold false"]);

    on_behalf_of("alice", write(&cache, id, "well")).await.expect("a write");
    assert_eq!(journal.take(), ["chart demo alice invalidation"], "in the write's own task, and not of notes");
    for _ in 0..2 {
        on_behalf_of("bob", read(&cache, id)).await.expect("a chart");
    }
    assert_eq!(journal.take(), ["chart demo bob loaded_cold true", "chart demo bob l1_hit true"]);

    let key = Key::<Chart>::of_tenant(&demo(), id);
    assert!(cache.get(key.clone()).only_if_cached().await.is_some());
    let many = cache.get_many([id], |id| Key::<Chart>::of_tenant(&demo(), *id)).only_if_cached().await;
    assert!(many[0].is_some());
    assert_eq!(journal.take(), ["chart demo - l1_hit true", "chart demo - l1_hit true"]);

    cache.invalidate([Tag::prefix("chart")]).await.expect("an invalidation");
    cache.invalidate([Tag::all_of(&demo())]).await.expect("an invalidation");
    cache.invalidate([Tag::prefix("note")]).await.expect("an invalidation");
    assert_eq!(journal.take(), ["chart - - invalidation", "* demo - invalidation"]);
}

#[sqlx::test]
async fn a_read_without_an_answer_is_recorded(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let (cache, journal) = recorded(&bench).await;
    let select = sqlx::query_as("select text from no_such_table");
    let failed = cache.get(Key::<Chart>::of_tenant(&demo(), 1)).mode(CacheMode::NoStore).one(select).await;
    assert!(matches!(failed, Err(Error::Database(_))), "{failed:?}");
    assert_eq!(journal.take(), [format!("chart demo - {} false", Outcome::Failed.as_str())]);
}

#[sqlx::test]
async fn a_regulated_type_needs_a_recorder(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let mut config = bench.config();
    config.policies.push(Chart::POLICY);
    let started = catch_unwind(AssertUnwindSafe(|| Cache::start(config, pool.clone())));
    let panic = started.err().expect("it does not start");
    let message = panic.downcast_ref::<String>().expect("a message");
    assert!(message.contains("`chart`") && message.contains("CacheConfig::recorder"), "{message}");

    // The cache can't know of a type that its policies leave out before it is read.
    let cache = bench.cache().await;
    let refused = read(&cache, 1).await;
    assert!(matches!(refused, Err(Error::Load(LoadFailure::NotRecorded))), "{refused:?}");
    assert!(cache.get(Key::<Chart>::of_tenant(&demo(), 1)).only_if_cached().await.is_none());
    let many = cache.get_many([1], |id| Key::<Chart>::of_tenant(&demo(), *id));
    let select = |ids: Vec<i64>| sqlx::query_as("select text, id from notes where id = any($1)").bind(ids);
    let refused = many.rows("id", select).await;
    assert!(matches!(refused, Err(Error::Load(LoadFailure::NotRecorded))), "{refused:?}");
}
