//! The nemesis injects faults in four lanes that overlap: Redis, connections, instances and
//! Postgres. Each lane plays a deck of cards that the seed shuffles. It plays the whole deck before
//! it shuffles again, so every kind of fault occurs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aside_testkit::{postgres_server::Postgres, proxy::Fault};
use sqlx::PgPool;
use tokio::sync::Mutex;

use crate::{
    corruptor::Corruptor,
    database_faults,
    fleet::{INSTANCES, Instance},
    notes::{Begun, Notes},
    pace::{Clock, millis, pause},
    redis_faults,
    store::{Mode, Store},
};

/// Everything that a fault can break.
pub struct Arena {
    pub postgres: Mutex<Postgres>,
    pub redis: Mutex<Store>,
    pub fleet: Arc<Vec<Instance>>,
    pub db: PgPool,
    pub notes: Arc<Notes>,
    pub clock: Clock,
    pub stop: AtomicBool,
    /// Whether faults last longer, for long runs.
    pub long: bool,
    pub http: reqwest::Client,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Redis,
    Postgres,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mishap {
    Killed,
    ShortPause,
    LongPause,
    Stopped,
}

const LINE_FAULTS: [(&str, Line, Fault); 8] = [
    ("line to Redis cut", Line::Redis, Fault::Cut),
    ("line to Redis refused", Line::Redis, Fault::Refuse),
    ("line to Redis slow", Line::Redis, Fault::Delay(Duration::from_millis(8))),
    ("line to Redis black-holed", Line::Redis, Fault::BlackHole),
    ("line to Redis half-open", Line::Redis, Fault::HalfOpen),
    ("line to Postgres cut", Line::Postgres, Fault::Cut),
    ("line to Postgres black-holed", Line::Postgres, Fault::BlackHole),
    ("line to Postgres slow", Line::Postgres, Fault::Delay(Duration::from_millis(60))),
];

const MISHAPS: [(&str, Mishap); 4] = [
    ("instance killed", Mishap::Killed),
    ("instance paused", Mishap::ShortPause),
    ("instance paused for long", Mishap::LongPause),
    ("instance stopped", Mishap::Stopped),
];

/// The kinds of faults of all decks.
pub fn kinds(mode: Mode) -> Vec<&'static str> {
    let lines = line_faults(mode).map(|(kind, ..)| kind);
    let mishaps = MISHAPS.iter().map(|(kind, _)| *kind);
    let redis = redis_faults::kinds(mode);
    redis.into_iter().chain(lines).chain(mishaps).chain(database_faults::KINDS).collect()
}

/// The faults of connections. With several Redis servers no proxy is in between, so only the
/// connections to Postgres can be broken.
fn line_faults(mode: Mode) -> impl Iterator<Item = (&'static str, Line, Fault)> {
    LINE_FAULTS.into_iter().filter(move |(_, line, _)| mode == Mode::Standalone || *line == Line::Postgres)
}

/// Plays all lanes until the arena is stopped. Every fault that has begun is ended.
pub async fn play(arena: Arc<Arena>, seed: u64) {
    let lane = |number: u64| fastrand::Rng::with_seed(seed.wrapping_mul(31).wrapping_add(number));
    tokio::join!(
        redis_lane(&arena, lane(1)),
        line_lane(&arena, lane(2)),
        instance_lane(&arena, lane(3)),
        database_lane(&arena, lane(4)),
    );
}

impl Arena {
    pub fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Acquire)
    }

    /// A time between `from` and `to` milliseconds. Long runs double the upper bound.
    pub fn between(&self, rng: &mut fastrand::Rng, from: u64, to: u64) -> Duration {
        millis(rng.u64(from..=if self.long { to * 2 } else { to }))
    }
}

/// Endless rounds of `cards`, each round in another order.
struct Deck<C> {
    cards: Vec<C>,
    left: Vec<C>,
}

impl<C: Copy> Deck<C> {
    fn new(cards: impl IntoIterator<Item = C>) -> Self {
        Self { cards: cards.into_iter().collect(), left: Vec::new() }
    }

    fn draw(&mut self, rng: &mut fastrand::Rng) -> C {
        if self.left.is_empty() {
            self.left.clone_from(&self.cards);
            rng.shuffle(&mut self.left);
        }
        self.left.pop().expect("a deck has cards")
    }
}

async fn redis_lane(arena: &Arena, mut rng: fastrand::Rng) {
    let mut deck = Deck::new(redis_faults::kinds(arena.notes.mode));
    let mut corruptor = Corruptor::default();
    while arena.goes_on() {
        corruptor.listen(arena).await;
        let kind = deck.draw(&mut rng);
        let begun = Begun::now(kind, None, &arena.clock);
        let note = redis_faults::play(arena, kind, &mut corruptor, &mut rng).await;
        arena.notes.fault(begun.ended(&arena.clock, note));
        pause(arena.between(&mut rng, 300, 1200)).await;
    }
}

async fn line_lane(arena: &Arena, mut rng: fastrand::Rng) {
    let mut deck = Deck::new(line_faults(arena.notes.mode));
    while arena.goes_on() {
        let (kind, line, fault) = deck.draw(&mut rng);
        let at = rng.usize(..INSTANCES);
        let instance = &arena.fleet[at];
        let proxy = match line {
            Line::Redis => &instance.to_redis,
            Line::Postgres => &instance.to_postgres,
        };
        let begun = Begun::now(kind, Some(at), &arena.clock);
        proxy.set(fault);
        pause(arena.between(&mut rng, 300, 2500)).await;
        proxy.restore();
        arena.notes.fault(begun.ended(&arena.clock, String::new()));
        pause(arena.between(&mut rng, 200, 1000)).await;
    }
}

async fn instance_lane(arena: &Arena, mut rng: fastrand::Rng) {
    let mut deck = Deck::new(MISHAPS);
    while arena.goes_on() {
        pause(arena.between(&mut rng, 500, 2000)).await;
        let (kind, mishap) = deck.draw(&mut rng);
        let at = rng.usize(..INSTANCES);
        let instance = &arena.fleet[at];
        let begun = Begun::now(kind, Some(at), &arena.clock);
        match mishap {
            Mishap::Killed | Mishap::Stopped => {
                instance.stop(mishap == Mishap::Stopped).await;
                pause(arena.between(&mut rng, 0, 500)).await;
                instance.start().await;
                instance.ready(&arena.http).await;
            }
            Mishap::ShortPause | Mishap::LongPause => {
                let (from, to) = if mishap == Mishap::ShortPause { (50, 480) } else { (600, 3000) };
                instance.signal("STOP").await;
                pause(arena.between(&mut rng, from, to)).await;
                instance.signal("CONT").await;
            }
        }
        arena.notes.fault(begun.ended(&arena.clock, String::new()));
    }
}

async fn database_lane(arena: &Arena, mut rng: fastrand::Rng) {
    let mut deck = Deck::new(database_faults::KINDS);
    while arena.goes_on() {
        pause(arena.between(&mut rng, 1500, 5000)).await;
        let kind = deck.draw(&mut rng);
        let begun = Begun::now(kind, None, &arena.clock);
        let note = database_faults::play(arena, kind, &mut rng).await;
        arena.notes.fault(begun.ended(&arena.clock, note));
    }
}
