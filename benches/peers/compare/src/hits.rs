//! Hits in memory compared with constant bytes, and hits in Redis compared with values passed
//! through from Redis. The products follow their real popularity.

use std::path::Path;

use crate::{
    catalogue::{Catalogue, paths},
    lanes::{self, Lane},
    redis_server::RedisServer,
    server::Program,
};

const SECONDS: f64 = 1.5;
const REQUESTS: usize = 20_000;

pub fn measure(catalogue: &Catalogue, aside: &Path, database_url: &str, redis_url: &str, rounds: usize) {
    let ids = catalogue.popular(REQUESTS);
    let product = format!("/products/{}", ids[0]);
    let peer = |name, file| Program::peer(name, file, database_url, redis_url, &product);
    let (plain, textbook) = (peer("plain", "plain"), peer("textbook", "textbook"));
    let multi_tier = peer("multi-tier", "multi-tier");
    let service = Program::aside("Aside", aside, database_url, redis_url);
    let products = paths("products", &ids);

    let mut redis = RedisServer::connect(redis_url);
    redis.flush();
    for clients in [16, 64] {
        let mut in_memory = [
            Lane::new("constant bytes", &plain, &paths("constant", &ids)),
            Lane::new("Aside", &service, &products),
            Lane::new("textbook", &textbook, &products),
            Lane::new("multi-tier", &multi_tier, &products),
        ];
        lanes::measure(&mut in_memory, clients, SECONDS, rounds);
        println!("{}", lanes::table("Hits in memory", clients, &in_memory));
    }
    let body = plain.start().get(&product).expect("a product").1;
    for id in catalogue.shuffled() {
        redis.set(&format!("raw:{id}"), &body);
    }
    let (no_l1, no_entries) = (service.clone().with("CACHE_L1_BYTES", "0"), textbook.clone().with("L1_ENTRIES", "0"));
    for clients in [16, 64] {
        let mut in_redis = [
            Lane::new("Redis passed through", &plain, &paths("redis", &ids)),
            Lane::new("Aside", &no_l1, &products),
            Lane::new("textbook", &no_entries, &products),
        ];
        lanes::measure(&mut in_redis, clients, SECONDS, rounds);
        println!("{}", lanes::table("Hits in Redis", clients, &in_redis));
    }
    println!("Headers of an answer:\n");
    for program in [&plain, &service, &textbook, &multi_tier] {
        let (head, _) = program.start().get(&product).expect("a product");
        let names: Vec<&str> = head.lines().skip(1).filter_map(|line| Some(line.split_once(':')?.0)).collect();
        println!("* {}: {}", program.name, names.join(", "));
    }
}
