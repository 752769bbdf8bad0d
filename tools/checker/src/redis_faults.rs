//! The faults of Redis.

use std::collections::HashMap;

use aside_testkit::redis_nodes::Kind;
use deadpool_redis::redis::{self, aio::MultiplexedConnection};

use crate::{
    corruptor::Corruptor,
    nemesis::Arena,
    pace::{millis, pause},
    store::{Mode, Store},
};

pub const KILLED: &str = "Redis killed";
pub const FROZEN: &str = "Redis frozen";
pub const OLD_DUMP: &str = "Redis back from an old dump";
pub const PROMOTED: &str = "an ignorant replica promoted";
pub const MOVED: &str = "slots moved";
pub const FLUSHED: &str = "Redis flushed";
pub const TINY: &str = "Redis with almost no memory";
pub const HINTS_LOST: &str = "hints lost";
pub const SCRIPTS_LOST: &str = "scripts lost";
pub const LIES: &str = "lies in Redis";

/// The maximum time in which the other servers notice that a primary is down and elect another.
const FAILOVER_MS: u64 = 4_000;

/// The faults of one server, or those of several.
pub fn kinds(mode: Mode) -> Vec<&'static str> {
    let mut kinds = vec![KILLED, FROZEN, FLUSHED, TINY, HINTS_LOST, SCRIPTS_LOST, LIES];
    kinds.push(if mode == Mode::Standalone { OLD_DUMP } else { PROMOTED });
    kinds.extend((mode == Mode::Cluster).then_some(MOVED));
    kinds
}

/// Plays one fault to its end. Returns a note for the report.
pub async fn play(arena: &Arena, kind: &str, corruptor: &mut Corruptor, rng: &mut fastrand::Rng) -> String {
    match kind {
        KILLED => killed(arena).await,
        FROZEN => frozen(arena, rng).await,
        OLD_DUMP => old_dump(arena, rng).await,
        PROMOTED => promoted(arena, rng).await,
        MOVED => moved(arena, rng).await,
        LIES => corruptor.lie(arena, arena.between(rng, 1500, 3000), rng).await,
        FLUSHED => told(arena, &[&["FLUSHALL"]]).await,
        HINTS_LOST => told(arena, &[&["CLIENT", "KILL", "TYPE", "pubsub"]]).await,
        SCRIPTS_LOST => told(arena, &[&["SCRIPT", "FLUSH"]]).await,
        _ => {
            let policy = ["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"];
            told(arena, &[&policy, &["CONFIG", "SET", "maxmemory", "2200kb"]]).await;
            pause(arena.between(rng, 1500, 3000)).await;
            told(arena, &[&["CONFIG", "SET", "maxmemory", "0"]]).await
        }
    }
}

/// A single server restarts at once and empty. A primary of several restarts after another has
/// taken its place.
async fn killed(arena: &Arena) -> String {
    match &mut *arena.redis.lock().await {
        Store::One(redis) => {
            redis.restart(false).await;
            String::new()
        }
        Store::Many(nodes) => {
            let Some(primary) = nodes.primary_of(&any()).await else { return "not done".into() };
            nodes.kill_9(primary).await;
            pause(millis(FAILOVER_MS)).await;
            nodes.launch(primary).await;
            nodes.settled().await;
            format!("node {primary}")
        }
    }
}

/// Stops a server for a moment. Sometimes the stop is long enough for a failover, and the old
/// primary comes back without knowing of it.
async fn frozen(arena: &Arena, rng: &mut fastrand::Rng) -> String {
    let time = arena.between(rng, 200, 2500);
    match &*arena.redis.lock().await {
        Store::One(redis) => {
            redis.signal("STOP");
            pause(time).await;
            redis.signal("CONT");
            String::new()
        }
        Store::Many(nodes) => {
            let key = any();
            let Some(primary) = nodes.primary_of(&key).await else { return "not done".into() };
            nodes.signal(primary, "STOP");
            pause(if rng.bool() { time } else { millis(FAILOVER_MS) }).await;
            let another = nodes.primary_of(&key).await != Some(primary);
            nodes.signal(primary, "CONT");
            nodes.settled().await;
            format!("node {primary}{}", if another { ", others went on without it" } else { "" })
        }
    }
}

/// Redis saves a dump, continues for a while, is killed, and restarts with the old contents.
async fn old_dump(arena: &Arena, rng: &mut fastrand::Rng) -> String {
    told(arena, &[&["SAVE"]]).await;
    pause(arena.between(rng, 2000, 6000)).await;
    let Store::One(server) = &mut *arena.redis.lock().await else { return "not done".into() };
    server.restart(true).await;
    let restored: redis::RedisResult<i64> =
        async { redis::cmd("DBSIZE").query_async(&mut server.connect().await?).await }.await;
    restored.map_or_else(|error| error.to_string(), |keys| format!("{keys} keys of old"))
}

/// A primary acknowledges writes that its replicas do not receive, and is killed. One of the
/// replicas takes its place.
async fn promoted(arena: &Arena, rng: &mut fastrand::Rng) -> String {
    let Store::Many(nodes) = &mut *arena.redis.lock().await else { return "not done".into() };
    let key = any();
    let Some(primary) = nodes.primary_of(&key).await else { return "not done".into() };
    let replicas = nodes.replicas_of(primary).await;
    replicas.iter().for_each(|replica| nodes.signal(*replica, "STOP"));
    let parted = redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("replica").to_owned();
    let _ = nodes.ask::<i64>(primary, &parted).await;
    // Shorter than the time after which the other servers start a failover.
    pause(arena.between(rng, 300, 900)).await;
    let latest = nodes.values_of(primary).await;
    nodes.kill_9(primary).await;
    replicas.iter().for_each(|replica| nodes.signal(*replica, "CONT"));
    let known = match replicas.first() {
        Some(replica) => nodes.values_of(*replica).await,
        None => HashMap::new(),
    };
    // The entries that are outdated on the replica: the primary has deleted them or has newer ones.
    let keys = known.iter().filter(|(key, order)| latest.get(*key) != Some(*order)).count();
    pause(millis(FAILOVER_MS)).await;
    nodes.launch(primary).await;
    nodes.settled().await;
    format!("{keys} keys of old")
}

/// Moves slots with their keys from one primary to another.
async fn moved(arena: &Arena, rng: &mut fastrand::Rng) -> String {
    let Store::Many(nodes) = &*arena.redis.lock().await else { return "not done".into() };
    if nodes.kind != Kind::Cluster {
        return "not done".into();
    }
    let mut count = 0;
    for _ in 0..20 {
        let (key, other) = (any(), any());
        let (Some(from), Some(to)) = (nodes.primary_of(&key).await, nodes.primary_of(&other).await) else { continue };
        if from != to {
            nodes.move_slot(&key, from, to).await;
            count += 1;
        }
        pause(arena.between(rng, 10, 50)).await;
    }
    format!("{count} slots")
}

fn any() -> String {
    fastrand::u64(..).to_string()
}

/// Sends the commands to all servers.
async fn told(arena: &Arena, commands: &[&[&str]]) -> String {
    let mut connections: Vec<MultiplexedConnection> = arena.redis.lock().await.connect_all().await;
    let mut note = String::new();
    for words in commands {
        for connection in &mut connections {
            let mut command = redis::cmd(words[0]);
            command.arg(&words[1..]);
            let answer = command.query_async::<redis::Value>(connection);
            match tokio::time::timeout(millis(2000), answer).await {
                Ok(Ok(redis::Value::Int(count))) => note = format!("{count} of them"),
                Ok(Ok(_)) => {}
                other => note = format!("{}: {other:?}", words[0]),
            }
        }
    }
    note
}
