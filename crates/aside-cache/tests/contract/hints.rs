//! Two ways to learn of other instances' writes before the next poll. Hints may be lost, and tokens
//! are carried along by a client.

use std::time::{Duration, Instant};

use aside_cache::{CatchUp, ConsistencyToken};
use aside_testkit::eventually;
use sqlx::PgPool;

use super::bench::{Backend, Bench, over_every_backend, over_every_l2, text};

#[sqlx::test]
async fn a_hint_makes_other_instances_poll_at_once(pool: PgPool) {
    over_every_l2(pool, async |bench: Bench| {
        if bench.backend == Backend::Memcached {
            return; // Memcached has no hints.
        }
        let pause = Duration::from_secs(3);
        let writer = bench.cache().await;
        let reader = bench.cache_with(|config| config.poll = pause).await;
        let id = bench.fresh_id();
        let begun = Instant::now();
        // Each change comes just after a poll. Without hints, each would show a whole pause later.
        for round in 0..4 {
            let now = format!("round {round}");
            bench.write(&writer, id, &now).await;
            eventually("the reader has heard", || async {
                (text(&bench.read(&reader, id).await) == Some(now.as_str())).then_some(())
            })
            .await;
        }
        let took = begun.elapsed();
        assert!(took < 2 * pause, "four changes took {took:?} to be heard of");
    })
    .await;
}

#[sqlx::test]
async fn an_instance_that_caught_up_with_a_token_serves_nothing_older(pool: PgPool) {
    over_every_backend(pool, async |bench: Bench| {
        let (writer, reader, id) = (bench.cache().await, bench.cache().await, bench.fresh_id());
        let mut caught_up = 0;
        for round in 0..20 {
            let now = format!("round {round}");
            bench.read(&reader, id).await;
            bench.write(&writer, id, &now).await;
            let token = writer.token_now().expect("the ledger was polled");
            if reader.catch_up(&token).await == CatchUp::Covered {
                caught_up += 1;
                assert_eq!(text(&bench.read(&reader, id).await), Some(now.as_str()));
            }
        }
        assert!(caught_up > 0, "it never caught up, so nothing was shown");
    })
    .await;
}

#[sqlx::test]
async fn a_token_that_no_instance_can_have_given_is_told_apart(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let cache = bench.cache().await;
    let token = cache.token_now().expect("the ledger was polled").to_string();
    let (epoch, moment) = token.split_once('-').expect("an epoch and a moment");
    let moment: i64 = moment.parse().expect("a moment");
    let (second, never) = (1_000_000, CatchUp::Impossible);
    let cases = [
        (format!("{epoch}-{}", i64::MAX), never),
        (format!("{epoch}-{}", moment + 60 * second), never),
        (format!("000000000000-{moment}"), CatchUp::OtherEpoch),
        // The clocks of instances differ a little. The write of this token was committed all the
        // same.
        (format!("{epoch}-{}", moment + 5 * second), CatchUp::Covered),
        (format!("{epoch}-{moment}"), CatchUp::Covered),
        (format!("{epoch}-1"), CatchUp::Covered),
    ];
    for (text, expected) in cases {
        let token: ConsistencyToken = text.parse().expect("well formed");
        eventually(&format!("{text} is {expected:?}"), || async {
            // Polls may be late on a busy machine.
            let found = cache.catch_up(&token).await;
            assert!(found == expected || found == CatchUp::Late, "{text}: {found:?}");
            (found == expected).then_some(())
        })
        .await;
    }
}

#[sqlx::test]
async fn a_token_survives_being_written_down_and_nonsense_is_none(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let token = bench.cache().await.token_now().expect("the ledger was polled");
    assert_eq!(token.to_string().parse(), Ok(token));
    for text in ["", "-", "a", "a-", "-1", "a-b", "a--1", "a-1-2", "a b-1", "a-99999999999999999999", "abcdefabcdefa-1"]
    {
        assert_eq!(text.parse::<ConsistencyToken>(), Err(()), "{text:?}");
    }
}
