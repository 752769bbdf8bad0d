//! One declaration for each table. The tags that its triggers raise are those of the keys and those
//! of the loads, so that the three can't differ unnoticed.

use std::collections::BTreeSet;

use aside::domain::{
    PageRequest,
    orders::{self, Order, OrderFilter, OrderPage, OrderStatus},
    policies,
    products::{
        self, Product, ProductFilter,
        tags::{catalogue_tag, category_tag, department_tag},
    },
};
use aside_cache::{ConnectionPool, Tag, TagVersion, Tenant};
use sqlx::{AssertSqlSafe, PgPool};

/// Runs SQL in one transaction, as another program does, and returns the tags that it raised.
async fn raised(pool: &PgPool, sql: &str) -> BTreeSet<String> {
    let mut transaction = pool.begin().await.expect("a transaction");
    let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *transaction).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let tags = "select tag from cache_ledger where xid = pg_current_xact_id()";
    let tags: Vec<String> = sqlx::query_scalar(tags).fetch_all(&mut *transaction).await.expect("the raised tags");
    transaction.commit().await.expect("a commit");
    tags.into_iter().collect()
}

fn texts(tags: impl IntoIterator<Item = Tag>) -> BTreeSet<String> {
    tags.into_iter().map(|tag| tag.to_string()).collect()
}

fn demo() -> Tenant {
    Tenant::parse("demo").expect("a tenant")
}

/// SQL that adds a product.
fn product(id: i64, category: &str, department: &str) -> String {
    let quoted = |text: &str| text.replace('\'', "''");
    format!(
        "insert into products (id, name, department, brand, category, type, price_cents, currency, stock)
         values ({id}, 'Mango', '{}', 'B', '{}', 'T', 129, 'USD', 5)",
        quoted(department),
        quoted(category)
    )
}

/// SQL that adds an order of customer 749 with one line.
fn order(id: i64, product: i64) -> String {
    format!(
        "insert into orders (id, tenant, customer_id, status, total_cents, currency) values ({id}, 'demo', 749, 'pending', 129, 'USD');
         insert into order_items values ({id}, {product}, 'Mango', 1, 129)"
    )
}

#[sqlx::test]
async fn triggers_raise_the_tags_of_the_keys(pool: PgPool) {
    let names = ["A", "TROPICAL FRUIT", "Ä:Ö", "50% #1", "it's", "product-list:*", "\u{1F34C}"];
    for (id, category) in (1..).zip(names) {
        let department = names[(id as usize * 3) % names.len()];
        let of = |category: &str, department: &str| {
            let lists = [catalogue_tag().shard(id), category_tag(category), department_tag(department).shard(id)];
            texts(lists.into_iter().chain([Product::tag_of(id)]))
        };
        let here = of(category, department);
        assert_eq!(raised(&pool, &product(id, category, department)).await, here);
        let change = |set: &str| format!("update products set {set} where id = {id}");
        assert_eq!(raised(&pool, &change("price_cents = 7")).await, texts([Product::tag_of(id)]));
        assert_eq!(raised(&pool, &change("view_count = 7")).await, BTreeSet::new());
        let both = &here | &of("MOVED", department);
        assert_eq!(raised(&pool, &change("category = 'MOVED'")).await, both);
        let both = &of("MOVED", department) | &of("MOVED", "AWAY");
        assert_eq!(raised(&pool, &change("department = 'AWAY'")).await, both);
        assert_eq!(raised(&pool, &change("discontinued_at = now()")).await, of("MOVED", "AWAY"));
        let tags = texts([Order::key(&demo(), id).into(), OrderPage::tag(&demo(), 749)]);
        assert_eq!(raised(&pool, &order(id, id)).await, tags);
        let change = format!("update order_items set quantity = 2 where order_id = {id}");
        assert_eq!(raised(&pool, &change).await, tags);
        let change = format!("update orders set status = 'shipped' where id = {id}");
        assert_eq!(raised(&pool, &change).await, tags);
    }
}

/// The tags of every load of the service, by the name of the load.
async fn loads(pool: &PgPool) -> Vec<(&'static str, Vec<TagVersion>)> {
    let db = ConnectionPool::from(pool.clone());
    let page = PageRequest { limit: 20, after: None };
    let mut loads = Vec::new();
    loads.push(("product", products::store::load_one(db.clone(), 1).await.expect("a product").tag_versions));
    let mut many = products::store::load_many(db.clone(), vec![1, 404]).await.expect("products");
    loads.push(("products", many.remove(&1).expect("a product").tag_versions));
    loads.push(("absent", many.remove(&404).expect("an absence").tag_versions));
    for (name, category, department) in [
        ("all", None, None),
        ("category", Some("C D"), None),
        ("department", None, Some("Ä")),
        ("both", Some("C D"), Some("Ä")),
    ] {
        let filter = ProductFilter { category: category.map(Into::into), department: department.map(Into::into) };
        let loaded = products::store::load_page(db.clone(), filter, page).await.expect("a page");
        loads.push((name, loaded.tag_versions));
    }
    loads.push(("top", products::store::load_top(db.clone(), 20).await.expect("the top").tag_versions));
    let asked = (demo(), 7);
    loads.push(("order", orders::store::load_one(db.clone(), asked.clone()).await.expect("an order").tag_versions));
    let mut many = orders::store::load_many(db.clone(), vec![asked.clone()]).await.expect("orders");
    loads.push(("orders", many.remove(&asked).expect("an order").tag_versions));
    for (name, status) in [("customer", None), ("pending", Some(OrderStatus::Pending))] {
        let filter = OrderFilter { customer_id: 749, status };
        let loaded = orders::store::load_page(db.clone(), demo(), filter, page).await.expect("a page");
        loads.push((name, loaded.tag_versions));
    }
    loads
}

/// A load that spelt a tag in another way would read the version of no row, or depend on a tag that
/// no trigger raises.
#[sqlx::test]
async fn loads_depend_on_the_tags_that_triggers_raise(pool: PgPool) {
    for sql in [product(1, "C D", "Ä"), product(2, "OTHER", "OTHER"), order(7, 1)] {
        raised(&pool, &sql).await;
    }
    for (name, tags) in loads(&pool).await {
        for TagVersion { tag, version } in &tags {
            let known: Option<i64> = sqlx::query_scalar("select version from cache_ledger where tag = $1")
                .bind(tag.as_str())
                .fetch_optional(&pool)
                .await
                .expect("the ledger");
            assert_eq!(*version, known.unwrap_or(0), "{name} reads the version of {tag}");
        }
        assert!(name == "absent" || tags.iter().any(|tag| tag.version > 0), "{name} depends on a tag with a version");
    }
    let shown = ["product", "products", "all", "category", "department", "both", "top"];
    let lists = ["all", "category", "department", "both"];
    let of_order = ["order", "orders", "customer", "pending"];
    for (sql, stale) in [
        ("update products set price_cents = 7 where id = 1".to_owned(), &shown[..]),
        (product(3, "C D", "Ä"), &lists),
        (
            "update products set category = 'C D', department = 'Ä' where id = 2".to_owned(),
            &[&lists[..], &["top"]].concat(),
        ),
        (product(404, "NEW", "NEW"), &["absent", "all"]),
        ("update orders set status = 'confirmed' where id = 7".to_owned(), &of_order),
        ("update order_items set quantity = 3 where order_id = 7".to_owned(), &of_order),
        (order(8, 1), &of_order[2..]),
    ] {
        let before = loads(&pool).await;
        let raised = raised(&pool, &sql).await;
        let found: Vec<&str> = before
            .iter()
            .filter(|(_, tags)| tags.iter().any(|tag| raised.contains(tag.tag.as_str())))
            .map(|(name, _)| *name)
            .collect();
        let missed: Vec<_> = stale.iter().filter(|name| !found.contains(name)).collect();
        assert!(missed.is_empty(), "{sql} leaves {missed:?}, which it makes stale");
    }
}

#[sqlx::test]
async fn declared_patterns_are_those_of_the_policies(pool: PgPool) {
    let sql = "select distinct substring(tag from '^[^:#]*') from cache_tracked, unnest(tags || lists) as tag";
    let declared: Vec<String> = sqlx::query_scalar(sql).fetch_all(&pool).await.expect("declarations");
    let named: BTreeSet<String> = policies().iter().map(|policy| policy.name.to_owned()).collect();
    // Popularity invalidates nothing.
    let expected = &named - &BTreeSet::from(["product-top".to_owned()]);
    assert_eq!(declared.into_iter().collect::<BTreeSet<_>>(), expected);
}

/// A team makes an entity of the template, and another one of it under another name.
#[sqlx::test]
async fn two_entities_of_the_template_live_in_one_database(pool: PgPool) {
    let migrations = std::fs::read_dir("adopt/migrations").expect("the template's migrations");
    for file in migrations {
        let template = std::fs::read_to_string(file.expect("a file").path()).expect("a migration");
        for sql in [template.clone(), template.replace("invoice", "patient")] {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await.expect("a migration");
        }
    }
    let sql =
        "select tracked::text, generated from cache_tracked where tracked::text ~ '^(invoice|patient)s$' order by 1";
    let tracked: Vec<(String, String)> = sqlx::query_as(sql).fetch_all(&pool).await.expect("declarations");
    let expected = ["invoices", "patients"].map(|table| (table.to_owned(), format!("cache_{table}_changed")));
    assert_eq!(tracked, expected);
}
