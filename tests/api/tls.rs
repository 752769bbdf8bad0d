//! TLS connections to Redis and Postgres. The service sends no data to a server whose certificate
//! is wrong.

use std::path::PathBuf;

use aside::{
    app::App,
    config::{Config, L2Config, RedisConfig},
};
use sqlx::PgPool;

use crate::support::{
    RedisServer, TestApp, eventually, product,
    tls::{Authority, Greeting, TlsServer},
};

/// The client settings for a Redis that speaks TLS: its address, its authority, and the client's
/// own certificate and key.
struct Told {
    url: String,
    authority: Option<PathBuf>,
    client: Option<(PathBuf, PathBuf)>,
}

async fn app(pool: PgPool, told: Told) -> TestApp {
    let change = move |config: &mut Config| {
        let (cert_file, key_file) = told.client.clone().unzip();
        let standalone = RedisConfig::standalone(told.url.clone());
        let told = RedisConfig { ca_file: told.authority.clone(), cert_file, key_file, ..standalone };
        config.l2 = Some(L2Config::Redis(told));
        config.cache_l1_bytes = 0;
    };
    TestApp::builder(pool).config(change).build().await
}

/// Returns whether Redis answers at some time. The catalogue answers in every case.
async fn is_used(app: &TestApp) -> bool {
    let id = app.product(product()).await;
    let used = || async {
        let hit = app.get_product(id).await.expect(200).cache_status().hit("l2");
        let skipped = app.metrics().await.sum("cache_l2_breaker_open", &[]) == 1.0;
        (hit || skipped).then_some(hit)
    };
    eventually("Redis answers or is skipped", used).await
}

#[sqlx::test]
async fn redis_by_tls_is_used_when_its_certificate_is_right(pool: PgPool) {
    let (redis, authority, other) = (RedisServer::start(), Authority::new(), Authority::new());
    let target = redis.url().trim_start_matches("redis://").trim_end_matches('/').to_owned();
    let (right, wrong) = (authority.certify("127.0.0.1"), authority.certify("redis.example"));
    let server = TlsServer::before(target.clone(), Greeting::None, &right, None).await;
    let misnamed = TlsServer::before(target.clone(), Greeting::None, &wrong, None).await;
    let choosy = TlsServer::before(target, Greeting::None, &right, Some(&authority)).await;
    let client = authority.certify("client.example").files;
    let stranger = other.certify("client.example").files;

    let ca = Some(authority.file());
    let cases = [
        (true, format!("rediss://{}", server.address()), ca.clone(), None),
        (false, format!("rediss://{}", server.address()), Some(other.file()), None),
        (false, format!("rediss://{}", server.address()), None, None),
        (false, format!("rediss://{}", misnamed.address()), ca.clone(), None),
        (false, format!("redis://{}", server.address()), None, None),
        (true, format!("rediss://{}", choosy.address()), ca.clone(), Some(client)),
        (false, format!("rediss://{}", choosy.address()), ca.clone(), Some(stranger)),
        (false, format!("rediss://{}", choosy.address()), ca, None),
    ];
    for (at, (expected, url, authority, client)) in cases.into_iter().enumerate() {
        let app = app(pool.clone(), Told { url, authority, client }).await;
        assert_eq!(is_used(&app).await, expected, "case {at}");
    }
}

#[sqlx::test]
async fn postgres_by_tls_is_spoken_to_when_its_certificate_is_right(pool: PgPool) {
    let (authority, other) = (Authority::new(), Authority::new());
    let app = TestApp::start(pool.clone()).await;
    let options = pool.connect_options();
    let target = format!("{}:{}", options.get_host(), options.get_port());
    let right = TlsServer::before(target.clone(), Greeting::Postgres, &authority.certify("127.0.0.1"), None).await;
    let misnamed = TlsServer::before(target, Greeting::Postgres, &authority.certify("db.example"), None).await;

    let plain = app.config.database_url.clone();
    let through = |server: &TlsServer, authority: &Authority| {
        let mut url = reqwest::Url::parse(&plain).expect("a URL");
        url.set_port(Some(server.address().port())).expect("a port");
        url.query_pairs_mut().clear();
        url.query_pairs_mut()
            .append_pair("sslmode", "verify-full")
            .append_pair("sslrootcert", authority.file().to_str().expect("a path"));
        url.to_string()
    };
    let good = through(&right, &authority);
    let safe = app.another_with(|config| config.database_url = good).await;
    let id = app.product(product()).await;
    safe.get_product(id).await.expect(200);
    for wrong in [through(&right, &other), through(&misnamed, &authority)] {
        let refused = App::build(Config { database_url: wrong, ..app.config.clone() }).await;
        assert!(refused.is_err());
    }
}
