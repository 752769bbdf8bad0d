//! The dependency check over all cached types of the service: each change of a row that makes an
//! answer wrong raises one of the answer's tags, for every writer.

use std::{cell::RefCell, future::Future, pin::Pin, sync::Arc};

use aside::domain::{
    DomainError, PageRequest,
    orders::{self, OrderFilter, OrderStatus},
    products::{self, ProductFilter},
};
use aside_cache::{Cacheable, ConnectionPool, Loaded, Tag, Tenant};
use aside_testkit::dependencies::{Answer, DependencyCheck};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{TestApp, order, product};

/// Products in and out of each list, one that is not sold, and orders of two customers.
pub(super) const DATA: &str = "
    insert into products (id, name, department, brand, category, type, package_size, price_cents, currency, stock, view_count)
    values (1, 'Mango', 'Ä', 'B', 'C D', 'T', '1 LB', 129, 'USD', 50, 40), (2, 'Nut', 'OTHER', 'B', 'OTHER', 'T', null, 45, 'USD', 50, 30),
        (3, 'Lime', 'OTHER', 'B', 'C D', 'T', null, 99, 'USD', 50, 20), (4, 'Kiwi', 'Ä', 'B', 'C D', 'T', null, 10, 'USD', 50, 10);
    insert into products (id, name, department, brand, category, type, price_cents, currency, stock, view_count, discontinued_at)
    values (5, 'Old', 'Ä', 'B', 'C D', 'T', 5, 'USD', 0, 50, now());
    insert into orders (id, tenant, customer_id, status, total_cents, currency)
    values (7, 'demo', 749, 'pending', 129, 'USD'), (8, 'demo', 749, 'shipped', 45, 'USD'), (9, 'acme', 750, 'pending', 129, 'USD');
    insert into order_items values (7, 1, 'Mango', 1, 129), (7, 2, 'Nut', 2, 45), (8, 2, 'Nut', 1, 45), (9, 1, 'Mango', 1, 129)";

thread_local! {
    /// The tag that a load forgets (`omissions.rs`): the name of the load, and the tag without its
    /// shard.
    pub(super) static FORGOTTEN: RefCell<Option<(String, String)>> = const { RefCell::new(None) };
}

/// Whether the load depends on a tag.
fn depends_on(load: &str, tag: &Tag) -> bool {
    let tag = tag.as_str().split('#').next().unwrap_or_default();
    FORGOTTEN.with_borrow(|forgotten| forgotten.as_ref().is_none_or(|(of, forgotten)| load != of || tag != forgotten))
}

/// Adds a load of the service to a check.
pub(super) fn load<T, F, Fut>(check: &mut DependencyCheck, name: &'static str, load: F)
where
    T: Cacheable,
    F: Fn(ConnectionPool) -> Fut + 'static,
    Fut: Future<Output = Result<Loaded<T>, DomainError>> + 'static,
{
    let db = ConnectionPool::from(check.pool());
    check.load(name, move || {
        let loading = load(db.clone());
        async move {
            match loading.await {
                Err(error) => Answer::failed(error),
                Ok(Loaded { value, tag_versions, .. }) => {
                    let body = serde_json::to_vec(&value).expect("JSON");
                    let tags = tag_versions.iter().map(|version| &version.tag);
                    Answer::new(body, tags.filter(|tag| depends_on(name, tag)))
                }
            }
        }
    });
}

/// The loads of products.
pub(super) fn of_products(check: &mut DependencyCheck) {
    let page = |category: Option<&'static str>, department: Option<&'static str>| {
        let filter = ProductFilter { category: category.map(Into::into), department: department.map(Into::into) };
        move |db| products::store::load_page(db, filter.clone(), PageRequest { limit: 20, after: None })
    };
    load(check, "product", |db| products::store::load_one(db, 1));
    load(check, "products", |db| async {
        Ok(products::store::load_many(db, vec![1, 2]).await?.remove(&1).expect("an answer"))
    });
    load(check, "product-list", page(None, None));
    load(check, "product-list of a category", page(Some("C D"), None));
    load(check, "product-list of a department", page(None, Some("Ä")));
    load(check, "product-list of both", page(Some("C D"), Some("Ä")));
    load(check, "product-top", |db| products::store::load_top(db, 2));
    check.may_differ("*", "products.view_count", "views are counted, and promise no freshness");
    check.may_differ("product-top", "products.discontinued_at*", "a product becomes popular");
    check.may_differ("product-top", "products: a row comes*", "a product becomes popular");
}

/// The loads of orders.
pub(super) fn of_orders(check: &mut DependencyCheck) {
    let demo = || Tenant::parse("demo").expect("a tenant");
    let page = move |status| {
        let filter = OrderFilter { customer_id: 749, status };
        move |db| orders::store::load_page(db, demo(), filter.clone(), PageRequest { limit: 20, after: None })
    };
    load(check, "order", move |db| orders::store::load_one(db, (demo(), 7)));
    load(check, "orders", move |db| async move {
        let asked = (demo(), 7);
        Ok(orders::store::load_many(db, vec![asked.clone()]).await?.remove(&asked).expect("an answer"))
    });
    load(check, "order-list", page(None));
    load(check, "order-list of a status", page(Some(OrderStatus::Pending)));
}

/// A write of the service.
pub(super) type Write = (&'static str, fn(Arc<TestApp>) -> Pin<Box<dyn Future<Output = ()>>>);

/// The writes of the service. Each succeeds on the data alone, and after the ones before it.
pub(super) const WRITES: &[Write] = &[
    ("a product comes", |app| Box::pin(async move { _ = app.product(product().category("C D")).await })),
    ("a price changes", |app| Box::pin(change(app, 1, json!({ "price_cents": 7 })))),
    ("a product moves to other lists", |app| {
        Box::pin(change(app, 4, json!({ "category": "OTHER", "department": "OTHER" })))
    }),
    ("a product goes", |app| Box::pin(async move { _ = app.delete_product(4).await.expect(204) })),
    ("an order is placed", |app| Box::pin(async move { _ = app.order(order(749).item(1, 2)).await })),
    ("an order is confirmed", |app| Box::pin(async move { _ = app.move_order(7, "confirmed").await.expect(200) })),
    ("an order is cancelled", |app| Box::pin(async move { _ = app.move_order(7, "cancelled").await.expect(200) })),
];

async fn change(app: Arc<TestApp>, id: i64, change: Value) {
    app.patch_product(id, change).await.expect(200);
}

#[sqlx::test]
async fn every_change_raises_a_tag_of_each_answer_that_it_makes_wrong(pool: PgPool) {
    let app = Arc::new(TestApp::start(pool).await);
    sqlx::raw_sql(DATA).execute(&app.pool).await.expect("the data");
    let mut check = DependencyCheck::new(&app.pool);
    check.declared_in("migrations");
    of_products(&mut check);
    of_orders(&mut check);
    for (name, write) in WRITES {
        check.write(*name, write(Arc::clone(&app)));
    }
    let report = check.run().await;
    report.assert_complete();
    // The check is not empty.
    for kind in ["products.price_cents", "products.category", "orders.tenant", "order_items.quantity"] {
        assert!(report.effective.contains(kind), "{kind} affects no answer: {:?}", report.effective);
    }
    for kind in ["products: a row goes", "orders: a row comes", "order_items: truncated", "order_items.order_id"] {
        assert!(report.effective.contains(kind), "{kind} affects no answer: {:?}", report.effective);
    }
}

/// The report names the column, the tag and the line of the declaration.
#[sqlx::test]
async fn a_forgotten_tag_is_named_with_its_column_and_its_declaration(pool: PgPool) {
    sqlx::raw_sql(DATA).execute(&pool).await.expect("the data");
    let forgotten = "select cache_track('products', tags => array['product:{id}'], lists => array['product-list:category:{category}'],
        membership => array['discontinued_at'], ignore => array['view_count', 'stock'])";
    sqlx::raw_sql(forgotten).execute(&pool).await.expect("a declaration");
    let mut check = DependencyCheck::new(&pool);
    check.declared_in("migrations").only(&["products"]);
    of_products(&mut check);
    let report = check.run().await;
    let found: Vec<_> =
        report.findings.iter().map(|finding| (finding.change.as_str(), finding.load.as_str())).collect();
    // A trigger raises the version of a row that another program changes, but not of one that is replicated.
    for expected in [("products.stock (replicated)", "product"), ("products: a row comes", "product-list")] {
        assert!(found.contains(&expected), "{expected:?} is not in {found:?}");
    }
    assert!(!found.contains(&("products.price_cents", "product")), "{found:?}");
    let stock = report
        .findings
        .iter()
        .find(|finding| finding.change.starts_with("products.stock") && finding.load == "product");
    let stock = stock.expect("a finding");
    assert_eq!(stock.expected, ["product:1"]);
    assert!(stock.message.contains("migrations/0003_products.sql:"), "{}", stock.message);
}
