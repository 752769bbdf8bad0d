//! Shows the pattern on the database at `DATABASE_URL` and, if it is set, the Redis at `REDIS_URL`.

use std::{env, error::Error, process::ExitCode, sync::Arc, time::Duration};

use aside_cache::{Cache, CacheConfig, CacheMode, ConnectionPool, Keyring, L2, RedisL2, Tenant};
use chrono::Utc;
use invoices::audit::AccessLog;
use invoices::invoices::{CachedInvoiceService, Invoice, Line, Status};
use sqlx::postgres::PgPoolOptions;

#[tokio::main]
async fn main() -> ExitCode {
    match show().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn show() -> Result<(), Box<dyn Error>> {
    let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let url = variable("DATABASE_URL").ok_or("set DATABASE_URL to a Postgres database of its own")?;
    let db = ConnectionPool::new("Postgres", PgPoolOptions::new().max_connections(5), url.parse()?);
    invoices::migrate(db.inner()).await?;

    let (lines, log) = std::sync::mpsc::channel();
    std::thread::spawn(move || log.iter().for_each(|line: String| eprintln!("accessed  {line}")));
    let l2 = variable("REDIS_URL");
    let l2 = l2.map(|url| RedisL2::standalone(&url).map(|redis| Arc::new(redis) as Arc<dyn L2>)).transpose()?;
    // Without keys, invoices are not stored in Redis, because they are personal data.
    let keys = variable("CACHE_KEYS").map(|keys| Keyring::parse(&keys)).transpose()?;
    let config = CacheConfig {
        namespace: "invoices".into(),
        keys,
        l2,
        policies: invoices::policies(),
        recorder: Some(Arc::new(AccessLog(lines))),
        ..CacheConfig::default()
    };
    let service = CachedInvoiceService { cache: Cache::start(config, db) };

    let tenant = Tenant::parse("demo").ok_or("not a tenant")?;
    let lines = vec![Line { text: "a chair".into(), amount_cents: 4_200 }];
    let (number, due_at) = (Utc::now().to_rfc3339(), Utc::now());
    let new = Invoice { number: number.clone(), customer: 7, status: Status::Draft, due_at, lines, version: 1 };
    println!("created   {:?}", service.create(&tenant, new).await?);
    // The first poll of the ledger takes a moment. Until then, every read is a load.
    let followed = tokio::time::timeout(Duration::from_secs(10), async {
        while !service.cache.is_current() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    followed.await.map_err(|_| "the ledger can't be read")?;
    for to in [Status::Sent, Status::Paid] {
        println!("changed   {:?}", service.set_status(&tenant, &number, to, None).await?);
        for _ in 0..2 {
            let read = service.get(&tenant, &number, CacheMode::Default).await?;
            println!("read      {:?} from {}", read.entry.value, read.outcome.as_str());
        }
    }
    service.cache.shutdown().await;
    Ok(())
}
