//! Demonstrates the pattern on the database at `DATABASE_URL` and, if it is set, the Redis at
//! `REDIS_URL`.

use std::{env, error::Error, process::ExitCode, sync::Arc, time::Duration};

use invoices::{
    cache::{Cache, CacheConfig, CacheMode, Cached, Keyring, L2, Outcome, RedisL2, Tenant},
    database,
    domain::{self, invoices::service::CachedInvoiceService},
};

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
    let db = database::pool(url.parse()?);
    database::migrate(&db).await?;

    let l2 = variable("REDIS_URL");
    let l2 = l2.map(|url| RedisL2::standalone(&url).map(|redis| Arc::new(redis) as Arc<dyn L2>)).transpose()?;
    // Without keys, invoices are not stored in Redis, because they are personal data.
    let keys = variable("CACHE_KEYS").map(|keys| Keyring::parse(&keys)).transpose()?;
    let config =
        CacheConfig { namespace: "invoices".into(), keys, l2, policies: domain::policies(), ..CacheConfig::default() };
    let service = CachedInvoiceService::new(Cache::start(config, db.clone()), db);

    let (tenant, customer) = (Tenant::parse("demo").ok_or("not a tenant")?, 7);
    let issued = service.issue_invoice(&tenant, customer, 4_200).await?;
    println!("issued    {issued:?}");
    // The first poll of the ledger takes a moment. Until then, every read is a load.
    let followed = tokio::time::timeout(Duration::from_secs(10), async {
        while !service.cache.is_current() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    followed.await.map_err(|_| "the ledger can't be read")?;
    for _ in 0..2 {
        tell("read", &service.get_invoice(&tenant, issued.id, CacheMode::Default).await?);
    }
    println!("paid      {:?}", service.pay_invoice(&tenant, issued.id).await?);
    for _ in 0..2 {
        tell("read", &service.get_invoice(&tenant, issued.id, CacheMode::Default).await?);
    }
    tell("list", &service.list_invoices(&tenant, customer, CacheMode::Default).await?);
    service.cache.shutdown().await;
    Ok(())
}

/// Prints an answer and its outcome.
fn tell<T: std::fmt::Debug>(what: &str, read: &Cached<T>) {
    let Cached { entry, outcome, .. } = read;
    let from = if *outcome == Outcome::L1Hit { "memory" } else { outcome.as_str() };
    println!("{what:9} {:?} from {from}", entry.value);
}
