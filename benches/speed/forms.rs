//! What the forms of a value in L2 cost and save, by its size: pages of real products as JSON or MessagePack, plain or compressed.

use std::{hint::black_box, time::Instant};

use aside::{
    cache::{
        Cacheable, DbTime, Format, Key, Label, Policy,
        codec::{decode, encode, entry},
    },
    domain::products::{Product, ProductPage},
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
    let variants: [(&'static str, Once); 4] = [
        ("JSON", once::<false, false>),
        ("JSON, LZ4", once::<false, true>),
        ("MessagePack", once::<true, false>),
        ("MessagePack, LZ4", once::<true, true>),
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

fn once<const PACKED: bool, const COMPRESSED: bool>(products: &[Product]) -> (usize, f64, f64) {
    let page = ProductPage { items: products.to_vec(), next_cursor: None };
    let key = Key::<Form<PACKED, COMPRESSED>>::shared(&[&products.len()]);
    let labels: Vec<Label> =
        products.iter().map(|product| Label { name: Product::name_of(product.id), version: product.version }).collect();
    let entry = entry(Some(Form(page)), labels.into(), (DbTime(1), DbTime(2))).expect("an entry");
    let sealed = encode(&key, &entry).expect("it is written");
    let times = 20_000 / products.len();
    let sealing = timed(times, || drop(black_box(encode(&key, &entry))));
    let opening = timed(times, || drop(black_box(decode(&key, black_box(&sealed)))));
    (sealed.len(), sealing, opening)
}

/// Microseconds of one call.
fn timed(times: usize, call: impl Fn()) -> f64 {
    let begun = Instant::now();
    for _ in 0..times {
        call();
    }
    begun.elapsed().as_secs_f64() * 1e6 / times as f64
}
