//! Residency of a tenant's data, which the tests check in the shared tier. The data are there only
//! in the tenant's home region and only sealed. After the tenant is erased they are in no tier.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use aside_cache::{
    Cache, CacheMode, Cacheable, Fetch, Fetched, Fill, Filled, Invalidation, Key, Keyring, L2, L2Error, LoadFailure,
    Loaded, MemoryL2, NodeMemory, OutOfRegion, Outcome, Policy, Residency, Sensitivity, Tenant,
};
use aside_testkit::{Gate, eventually};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use super::bench::{Backend, Bench, Note, NoteError};

/// A note of a tenant, under each of the residency rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Diary<const KIND: u8>(String);

const SHARED: u8 = 0;
const AT_HOME: u8 = 1;
const REFUSED: u8 = 2;
const IN_PROCESS: u8 = 3;

impl<const KIND: u8> Cacheable for Diary<KIND> {
    const POLICY: Policy = Policy {
        name: ["shared", "at-home", "refused", "in-process"][KIND as usize],
        sensitivity: Sensitivity::Personal,
        residency: match KIND {
            SHARED => Residency::Shared,
            AT_HOME => Residency::Regional(OutOfRegion::NoStore),
            REFUSED => Residency::Regional(OutOfRegion::Reject),
            _ => Residency::ProcessOnly,
        },
        // The lifetime is so long that no entry ends while a busy machine reads twenty thousand
        // times.
        l1_ttl: Duration::from_secs(60),
        ..Note::POLICY
    };
}

/// An L2 that records the keys of all values that were ever stored.
#[derive(Clone, Default)]
struct Spied {
    memory: MemoryL2,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Spied {
    fn patterns(&self) -> Vec<String> {
        let seen = self.seen.lock().expect("nobody panicked");
        let patterns = seen.iter().map(|key| key.split(':').rev().nth(1).expect("a pattern").to_owned());
        patterns.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

#[async_trait]
impl L2 for Spied {
    fn name(&self) -> &'static str {
        "spied"
    }

    async fn fetch(&self, keys: &[Fetch], token: &str, lease: Duration) -> Result<Vec<Fetched>, L2Error> {
        self.memory.fetch(keys, token, lease).await
    }

    async fn fill(&self, fills: &[Fill], token: &str) -> Result<Vec<Filled>, L2Error> {
        let filled = fills.iter().filter(|fill| fill.value.is_some()).map(|fill| fill.key.clone());
        self.seen.lock().expect("nobody panicked").extend(filled);
        self.memory.fill(fills, token).await
    }

    async fn invalidate(&self, keys: &[Invalidation]) -> Result<(), L2Error> {
        self.memory.invalidate(keys).await
    }

    async fn ping(&self) -> Result<(), L2Error> {
        self.memory.ping().await
    }

    async fn memory(&self) -> Result<Vec<NodeMemory>, L2Error> {
        self.memory.memory().await
    }

    async fn hint(&self, channel: &str) -> Result<(), L2Error> {
        self.memory.hint(channel).await
    }

    async fn listen(&self, channel: &str, heard: &(dyn Fn() + Send + Sync)) -> Result<(), L2Error> {
        self.memory.listen(channel, heard).await
    }
}

fn tenant(name: &str) -> Tenant {
    Tenant::parse(name).expect("a tenant")
}

async fn read<const KIND: u8>(bench: &Bench, cache: &Cache, who: &str) -> Result<Outcome, NoteError> {
    let loaded_at = bench.load(1).await.loaded_at;
    let value = Some(Diary(format!("what {who} noted")));
    let load = move || async move {
        Ok::<_, NoteError>(Loaded { value, tag_versions: Vec::new(), loaded_at, valid_until: None })
    };
    let key = Key::<Diary<KIND>>::of_tenant(&tenant(who), 1);
    let read = cache.get_or_load(&key, CacheMode::Default, load).await?;
    assert_eq!(read.entry.value, Some(Diary(format!("what {who} noted"))));
    assert!(read.stored || KIND != SHARED);
    assert!(!read.stored || KIND != AT_HOME || who != "from-there", "it is not kept");
    Ok(read.outcome)
}

async fn set_home(bench: &Bench, name: &str, region: &str) {
    let sql = "insert into cache_tenants (tenant, home_region) values ($1, $2)";
    sqlx::query(sql).bind(name).bind(region).execute(&bench.pool).await.expect("a tenant");
}

fn keys() -> Option<Keyring> {
    Some(Keyring::parse("test:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff").expect("keys"))
}

async fn cache_in(bench: &Bench, region: &str, keys: Option<Keyring>) -> Cache {
    let policies = vec![Diary::<SHARED>::POLICY, Diary::<AT_HOME>::POLICY];
    bench.cache_with(|config| (config.region, config.keys, config.policies) = (region.into(), keys, policies)).await
}

#[sqlx::test]
async fn data_of_another_region_are_stored_in_no_tier_of_this_one(pool: PgPool) {
    let l2 = Spied::default();
    let bench = Bench::with_l2(&pool, l2.clone()).await;
    set_home(&bench, "from-here", "here").await;
    set_home(&bench, "from-there", "there").await;

    let cache = cache_in(&bench, "here", keys()).await;
    for _ in 0..2 {
        assert_eq!(read::<AT_HOME>(&bench, &cache, "from-there").await, Ok(Outcome::LoadedCold));
        assert_eq!(read::<REFUSED>(&bench, &cache, "from-there").await, Err(LoadFailure::WrongRegion.into()));
    }
    assert_eq!(cache.stats().l1.entries, 0);
    read::<SHARED>(&bench, &cache, "from-there").await.expect("a diary");
    read::<IN_PROCESS>(&bench, &cache, "from-there").await.expect("a diary");
    // All fills have ended after the shutdown.
    cache.shutdown().await;
    assert_eq!(l2.patterns(), ["shared"]);

    let cache = cache_in(&bench, "here", keys()).await;
    assert_eq!(read::<AT_HOME>(&bench, &cache, "from-here").await, Ok(Outcome::LoadedCold));
    assert_eq!(read::<REFUSED>(&bench, &cache, "from-here").await, Ok(Outcome::LoadedCold));
    assert_eq!(read::<AT_HOME>(&bench, &cache, "from-here").await, Ok(Outcome::L1Hit));
    cache.shutdown().await;
    assert_eq!(l2.patterns(), ["at-home", "refused", "shared"]);
}

#[sqlx::test]
async fn a_tenant_that_moved_to_another_region_is_stored_here_no_more(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::Memory).await;
    set_home(&bench, "mover", "here").await;
    let cache = cache_in(&bench, "here", keys()).await;
    read::<AT_HOME>(&bench, &cache, "mover").await.expect("a diary");
    assert_eq!(read::<AT_HOME>(&bench, &cache, "mover").await, Ok(Outcome::L1Hit));
    read::<AT_HOME>(&bench, &cache, "damaged").await.expect("a diary");
    for sql in [
        "alter table cache_tenants drop constraint cache_tenants_secret_check",
        "update cache_tenants set secret = 'short' where tenant = 'damaged'",
        "update cache_tenants set home_region = 'there' where tenant = 'mover'",
    ] {
        sqlx::query(sql).execute(&bench.pool).await.expect("a move, and a row that can't be read");
    }
    eventually("it is kept in no tier", || async {
        let read = read::<AT_HOME>(&bench, &cache, "mover").await.expect("a diary");
        (!read.is_hit() && cache.stats().l1.entries == 0).then_some(())
    })
    .await;
    assert!(!read::<AT_HOME>(&bench, &cache, "mover").await.expect("a diary").is_hit());
    assert!(
        !read::<AT_HOME>(&bench, &cache, "damaged").await.expect("a diary").is_hit(),
        "nobody knows where it is at home"
    );
}

/// The tenant is erased after its row was read and before the answer arrives.
#[sqlx::test]
async fn who_asks_for_a_tenant_while_it_is_erased_does_not_bring_its_secret_back(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::Memory).await;
    set_home(&bench, "gone", "here").await;
    let name = async |cache: &Cache| {
        cache.ensure_tenant_loaded(&tenant("gone")).await;
        cache.hashed_name(&Key::<Diary<SHARED>>::of_tenant(&tenant("gone"), 1)).expect("it is known")
    };
    let known = name(&cache_in(&bench, "here", keys()).await).await;
    // A change of the secret does not read the home region, so only reads wait.
    for sql in [
        "alter table cache_tenants rename to tenants_held",
        "create function held(region text) returns text language plpgsql as
             $$ begin perform pg_advisory_xact_lock_shared(7); return region; end $$",
        "create view cache_tenants as select tenant, held(home_region) as home_region, secret from tenants_held",
        "alter view cache_tenants alter column secret set default sha256(random()::text::bytea)",
    ] {
        sqlx::query(sql).execute(&pool).await.expect("a view that can be held");
    }
    let cache = cache_in(&bench, "here", keys()).await;
    let gate = Gate::advisory(&pool, 7).await;
    let (asks, seen) = (name(&cache), async {
        gate.until_waiting(1).await;
        assert!(cache.erase(&tenant("gone")).await.expect("erased"));
        gate.open().await;
    });
    let (learnt, ()) = tokio::join!(asks, seen);
    assert_ne!(learnt, known, "names that were cached could be told again");
    assert_eq!(learnt, name(&cache_in(&bench, "here", keys()).await).await);
}

#[sqlx::test]
async fn without_keys_personal_data_are_not_stored_in_l2(pool: PgPool) {
    let l2 = Spied::default();
    let bench = Bench::with_l2(&pool, l2.clone()).await;
    let cache = cache_in(&bench, "here", None).await;
    assert_eq!(read::<SHARED>(&bench, &cache, "somebody").await, Ok(Outcome::LoadedCold));
    assert_eq!(read::<SHARED>(&bench, &cache, "somebody").await, Ok(Outcome::L1Hit));
    cache.shutdown().await;
    assert!(l2.patterns().is_empty());
}

#[sqlx::test]
async fn what_was_cached_of_an_erased_tenant_is_never_found_again(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::Memory).await;
    let first = cache_in(&bench, "here", keys()).await;
    for who in ["gone", "stays"] {
        read::<SHARED>(&bench, &first, who).await.expect("a diary");
    }
    eventually("another instance finds both", || async {
        let second = cache_in(&bench, "here", keys()).await;
        let both = [read::<SHARED>(&bench, &second, "gone").await, read::<SHARED>(&bench, &second, "stays").await];
        (both == [Ok(Outcome::L2Hit), Ok(Outcome::L2Hit)]).then_some(())
    })
    .await;

    let known = secret(&bench, "gone").await;
    assert!(first.erase(&tenant("gone")).await.expect("erased"));
    assert!(!first.erase(&tenant("never-met")).await.expect("nothing to erase"));
    assert_eq!(read::<SHARED>(&bench, &first, "stays").await, Ok(Outcome::L1Hit));
    assert!(!read::<SHARED>(&bench, &first, "gone").await.expect("a diary").is_hit());
    let third = cache_in(&bench, "here", keys()).await;
    assert_eq!(read::<SHARED>(&bench, &third, "stays").await, Ok(Outcome::L2Hit));
    assert_ne!(secret(&bench, "gone").await, known, "with it, copies of what was cached could be opened");
}

#[sqlx::test]
async fn a_tenant_that_reads_much_pushes_no_other_out_of_the_process(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let cache = bench.cache_with(|config| config.l1_bytes = 300_000).await;
    let loaded_at = bench.load(1).await.loaded_at;
    let read = async |who: &str, id: usize| {
        let loaded =
            Loaded { value: Some(Diary(who.to_owned())), tag_versions: Vec::new(), loaded_at, valid_until: None };
        let key = Key::<Diary<SHARED>>::of_tenant(&tenant(who), id);
        let read = cache.get_or_load(&key, CacheMode::Default, move || async move { Ok::<_, NoteError>(loaded) }).await;
        read.expect("a diary").outcome
    };
    for id in 0..20 {
        read("quiet", id).await;
    }
    for _ in 0..20 {
        for id in 0..1000 {
            read("greedy", id).await;
        }
    }
    let mut stored = 0;
    for id in 0..20 {
        stored += usize::from(read("quiet", id).await == Outcome::L1Hit);
    }
    assert!(stored >= 18, "of twenty entries {stored} are left");
    assert_eq!(read("greedy", 0).await, Outcome::L1Hit, "within its part it is served");
}

#[sqlx::test]
async fn who_asks_for_what_does_not_exist_pushes_nothing_out_of_the_process(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let cache = bench.cache_with(|config| config.l1_bytes = 300_000).await;
    for attempt in 1.. {
        let ids: Vec<i64> = (0..100).map(|_| bench.fresh_id()).collect();
        let begun = Instant::now();
        for id in &ids {
            bench.sabotage(*id, "there").await;
            bench.read(&cache, *id).await;
        }
        for id in 1_000_000..1_000_400 {
            bench.read(&cache, id).await;
        }
        let mut stored = 0;
        for id in &ids {
            // An expired entry is still present.
            stored += usize::from(bench.read(&cache, *id).await.outcome != Outcome::LoadedCold);
        }
        // L1 drops entries that are twice as old as their lifetime. An attempt on a slow machine
        // therefore proves nothing.
        if begun.elapsed() < Note::POLICY.l1_ttl || attempt == 10 {
            assert!(stored >= 90, "of a hundred entries {stored} are left");
            return;
        }
    }
}

async fn secret(bench: &Bench, who: &str) -> Vec<u8> {
    let sql = "select secret from cache_tenants where tenant = $1";
    sqlx::query_scalar(sql).bind(who).fetch_one(&bench.pool).await.expect("a secret")
}
