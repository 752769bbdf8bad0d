//! Tests of the rules of settings. No test here reads the environment.

use clap::{Args, FromArgMatches};

use super::*;

const PURGE_URL: &str = "http://127.0.0.1:6081/";
const URL: (&str, &str) = ("DATABASE_URL", "postgres://aside:hunter2-db@127.0.0.1:5432/aside");

fn check(pairs: &[(&str, &str)]) -> Result<(Config, LogConfig), ConfigErrors> {
    let settings = Settings::from_pairs(pairs).map_err(|error| error.to_string());
    settings.expect("every name is one of a setting").check()
}

fn config(pairs: &[(&str, &str)]) -> Config {
    check(&[&[URL], pairs].concat()).unwrap().0
}

fn wrong_names(pairs: &[(&str, &str)]) -> Vec<&'static str> {
    let wrong = check(&[&[URL], pairs].concat()).err().unwrap_or_default();
    wrong.0.into_iter().map(|wrong| wrong.name).collect()
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let (config, log) = check(&[URL]).unwrap();
    assert_eq!(config.bind_addr, "127.0.0.1:3000".parse().unwrap());
    assert_eq!(config.management_addr, "127.0.0.1:3001".parse().unwrap());
    assert_eq!((config.cache_l1_bytes, config.cache_warm_top), (64 * 1024 * 1024, 100));
    assert_eq!((config.database_connections, config.migrate), (10, true));
    assert_eq!(
        (config.cache_max_staleness, config.cache_l2_deadline),
        (Duration::from_millis(500), Duration::from_millis(20))
    );
    assert_eq!((config.l2.is_none(), config.management_token, config.cors_origins), (true, None, vec![]));
    assert_eq!((config.body_limit, config.allow_insecure), (64 * 1024, false));
    assert_eq!((config.request_timeout, config.shutdown_timeout), (Duration::from_secs(10), Duration::from_secs(10)));
    assert_eq!(log, LogConfig { filter: "info,sqlx=warn".into(), format: None, collector: None });
}

#[test]
fn port_alone_moves_the_public_listener_and_bind_addr_wins_over_it() {
    assert_eq!(config(&[("PORT", "4000")]).bind_addr, "127.0.0.1:4000".parse().unwrap());
    let both = [("PORT", "4000"), ("BIND_ADDR", "[::1]:5000")];
    assert_eq!(config(&both).bind_addr, "[::1]:5000".parse().unwrap());
}

#[test]
fn an_empty_flag_takes_away_what_a_variable_says() {
    let command = Settings::augment_args(clap::Command::new("aside")).mut_args(|arg| arg.env(None::<&str>));
    let flags = ["BIND_ADDR", "CORS_ORIGINS", "MANAGEMENT_TOKEN", "REDIS_URL", "LOG_FORMAT"]
        .map(|name| format!("--{}=", name.to_lowercase().replace('_', "-")));
    let arguments = ["aside", "--database-url", URL.1].map(str::to_owned).into_iter().chain(flags);
    let settings = Settings::from_arg_matches(&command.get_matches_from(arguments)).expect("settings");
    let config = settings.check().unwrap().0;
    assert_eq!((config.l2.is_none(), config.management_token), (true, None));
    assert_eq!(config.bind_addr.port(), 3000);
}

#[test]
fn every_wrong_setting_is_reported_at_once_by_name() {
    let wrong = [
        ("PORT", "70000"),
        ("BIND_ADDR", "localhost"),
        ("ALLOW_INSECURE", "yes"),
        ("CORS_ORIGINS", "*"),
        ("REQUEST_TIMEOUT_MS", "0"),
        ("BODY_LIMIT_BYTES", "64KiB"),
        ("SHUTDOWN_DRAIN_MS", "-1"),
        ("SHUTDOWN_TIMEOUT_MS", "ten"),
        ("MANAGEMENT_ADDR", "127.0.0.1"),
        ("MANAGEMENT_TOKEN", "hunter2-short"),
        ("DATABASE_URL", "mysql://aside:hunter2-db@host/aside"),
        ("DATABASE_CONNECTIONS", "1"),
        ("DATABASE_MIGRATE", "yes"),
        ("REDIS_URL", "http://:hunter2-redis@host"),
        ("CACHE_NAMESPACE", "a:b"),
        ("CACHE_L1_BYTES", "1e6"),
        ("CACHE_WARM_TOP", "10001"),
        ("CACHE_MAX_STALENESS_MS", "99"),
        ("REGION", "EU West"),
        ("RUST_LOG", "aside=loud"),
        ("LOG_FORMAT", "xml"),
    ];
    let report = check(&wrong).err().unwrap();
    let mut reported: Vec<_> = report.0.iter().map(|wrong| wrong.name).collect();
    let mut expected = wrong.map(|(name, _)| name).to_vec();
    reported.sort_unstable();
    expected.sort_unstable();
    assert_eq!(reported, expected);
    let text = report.to_string();
    assert!(text.starts_with("21 settings are wrong:\n"), "{text}");
    assert!(
        text.contains(r#"BODY_LIMIT_BYTES must be a whole number from 1024 to 16777216 (given: "64KiB")"#),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn a_listener_that_others_can_reach_must_be_asked_for() {
    for (pairs, expected) in [
        (&[("BIND_ADDR", "0.0.0.0:3000")][..], &["BIND_ADDR"][..]),
        (&[("BIND_ADDR", "[::]:3000")], &["BIND_ADDR"]),
        (&[("BIND_ADDR", "10.0.0.1:3000")], &["BIND_ADDR"]),
        (&[("BIND_ADDR", "0.0.0.0:3000"), ("ALLOW_INSECURE", "true")], &[]),
        (&[("BIND_ADDR", "127.0.0.2:3000")], &[]),
        (&[("BIND_ADDR", "[::ffff:127.0.0.1]:3000")], &[]),
        (&[("MANAGEMENT_ADDR", "0.0.0.0:3001")], &["MANAGEMENT_TOKEN"]),
        (&[("MANAGEMENT_ADDR", "0.0.0.0:3001"), ("ALLOW_INSECURE", "true")], &["MANAGEMENT_TOKEN"]),
        (&[("MANAGEMENT_ADDR", "0.0.0.0:3001"), ("MANAGEMENT_TOKEN", "0123456789abcdef")], &[]),
    ] {
        assert_eq!(wrong_names(pairs), expected, "{pairs:?}");
    }
}

#[test]
fn origins_are_those_that_browsers_send() {
    let origins = |text: &str| check(&[URL, ("CORS_ORIGINS", text)]).map(|(config, _)| config.cors_origins);
    let taken = origins("https://shop.example, http://localhost:8080,http://[::1]:80").unwrap();
    assert_eq!(taken, ["https://shop.example", "http://localhost:8080", "http://[::1]:80"]);
    for wrong in [
        "*",
        "null",
        "shop.example",
        "https://",
        "https://a/",
        "https://a/b",
        "https://a,",
        "https://A",
        "https://u@a",
        "https://a b",
    ] {
        assert!(origins(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_url_of_redis_is_checked_before_it_is_used() {
    let taken = |url: &str| wrong_names(&[("REDIS_URL", url), ("ALLOW_INSECURE", "true")]).is_empty();
    for url in
        ["redis://h", "redis://h:6379", "redis://h/", "redis://h:1/3", "redis://u:p%40@h:6379/0", "redis://[::1]:6379"]
    {
        assert!(taken(url), "{url}");
    }
    let mode = |mode, url: &str| wrong_names(&[("REDIS_MODE", mode), ("REDIS_URL", url), ("ALLOW_INSECURE", "true")]);
    assert_eq!(mode("cluster", "redis://a,redis://b:1"), [""; 0]);
    assert_eq!(mode("sentinel", "redis://a:26379, redis://b:26379"), [""; 0]);
    assert_eq!(mode("standalone", "redis://a,redis://b"), ["REDIS_URL"]);
    assert_eq!(mode("cluster", "redis://a,rediss://b"), ["REDIS_URL"]);
    assert_eq!(mode("cluster", "redis://a,,redis://b"), ["REDIS_URL"]);
    assert_eq!(mode("sharded", "redis://a"), ["REDIS_MODE"]);
    for url in ["h:6379", "http://h", "redis://", "redis://h:70000", "redis://h:x", "redis://h/name", "redis://h h"] {
        assert!(!taken(url), "{url}");
    }
}

#[test]
fn what_can_be_read_on_the_way_to_redis_must_be_sealed() {
    let key = format!("a:{}", "0".repeat(64));
    let wrong = |pairs: &[(&'static str, &str)]| wrong_names(pairs);
    assert_eq!(wrong(&[("REDIS_URL", "redis://cache.example")]), ["REDIS_URL"]);
    // The addresses of its other nodes are unknown.
    assert_eq!(wrong(&[("REDIS_URL", "redis://127.0.0.1:7000"), ("REDIS_MODE", "cluster")]), ["REDIS_URL"]);
    for safe in [
        &[("REDIS_URL", "redis://127.0.0.1:6379")][..],
        &[("REDIS_URL", "redis://localhost")],
        &[("REDIS_URL", "redis://[::1]:6379")],
        &[("REDIS_URL", "rediss://cache.example")],
        &[("REDIS_URL", "redis://cache.example"), ("CACHE_KEYS", &key)],
        &[("REDIS_URL", "redis://cache.example"), ("ALLOW_INSECURE", "true")],
    ] {
        assert_eq!(wrong(safe), [""; 0], "{safe:?}");
    }
}

#[test]
fn memcached_takes_the_place_of_redis_under_the_same_rules() {
    let address = |url: &str| {
        let checked = check(&[URL, ("MEMCACHED_URL", url), ("ALLOW_INSECURE", "true")]);
        checked.ok().map(|(config, _)| match config.l2 {
            Some(L2Config::Memcached(memcached)) => memcached.address,
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(address("memcached://h").as_deref(), Some("h:11211"));
    assert_eq!(address("memcached://[::1]:7/").as_deref(), Some("[::1]:7"));
    for url in [
        "h:11211",
        "redis://h",
        "memcached://",
        "memcached://u:p@h",
        "memcached://h:x",
        "memcached://h/1",
        "memcached://h?a",
    ] {
        assert_eq!(address(url), None, "{url}");
    }
    let key = format!("a:{}", "0".repeat(64));
    assert_eq!(wrong_names(&[("MEMCACHED_URL", "memcached://cache.example")]), ["MEMCACHED_URL"]);
    assert_eq!(wrong_names(&[("MEMCACHED_URL", "memcached://cache.example"), ("CACHE_KEYS", &key)]), [""; 0]);
    assert_eq!(wrong_names(&[("MEMCACHED_URL", "memcached://127.0.0.1")]), [""; 0]);
    let both = [("MEMCACHED_URL", "memcached://127.0.0.1"), ("REDIS_URL", "redis://127.0.0.1")];
    assert_eq!(wrong_names(&both), ["MEMCACHED_URL"]);
}

#[test]
fn keys_and_verifiers_are_named_once_and_in_their_form() {
    let key = format!("a:{}", "0".repeat(64));
    for (pairs, name) in [
        (&[("CACHE_KEYS", "a:00")][..], "CACHE_KEYS"),
        (&[("CACHE_KEYS", &key[1..])], "CACHE_KEYS"),
        (&[("CACHE_KEYS", &key), ("CACHE_KEYS_FILE", "/keys")], "CACHE_KEYS_FILE"),
        (&[("JWT_SECRET", "short")], "JWT_SECRET"),
        (&[("JWT_SECRET", &key), ("JWT_JWKS_FILE", "/keys")], "JWT_JWKS_FILE"),
        (&[("REDIS_CERT_FILE", "/cert")], "REDIS_KEY_FILE"),
    ] {
        assert_eq!(wrong_names(pairs), [name]);
    }
    let shown = format!("{:?}", config(&[("CACHE_KEYS", &key), ("JWT_SECRET", &key)]));
    assert!(!shown.contains("0000"), "{shown}");
    assert!(wrong_names(&[("BIND_ADDR", "0.0.0.0:3000"), ("JWT_SECRET", &key)]).is_empty());
}

#[test]
fn the_drain_leaves_time_for_the_rest_of_the_shutdown() {
    assert_eq!(wrong_names(&[("SHUTDOWN_DRAIN_MS", "5001")]), ["SHUTDOWN_DRAIN_MS"]);
    assert_eq!(wrong_names(&[("SHUTDOWN_DRAIN_MS", "5000")]), [""; 0]);
}

#[test]
fn a_shared_cache_is_named_by_its_tags_and_told_where_purges_go() {
    assert!(config(&[]).cdn.is_none());
    let cdn = config(&[("CDN_TAGS", "surrogate-key")]).cdn.unwrap();
    assert_eq!((cdn.tags, cdn.max_age.as_secs(), cdn.purge.is_none()), (CdnTags::SurrogateKey, 300, true));
    let xkey = ("CDN_TAGS", "xkey");
    assert_eq!(config(&[xkey, ("CDN_PURGE_URL", PURGE_URL)]).cdn.unwrap().purge.unwrap().url, PURGE_URL);
    assert_eq!(wrong_names(&[("CDN_TAGS", "varnish")]), ["CDN_TAGS"]);
    assert_eq!(wrong_names(&[("CDN_PURGE_URL", PURGE_URL)]), ["CDN_TAGS"]);
    assert_eq!(wrong_names(&[xkey, ("CDN_PURGE_TOKEN", "0123456789abcdef")]), ["CDN_PURGE_TOKEN"]);
    assert_eq!(wrong_names(&[xkey, ("CDN_MAX_AGE_SECONDS", "0")]), ["CDN_MAX_AGE_SECONDS"]);
    for url in ["127.0.0.1:6081", "https://cdn.example/", "http://", "http://u:p@h/", "http://h/?a"] {
        assert_eq!(wrong_names(&[xkey, ("CDN_PURGE_URL", url)]), ["CDN_PURGE_URL"], "{url}");
    }
}

#[test]
fn the_database_must_be_named() {
    assert!(check(&[]).err().unwrap().to_string().contains("DATABASE_URL must be set"));
}

#[test]
fn debug_shows_no_secret() {
    let token = ("MANAGEMENT_TOKEN", "hunter2-hunter2-hunter2");
    let redis = ("REDIS_URL", "redis://:hunter2@127.0.0.1:6379");
    let purges = [("CDN_TAGS", "xkey"), ("CDN_PURGE_URL", PURGE_URL), ("CDN_PURGE_TOKEN", "hunter2-hunter2-hunter2")];
    let text = format!("{:?}", config(&[&[token, redis][..], &purges].concat()));
    assert!(!text.contains("hunter2"), "{text}");
    assert!(text.contains("l2: Some(Redis(RedisConfig { mode: Standalone, urls: 1,"), "{text}");
}

#[test]
fn a_refused_url_is_not_repeated_for_it_may_hold_a_password() {
    for (name, url) in [
        ("DATABASE_URL", "mysql://aside:hunter2@h/a"),
        ("DATABASE_READ_URL", "mysql://aside:hunter2@h/a"),
        ("REDIS_URL", "http://:hunter2@h"),
        ("MEMCACHED_URL", "memcached://aside:hunter2@h"),
        ("CDN_PURGE_URL", "http://aside:hunter2@h/"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://aside:hunter2@h:4318"),
    ] {
        let wrong = check(&[(name, url), ("CDN_TAGS", "xkey")]).err().map(|wrong| wrong.to_string());
        let text = wrong.unwrap_or_else(|| panic!("{name} is taken"));
        assert!(text.contains(name) && !text.contains("hunter2"), "{text}");
    }
}

#[test]
fn the_example_file_says_what_the_definitions_say() {
    assert_eq!(include_str!("../../.env.example"), env_example(), "make it anew: aside env-example > .env.example");
}

#[test]
fn names_that_look_like_settings_and_are_none_are_found() {
    let names = ["CACHE_L1_BYTES", "CACHE_L1_BITES", "MANAGEMENT_TOKEN", "MANAGEMENT_TOKENS", "CDN_TAG", "PATH"]
        .map(String::from);
    assert_eq!(unknown_names(names.into_iter()), ["CACHE_L1_BITES", "MANAGEMENT_TOKENS", "CDN_TAG"]);
}

#[test]
fn proxies_are_networks_or_single_addresses() {
    let proxies =
        config(&[("TRUSTED_PROXIES", "10.0.0.0/8, 127.0.0.1,2001:db8::/32"), ("FORWARDED_HEADER", "forwarded")])
            .proxies;
    let networks: Vec<_> = proxies.networks.iter().map(ToString::to_string).collect();
    assert_eq!(
        (networks.join(" "), proxies.header),
        ("10.0.0.0/8 127.0.0.1/32 2001:db8::/32".into(), ForwardedHeader::Forwarded)
    );
    assert_eq!(config(&[]).proxies, ProxyConfig::default());
    assert_eq!(
        wrong_names(&[("TRUSTED_PROXIES", "proxy.example"), ("FORWARDED_HEADER", "via")]),
        ["TRUSTED_PROXIES", "FORWARDED_HEADER"]
    );
}
