//! Tests of products against a real database, with L1 and without L2. They cover the SQL results,
//! the effects of writes, and the answers of reads.

use std::time::Duration;

use aside_cache::{Cache, CacheConfig, CacheMode, ConnectionPool, DbTime, ExpectedVersion, Tag, VersionConflict};
use sqlx::{PgPool, postgres::PgPoolOptions};

use super::{service::CachedProductService, tags::catalogue_tag, *};
use crate::domain::{DomainError, ListKind, PageRequest, page::Cursor};

fn service(db: &PgPool) -> CachedProductService {
    CachedProductService::new(Cache::start(CacheConfig::default(), db.clone()))
}

fn pool(db: &PgPool) -> ConnectionPool {
    db.clone().into()
}

fn new_product(name: &str) -> NewProduct {
    NewProduct {
        name: name.into(),
        department: "PRODUCE".into(),
        brand: "National".into(),
        category: "TROPICAL FRUIT".into(),
        kind: "MANGO".into(),
        package_size: Some("1 CT".into()),
        price_cents: 129,
        currency: "USD".into(),
        stock: 10,
    }
}

async fn number(db: &PgPool, name: &Tag) -> i64 {
    let sql = "select coalesce((select version from cache_ledger where tag = $1), 0)";
    sqlx::query_scalar(sql).bind(name.as_str()).fetch_one(db).await.unwrap()
}

fn page(limit: u16, after: Option<i64>) -> PageRequest {
    PageRequest { limit, after }
}

fn of_category(category: &str) -> ProductFilter {
    ProductFilter { category: Some(category.into()), department: None }
}

#[sqlx::test]
async fn a_product_comes_with_its_number_and_an_absent_one_with_zero(db: PgPool) {
    let products = service(&db);
    let made = products.create_product(new_product("Mango")).await.unwrap();
    let loaded = store::load_many(pool(&db), vec![made.id, 7]).await.unwrap();
    assert_eq!(loaded[&made.id].value.as_ref(), Some(&made));
    assert_eq!(loaded[&made.id].tag_versions[0].version, number(&db, &Product::tag_of(made.id)).await);
    assert!(loaded[&7].value.is_none());
    assert_eq!((loaded[&7].tag_versions[0].tag.as_str(), loaded[&7].tag_versions[0].version), ("product:7", 0));
    let age = loaded[&7].loaded_at.age_at(DbTime(chrono::Utc::now().timestamp_micros()));
    assert!(age < Duration::from_secs(3_600), "a moment of the database: {age:?} ago");
    for id in [made.id, 7] {
        let one = store::load_one(pool(&db), id).await.unwrap();
        assert_eq!(
            (&one.value, &one.tag_versions),
            (&loaded[&id].value, &loaded[&id].tag_versions),
            "alone as among many"
        );
    }
}

/// The session expects a replica, but the server is the primary: the load is rejected.
#[sqlx::test]
async fn a_server_that_is_not_what_the_session_expects_answers_no_load(db: PgPool) {
    let options = (*db.connect_options()).clone().options([("aside.replica", "on")]);
    let mistaken: ConnectionPool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options).into();
    let loads = [
        store::load_one(mistaken.clone(), 7).await.map(|_| "one"),
        store::load_many(mistaken.clone(), vec![7]).await.map(|_| "many"),
        store::load_page(mistaken.clone(), of_category("NONE"), page(20, None)).await.map(|_| "a page"),
        store::load_top(mistaken.clone(), 3).await.map(|_| "the most viewed"),
    ];
    for load in loads {
        assert!(
            matches!(&load, Err(DomainError::Database(error)) if matches!(**error, sqlx::Error::ColumnDecode { .. })),
            "{load:?}"
        );
    }
}

#[sqlx::test]
async fn pages_follow_each_other_without_gap_or_repetition(db: PgPool) {
    let products = service(&db);
    let mut made = Vec::new();
    for n in 0..5 {
        made.push(products.create_product(new_product(&format!("Mango {n}"))).await.unwrap().id);
    }
    let both = ProductFilter { department: Some("PRODUCE".into()), ..of_category("TROPICAL FRUIT") };
    let department = ProductFilter { category: None, ..both.clone() };
    for filter in [ProductFilter::default(), of_category("TROPICAL FRUIT"), department, both] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let loaded = store::load_page(pool(&db), filter.clone(), page(2, after)).await.unwrap();
            let shown = loaded.value.unwrap();
            let names = loaded.tag_versions[shown.items.len()..].iter().map(|tag_version| tag_version.tag.clone());
            assert_eq!(names.collect::<Vec<_>>(), filter.tags(), "after a label for each row");
            seen.extend(shown.items.iter().map(|p| p.id));
            match shown.next_cursor {
                Some(cursor) => after = Cursor::decode(ListKind::Products, &cursor),
                None => break,
            }
        }
        assert_eq!(seen, made, "{filter:?}");
    }
}

#[sqlx::test]
async fn an_empty_page_still_has_its_tag_and_its_time(db: PgPool) {
    let loaded = store::load_page(pool(&db), of_category("NONE"), page(20, None)).await.unwrap();
    assert_eq!(loaded.value, Some(ProductPage { items: vec![], next_cursor: None }));
    assert_eq!(loaded.tag_versions.len(), 1);
    assert!(loaded.loaded_at.0 > 0);
}

#[sqlx::test]
async fn a_change_is_seen_by_the_next_reader_and_counted_under_its_names_only(db: PgPool) {
    let products = service(&db);
    let made = products.create_product(new_product("Mango")).await.unwrap();
    products.get_product(made.id, CacheMode::Default).await.unwrap();
    let tags_before = (number(&db, &catalogue_tag().shard(made.id)).await, number(&db, &made.list_tags()[0]).await);

    let cheaper = ProductChange { price_cents: Some(99), package_size: Some(None), ..Default::default() };
    let changed = products.update_product(made.id, cheaper, ExpectedVersion::any()).await.unwrap();
    assert_eq!((changed.price_cents, &changed.package_size, changed.version), (99, &None, 2));
    assert_eq!((&changed.name, changed.stock), (&made.name, made.stock));
    let read = products.get_product(made.id, CacheMode::Default).await.unwrap();
    assert_eq!(read.entry.value.as_ref(), Some(&changed));
    let tags_after = (number(&db, &catalogue_tag().shard(made.id)).await, number(&db, &made.list_tags()[0]).await);
    assert_eq!(tags_before, tags_after, "a price changes no list's membership");
}

#[sqlx::test]
async fn moving_to_another_department_raises_the_tags_of_the_category_too(db: PgPool) {
    let products = service(&db);
    let made = products.create_product(new_product("Mango")).await.unwrap();
    let moved = ProductChange { department: Some("GROCERY".into()), ..Default::default() };
    let before = number(&db, &made.list_tags()[0]).await;
    let after = products.update_product(made.id, moved, ExpectedVersion::any()).await.unwrap();
    assert!(
        number(&db, &made.list_tags()[0]).await > before,
        "a page of the category within the department gains a row"
    );
    assert!(number(&db, &after.list_tags()[1]).await > 0);
}

#[sqlx::test]
async fn a_change_to_what_already_is_writes_nothing(db: PgPool) {
    let products = service(&db);
    let made = products.create_product(new_product("Mango")).await.unwrap();
    let before = number(&db, &Product::tag_of(made.id)).await;
    let same = ProductChange { price_cents: Some(made.price_cents), ..Default::default() };
    assert_eq!(products.update_product(made.id, same, ExpectedVersion::one_of([1])).await.unwrap(), made);
    assert_eq!(number(&db, &Product::tag_of(made.id)).await, before);
}

#[sqlx::test]
async fn a_write_that_expects_another_version_changes_nothing(db: PgPool) {
    let products = service(&db);
    let made = products.create_product(new_product("Mango")).await.unwrap();
    let free = ProductChange { price_cents: Some(0), ..Default::default() };
    let refused = products.update_product(made.id, free.clone(), ExpectedVersion::one_of([2, 3])).await.unwrap_err();
    assert!(matches!(refused, DomainError::VersionConflict(VersionConflict { current: 1 })), "{refused}");
    assert!(products.delete_product(made.id, ExpectedVersion::one_of([])).await.is_err());
    assert_eq!(store::load_one(pool(&db), made.id).await.unwrap().value, Some(made.clone()));
    assert!(products.update_product(made.id, free, ExpectedVersion::one_of([9, 1])).await.is_ok());
}

#[sqlx::test]
async fn a_deleted_product_is_absent_everywhere_but_keeps_its_row(db: PgPool) {
    let products = service(&db);
    let made = products.create_product(new_product("Mango")).await.unwrap();
    products.get_product(made.id, CacheMode::Default).await.unwrap();
    products.delete_product(made.id, ExpectedVersion::any()).await.unwrap();
    let gone = |result: Result<_, DomainError>| matches!(result, Err(DomainError::NotFound { kind: "product", .. }));
    assert!(gone(products.get_product(made.id, CacheMode::Default).await.map(drop)));
    assert!(gone(products.update_product(made.id, ProductChange::default(), ExpectedVersion::any()).await.map(drop)));
    assert!(gone(products.delete_product(made.id, ExpectedVersion::any()).await));
    for filter in [ProductFilter::default(), of_category("TROPICAL FRUIT")] {
        assert!(
            store::load_page(pool(&db), filter.clone(), page(20, None)).await.unwrap().value.unwrap().items.is_empty()
        );
    }
    assert!(store::load_top(pool(&db), 20).await.unwrap().value.unwrap().items.is_empty());
    let rows: i64 = sqlx::query_scalar("select count(*) from products").fetch_one(&db).await.unwrap();
    assert_eq!(rows, 1);
}

#[sqlx::test]
async fn views_are_flushed_together_and_change_neither_version_nor_ledger(db: PgPool) {
    let products = service(&db);
    let plain = products.create_product(new_product("Plain")).await.unwrap();
    let star = products.create_product(new_product("Star")).await.unwrap();
    let before = number(&db, &Product::tag_of(star.id)).await;
    (0..3).for_each(|_| products.count_view(star.id));
    products.count_view(plain.id);
    products.count_view(404);
    assert_eq!(products.views.flush().await.unwrap(), 3);
    assert_eq!(products.views.flush().await.unwrap(), 0);
    let top = store::load_top(pool(&db), 2).await.unwrap().value.unwrap().items;
    assert_eq!(top.iter().map(|p| (p.id, p.view_count)).collect::<Vec<_>>(), [(star.id, 3), (plain.id, 1)]);
    assert_eq!((top[0].version, top[0].updated_at), (star.version, star.updated_at));
    assert_eq!(number(&db, &Product::tag_of(star.id)).await, before);
}

#[sqlx::test]
async fn views_that_could_not_be_flushed_stay_counted(db: PgPool) {
    let products = service(&db);
    let star = products.create_product(new_product("Star")).await.unwrap();
    products.count_view(star.id);
    sqlx::query("alter table products rename to elsewhere").execute(&db).await.unwrap();
    assert!(products.views.flush().await.is_err());
    sqlx::query("alter table elsewhere rename to products").execute(&db).await.unwrap();
    assert_eq!(products.views.flush().await.unwrap(), 1);
    assert_eq!(store::load_one(pool(&db), star.id).await.unwrap().value.unwrap().view_count, 1);
}
