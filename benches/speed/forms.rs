//! The costs and savings of the forms of a value in L2, by its size. The values are pages of real
//! products as JSON or MessagePack, each plain, compressed and sealed.

use std::{hint::black_box, time::Instant};

use aside::domain::products::{Product, ProductPage};
use aside_cache::{
    Cacheable, DbTime, Format, Key, Keyring, Policy, TagVersion,
    codec::{decode, encode, entry},
};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use crate::numbers::Spread;

/// Products of a page.
const PAGES: [usize; 4] = [1, 5, 20, 100];

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Form<const PACKED: bool, const COMPRESSED: bool>(ProductPage);

impl<const PACKED: bool, const COMPRESSED: bool> Cacheable for Form<PACKED, COMPRESSED> {
    const POLICY: Policy = Policy {
        format: if PACKED { Format::MessagePack } else { Format::Json },
        compress_above: if COMPRESSED { 0 } else { usize::MAX },
        ..ProductPage::POLICY
    };
}

/// One form of one size.
pub struct Measured {
    pub products: usize,
    pub form: &'static str,
    pub bytes: usize,
    /// Microseconds of writing and of reading.
    pub seal: Spread,
    pub open: Spread,
}

/// Measures all forms of all sizes in turn, `rounds` times.
pub async fn measure(db: &PgPool, rounds: usize) -> Vec<Measured> {
    let products: Vec<Product> = sqlx::query_as("select * from products order by view_count desc limit 100")
        .fetch_all(db)
        .await
        .expect("the products");
    let variants: [(&'static str, Once); 6] = [
        ("JSON", once::<false, false, false>),
        ("JSON, LZ4", once::<false, true, false>),
        ("MessagePack", once::<true, false, false>),
        ("MessagePack, LZ4", once::<true, true, false>),
        ("JSON, sealed", once::<false, false, true>),
        ("MessagePack, LZ4, sealed", once::<true, true, true>),
    ];
    let mut all = Vec::new();
    for count in PAGES {
        let mut seen = variants.map(|_| (0, Vec::new(), Vec::new()));
        for _ in 0..rounds {
            for ((_, variant), (bytes, seals, opens)) in variants.iter().zip(&mut seen) {
                let (size, seal, open) = variant(&products[..count]);
                *bytes = size;
                seals.push(seal);
                opens.push(open);
            }
        }
        all.extend(variants.iter().zip(seen).map(|((form, _), (bytes, seals, opens))| Measured {
            products: count,
            form,
            bytes,
            seal: Spread::of(&seals),
            open: Spread::of(&opens),
        }));
    }
    all
}

/// Bytes in L2, and microseconds of writing and of reading them.
type Once = fn(&[Product]) -> (usize, f64, f64);

fn once<const PACKED: bool, const COMPRESSED: bool, const SEALED: bool>(products: &[Product]) -> (usize, f64, f64) {
    let page = ProductPage { items: products.to_vec(), next_cursor: None };
    let key = Key::<Form<PACKED, COMPRESSED>>::new(products.len());
    let tag_versions: Vec<TagVersion> = products
        .iter()
        .map(|product| TagVersion { tag: Product::tag_of(product.id), version: product.version })
        .collect();
    let entry = entry(Some(Form(page)), tag_versions.into(), (DbTime(1), DbTime(2))).expect("an entry");
    // In the order of the cache: the form of the policy, then the seal.
    let keys = Keyring::parse(&format!("bench:{}", "5a".repeat(32))).expect("keys");
    let secret = [0; 32];
    let write = || {
        let plain = encode(&key, &entry).expect("it is written");
        if SEALED { keys.seal(&secret, b"place", &plain).expect("it is sealed").into() } else { plain }
    };
    let read = |stored: &[u8]| match SEALED {
        true => decode(&key, &keys.open(&secret, b"place", stored).expect("it opens")),
        false => decode(&key, stored),
    };
    let stored = write();
    let times = 20_000 / products.len();
    let writing = timed(times, || drop(black_box(write())));
    let reading = timed(times, || drop(black_box(read(black_box(&stored)))));
    (stored.len(), writing, reading)
}

/// Microseconds of one call.
fn timed(times: usize, call: impl Fn()) -> f64 {
    let begun = Instant::now();
    for _ in 0..times {
        call();
    }
    begun.elapsed().as_secs_f64() * 1e6 / times as f64
}
