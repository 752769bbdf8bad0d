//! Tests of admission with a clock that they advance: which requests wait, which are refused, and
//! whose turn comes.

use futures_util::{FutureExt, poll};

use super::*;
use crate::entry::DbTime;

const SECOND: Duration = Duration::from_secs(1);

struct Fixture {
    clock: Clock,
    freshness: Arc<Freshness>,
    admission: Admission,
}

/// Admission with these numbers of permits.
fn fixture(loads: usize, writes: usize, total: usize) -> Fixture {
    let clock = Clock::adjustable();
    let freshness = Arc::new(Freshness::new(clock.clone(), SECOND, SECOND));
    let most = Concurrency { loads, writes, total };
    Fixture { admission: Admission::new(most, clock.clone(), Arc::clone(&freshness)), clock, freshness }
}

impl Fixture {
    fn ask(&self, kind: Kind, tenant: Option<&Tenant>, poll_timeout: Duration) -> Result<Admitted, Refusal> {
        let deadline = self.clock.now() + poll_timeout;
        let pattern = if kind == Kind::Write { "writes" } else { "note" };
        self.admission.request(Request { kind, pattern, tenant, deadline })
    }

    fn now(&self, kind: Kind) -> Permit {
        match self.ask(kind, None, 1_000 * SECOND) {
            Ok(Admitted::Now(permit)) => permit,
            _ => panic!("no permit"),
        }
    }

    fn later(&self, kind: Kind, tenant: Option<&Tenant>) -> Turn {
        match self.ask(kind, tenant, 1_000 * SECOND) {
            Ok(Admitted::Later(turn)) => turn,
            Ok(Admitted::Now(_)) => panic!("it has a permit"),
            Err(refusal) => panic!("{refusal:?}"),
        }
    }

    /// Runs so many loads of one second that this becomes the usual duration.
    fn slow_loads(&self) {
        (0..100).for_each(|_| self.load(SECOND));
    }

    /// Runs one load that takes this long.
    fn load(&self, took: Duration) {
        let permit = self.now(Kind::Load);
        self.clock.advance(took);
        permit.answered();
    }
}

fn granted(turn: &mut Turn) -> Option<Result<Permit, Refusal>> {
    turn.now_or_never()
}

#[test]
fn what_finds_no_permit_waits_and_has_it_when_one_comes_back() {
    let fixture = fixture(2, 1, 3);
    let mut held = vec![fixture.now(Kind::Load), fixture.now(Kind::Load)];
    let mut turns: Vec<Turn> = (0..100).map(|_| fixture.later(Kind::Load, None)).collect();
    assert!(turns.iter_mut().all(|turn| granted(turn).is_none()));
    for turn in &mut turns {
        drop(held.remove(0));
        held.push(granted(turn).expect("in the order in which they came").expect("a permit"));
    }
    drop(held);
    assert_eq!(fixture.admission.usages(&[]), [("note", 0, 0)]);
    fixture.now(Kind::Load);
}

#[test]
fn what_could_not_end_in_time_is_refused_when_it_comes() {
    let fixture = fixture(1, 1, 2);
    fixture.slow_loads();
    let held = fixture.now(Kind::Load);
    let ask = || fixture.ask(Kind::Load, None, 3 * SECOND + SECOND / 2);
    let waiting: Vec<_> = std::iter::from_fn(|| ask().ok()).take(50).collect();
    // One second for the load in flight, one for each waiting load, and one for the new load.
    assert_eq!(waiting.len(), 2);
    assert_eq!(ask().err(), Some(Refusal::NoTime));
    assert!(fixture.ask(Kind::Load, None, 5 * SECOND).is_ok(), "one with more time waits");
    drop((waiting, held));
    assert!(matches!(ask(), Ok(Admitted::Now(_))), "a free permit is given whatever the usual duration");
}

#[test]
fn one_slow_load_refuses_no_other() {
    let fixture = fixture(1, 1, 2);
    (0..100).for_each(|_| fixture.load(SECOND / 1_000));
    fixture.load(100 * SECOND);
    let held = fixture.now(Kind::Load);
    let waiting: Vec<_> = (0..200).map(|_| fixture.ask(Kind::Load, None, SECOND)).collect();
    assert!(waiting.iter().all(Result::is_ok), "one that was slow says little of the next ones");
    drop(held);
}

#[test]
fn what_can_not_end_in_time_any_more_does_not_have_its_turn() {
    let fixture = fixture(1, 1, 2);
    let held = fixture.now(Kind::Load);
    let Ok(Admitted::Later(mut late)) = fixture.ask(Kind::Load, None, SECOND) else { panic!("it waits") };
    let mut patient = fixture.later(Kind::Load, None);
    fixture.clock.advance(2 * SECOND);
    drop(held);
    assert_eq!(granted(&mut late).expect("an answer").err(), Some(Refusal::TimedOut));
    granted(&mut patient).expect("its turn").expect("a permit");
}

#[test]
fn tenants_take_turns_and_one_alone_has_all() {
    let fixture = fixture(1, 1, 2);
    let (greedy, other) = (Tenant::parse("greedy").unwrap(), Tenant::parse("other").unwrap());
    let held = fixture.now(Kind::Load);
    let mut flood: Vec<Turn> = (0..50).map(|_| fixture.later(Kind::Load, Some(&greedy))).collect();
    let mut turns: Vec<Turn> = (0..2).map(|_| fixture.later(Kind::Load, Some(&other))).collect();
    let mut shared = fixture.later(Kind::Load, None);
    drop(held);
    drop(granted(&mut flood[0]).expect("the first that came"));
    // The permit comes back at once each time, so the turns go on.
    drop(granted(&mut shared).expect("loads of shared data take turns with those of tenants"));
    drop(granted(&mut turns[0]).expect("then the other tenant"));
    drop(granted(&mut flood[1]).expect("then the first again"));
    drop(granted(&mut turns[1]).expect("and so on"));
    for turn in &mut flood[2..] {
        drop(granted(turn).expect("alone it has all turns"));
    }
}

#[test]
fn writes_leave_permits_to_loads_and_loads_to_writes() {
    let fixture = fixture(3, 2, 4);
    let writes = [fixture.now(Kind::Write), fixture.now(Kind::Write)];
    let mut write = fixture.later(Kind::Write, None);
    let loads = [fixture.now(Kind::Load), fixture.now(Kind::Load)];
    let mut load = fixture.later(Kind::Load, None);
    drop(writes);
    drop(granted(&mut load).expect("total").expect("a permit"));
    let _write = granted(&mut write).expect("its own").expect("a permit");
    let _load = fixture.now(Kind::Load);
    let mut fourth = fixture.later(Kind::Load, None);
    drop(fixture.ask(Kind::Write, None, SECOND));
    assert!(granted(&mut fourth).is_none(), "the last permit is for writes");
    drop(loads);
    granted(&mut fourth).expect("its turn").expect("a permit");
}

#[test]
fn a_permit_whose_taker_has_gone_is_given_to_the_next() {
    let fixture = fixture(1, 1, 2);
    let held = fixture.now(Kind::Load);
    let gone: Vec<Turn> = (0..10).map(|_| fixture.later(Kind::Load, None)).collect();
    let mut next = fixture.later(Kind::Load, None);
    drop(gone);
    drop(held);
    granted(&mut next).expect("its turn").expect("a permit");
}

#[tokio::test]
async fn no_load_waits_for_a_database_that_does_not_answer() {
    let fixture = fixture(1, 1, 2);
    fixture.freshness.polled(fixture.clock.now(), DbTime(0));
    let held = fixture.now(Kind::Load);
    let mut turn = fixture.later(Kind::Load, None);
    fixture.admission.fail_hopeless();
    assert!(poll!(&mut turn).is_pending(), "it was heard of just now");
    fixture.clock.advance(10 * SECOND);
    fixture.admission.fail_hopeless();
    assert_eq!(turn.await.err(), Some(Refusal::Unreachable));
    assert_eq!(fixture.ask(Kind::Load, None, SECOND).err(), Some(Refusal::Unreachable), "nor begins to");
    drop(held);
    fixture.load(Duration::ZERO);
    let _held = fixture.now(Kind::Load);
    let mut turn = fixture.later(Kind::Load, None);
    fixture.admission.fail_hopeless();
    assert!(granted(&mut turn).is_none(), "loads are answered, so only the polls fail");
}

#[test]
fn what_waits_is_bounded() {
    let fixture = fixture(1, 1, 2);
    let held = fixture.now(Kind::Load);
    let waiters: Vec<_> = (0..MAX_WAITING).map(|_| fixture.admission.waiter("note")).collect();
    assert_eq!(fixture.ask(Kind::Load, None, SECOND).err(), Some(Refusal::Full));
    drop(waiters);
    fixture.later(Kind::Load, None);
    drop(held);
}

#[test]
fn small_pools_have_permits_for_both() {
    for connections in 1..100 {
        let Concurrency { loads, writes, total } = Concurrency::of(connections);
        assert!(loads >= 1 && writes >= 1 && loads < total.max(2) && writes < total.max(2), "{connections}");
        assert!(connections < 3 || total < connections as usize, "{connections}");
    }
}

#[test]
fn a_pool_leaves_connections_for_both_and_for_other_work() {
    assert_eq!(Concurrency::of(10), Concurrency { loads: 6, writes: 4, total: 9 });
    let smallest = Concurrency::of(2);
    assert!(smallest.loads >= 1 && smallest.writes >= 1, "{smallest:?}");
}
