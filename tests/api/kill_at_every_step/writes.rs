//! Kills writes. Another instance has the old answers in its L1, and Redis has them too.

use std::{collections::BTreeMap, time::Instant};

use sqlx::PgPool;

use super::{
    PROMISED, SLACK,
    kill::{Calls, Killed, Steps, kill},
    works::{Subject, Work},
};
use crate::support::{ChildProcess, Message, Speech, Stop, TestApp, database, eventually, eventually::within};

/// The first number of the data for the process's warm-up requests.
const SPARE: i64 = 100_000;
/// The most walks over all steps.
const WALKS: usize = 4;

/// The progress of a write when its process was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Reached {
    /// The message that commits had not been sent.
    Begun,
    /// It had been sent, but its answer had not come.
    Committing,
    /// Its answer had come, but the client had no reply.
    Committed,
    Replied,
}

/// The observations of a walk. Each of them must have occurred, or the walk proved nothing.
#[derive(Debug, Default)]
struct Seen {
    begun: usize,
    committing: usize,
    committed: usize,
    replied: usize,
    /// Kills after the commit that left the old answer in Redis.
    left_in_redis: usize,
    /// First answers of a restarted process that came from Redis.
    from_redis: u64,
}

impl Seen {
    fn is_complete(&self) -> bool {
        let Self { begun, committing, committed, replied, left_in_redis, from_redis } = *self;
        ![begun, committing, committed, replied, left_in_redis, from_redis as usize].contains(&0)
    }
}

/// Runs `work` again and again and kills it one step later each time.
pub async fn killed_at_every_step(pool: PgPool, work: Work) {
    let begun = Instant::now();
    let app = TestApp::builder(pool).max_staleness(PROMISED).build().await;
    let mut child = ChildProcess::begin(&app).await;
    let mut walk = Walk { work, app, number: 0, seen: Seen::default() };
    // Other messages may shift the steps, so one walk may miss a step that lasts for one message.
    for _ in 0..WALKS {
        for steps in Steps::ALL {
            for stop in Steps::stops() {
                let beyond;
                (child, beyond) = walk.step(child, steps, stop).await;
                if beyond {
                    break;
                }
            }
        }
        if walk.seen.is_complete() {
            break;
        }
    }
    child.kill_9().await;
    let seen = walk.seen;
    println!("{work:?}: killed {} times in {:.1?}: {seen:?}", walk.number, begun.elapsed());
    assert!(seen.is_complete(), "not all that matters has happened: {seen:?}");
}

struct Walk {
    work: Work,
    app: TestApp,
    number: i64,
    seen: Seen,
}

impl Walk {
    /// Performs one run. Returns the restarted process, and whether the walk is beyond the last
    /// step.
    async fn step(&mut self, child: ChildProcess, steps: Steps, stop: Stop) -> (ChildProcess, bool) {
        self.number += 1;
        let (work, calls) = (self.work, Calls::of(&child, "invalidate").await);
        let spare = work.subject(&self.app, SPARE + self.number).await;
        let prepared = child.send(work.request(&child, &spare)).await;
        assert!(prepared.status.is_success(), "{prepared:#?}");
        calls.goes_on(&child).await;
        let subject = work.subject(&self.app, self.number).await;
        self.hold_old(&subject).await;
        let before = database::digest(&self.app.pool).await;

        let request = work.request(&child, &subject);
        let killed = kill(child, request, steps, stop, "invalidate").await;
        let reached = reached(&killed, &work.commits(&subject));
        let context = format!("{work:?} killed {stop:?} of {steps:?}: {reached:?}");
        let state = self.check_database(&subject, reached, &before, &context).await;
        let left = self.app.redis_keys().await.holds(&format!("product:{}", subject.product)).await;
        self.seen.left_in_redis += usize::from(left && reached > Reached::Committing);

        let child = ChildProcess::begin(&self.app).await;
        assert_eq!(work.shown(&child, &subject).await, state, "started again: {context}");
        self.seen.from_redis += child.metrics().await.requests("product", "l2_hit");
        let what = format!("the other instance shows what is stored, {state}: {context}");
        within((PROMISED + SLACK).saturating_sub(killed.at.elapsed()), &what, || async {
            (work.shown(&self.app, &subject).await == state).then_some(())
        })
        .await;
        assert_eq!(work.shown(&self.app, &subject).await, state, "went back: {context}");
        if work == Work::Order {
            self.order_again(&child, &subject, &context).await;
        }
        (child, killed.beyond)
    }

    /// Waits until the other instance has the old answers in its L1 and in Redis.
    async fn hold_old(&self, subject: &Subject) {
        let (product, path) = (subject.product, format!("/products/{}", subject.product));
        eventually("the old answers are in L1 and in Redis", || async {
            assert_eq!(self.work.shown(&self.app, subject).await, self.work.states()[0]);
            let hit = self.app.get(&path).await.cache_status().hit("l1");
            if hit && self.app.redis_keys().await.holds(&format!("product:{product}")).await {
                return Some(());
            }
            self.app.get_with(&path, "cache-control", "no-cache").await;
            None
        })
        .await;
    }

    /// Checks that the database has the whole old state or the whole new one, and that `reached`
    /// permits it. Returns the state.
    async fn check_database(
        &mut self,
        subject: &Subject,
        reached: Reached,
        before: &BTreeMap<String, String>,
        context: &str,
    ) -> String {
        let [old, new] = self.work.states();
        let state = self.work.stored(&self.app.pool, subject).await;
        if state == old {
            assert_eq!(&database::digest(&self.app.pool).await, before, "in part: {context}");
        }
        let (seen, may_be) = match reached {
            Reached::Begun => (&mut self.seen.begun, &[old][..]),
            Reached::Committing => (&mut self.seen.committing, &[old, new][..]),
            Reached::Committed => (&mut self.seen.committed, &[new][..]),
            Reached::Replied => (&mut self.seen.replied, &[new][..]),
        };
        *seen += 1;
        assert!(may_be.contains(&state.as_str()), "stored is {state}: {context}, {reached:?}");
        state
    }

    /// Sends the order again, as a client does that got no answer or lost it.
    async fn order_again(&self, child: &ChildProcess, subject: &Subject, context: &str) {
        let new = self.work.states()[1];
        let calls = Calls::of(child, "invalidate").await;
        let again = self.work.stored(&self.app.pool, subject).await == new;
        child.send(self.work.request(child, subject)).await.expect(201);
        assert_eq!(self.work.stored(&self.app.pool, subject).await, new, "ordered again: {context}");
        assert_eq!(self.work.shown(child, subject).await, new, "ordered again: {context}");
        if !again {
            calls.goes_on(child).await;
        }
    }
}

fn reached(killed: &Killed, commits: &str) -> Reached {
    if let Some(status) = killed.reply {
        assert!(status.is_success(), "refused: {status}");
        return Reached::Replied;
    }
    let Some(sent) = killed.passed.iter().position(|message| message.says(Speech::Postgres, commits)) else {
        return Reached::Begun;
    };
    let answer = |message: &Message| message.speech == Speech::Postgres && !message.sent;
    if killed.passed[sent..].iter().any(answer) { Reached::Committed } else { Reached::Committing }
}
