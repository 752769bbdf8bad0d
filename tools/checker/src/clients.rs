//! The clients. Each sends one request after the other and chooses products by their real
//! popularity. It often returns to rows that it has just written or read, because a wrong cache
//! would show there.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use reqwest::Method;
use serde_json::json;

use crate::{
    calls::{CATEGORY_LIMIT, Call, Line, ORDERS_LIMIT, Outcome, Want},
    check::history::{Ack, Key, List, Sight, Told},
    fixture::{CUSTOMERS, Hot, SLOW},
    fleet::INSTANCES,
    pace::{millis, pause},
};

/// How many of the newest orders the clients read and change.
const RECENT: usize = 40;
/// The maximum of products that clients have made and not deleted yet.
const EXTRAS: usize = 8;

/// State that all clients share.
pub struct World {
    pub hot: Hot,
    total: f64,
    orders: Mutex<VecDeque<i64>>,
    extras: Mutex<VecDeque<i64>>,
    versions: Mutex<HashMap<i64, i64>>,
    last_product: AtomicI64,
    last_order: AtomicI64,
}

impl World {
    pub fn new(hot: Hot) -> Self {
        let total = hot.products.iter().map(|(_, weight)| weight).sum();
        let (orders, extras, versions) = Default::default();
        let (last_product, last_order) = (AtomicI64::new(100_000_000), AtomicI64::new(1_000_000_000_000));
        Self { hot, total, orders, extras, versions, last_product, last_order }
    }

    /// A product, chosen by its popularity.
    fn product(&self, rng: &mut fastrand::Rng) -> i64 {
        let mut point = rng.f64() * self.total;
        let found = self.hot.products.iter().find(|(_, weight)| {
            point -= weight;
            point <= 0.0
        });
        found.unwrap_or(&self.hot.products[0]).0
    }

    fn category(&self, rng: &mut fastrand::Rng) -> String {
        self.hot.categories[rng.usize(..self.hot.categories.len())].clone()
    }

    fn order(&self, rng: &mut fastrand::Rng) -> Option<i64> {
        let orders = held(&self.orders);
        (!orders.is_empty()).then(|| orders[rng.usize(..orders.len())])
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub struct Client {
    pub line: Line,
    pub world: Arc<World>,
    pub rng: fastrand::Rng,
    /// The last token, and the record of the answer that gave it.
    token: Option<(String, usize)>,
    /// The last representation of each product, for conditional requests.
    known: HashMap<i64, (String, Sight)>,
    /// An order that the client will place once more under the same key.
    again: Option<(String, serde_json::Value)>,
}

impl Client {
    pub fn new(line: Line, world: Arc<World>, seed: u64) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        Self { line, world, rng, token: None, known: HashMap::new(), again: None }
    }

    /// Runs until it is aborted.
    pub async fn run(mut self) {
        loop {
            let at = self.instance().await;
            let call = self.choose();
            let carry = self.rng.f32() < 0.4;
            let (outcome, want) = self.go(at, call, carry).await;
            if let Told::Written(ack) = outcome.told {
                self.look_back(at, ack, want).await;
            }
        }
    }

    async fn instance(&mut self) -> usize {
        loop {
            let now = self.line.clock.now();
            let well: Vec<usize> = (0..INSTANCES).filter(|at| !self.line.fleet[*at].avoided(now)).collect();
            if let Some(at) = self.rng.choice(well) {
                return at;
            }
            pause(millis(5)).await;
        }
    }

    /// Sends a call, and updates the client's state from the answer. If `carry` is set, the call
    /// carries the token of the last answer.
    async fn go(&mut self, at: usize, mut call: Call, carry: bool) -> (Outcome, Want) {
        if carry
            && call.method == Method::GET
            && let Some((token, record)) = self.token.take()
        {
            call.token_of = Some(record);
            call = call.with("consistency-token", token);
        }
        let want = call.want.clone();
        let mut unchanged = None;
        if let Want::Product(id) = want
            && self.rng.f32() < 0.1
            && let Some((etag, sight)) = self.known.get(&id)
        {
            unchanged = Some(*sight);
            call = call.with("if-none-match", etag.clone());
        }
        let outcome = self.line.send(at, call, unchanged).await;
        self.learn(&want, &outcome);
        (outcome, want)
    }

    fn learn(&mut self, want: &Want, outcome: &Outcome) {
        if let Some(token) = &outcome.token {
            self.token = Some((token.clone(), outcome.record));
        }
        match &outcome.told {
            Told::Values(values) => {
                for (key, sight) in values {
                    let (Key::Product(id), Some(sight)) = (key, sight) else { continue };
                    held(&self.world.versions).insert(*id, sight.version);
                    if let (Want::Product(_), Some(etag)) = (want, &outcome.etag) {
                        self.known.insert(*id, (etag.clone(), *sight));
                    }
                }
            }
            Told::Written(Ack::TransactionOf(Key::Order(id), 1)) => {
                let mut orders = held(&self.world.orders);
                if !orders.contains(id) {
                    orders.push_back(*id);
                }
                if orders.len() > RECENT {
                    orders.pop_front();
                }
                self.world.last_order.fetch_max(*id, Ordering::AcqRel);
            }
            Told::Written(Ack::Version(Key::Product(id), version)) => {
                held(&self.world.versions).insert(*id, *version);
                if *version == 1 {
                    held(&self.world.extras).push_back(*id);
                    self.world.last_product.fetch_max(*id, Ordering::AcqRel);
                }
            }
            _ => {}
        }
    }

    /// Reads a row right after its write: on the same instance, and on another one with the token.
    async fn look_back(&mut self, at: usize, ack: Ack, want: Want) {
        let (Ack::Version(key, _) | Ack::TransactionOf(key, _)) = ack else { return };
        if self.rng.f32() < 0.5 {
            let call = match (key, self.rng.bool()) {
                (Key::Order(_), true) if matches!(want, Want::OrderPlaced) => self.orders(),
                (key, _) => read_of(key),
            };
            self.go(at, call, false).await;
        }
        if self.rng.f32() < 0.3 {
            let other = self.instance().await;
            self.go(other, read_of(key), true).await;
        }
    }

    /// Chooses the next call. About a fifth of the calls are writes.
    fn choose(&mut self) -> Call {
        let id = self.world.product(&mut self.rng);
        match self.rng.u32(..1000) {
            0..500 => read_of(Key::Product(id)),
            500..560 => self.batch(),
            560..650 => {
                let category = self.world.category(&mut self.rng);
                let path = format!("/products?category={}&limit={CATEGORY_LIMIT}", encoded(&category));
                Call::read("list", path, Want::List(List::Category(category)))
            }
            650..730 => match self.world.order(&mut self.rng) {
                Some(id) => read_of(Key::Order(id)),
                None => self.orders(),
            },
            730..790 => self.orders(),
            790..805 => read_of(Key::Product(self.world.last_product.load(Ordering::Acquire) + self.rng.i64(1..=2))),
            805..830 => read_of(Key::Order(self.world.last_order.load(Ordering::Acquire) + self.rng.i64(1..=3))),
            830..920 => {
                // There are few prices, so some changes change nothing.
                let price = 100 + self.rng.i64(0..3);
                self.patch(id, "price", json!({ "price_cents": price }))
            }
            920..925 => {
                let category = self.world.category(&mut self.rng);
                self.patch(id, "move", json!({ "category": category }))
            }
            925..932 => self.create(),
            932..942 => self.delete(id),
            942..972 => self.place(),
            _ => self.step(),
        }
    }

    fn orders(&mut self) -> Call {
        let customer = self.customer();
        let path = format!("/orders?customer_id={customer}&limit={ORDERS_LIMIT}");
        Call::read("orders", path, Want::List(List::Customer(customer)))
    }

    fn customer(&mut self) -> i64 {
        CUSTOMERS[self.rng.usize(..CUSTOMERS.len())]
    }

    fn batch(&mut self) -> Call {
        let mut ids: Vec<i64> = (0..5).map(|_| self.world.product(&mut self.rng)).collect();
        ids.sort_unstable();
        ids.dedup();
        let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
        Call::read("batch", format!("/products/batch?ids={}", ids.join(",")), Want::Batch)
    }

    fn patch(&mut self, id: i64, verb: &'static str, change: serde_json::Value) -> Call {
        // Only the slow writer changes these products. Other writers would just wait for its lock.
        if SLOW.contains(&id) {
            return read_of(Key::Product(id));
        }
        let call = Call::write(verb, Method::PATCH, format!("/products/{id}"), Want::ProductWritten, Some(change));
        self.for_all(call)
    }

    /// Asks for acknowledgement by the whole fleet for some writes, if the service supports it.
    fn for_all(&mut self, call: Call) -> Call {
        if self.rng.f32() < 0.1 { call.with("prefer", "fleet-consistent") } else { call }
    }

    fn create(&mut self) -> Call {
        let oldest = {
            let mut extras = held(&self.world.extras);
            if extras.len() >= EXTRAS { extras.pop_front() } else { None }
        };
        if let Some(id) = oldest {
            return self.delete(id);
        }
        let body = json!({
            "name": "Made by the checker", "department": self.world.hot.department, "brand": "Private",
            "category": self.world.category(&mut self.rng), "type": "CHECKED", "package_size": null,
            "price_cents": 100, "currency": "USD", "stock": 5,
        });
        Call::write("create", Method::POST, "/products".into(), Want::ProductWritten, Some(body))
    }

    /// Deletes a product with `If-Match`, so that the checker knows which state the deletion made.
    fn delete(&mut self, id: i64) -> Call {
        let version = held(&self.world.versions).get(&id).copied();
        let Some(version) = version.filter(|_| !SLOW.contains(&id)) else { return read_of(Key::Product(id)) };
        let want = Want::ProductDeleted(id, version);
        Call::write("delete", Method::DELETE, format!("/products/{id}"), want, None)
            .with("if-match", format!("\"{version}-0000000000000000\""))
    }

    /// Places an order. Every third order is placed twice under one key, mostly on two instances.
    fn place(&mut self) -> Call {
        let (key, body, verb) = match self.again.take() {
            Some((key, body)) => (key, body, "order again"),
            None => {
                let ordered = &self.world.hot.ordered;
                let one = ordered[self.rng.usize(..ordered.len())];
                let body = json!({ "customer_id": self.customer(), "items": [{ "product_id": one, "quantity": 1 }] });
                let key = format!("{:032x}", self.rng.u128(..));
                if self.rng.f32() < 0.34 {
                    self.again = Some((key.clone(), body.clone()));
                }
                (key, body, "order")
            }
        };
        let call = Call::write(verb, Method::POST, "/orders".into(), Want::OrderPlaced, Some(body));
        self.for_all(call.with("idempotency-key", key))
    }

    fn step(&mut self) -> Call {
        let Some(id) = self.world.order(&mut self.rng) else { return self.place() };
        let status = ["confirmed", "shipped", "delivered", "cancelled"][self.rng.usize(..4)];
        let body = Some(json!({ "status": status }));
        Call::write("status", Method::PATCH, format!("/orders/{id}"), Want::OrderWritten, body)
    }
}

fn read_of(key: Key) -> Call {
    match key {
        Key::Product(id) => Call::read("product", format!("/products/{id}"), Want::Product(id)),
        Key::Order(id) => Call::read("order", format!("/orders/{id}"), Want::Order(id)),
    }
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { (byte as char).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
