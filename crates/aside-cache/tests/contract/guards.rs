//! Guards that the ordinary course of events does not need. Each test forces, by gates, the one
//! order of events in which a guard decides. `make prove` makes mutants without each guard in turn
//! and expects these tests to catch them.

use std::time::Duration;

use aside_cache::{Cache, CacheConfig, CacheMode, DbTime, Loaded, Outcome, Policy, Tag, Write};
use aside_testkit::{Gate, eventually, eventually::within};
use sqlx::PgPool;

use super::bench::{Backend, Bench, Door, NoteError, WriteRefused, key, name, over_every_backend, over_every_l2, text};

#[sqlx::test]
async fn a_poll_that_is_answered_late_proves_only_what_was_when_it_was_sent(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let max_staleness = Duration::from_secs(60);
    let cache = bench.cache_with(|config| config.max_staleness = max_staleness).await;
    let first = Gate::polls(&bench.pool).await;
    first.until_waiting(1).await;
    bench.clock.advance(max_staleness + Duration::from_secs(1));
    assert!(!cache.is_current());
    // The second gate queues behind the poll that waits. This poll is therefore answered, and the
    // next one is not.
    let (second, ()) = tokio::join!(Gate::polls(&bench.pool), async {
        first.until_waiting(2).await;
        first.open().await;
    });
    second.until_waiting(1).await;
    assert!(!cache.is_current(), "the answer to a question of a minute ago");
    second.open().await;
    super::bench::until_current(&cache).await;
}

#[sqlx::test]
async fn an_entry_older_than_its_maximum_age_is_loaded_from_any_tier(pool: PgPool) {
    // The checkpoint belongs to instances that have run for a while. Otherwise the start itself
    // would refuse the old answer.
    sqlx::query("insert into cache_epochs default values").execute(&pool).await.expect("an epoch");
    let checkpoint = "insert into cache_checkpoints (taken_at, snap) \
                   values (clock_timestamp() - interval '5 minutes', pg_current_snapshot())";
    sqlx::query(checkpoint).execute(&pool).await.expect("a checkpoint");
    over_every_backend(pool, async |bench: Bench| {
        let (cache, id) = (bench.cache().await, bench.fresh_id());
        bench.sabotage(id, "one").await;
        let Loaded { value, tag_versions, loaded_at, .. } = bench.load(id).await;
        let old = Loaded { value, tag_versions, loaded_at: DbTime(loaded_at.0 - 60_000_000), valid_until: None };
        bench.sabotage(id, "two").await;
        cache.put_many(vec![(key(id), old)]).expect("filled");
        let read = bench.read(&cache, id).await;
        assert_eq!((text(&read), read.outcome), (Some("two"), Outcome::LoadedExpired));
    })
    .await;
}

#[sqlx::test]
async fn a_load_that_began_in_another_epoch_is_not_served_again(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (cache, id, door) = (bench.cache().await, bench.fresh_id(), Door::closed());
        bench.sabotage(id, "before").await;
        let (this, inner, note) = (bench.clone(), door.clone(), key(id));
        let load = move || async move {
            let loaded = this.load_by_a_clock_ahead(id).await;
            inner.pass().await;
            Result::<_, NoteError>::Ok(loaded)
        };
        let overtaken = async {
            door.until_somebody_waits().await;
            let before = epoch(&cache);
            sqlx::query("update cache_epochs set id = gen_random_uuid()")
                .execute(&bench.pool)
                .await
                .expect("another epoch");
            bench.sabotage(id, "after").await;
            eventually("the other epoch has begun", || async {
                (cache.is_current() && epoch(&cache) != before).then_some(())
            })
            .await;
            door.open();
        };
        let (read, ()) = tokio::join!(cache.get_or_load(&note, CacheMode::Default, load), overtaken);
        read.expect("loaded");
        assert_eq!(text(&bench.read(&cache, id).await), Some("after"));
    })
    .await;
}

/// Returns the epoch of a cache.
fn epoch(cache: &Cache) -> Option<String> {
    let token = cache.token_now()?.to_string();
    token.split_once('-').map(|(epoch, _)| epoch.to_owned())
}

#[sqlx::test]
async fn the_writer_needs_no_poll_to_know_its_own_change(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (cache, id) = (bench.cache().await, bench.fresh_id());
        bench.write(&cache, id, "old").await;
        let old = bench.load(id).await;
        let gate = Gate::polls(&bench.pool).await;
        bench.write(&cache, id, "new").await;
        cache.put_many(vec![(key(id), old)]).expect("filled");
        let read = bench.read(&cache, id).await;
        assert_eq!((text(&read), read.outcome), (Some("new"), Outcome::LoadedInvalidated));
        gate.open().await;
    })
    .await;
}

#[sqlx::test]
async fn an_instance_that_finds_no_checkpoint_refuses_what_was_read_before_it_started(pool: PgPool) {
    starts_over_an_old_entry(pool, &["delete from cache_checkpoints"]).await;
}

#[sqlx::test]
async fn a_checkpoint_of_another_epoch_is_none(pool: PgPool) {
    // A restore may bring such a checkpoint. It is older than any answer that may be served, and
    // every change is visible in it.
    let another = "insert into cache_checkpoints
        select clock_timestamp() - interval '2 hours', 'another epoch', '9000000000000000000:9000000000000000000:'";
    starts_over_an_old_entry(pool, &["delete from cache_checkpoints", another]).await;
}

/// Checks that an instance that starts after `statements` does not serve the old value in L2. The
/// statements change the checkpoints.
async fn starts_over_an_old_entry(pool: PgPool, statements: &[&'static str]) {
    over_every_l2(pool, async |bench: Bench| {
        let (cache, id) = (bench.cache().await, bench.fresh_id());
        bench.write(&cache, id, "old").await;
        let old = bench.load(id).await;
        bench.write(&cache, id, "new").await;
        // The fill leaves the old value in L2, where the started instance finds it.
        let filler = bench.cache_with(|config| config.l1_bytes = 0).await;
        filler.put_many(vec![(key(id), old)]).expect("filled");
        filler.shutdown().await;
        cache.shutdown().await;
        for statement in statements {
            sqlx::query(*statement).execute(&bench.pool).await.expect("the checkpoints are changed");
        }
        let started = bench.cache().await;
        assert_eq!(text(&bench.read(&started, id).await), Some("new"));
    })
    .await;
}

#[sqlx::test]
async fn a_change_is_not_visible_before_its_version(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let (cache, id) = (bench.cache().await, bench.fresh_id());
    let gate = Gate::table(&bench.pool, "cache_ledger").await;
    let write = bench.write(&cache, id, "new");
    let watcher = async {
        // The write and a poll wait.
        gate.until_waiting(2).await;
        let seen: i64 = sqlx::query_scalar("select count(*) from notes where id = $1")
            .bind(id)
            .fetch_one(&bench.pool)
            .await
            .expect("the notes are read");
        gate.open().await;
        seen
    };
    let ((), seen) = tokio::join!(write, watcher);
    assert_eq!(seen, 0, "committed, and nobody could have been told of it");
    assert_eq!(text(&bench.read(&cache, id).await), Some("new"));
}

#[sqlx::test]
async fn a_transaction_that_commits_after_later_ones_is_not_missed(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let (writer, reader) = (bench.cache().await, bench.cache().await);
    let (late, early) = (bench.fresh_id(), bench.fresh_id());
    bench.write(&writer, late, "old").await;
    bench.write(&writer, early, "old").await;
    bench.read(&reader, late).await;
    bench.read(&reader, early).await;
    let mut write = writer.begin().await.expect("a transaction");
    sqlx::query("update notes set text = 'new' where id = $1").bind(late).execute(write.conn()).await.expect("changed");
    write.invalidate(name(late));
    bench.write(&writer, early, "new").await;
    // Only a poll can tell the reader. Its later snapshots are therefore newer than the transaction
    // that is still open.
    eventually("the reader knows the later change", || async {
        let read = (bench.read(&reader, late).await, bench.read(&reader, early).await);
        (text(&read.0) == Some("old") && text(&read.1) == Some("new")).then_some(())
    })
    .await;
    write.commit().await.expect("a commit");
    // The limit is well before the entry expires by itself.
    within(Duration::from_secs(5), "the reader knows the earlier change", || async {
        (text(&bench.read(&reader, late).await) == Some("new")).then_some(())
    })
    .await;
}

#[sqlx::test]
async fn a_token_given_before_the_first_poll_covers_what_was_committed(pool: PgPool) {
    // The poll that makes the floors current comes long after the polls that begin the epoch.
    let cache = Cache::start(CacheConfig { poll: Duration::from_secs(60), ..CacheConfig::default() }, pool.clone());
    let sql = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";
    let committed: i64 = sqlx::query_scalar(sql).fetch_one(&pool).await.expect("the database's time");
    let token = eventually("an epoch has begun", || async { cache.token_now() }).await.to_string();
    assert!(!cache.is_current());
    let (_, moment) = token.split_once('-').expect("an epoch and a moment");
    assert!(
        moment.parse::<i64>().expect("a number") >= committed,
        "{token} says nothing of what was committed at {committed}"
    );
}

#[sqlx::test]
async fn after_waiting_for_the_fleet_no_instance_serves_the_old_value(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let max_staleness = Duration::from_secs(2);
    let (writer, reader) = (
        bench.cache_with(|c| c.max_staleness = max_staleness).await,
        bench.cache_with(|c| c.max_staleness = max_staleness).await,
    );
    let id = bench.fresh_id();
    bench.write(&writer, id, "old").await;
    eventually("the reader holds the old value", || async {
        bench.read(&reader, id).await;
        (bench.read(&reader, id).await.outcome == Outcome::L1Hit).then_some(())
    })
    .await;
    let gate = Gate::polls(&bench.pool).await;
    bench.write(&writer, id, "new").await;
    writer.await_fleet().await;
    assert_eq!(text(&bench.read(&reader, id).await), Some("new"));
    gate.open().await;
}

#[sqlx::test]
async fn invalidating_a_pattern_makes_older_answers_unusable_wherever_they_are(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (cache, id) = (bench.cache().await, bench.fresh_id());
        bench.sabotage(id, "old").await;
        bench.read(&cache, id).await;
        bench.sabotage(id, "new").await;
        cache.invalidate([Tag::prefix("note")]).await.expect("invalidated");
        assert_eq!(text(&bench.read(&cache, id).await), Some("new"));
    })
    .await;
}

#[sqlx::test]
async fn who_finds_a_change_made_already_does_not_answer_older_than_it(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (other, cache, id) = (bench.cache().await, bench.cache().await, bench.fresh_id());
        bench.write(&other, id, "old").await;
        let old = bench.load(id).await;
        let gate = Gate::polls(&bench.pool).await;
        bench.write(&other, id, "new").await;
        cache.put_many(vec![(key(id), old)]).expect("filled");
        // Another instance receives the same change again, and there is no work left to do.
        let mut write = cache.begin().await.expect("a transaction");
        write.invalidate(name(id));
        write.finish_unchanged().await.expect("ended");
        assert_eq!(text(&bench.read(&cache, id).await), Some("new"));
        gate.open().await;
    })
    .await;
}

/// The work turns a failed statement into a refusal. By then the transaction can run no more
/// queries.
#[sqlx::test]
async fn who_is_refused_by_a_constraint_does_not_answer_older_than_what_broke_it(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let (other, cache, id) = (bench.cache().await, bench.cache().await, bench.fresh_id());
    assert_eq!(text(&bench.read(&cache, id).await), None);
    let gate = Gate::polls(&bench.pool).await;
    bench.write(&other, id, "there").await;
    assert_eq!(text(&bench.read(&cache, id).await), None, "it has not heard of it");
    let refused: Result<(), WriteRefused> = cache
        .write(async move |write: &mut Write| {
            write.observe([key(id)]);
            let inserted = sqlx::query("insert into notes values ($1, 'mine')").bind(id).execute(write.conn()).await;
            inserted.map(drop).map_err(|error| match error.as_database_error() {
                Some(error) if error.is_unique_violation() => WriteRefused::Taken,
                _ => WriteRefused::Failed(error),
            })
        })
        .await;
    assert!(matches!(refused, Err(WriteRefused::Taken)), "{refused:?}");
    assert_eq!(text(&bench.read(&cache, id).await), Some("there"));
    gate.open().await;
}

#[sqlx::test]
async fn versions_are_retained_for_the_longest_lived_type_of_all_services(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let (writer, id) = (bench.cache().await, bench.fresh_id());
    bench.write(&writer, id, "one").await;
    let reference = Policy::public("reference", Duration::from_hours(24));
    let _other = bench.cache_with(|config| config.policies.push(reference)).await;
    let kept = "select count(*) from cache_checkpoints where retention > '24 hours'";
    eventually("the other service has left a checkpoint", || async {
        let count: i64 = sqlx::query_scalar(kept).fetch_one(&pool).await.expect("checkpoints");
        (count > 0).then_some(())
    })
    .await;
    let checkpoint = "insert into cache_checkpoints (taken_at, snap)
         select clock_timestamp() - interval '2.5 hours', format('%s:%s:', now, now)::pg_snapshot
         from pg_current_xact_id() as now";
    sqlx::query(checkpoint).execute(&pool).await.expect("a checkpoint");
    let _started = bench.cache().await;
    let sql = "select count(*) from cache_ledger where tag = 'note:' || $1";
    let left: i64 = sqlx::query_scalar(sql).bind(id).fetch_one(&pool).await.expect("the ledger");
    assert_eq!(left, 1, "an instance of the other service may still hold an entry of two hours ago");
}

#[sqlx::test]
async fn only_versions_that_were_idle_for_long_are_removed(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let (writer, id) = (bench.cache().await, bench.fresh_id());
    bench.write(&writer, id, "one").await;
    for (ago, rows) in [("0 hours", 1), ("2.5 hours", 0)] {
        // The snapshot is not the current one, because that contains open transactions of other
        // tests.
        let checkpoint = format!(
            "insert into cache_checkpoints (taken_at, snap)
             select clock_timestamp() - interval '{ago}', format('%s:%s:', now, now)::pg_snapshot
             from pg_current_xact_id() as now"
        );
        sqlx::query(sqlx::AssertSqlSafe(checkpoint)).execute(&pool).await.expect("a checkpoint");
        // An instance that starts runs maintenance before its second poll. Only the second poll
        // makes the floors current.
        let started = bench.cache().await;
        let sql = "select count(*) from cache_ledger where tag = 'note:' || $1";
        let left: i64 = sqlx::query_scalar(sql).bind(id).fetch_one(&pool).await.expect("the ledger");
        assert_eq!(left, rows, "changed before a checkpoint of {ago} ago");
        assert_eq!(text(&bench.read(&started, id).await), Some("one"));
        assert_eq!(text(&bench.read(&writer, id).await), Some("one"));
    }
    bench.write(&writer, id, "two").await;
    assert_eq!(text(&bench.read(&writer, id).await), Some("two"), "the next number is above all earlier ones");
}
