//! The costs of the parts of an answer, each measured alone: its time and its allocations.
//! `make bench` runs it after the comparison. It needs DATABASE_URL, because a cache serves nothing
//! before it has polled the ledger.

use std::sync::LazyLock;

use aside::{
    domain::{
        DomainError, orders::service::CachedOrderService, products::Product, products::service::CachedProductService,
    },
    http::{self, HttpConfig, PublicServer, Services, TrustedProxies},
    readiness::Readiness,
};
use aside_cache::{
    Cache, CacheConfig, CacheMode, DbTime, Entry, Key, Keyring, Loaded, TagVersion,
    codec::{decode, encode, entry},
};
use axum::{body::Body, extract::Request, response::Response};
use chrono::{DateTime, Utc};
use divan::{AllocProfiler, Bencher, black_box};
use futures_util::FutureExt;
use mimalloc::MiMalloc;
use sqlx::postgres::PgPoolOptions;
use tokio::runtime::Runtime;
use tower::Service;

#[global_allocator]
static ALLOCATOR: AllocProfiler<MiMalloc> = AllocProfiler::new(MiMalloc);

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));
static PLACE: LazyLock<Place> = LazyLock::new(|| RUNTIME.block_on(Place::new()));

/// A service without Redis whose L1 holds a million products.
struct Place {
    cache: Cache,
    front: PublicServer,
}

const MOST: i64 = 1_000_000;

impl Place {
    async fn new() -> Self {
        let url = std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty());
        let url = url.expect("DATABASE_URL is set: run scripts/bench.sh");
        let db = PgPoolOptions::new().connect(&url).await.expect("a pool");
        let cache = Cache::start(CacheConfig { l1_bytes: 4 << 30, ..CacheConfig::default() }, db.clone());
        while !cache.is_current() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let services = Services {
            products: CachedProductService::new(cache.clone()),
            orders: CachedOrderService::new(cache.clone()),
            cache: cache.clone(),
        };
        let config = HttpConfig {
            cors_origins: vec![],
            proxies: TrustedProxies::default(),
            max_requests: 512,
            request_timeout: std::time::Duration::from_secs(10),
            body_limit: 65_536,
            readiness: Readiness::default(),
            verifier: None,
            tenant_rate: None,
            audit: None,
            cdn: None,
        };
        Self { front: http::public_server(services, &config).expect("bodies of known types"), cache }
    }

    fn holds(&self, products: i64) {
        for ids in (1..=products).collect::<Vec<_>>().chunks(10_000) {
            let entries = ids.iter().map(|id| (Product::key(*id), loaded(*id))).collect();
            RUNTIME.block_on(async { self.cache.put_many(entries).expect("they are kept") });
        }
    }
}

fn loaded(id: i64) -> Loaded<Product> {
    let text = str::to_owned;
    let product = Product {
        id,
        name: text("Bananas, tropical fruit, 40 lb"),
        department: text("PRODUCE"),
        brand: text("National"),
        category: text("TROPICAL FRUIT"),
        kind: text("BANANAS"),
        package_size: Some(text("40 LB")),
        price_cents: 94,
        currency: text("USD"),
        stock: 971,
        view_count: 16_981,
        version: 1,
        updated_at: DateTime::UNIX_EPOCH,
    };
    let tag_versions = vec![TagVersion { tag: Product::tag_of(id), version: 1 }];
    Loaded { value: Some(product), tag_versions, loaded_at: DbTime(Utc::now().timestamp_micros()), valid_until: None }
}

/// Makes the key of a product.
#[divan::bench]
fn a_key() -> Key<Product> {
    Product::key(black_box(1_082_185))
}

/// Seals and opens this number of bytes.
#[divan::bench(args = SIZES)]
fn sealing(bencher: Bencher, size: usize) {
    let (keys, plain) = (keys(), vec![7; size]);
    bencher.bench(|| keys.seal(&[0; 32], b"place", black_box(&plain)));
}

#[divan::bench(args = SIZES)]
fn opening(bencher: Bencher, size: usize) {
    let keys = keys();
    let sealed = keys.seal(&[0; 32], b"place", &vec![7; size]).expect("it is sealed");
    bencher.bench(|| keys.open(&[0; 32], b"place", black_box(&sealed)));
}

const SIZES: [usize; 5] = [128, 512, 2_048, 8_192, 32_768];

fn keys() -> Keyring {
    Keyring::parse(&format!("bench:{}", "5a".repeat(32))).expect("keys")
}

/// Encodes and decodes an entry of L2.
#[divan::bench]
fn encoding(bencher: Bencher) {
    let (key, entry) = an_entry();
    bencher.bench(|| encode(black_box(&key), black_box(&entry)));
}

#[divan::bench]
fn decoding(bencher: Bencher) {
    let (key, entry) = an_entry();
    let sealed = encode(&key, &entry).expect("it is written");
    bencher.bench(|| decode(black_box(&key), black_box(&sealed)));
}

fn an_entry() -> (Key<Product>, Entry<Product>) {
    let Loaded { value, tag_versions, loaded_at, .. } = loaded(1_082_185);
    (Product::key(1_082_185), entry(value, tag_versions.into(), (loaded_at, loaded_at)).expect("an entry"))
}

/// An L1 hit as the service calls it, among this number of products.
#[divan::bench(args = [1_000, 10_000, 100_000, MOST])]
fn an_l1_hit(bencher: Bencher, products: i64) {
    PLACE.holds(products);
    bencher.with_inputs(|| fastrand::i64(1..=products)).bench_values(|id| {
        let (key, load) = (Product::key(id), move || async move { Ok::<_, DomainError>(loaded(id)) });
        let read = PLACE.cache.get_or_load(&key, CacheMode::Default, load);
        read.now_or_never().expect("it doesn't wait").expect("a product")
    });
}

/// An L1 hit from the request's headers to the answer's, without the socket.
#[divan::bench]
fn a_request(bencher: Bencher) {
    PLACE.holds(1_000);
    let service = PLACE.front.service([127, 0, 0, 1].into());
    bencher.with_inputs(|| Request::get("/products/7").body(Body::empty()).expect("a request")).bench_values(
        |request| -> Response {
            let Ok(answer) = service.clone().call(request).now_or_never().expect("it doesn't wait");
            assert_eq!(answer.status(), 200);
            answer
        },
    );
}

fn main() {
    let _guard = RUNTIME.enter();
    divan::main();
}
