//! The fixture of the cache's tests: a table of notes, caches over one L2, and loaders that count
//! their calls and can be stopped.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use aside_cache::{
    Cache, CacheConfig, CacheMode, Cacheable, Cached, Clock, DbTime, Format, Key, L2, LoadError, LoadFailure, Loaded,
    MemcachedL2, MemoryL2, Outcome, Policy, RedisL2, Residency, Sensitivity, Tag, TagVersion, WriteError,
};
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, Row};
use tokio::sync::Semaphore;

use aside_testkit::{MemcachedServer, RedisServer, eventually, memcached_server, redis_server::fresh_namespace};

/// The cached value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    pub id: i64,
    pub text: String,
}

impl Cacheable for Note {
    const POLICY: Policy = Policy {
        name: "note",
        l1_ttl: Duration::from_secs(10),
        l2_ttl: Duration::from_secs(60),
        negative_ttl: Duration::from_secs(5),
        max_age: Duration::from_secs(60),
        stale_if_error: Duration::ZERO,
        jitter_percent: 10,
        format: Format::Json,
        schema_version: "1",
        compress_above: 1_024,
        sensitivity: Sensitivity::Public,
        residency: Residency::Shared,
        volatile: &[],
    };
}

/// A list of notes, in the other format, always compressed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notes(pub Vec<Note>);

impl Cacheable for Notes {
    const POLICY: Policy = Policy { name: "note-list", format: Format::MessagePack, compress_above: 1, ..Note::POLICY };
}

/// The error of a loader. Each caller that waited gets a clone.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("the load failed")]
pub enum NoteError {
    Refused,
    Aborted,
}

impl From<LoadFailure> for NoteError {
    fn from(_: LoadFailure) -> Self {
        Self::Aborted
    }
}

impl LoadError for NoteError {
    fn is_unavailable(&self) -> bool {
        matches!(self, Self::Refused)
    }
}

/// The error of a write.
#[derive(Debug)]
pub enum WriteRefused {
    /// The note exists already.
    Taken,
    Failed(sqlx::Error),
}

impl From<sqlx::Error> for WriteRefused {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error)
    }
}

impl WriteError for WriteRefused {
    fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_))
    }

    fn is_conflict(&self) -> bool {
        let code = |error: &sqlx::Error| error.as_database_error().and_then(|error| error.code()).map(String::from);
        matches!(self, Self::Failed(error) if code(error).as_deref() == Some("40001"))
    }
}

/// The L2 of a bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    None,
    Memory,
    Redis,
    Memcached,
}

/// Returns all backends.
pub fn backends() -> Vec<Backend> {
    [vec![Backend::None], shared_backends()].concat()
}

/// Returns the backends that several caches share. Memcached is one of them if its binary is named.
fn shared_backends() -> Vec<Backend> {
    let memcached = memcached_server::binary().map(|_| Backend::Memcached);
    [Backend::Memory, Backend::Redis].into_iter().chain(memcached).collect()
}

/// One database and one L2, with as many caches over them as a test starts.
#[derive(Clone)]
pub struct Bench {
    pub backend: Backend,
    pub pool: PgPool,
    pub clock: Clock,
    namespace: String,
    /// The tier that the bench's caches share.
    pub l2: Option<Arc<dyn L2>>,
    next: Arc<AtomicI64>,
    /// The number of database reads so far.
    pub loads: Arc<AtomicUsize>,
}

/// Runs a scenario over every backend, each on a bench of its own.
pub async fn over_every_backend(pool: PgPool, scenario: impl AsyncFn(Bench)) {
    for backend in backends() {
        eprintln!("over {backend:?}");
        scenario(Bench::new(&pool, backend).await).await;
    }
}

/// Runs a scenario over every backend that several caches share.
pub async fn over_every_l2(pool: PgPool, scenario: impl AsyncFn(Bench)) {
    for backend in shared_backends() {
        eprintln!("over {backend:?}");
        scenario(Bench::new(&pool, backend).await).await;
    }
}

impl Bench {
    /// Creates a bench with this backend.
    pub async fn new(pool: &PgPool, backend: Backend) -> Self {
        let clock = Clock::adjustable();
        let l2: Option<Arc<dyn L2>> = match backend {
            Backend::None => None,
            Backend::Memory => Some(Arc::new(MemoryL2::new(clock.clone()))),
            Backend::Redis => {
                Some(Arc::new(RedisL2::standalone(&RedisServer::shared().url()).expect("the URL of Redis")))
            }
            Backend::Memcached => Some(Arc::new(MemcachedL2::new(MemcachedServer::shared().address()))),
        };
        Self::over(pool, backend, l2, clock).await
    }

    /// Creates a bench with an L2 of the test's own.
    pub async fn with_l2(pool: &PgPool, l2: impl L2) -> Self {
        Self::over(pool, Backend::Memory, Some(Arc::new(l2)), Clock::adjustable()).await
    }

    async fn over(pool: &PgPool, backend: Backend, l2: Option<Arc<dyn L2>>, clock: Clock) -> Self {
        let table = "create table if not exists notes (id bigint primary key, text text not null)";
        sqlx::query(table).execute(pool).await.expect("the table of notes");
        let next: i64 =
            sqlx::query_scalar("select coalesce(max(id), 0) from notes").fetch_one(pool).await.expect("an id");
        let (next, loads) = (Arc::new(AtomicI64::new(next + 1)), Arc::default());
        Self { backend, pool: pool.clone(), clock, namespace: fresh_namespace(), l2, next, loads }
    }

    /// Starts a cache, as one instance has it, and waits until its floors are current.
    pub async fn cache(&self) -> Cache {
        self.cache_with(|_| {}).await
    }

    /// Starts a cache with other settings.
    pub async fn cache_with(&self, change: impl FnOnce(&mut CacheConfig)) -> Cache {
        let mut config = self.config();
        change(&mut config);
        let cache = Cache::start(config, self.pool.clone());
        until_current(&cache).await;
        cache
    }

    /// Returns the settings of a cache.
    pub fn config(&self) -> CacheConfig {
        CacheConfig {
            namespace: self.namespace.clone(),
            l2: self.l2.clone(),
            // The limits are long, because a busy machine must not turn a hit into a miss.
            l2_deadline: Duration::from_secs(2),
            max_staleness: Duration::from_secs(60),
            poll: Duration::from_millis(10),
            clock: self.clock.clone(),
            policies: vec![Note::POLICY, Notes::POLICY],
            // Tests count loads.
            sampled_loads: None,
            ..CacheConfig::default()
        }
    }

    /// Returns an id that no note has yet.
    pub fn fresh_id(&self) -> i64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Advances the clock and waits until the caches have polled the ledger at the new time.
    pub async fn advance(&self, by: Duration, caches: &[&Cache]) {
        self.clock.advance(by);
        for cache in caches {
            until_current(cache).await;
        }
    }

    /// Writes a note through a cache, with the pattern of every service.
    pub async fn write(&self, cache: &Cache, id: i64, text: &str) {
        let mut write = cache.begin().await.expect("a transaction");
        let sql = "insert into notes values ($1, $2) on conflict (id) do update set text = excluded.text";
        sqlx::query(sql).bind(id).bind(text).execute(write.conn()).await.expect("the note is written");
        write.invalidate(name(id));
        write.invalidate(Tag::new("note-list", ()));
        write.commit().await.expect("a commit");
    }

    /// Deletes a note through a cache.
    pub async fn erase(&self, cache: &Cache, id: i64) {
        let mut write = cache.begin().await.expect("a transaction");
        sqlx::query("delete from notes where id = $1")
            .bind(id)
            .execute(write.conn())
            .await
            .expect("the note is deleted");
        write.invalidate(name(id));
        write.invalidate(Tag::new("note-list", ()));
        write.commit().await.expect("a commit");
    }

    /// Changes a note without an invalidation. Afterwards only a tier can still show the old text.
    pub async fn sabotage(&self, id: i64, text: &str) {
        let sql = "insert into notes values ($1, $2) on conflict (id) do update set text = excluded.text";
        sqlx::query(sql).bind(id).bind(text).execute(&self.pool).await.expect("the note is changed");
    }

    /// Reads a note through a cache.
    pub async fn read(&self, cache: &Cache, id: i64) -> Cached<Note> {
        self.read_as(cache, id, CacheMode::Default).await
    }

    /// Reads a note in this cache mode.
    pub async fn read_as(&self, cache: &Cache, id: i64, mode: CacheMode) -> Cached<Note> {
        let this = self.clone();
        let read: Result<_, NoteError> =
            cache.get_or_load(&key(id), mode, move || async move { Ok(this.load(id).await) }).await;
        read.expect("the loader does not fail")
    }

    /// Reads the list of the notes from `first` on.
    pub async fn list(&self, cache: &Cache, first: i64) -> Cached<Notes> {
        let this = self.clone();
        let key = Key::<Notes>::new(first);
        let read: Result<_, NoteError> =
            cache.get_or_load(&key, CacheMode::Default, move || async move { Ok(this.load_list(first).await) }).await;
        read.expect("the loader does not fail")
    }

    /// Loads a note, with its value, tag versions and time in one statement.
    pub async fn load(&self, id: i64) -> Loaded<Note> {
        self.load_many(vec![id]).await.remove(&id).expect("an answer for the id")
    }

    /// Like [`Bench::load`], from a server whose clock is a minute ahead of its successor's.
    pub async fn load_by_a_clock_ahead(&self, id: i64) -> Loaded<Note> {
        let loaded = self.load(id).await;
        Loaded { loaded_at: loaded.loaded_at.after(Duration::from_secs(60)), ..loaded }
    }

    /// Loads a batch of notes.
    pub async fn load_many(&self, ids: Vec<i64>) -> HashMap<i64, Loaded<Note>> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        let sql = "select asked.id, notes.text, coalesce(ledger.version, 0) as tag_version,
                (extract(epoch from now()) * 1000000)::bigint as loaded_at
            from unnest($1::bigint[]) as asked (id)
            left join notes on notes.id = asked.id
            left join cache_ledger ledger on ledger.tag = 'note:' || asked.id";
        let rows = sqlx::query(sql).bind(ids).fetch_all(&self.pool).await.expect("the notes are read");
        let loaded = rows.iter().map(|row| {
            let id: i64 = row.get("id");
            let text: Option<String> = row.get("text");
            let tag_version = TagVersion { tag: name(id), version: row.get("tag_version") };
            let value = text.map(|text| Note { id, text });
            (
                id,
                Loaded {
                    value,
                    tag_versions: vec![tag_version],
                    loaded_at: DbTime(row.get("loaded_at")),
                    valid_until: None,
                },
            )
        });
        loaded.collect()
    }

    /// Loads a list of notes.
    pub async fn load_list(&self, first: i64) -> Loaded<Notes> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        let sql =
            "select notes.id, notes.text, tag.tag_version, (extract(epoch from now()) * 1000000)::bigint as loaded_at
            from (select coalesce(max(version), 0) as tag_version from cache_ledger where tag = 'note-list') tag
            left join notes on notes.id >= $1 order by notes.id";
        let rows = sqlx::query(sql).bind(first).fetch_all(&self.pool).await.expect("the list is read");
        let tag_version = TagVersion { tag: Tag::new("note-list", ()), version: rows[0].get("tag_version") };
        let notes = rows.iter().filter_map(|row| {
            let id: Option<i64> = row.get("id");
            id.map(|id| Note { id, text: row.get("text") })
        });
        let loaded_at = DbTime(rows[0].get("loaded_at"));
        Loaded { value: Some(Notes(notes.collect())), tag_versions: vec![tag_version], loaded_at, valid_until: None }
    }

    /// Returns the number of database reads so far.
    pub fn loaded(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }

    /// Waits until a fresh cache finds these notes in L2, because fills continue after the answers.
    pub async fn in_l2(&self, ids: &[i64]) -> Cache {
        let other = self.cache().await;
        for id in ids {
            eventually("L2 is filled", || async { other.get(key(*id)).only_if_cached().await }).await;
        }
        self.cache().await
    }
}

/// Returns the key of a note.
pub fn key(id: i64) -> Key<Note> {
    Key::new(id)
}

/// Returns the tag of a note.
pub fn name(id: i64) -> Tag {
    Tag::new("note", id)
}

/// Returns the text of an answer.
pub fn text(read: &Cached<Note>) -> Option<&str> {
    read.entry.value.as_ref().map(|note| note.text.as_str())
}

/// Waits until a cache may use its tiers.
pub async fn until_current(cache: &Cache) {
    eventually("the ledger is followed", || async { cache.is_current().then_some(()) }).await;
}

/// Counts the reads of notes with this outcome.
pub fn counted(cache: &Cache, outcome: Outcome) -> u64 {
    let stats = cache.stats();
    stats.patterns["note"].outcomes.get(outcome.as_str()).copied().unwrap_or(0)
}

/// A door in a loader. It reports when a caller waits, and it stops all callers until it is opened.
#[derive(Clone)]
pub struct Door {
    arrived: Arc<Semaphore>,
    passes: Arc<Semaphore>,
}

impl Door {
    /// Creates a closed door.
    pub fn closed() -> Self {
        Self { arrived: Arc::new(Semaphore::new(0)), passes: Arc::new(Semaphore::new(0)) }
    }

    /// Waits until the door is open.
    pub async fn pass(&self) {
        self.arrived.add_permits(1);
        self.passes.acquire().await.expect("never closed").forget();
    }

    /// Returns when one more caller has come to the door.
    pub async fn until_somebody_waits(&self) {
        let arrived = tokio::time::timeout(Duration::from_secs(20), self.arrived.acquire()).await;
        arrived.expect("somebody comes to the door").expect("never closed").forget();
    }

    /// Lets all callers through, now and later.
    pub fn open(&self) {
        self.passes.add_permits(Semaphore::MAX_PERMITS / 2);
    }
}
