//! Many at once. L1 answers what it holds, L2 is asked for the rest in one call, and one select loads
//! everything that no tier holds.
//! `scripts/services.sh cargo run --package aside-cache --example get_many`

#[path = "support/cities.rs"]
mod cities;
#[path = "support/mod.rs"]
mod support;

use std::{
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use sqlx::PgPool;
use support::Failure;

fn main() -> ExitCode {
    support::main("get_many", run)
}

/// Returns the ids of each select.
pub async fn run(db: PgPool) -> Result<Vec<Vec<i64>>, Failure> {
    let cache = support::cache(&db).await?;
    cities::prepare(&db, &cache).await?;
    for (id, name) in [(1, "Bonn"), (2, "Köln"), (3, "Aachen")] {
        cities::write(&cache, id, name, "DE").await?;
    }
    let asked: Arc<Mutex<Vec<Vec<i64>>>> = Arc::default();
    // 9 is no city. The absence is cached too, so 9 is selected only once.
    for ids in [vec![1, 9], vec![1, 2, 3, 9], vec![1, 2, 3, 9]] {
        let asked = Arc::clone(&asked);
        let select = move |missing: Vec<i64>| {
            println!("  selected: {missing:?}");
            asked.lock().unwrap_or_else(PoisonError::into_inner).push(missing.clone());
            cities::select(missing)
        };
        println!("{ids:?}");
        for (id, read) in cache.get_many(ids, cities::key).rows("id", select).await? {
            let name = read.entry.value.as_ref().map(|city| city.name.as_str());
            println!("  {id}: {name:?} from {}", read.outcome.as_str());
        }
    }
    cache.shutdown().await;
    let asked = asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(asked)
}
