//! What can happen to Redis.

use deadpool_redis::redis::{self, aio::MultiplexedConnection};

use crate::{
    liar::Liar,
    nemesis::Arena,
    pace::{millis, pause},
};

pub const KILLED: &str = "Redis killed";
pub const FROZEN: &str = "Redis frozen";
pub const OLD_DUMP: &str = "Redis back from an old dump";
pub const FLUSHED: &str = "Redis flushed";
pub const TINY: &str = "Redis with almost no memory";
pub const HINTS_LOST: &str = "hints lost";
pub const SCRIPTS_LOST: &str = "scripts lost";
pub const LIES: &str = "lies in Redis";

pub const KINDS: [&str; 8] = [KILLED, FROZEN, OLD_DUMP, FLUSHED, TINY, HINTS_LOST, SCRIPTS_LOST, LIES];

/// Plays one fault to its end; returns what there is to say.
pub async fn play(arena: &Arena, kind: &str, liar: &mut Liar, rng: &mut fastrand::Rng) -> String {
    match kind {
        KILLED => {
            arena.redis.lock().await.restart(false).await;
            String::new()
        }
        FROZEN => {
            arena.redis.lock().await.signal("STOP");
            pause(arena.between(rng, 200, 2500)).await;
            arena.redis.lock().await.signal("CONT");
            String::new()
        }
        OLD_DUMP => old_dump(arena, rng).await,
        LIES => liar.lie(arena, arena.between(rng, 1500, 3000), rng).await,
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

/// Keeps a dump, goes on for a while, dies, and comes back with what was true then.
async fn old_dump(arena: &Arena, rng: &mut fastrand::Rng) -> String {
    told(arena, &[&["SAVE"]]).await;
    pause(arena.between(rng, 2000, 6000)).await;
    let mut server = arena.redis.lock().await;
    server.restart(true).await;
    let restored: redis::RedisResult<i64> =
        async { redis::cmd("DBSIZE").query_async(&mut server.connect().await?).await }.await;
    restored.map_or_else(|error| error.to_string(), |keys| format!("{keys} keys of old"))
}

async fn told(arena: &Arena, commands: &[&[&str]]) -> String {
    let connected = arena.redis.lock().await.connect().await;
    let Ok(mut connection): redis::RedisResult<MultiplexedConnection> = connected else { return "not done".into() };
    let mut note = String::new();
    for words in commands {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        let answer = command.query_async::<redis::Value>(&mut connection);
        match tokio::time::timeout(millis(2000), answer).await {
            Ok(Ok(redis::Value::Int(count))) => note = format!("{count} of them"),
            Ok(Ok(_)) => {}
            other => note = format!("{}: {other:?}", words[0]),
        }
    }
    note
}
