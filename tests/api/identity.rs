//! Authentication and authorization. The service verifies tokens and requires scopes, and no tenant
//! reaches the orders of another.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
};

use crate::support::{
    Reply, Temporary, TestApp, eventually, order, product,
    tokens::{SECRET, Signer, Token, key_set, token},
};

async fn guarded(pool: PgPool) -> TestApp {
    TestApp::builder(pool).config(|config| config.jwt_secret = Some(SECRET.into())).build().await
}

async fn send(app: &TestApp, method: Method, path: &str, token: Option<&str>, body: Option<Value>) -> Reply {
    let mut request = app.request(method, path);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    if let Some(body) = body {
        request = request.json(&body);
    }
    app.send(request).await
}

#[sqlx::test]
async fn an_anonymous_caller_may_read_the_catalogue_only(pool: PgPool) {
    let app = guarded(pool).await;
    let all = token("acme").signed();
    let new = Value::from(product());
    let created = send(&app, Method::POST, "/products", Some(&all), Some(new.clone())).await;
    let id = created.expect(201).int("/id");
    app.get_product(id).await.expect(200);
    app.get("/products").await.expect(200);

    let change = json!({ "stock": 7 });
    let routes = [
        (Method::POST, "/products".to_owned(), Some(new), "products:write"),
        (Method::PATCH, format!("/products/{id}"), Some(change), "products:write"),
        (Method::DELETE, format!("/products/{id}"), None, "products:write"),
        (Method::GET, "/orders?customer_id=749".into(), None, "orders:read"),
        (Method::GET, "/orders/1".into(), None, "orders:read"),
        (Method::POST, "/orders".into(), Some(order(749).item(id, 1).into()), "orders:write"),
        (Method::PATCH, "/orders/1".into(), Some(json!({ "status": "confirmed" })), "orders:write"),
    ];
    let others = |scope: &str| {
        let all = ["orders:read", "orders:write", "products:write"];
        let others: Vec<&str> = all.into_iter().filter(|other| *other != scope).collect();
        format!("{} {scope}x", others.join(" "))
    };
    for (method, path, body, scope) in routes {
        let reply = send(&app, method.clone(), &path, None, body.clone()).await;
        reply.problem("unauthenticated", 401);
        assert_eq!(reply.must_have("www-authenticate"), r#"Bearer realm="aside""#, "{method} {path}");

        let weak = token("acme").with("scope", others(scope)).signed();
        let reply = send(&app, method.clone(), &path, Some(&weak), body.clone()).await;
        reply.problem("forbidden", 403);
        let challenge = reply.must_have("www-authenticate");
        assert!(challenge.contains("insufficient_scope") && challenge.contains(scope), "{method} {path}: {challenge}");
    }
    assert_eq!(app.get_product(id).await.int("/stock"), 100, "nothing was changed");
}

#[sqlx::test]
async fn a_token_that_is_not_quite_right_is_none(pool: PgPool) {
    let app = guarded(pool).await;
    let good = token("acme");
    let read = async |token: &str| send(&app, Method::GET, "/orders?customer_id=749", Some(token), None).await;
    read(&good.signed()).await.expect(200);
    read(&good.clone().with("aud", json!(["other", "aside"])).signed()).await.expect(200);
    for typ in ["JWT", "jwt", "at+jwt", "application/AT+JWT"] {
        read(&good.signed_under(&json!({ "typ": typ }))).await.expect(200);
    }
    read(&good.signed_under(&json!({ "kid": "any" }))).await.expect(200);
    read(&good.clone().with("sub", "ü".repeat(128)).signed()).await.expect(200);
    let hour_ago = jsonwebtoken::get_current_timestamp() - 3600;
    let wrong = [
        ("unsigned", good.unsigned()),
        ("of another secret", good.signed_with("another-secret-of-sufficient-length-here")),
        ("expired", good.clone().with("exp", hour_ago).signed()),
        ("never expiring", good.clone().without("exp").signed()),
        ("not yet valid", good.clone().with("nbf", hour_ago + 7200).signed()),
        ("meant for others", good.clone().with("aud", "other").signed()),
        ("meant for nobody", good.clone().without("aud").signed()),
        ("of nobody", good.clone().without("sub").signed()),
        ("of an empty name", good.clone().with("sub", "").signed()),
        ("of a name too long", good.clone().with("sub", "x".repeat(257)).signed()),
        ("of a name on two lines", good.clone().with("sub", "one\ntwo").signed()),
        ("of a name that is shown backwards", good.clone().with("sub", "resu\u{202E}").signed()),
        ("of a name with something unseen", good.clone().with("sub", "ad\u{200B}min").signed()),
        ("with something critical", good.signed_under(&json!({ "crit": ["exp"] }))),
        ("with something critical that is there", good.signed_under(&json!({ "crit": ["more"], "more": 1 }))),
        ("with nothing critical", good.signed_under(&json!({ "crit": [] }))),
        ("with unencoded content", good.signed_under(&json!({ "b64": false, "crit": ["b64"] }))),
        ("with b64", good.signed_under(&json!({ "b64": true }))),
        ("of another type", good.signed_under(&json!({ "typ": "JWE" }))),
        ("of a type for other uses", good.signed_under(&json!({ "typ": "logout+jwt" }))),
        ("of no tenant", good.clone().without("tenant").signed()),
        ("of a tenant with a colon", good.clone().with("tenant", "acme:749").signed()),
        ("of many tenants", good.clone().with("tenant", json!(["acme"])).signed()),
        ("changed after it was signed", token("other").with_signature_of(&good.signed())),
        ("signed with a key pair", good.signed_by(&Signer::elliptic("one"))),
        ("endless", good.clone().with("more", "x".repeat(9000)).signed()),
        ("two dots", "..".into()),
        ("empty", String::new()),
        ("not a token", "x".into()),
    ];
    for (what, token) in wrong {
        let reply = read(&token).await;
        reply.problem("unauthenticated", 401);
        assert!(reply.must_have("www-authenticate").contains("invalid_token"), "{what}");
    }
    for header in ["Basic YWNtZTpzZWNyZXQ=", "Bearer", "Bearer a b", "bearer "] {
        app.get_with("/orders?customer_id=749", "authorization", header).await.problem("unauthenticated", 401);
    }
}

#[sqlx::test]
async fn the_issuer_is_asked_for_where_one_is_set(pool: PgPool) {
    let app = TestApp::builder(pool)
        .config(|config| {
            config.jwt_secret = Some(SECRET.into());
            config.jwt_issuer = Some("https://login.example".into());
        })
        .build()
        .await;
    let read = async |token: Token| send(&app, Method::GET, "/orders?customer_id=1", Some(&token.signed()), None).await;
    read(token("acme").with("iss", "https://login.example")).await.expect(200);
    read(token("acme").with("iss", "https://evil.example")).await.expect(401);
    read(token("acme")).await.expect(401);
}

#[sqlx::test]
async fn public_keys_are_changed_without_a_restart(pool: PgPool) {
    let (old, new, rsa) = (Signer::elliptic("old"), Signer::elliptic("new"), Signer::rsa("rsa"));
    let file = Temporary::file("keys.json", key_set(&[&old, &rsa]));
    let path = file.to_owned();
    let app = TestApp::builder(pool).config(move |config| config.jwt_jwks_file = Some(path.clone())).build().await;
    let read = async |token: String| send(&app, Method::GET, "/orders?customer_id=1", Some(&token), None).await.status;
    let good = token("acme");
    assert_eq!(read(good.signed_by(&old)).await, 200);
    assert_eq!(read(good.signed_by(&rsa)).await, 200);
    assert_eq!(read(good.signed_by(&new)).await, 401);
    assert_eq!(read(good.signed_by(&Signer::elliptic("old"))).await, 401, "another key of that name");
    assert_eq!(read(good.signed()).await, 401, "a secret where keys are public");
    let public = old.public["x"].as_str().expect("a key").to_owned();
    assert_eq!(read(good.signed_with(&public)).await, 401, "a public key taken for a secret");

    std::fs::write(&*file, "{").expect("rubbish");
    std::fs::write(&*file, key_set(&[&new])).expect("the key set");
    eventually("the new key is known", || async { (read(good.signed_by(&new)).await == 200).then_some(()) }).await;
    assert_eq!(read(good.signed_by(&old)).await, 401, "the old one is no more");
    std::fs::remove_file(&*file).expect("the file is gone");
    assert_eq!(read(good.signed_by(&new)).await, 200);
}

#[sqlx::test]
async fn a_tenant_that_sends_too_much_is_told_when_to_come_again(pool: PgPool) {
    let app = TestApp::builder(pool)
        .config(|config| {
            config.jwt_secret = Some(SECRET.into());
            config.tenant_requests_per_second = 5;
        })
        .build()
        .await;
    let (greedy, other) = (token("greedy").signed(), token("other").signed());
    let read = async |token: &str| send(&app, Method::GET, "/orders?customer_id=1", Some(token), None).await;
    let (refused, let_in) = until_refused(20, async |_| read(&greedy).await).await;
    assert!(let_in >= 5, "{let_in} were let in, and five may come at once");
    assert!(refused.must_have("ratelimit").starts_with(r#""tenant";r=0;t="#));
    assert_eq!(refused.must_have("ratelimit-policy"), r#""tenant";q=5;w=1"#);
    read(&other).await.expect(200);
    app.get("/products").await.expect(200);
}

#[sqlx::test]
async fn a_client_with_too_many_wrong_tokens_must_wait_and_no_other_must(pool: PgPool) {
    let app = guarded(pool).await;
    let (good, wrong) = (token("acme").signed(), token("acme").unsigned());
    let read = async |token: Option<&str>| send(&app, Method::GET, "/orders?customer_id=1", token, None).await;
    let (refused, let_in) = until_refused(200, async |at| read((at % 2 == 0).then_some(wrong.as_str())).await).await;
    assert!(let_in >= 100, "{let_in} were let in, and a hundred may come at once");
    assert_eq!(refused.must_have("ratelimit-policy"), r#""address";q=100;w=1"#);
    read(Some(&good)).await.expect(200);
    app.get("/products").await.expect(200);
}

#[sqlx::test]
async fn clients_behind_a_trusted_proxy_are_counted_apart(pool: PgPool) {
    let app = TestApp::builder(pool)
        .config(|config| {
            config.jwt_secret = Some(SECRET.into());
            config.proxies.networks = vec!["127.0.0.0/8".parse().expect("a network")];
        })
        .build()
        .await;
    let wrong = token("acme").unsigned();
    let read = async |client: &str| {
        let request = app.request(Method::GET, "/orders?customer_id=1").bearer_auth(&wrong);
        app.send(request.header("X-Forwarded-For", format!("198.51.100.1, {client}"))).await
    };
    // Each client sends fewer requests than its own limit. Together they exceed the limit of one
    // address by far.
    let clients = (0..900).map(|at| format!("203.0.113.{}", at % 10));
    let replies = join_all(clients.map(async |client| read(&client).await)).await;
    for reply in replies {
        reply.problem("unauthenticated", 401);
    }
}

/// A proxy at this address passes bytes through and names its client by the PROXY protocol.
#[sqlx::test]
#[cfg(target_os = "linux")] // every address of 127.0.0.0/8 is there
async fn a_proxy_that_passes_bytes_through_names_its_client(pool: PgPool) {
    let app = TestApp::builder(pool)
        .config(|config| {
            config.jwt_secret = Some(SECRET.into());
            config.proxies.networks = vec!["127.0.0.2/32".parse().expect("a network")];
            config.proxies.header = aside::config::ForwardedHeader::ProxyProtocol;
        })
        .build()
        .await;
    let wrong = token("acme").unsigned();
    let request = format!(
        "GET /orders?customer_id=1 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {wrong}\r\nconnection: close\r\n\r\n"
    );
    let read = async |start: String| {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.2:0".parse().expect("an address")).expect("an address of this machine");
        let mut stream = socket.connect(app.address).await.expect("a connection");
        stream.write_all(start.as_bytes()).await.expect("it is sent");
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        answer
    };
    // Each client sends fewer requests than its own limit. Together they exceed the limit of one
    // address by far.
    let clients = (0..600).map(|at| format!("PROXY TCP4 203.0.113.{} 127.0.0.1 40000 80\r\n{request}", at % 10));
    let answers = join_all(clients.map(async |bytes| read(bytes).await)).await;
    for answer in answers {
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    }
    assert_eq!(read(request.clone()).await, "", "a trusted proxy without the header is refused");
}

/// Sends `at_once` requests at a time, faster than the limit, until one is told to wait. Returns
/// its reply and the number of requests that were not.
async fn until_refused(at_once: usize, send: impl AsyncFn(usize) -> Reply) -> (Reply, usize) {
    let let_in = AtomicUsize::new(0);
    let refused = eventually("one is told to wait", || async {
        let replies = join_all((0..at_once).map(async |at| send(at).await)).await;
        let (refused, others): (Vec<_>, Vec<_>) = replies.into_iter().partition(|reply| reply.status == 429);
        let_in.fetch_add(others.len(), Ordering::Relaxed);
        refused.into_iter().next()
    })
    .await;
    refused.problem("rate-limited", 429);
    assert!(refused.must_have("retry-after").parse::<u64>().is_ok_and(|seconds| seconds >= 1));
    (refused, let_in.into_inner())
}

/// Ten thousand requests of two tenants with the same customer numbers. They ask for the orders of
/// both, with valid and forged tokens. Each answer is compared with the owner of the row in
/// Postgres.
#[sqlx::test]
async fn no_tenant_gets_a_row_of_another(pool: PgPool) {
    const TENANTS: [&str; 2] = ["acme", "acme-2"];
    let app = guarded(pool).await;
    let sql = "insert into orders (tenant, customer_id, status, total_cents, currency)
               select tenant, customer, 'pending', 1, 'USD'
               from unnest($1::text[]) tenant, generate_series(1, 50) customer, generate_series(1, 4)";
    sqlx::query(sql).bind(TENANTS.as_slice()).execute(&app.pool).await.expect("orders of both");
    let rows: Vec<(i64, String)> =
        sqlx::query_as("select id, tenant from orders").fetch_all(&app.pool).await.expect("whose they are");
    let ids: Vec<i64> = rows.iter().map(|(id, _)| *id).collect();
    let owner: HashMap<i64, String> = rows.into_iter().collect();

    let counts: [AtomicU64; 4] = Default::default();
    let [own, foreign, lists, forged] = &counts;
    let (app, owner, ids) = (&app, &owner, &ids);
    let client = async |seed: u64| {
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..1250 {
            let tenant = TENANTS[random.usize(..2)];
            let other = TENANTS[usize::from(tenant == TENANTS[0])];
            let id = ids[random.usize(..ids.len())];
            let good = token(tenant);
            let (bearer, is_good) = match random.u8(..8) {
                0 => (good.unsigned(), false),
                1 => (good.with_signature_of(&token(other).signed()), false),
                2 => (good.signed_with("another-secret-of-sufficient-length-here"), false),
                _ => (good.signed(), true),
            };
            let path = match random.bool() {
                true => format!("/orders/{id}"),
                false => format!("/orders?customer_id={}", random.u8(1..=50)),
            };
            let reply = send(app, Method::GET, &path, Some(&bearer), None).await;
            let shown = match reply.status.as_u16() {
                200 if path.contains('?') => reply.ids(),
                200 => vec![reply.int("/id")],
                _ => Vec::new(),
            };
            assert!(shown.iter().all(|id| owner[id] == tenant), "{tenant} was shown {path}");
            let (expected, count) = match (is_good, path.contains('?')) {
                (false, _) => (401, forged),
                (true, true) => (200, lists),
                (true, false) if owner[&id] == tenant => (200, own),
                (true, false) => (404, foreign),
            };
            let told_to_wait = !is_good && reply.status == 429;
            assert!(reply.status == expected || told_to_wait, "{tenant}: {path}");
            assert!(expected != 200 || !shown.is_empty(), "{tenant}: {path}");
            count.fetch_add(1, Ordering::Relaxed);
        }
    };
    join_all((0..8).map(client)).await;
    let counts = counts.each_ref().map(|count| count.load(Ordering::Relaxed));
    assert_eq!(counts.iter().sum::<u64>(), 10_000);
    assert!(counts.iter().all(|count| *count > 1000), "{counts:?}");
    let hits = app.metrics().await;
    assert!(hits.requests("order", "l1_hit") > 1000 && hits.requests("order-list", "l1_hit") > 1000);
}
