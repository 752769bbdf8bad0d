//! Refused and unchanged writes. One instance changes data. The other one, which cannot poll,
//! refuses a write because of that change. Its next reads must not be older than the refusal.

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{Gate, Instance, Reply, TestApp, database, order, product};

/// Two instances. The second one answers from L1, no matter how old the entry is.
struct Fleet {
    app: TestApp,
    gate: Option<Gate>,
}

impl Fleet {
    async fn start(pool: PgPool) -> Self {
        Self { app: TestApp::builder(pool).instances(2).build().await, gate: None }
    }

    /// Stops all polls, so that no instance learns of another one's writes.
    async fn deafen(&mut self) {
        self.gate = Some(Gate::polls(&self.app.pool).await);
    }

    fn other(&self) -> &Instance {
        self.app.instance(1)
    }

    /// Reads the paths on the other instance. Afterwards all of them are in its L1.
    async fn read(&self, paths: &[&str]) -> Vec<Value> {
        let mut shown = Vec::new();
        for path in paths {
            self.other().get(path).await.expect(200);
            let again = self.other().get(path).await;
            again.expect(200).cache_status().expect_hit("l1");
            shown.push(again.json());
        }
        shown
    }

    /// Checks that the other instance still shows these answers.
    async fn is_behind(&self, paths: &[&str], shown: &[Value]) {
        for (path, shown) in paths.iter().zip(shown) {
            assert_eq!(
                &self.other().get(path).await.json(),
                shown,
                "{path}: the other instance has heard of the change"
            );
        }
    }

    /// Sends a conditional change of a product to the other instance.
    async fn patch_if(&self, path: &str, condition: (&str, &str), change: Value) -> Reply {
        let request = self.other().request(Method::PATCH, path).header(condition.0, condition.1).json(&change);
        self.other().send(request).await
    }
}

#[sqlx::test]
async fn after_a_412_the_product_and_its_pages_are_not_older_than_the_version_it_names(pool: PgPool) {
    let mut fleet = Fleet::start(pool).await;
    for header in ["if-match", "if-none-match"] {
        let id = fleet.other().product(product().price(1).category(header)).await;
        let (single, page) = (format!("/products/{id}"), format!("/products?category={header}"));
        let shown = fleet.read(&[&single, &page]).await;
        let old = fleet.other().get(&single).await.etag();
        fleet.deafen().await;
        let change = json!({ "price_cents": 2, "category": "PEARS" });
        let new = fleet.app.patch_product(id, change).await.expect(200).etag();
        fleet.is_behind(&[&single, &page], &shown).await;
        let condition = if header == "if-match" { &old } else { &new };
        let refused = fleet.patch_if(&single, (header, condition), json!({ "price_cents": 3 })).await;
        refused.problem("version-conflict", 412);
        assert_eq!(refused.at("/detail"), "The resource is at version 2. Read it again and retry.");
        let read = fleet.other().get(&single).await;
        assert_eq!((read.int("/version"), read.int("/price_cents")), (2, 2), "{header}");
        assert_eq!(fleet.other().get(&page).await.ids(), [] as [i64; 0], "{header}");
        fleet.gate = None;
    }
}

#[sqlx::test]
async fn after_a_404_the_product_is_gone(pool: PgPool) {
    let mut fleet = Fleet::start(pool).await;
    for method in [Method::PATCH, Method::DELETE] {
        let id = fleet.other().product(product()).await;
        let (single, page) = (format!("/products/{id}"), "/products");
        let shown = fleet.read(&[&single, page]).await;
        fleet.deafen().await;
        fleet.app.delete_product(id).await.expect(204);
        fleet.is_behind(&[&single, page], &shown).await;
        let request = fleet.other().request(method.clone(), &single);
        let request = if method == Method::PATCH { request.json(&json!({ "stock": 1 })) } else { request };
        fleet.other().send(request).await.problem("not-found", 404);
        fleet.other().get(&single).await.problem("not-found", 404);
        assert!(!fleet.other().get(page).await.ids().contains(&id), "{method}");
        fleet.gate = None;
    }
}

#[sqlx::test]
async fn after_a_404_for_what_a_program_outside_deleted_it_is_gone(pool: PgPool) {
    let mut fleet = Fleet::start(pool).await;
    let id = fleet.other().product(product()).await;
    let single = format!("/products/{id}");
    let shown = fleet.read(&[&single]).await;
    fleet.deafen().await;
    database::outside(&fleet.app.pool, &format!("delete from products where id = {id}")).await;
    fleet.is_behind(&[&single], &shown).await;
    fleet.other().patch_product(id, json!({ "stock": 1 })).await.problem("not-found", 404);
    fleet.other().get(&single).await.problem("not-found", 404);
}

#[sqlx::test]
async fn after_a_404_for_what_an_emptied_table_held_it_is_gone(pool: PgPool) {
    let mut fleet = Fleet::start(pool).await;
    let id = fleet.other().product(product()).await;
    let (single, page) = (format!("/products/{id}"), "/products");
    let shown = fleet.read(&[&single, page]).await;
    fleet.deafen().await;
    sqlx::query("truncate products cascade").execute(&fleet.app.pool).await.expect("emptied");
    fleet.is_behind(&[&single, page], &shown).await;
    fleet.other().patch_product(id, json!({ "stock": 1 })).await.problem("not-found", 404);
    fleet.other().get(&single).await.problem("not-found", 404);
    assert_eq!(fleet.other().get(page).await.ids(), [] as [i64; 0]);
}

#[sqlx::test]
async fn after_a_change_to_what_already_is_the_answer_stands(pool: PgPool) {
    let mut fleet = Fleet::start(pool).await;
    let id = fleet.other().product(product().price(1).category("APPLES")).await;
    let (single, page) = (format!("/products/{id}"), "/products?category=PEARS");
    let shown = fleet.read(&[&single, page]).await;
    fleet.deafen().await;
    let change = json!({ "price_cents": 2, "category": "PEARS" });
    fleet.app.patch_product(id, change.clone()).await.expect(200);
    fleet.is_behind(&[&single, page], &shown).await;
    let told = fleet.other().patch_product(id, change).await;
    assert_eq!(told.expect(200).int("/version"), 2);
    assert_eq!(fleet.other().get(&single).await.without_views(), told.without_views());
    assert_eq!(fleet.other().get(page).await.ids(), [id], "the list that it has joined");
}

#[sqlx::test]
async fn an_order_that_is_refused_speaks_of_products_as_they_are_read_afterwards(pool: PgPool) {
    let mut fleet = Fleet::start(pool).await;
    let (id, companion) = (fleet.other().product(product().stock(9)).await, fleet.other().product(product()).await);
    let single = format!("/products/{id}");
    let refused: [(Value, &str, u16); 2] =
        [(json!({ "stock": 1 }), "out-of-stock", 409), (json!({ "stock": 9, "currency": "EUR" }), "validation", 422)];
    for (change, kind, status) in refused {
        let shown = fleet.read(&[&single]).await;
        fleet.deafen().await;
        let changed = fleet.app.patch_product(id, change.clone()).await;
        changed.expect(200);
        fleet.is_behind(&[&single], &shown).await;
        fleet.other().place_order(order(1).item(companion, 1).item(id, 5)).await.problem(kind, status);
        assert_eq!(fleet.other().get(&single).await.without_views(), changed.without_views(), "{change}");
        fleet.gate = None;
    }
    let shown = fleet.read(&[&single]).await;
    fleet.deafen().await;
    fleet.app.delete_product(id).await.expect(204);
    fleet.is_behind(&[&single], &shown).await;
    fleet.other().place_order(order(1).item(companion, 1).item(id, 1)).await.problem("validation", 422);
    fleet.other().get(&single).await.problem("not-found", 404);
}

#[sqlx::test]
async fn after_a_refused_step_the_order_and_its_list_are_not_older(pool: PgPool) {
    let mut fleet = Fleet::start(pool).await;
    let id = fleet.other().product(product()).await;
    for condition in [None, Some("if-match"), Some("if-none-match")] {
        let number = fleet.other().order(order(7).item(id, 1)).await;
        let (single, list) = (format!("/orders/{number}"), "/orders?customer_id=7&limit=1");
        let shown = fleet.read(&[&single, list]).await;
        assert_eq!(shown[1]["items"][0]["id"], number);
        let old = fleet.other().get(&single).await.etag();
        fleet.deafen().await;
        let new = fleet.app.move_order(number, "cancelled").await.expect(200).etag();
        fleet.is_behind(&[&single, list], &shown).await;
        let step = json!({ "status": "confirmed" });
        match condition {
            None => drop(fleet.other().move_order(number, "confirmed").await.problem("invalid-transition", 409)),
            Some(header) => {
                let tag = if header == "if-match" { &old } else { &new };
                let refused = fleet.patch_if(&single, (header, tag), step).await;
                refused.problem("version-conflict", 412);
                assert_eq!(refused.at("/detail"), "The resource is at version 2. Read it again and retry.");
            }
        }
        assert_eq!(fleet.other().get(&single).await.at("/status"), "cancelled", "{condition:?}");
        assert_eq!(fleet.other().get(list).await.at("/items/0/status"), "cancelled", "{condition:?}");
        fleet.gate = None;
    }
}

#[sqlx::test]
async fn after_a_replayed_key_the_order_its_list_and_its_products_are_not_older(pool: PgPool) {
    let mut fleet = Fleet::start(pool).await;
    let id = fleet.other().product(product().stock(9)).await;
    let (single, list) = (format!("/products/{id}"), "/orders?customer_id=7");
    let shown = fleet.read(&[&single, list]).await;
    fleet.deafen().await;
    let placed = fleet.app.place_order_once("a-key", order(7).item(id, 2)).await;
    placed.expect(201);
    fleet.is_behind(&[&single, list], &shown).await;
    let again = fleet.other().place_order_once("a-key", order(7).item(id, 2)).await;
    assert_eq!(again.expect(201).json(), placed.json());
    assert_eq!(fleet.other().get(list).await.ids(), [placed.int("/id")]);
    assert_eq!(fleet.other().get(&single).await.int("/stock"), 7);
}
