//! Tests that run each example unchanged and compare its results with the promises of its text.

// Each example is a program of its own and includes the shared code itself. The tests do not call
// `main`.
#![allow(clippy::duplicate_mod, dead_code)]

use aside_cache::Outcome;
use sqlx::PgPool;

#[path = "../../examples/cache_aside.rs"]
pub mod cache_aside;
#[path = "../../examples/get_many.rs"]
mod get_many;
#[path = "../../examples/policies.rs"]
mod policies;
#[path = "../../examples/smallest.rs"]
mod smallest;
#[path = "../../examples/tags.rs"]
pub mod tags;
#[path = "../../examples/warming.rs"]
mod warming;

#[sqlx::test(migrations = false)]
async fn the_smallest_cache_aside_loads_once_after_each_write(pool: PgPool) {
    let outcomes = cache_aside::run(pool).await.expect("the example runs");
    let [first, hit, changed, again] = outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!((first, hit, again), (Outcome::LoadedCold, Outcome::L1Hit, Outcome::L1Hit));
    // If Redis still holds the old entry, the cache refuses it. Without Redis there is no old
    // entry.
    assert!(matches!(changed, Outcome::LoadedInvalidated | Outcome::LoadedCold), "{changed:?}");
}

#[sqlx::test(migrations = false)]
async fn a_batch_calls_its_loader_once_with_all_that_is_missing(pool: PgPool) {
    let asked = get_many::run(pool).await.expect("the example runs");
    assert_eq!(asked, [vec![1, 9], vec![2, 3]]);
}

#[sqlx::test(migrations = false)]
async fn a_tag_makes_one_list_old_and_no_other(pool: PgPool) {
    let seen = tags::run(pool).await.expect("the example runs");
    let names: Vec<Vec<&str>> = seen.iter().map(|(names, _)| names.iter().map(String::as_str).collect()).collect();
    assert_eq!(names, [vec!["Bonn"], vec!["Lyon"], vec!["Aachen", "Bonn"], vec!["Lyon"], vec!["Lyon"]]);
    let outcomes: Vec<Outcome> = seen.into_iter().map(|(_, outcome)| outcome).collect();
    let [_, _, changed, other, told] = outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!((changed, other, told), (Outcome::LoadedInvalidated, Outcome::L1Hit, Outcome::LoadedInvalidated));
}

#[sqlx::test(migrations = false)]
async fn what_was_warmed_is_served_and_one_broken_warmer_stops_no_other(pool: PgPool) {
    let (result, outcome) = warming::run(pool).await.expect("the example runs");
    assert_eq!((result.warmed, result.failed, outcome), (3, 1, Outcome::L1Hit));
}

#[sqlx::test(migrations = false)]
async fn a_policy_says_where_and_for_how_long(pool: PgPool) {
    let seen = policies::run(pool).await.expect("the example runs");
    let cold = Outcome::LoadedCold;
    assert_eq!(seen.outcomes, [cold, Outcome::L1Hit, cold, cold, Outcome::L2Hit, Outcome::LoadedExpired]);
    assert!(matches!(&seen.in_l2[..], [rate] if rate.ends_with(":rate:EUR:USD")), "{:?}", seen.in_l2);
}

#[sqlx::test(migrations = false)]
async fn the_smallest_program_runs_and_is_small(pool: PgPool) {
    smallest::run(pool).await.expect("the example runs");
    let text = include_str!("../../examples/smallest.rs");
    assert!(text.lines().count() <= 40 && !text.contains("cache_ledger"), "no column of the ledger, at most 40 lines");
}
