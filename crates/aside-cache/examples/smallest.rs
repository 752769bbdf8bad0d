//! The smallest complete program. Its argument is the URL of a Postgres database.

use std::time::Duration;

use aside_cache::{Cache, CacheConfig, Cacheable, Error, Key, Policy};

#[derive(Debug, serde::Serialize, serde::Deserialize, sqlx::FromRow)]
struct River {
    name: String,
}

impl Cacheable for River {
    const POLICY: Policy = Policy::public("river", Duration::from_mins(10));
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    run(sqlx::PgPool::connect(&std::env::args().nth(1).ok_or("the URL is missing")?).await?).await
}

pub async fn run(pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
    aside_cache::migrator().run(&pool).await?;
    sqlx::query("create table if not exists rivers (id bigint, name text)").execute(&pool).await?;
    let cache = Cache::start(CacheConfig::default(), pool);
    let insert = cache.write(async |tx| {
        sqlx::query("insert into rivers values (1, 'Rhine')").execute(tx.conn()).await?;
        tx.invalidate(Key::<River>::new(1));
        Ok::<_, Error>(())
    });
    insert.await?;
    for _ in 0..2 {
        let query = sqlx::query_as("select name from rivers where id = $1").bind(1_i64);
        let read = cache.get(Key::<River>::new(1)).one(query).await?;
        println!("{:?} from {}", read.entry.value, read.outcome.as_str());
    }
    Ok(())
}
