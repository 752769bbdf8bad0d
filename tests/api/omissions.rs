//! `make omissions` plants omissions one by one, as a person might make them, and counts which of
//! them the dependency check finds. They are made mechanically: from each trigger, each declared tag
//! and column, each tag of each write, and each tag of each load.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use aside::domain::{
    PageRequest,
    orders::{self, OrderFilter},
    products::{self, ProductFilter},
};
use aside_cache::Tenant;
use aside_testkit::dependencies::{Answer, DependencyCheck};
use sqlx::{AssertSqlSafe, FromRow, PgPool};

use super::dependencies::{DATA, FORGOTTEN, WRITES, load, of_orders, of_products};
use crate::support::{TestApp, environment};

/// A partitioned table, with a row in each partition on which an answer depends.
const LOGS: &str =
    "create table logs (id int, month int, text text not null, primary key (id, month)) partition by list (month);
    create table logs_1 partition of logs for values in (1);
    create table logs_2 partition of logs for values in (2);
    insert into logs values (7, 1, 'a'), (8, 2, 'b');
    select cache_track('logs', tags => array['log:{id}'])";

/// The ids that the first new product and the first new order get.
const NEW: (i64, i64) = (100_000_000, 1_000_000_000_000);

/// The declaration of a table.
#[derive(Clone, FromRow)]
struct Declaration {
    table: String,
    tags: Vec<String>,
    lists: Vec<String>,
    membership: Vec<String>,
    ignore: Vec<String>,
    through: Vec<String>,
    columns: Vec<String>,
}

impl Declaration {
    async fn read(pool: &PgPool) -> Vec<Self> {
        let sql = "select tracked::text as table, tags, lists, membership, ignore, through,
                array(select attname::text from pg_attribute where attrelid = tracked and attnum > 0 order by attnum) as columns
            from cache_tracked order by 1";
        sqlx::query_as(sql).fetch_all(pool).await.expect("the declarations")
    }

    fn sql(&self) -> String {
        let array = |texts: &[String]| {
            format!("array[{}]::text[]", texts.iter().map(|t| format!("'{t}'")).collect::<Vec<_>>().join(", "))
        };
        let Self { table, tags, lists, membership, ignore, through, .. } = self;
        format!(
            "select cache_track('{table}', tags => {}, lists => {}, membership => {}, ignore => {}, through => {})",
            array(tags),
            array(lists),
            array(membership),
            array(ignore),
            array(through)
        )
    }
}

/// An omission that SQL plants.
struct Omission {
    kind: &'static str,
    name: String,
    /// The table whose changes are tried.
    table: String,
    plant: String,
}

/// Omissions in the declaration of a table. Those that make no difference are left out: columns that
/// no answer shows, and another column for a shard, because an answer depends on all shards.
fn of_declaration(declared: &Declaration, shown: &dyn Fn(&str) -> bool) -> Vec<Omission> {
    let Declaration { table, tags, lists, columns, .. } = declared;
    let mut omissions = Vec::new();
    let mut add = |kind, name: String, change: &dyn Fn(&mut Declaration)| {
        let mut wrong = declared.clone();
        change(&mut wrong);
        omissions.push(Omission { kind, name: format!("{table}: {name}"), table: table.clone(), plant: wrong.sql() });
    };
    let is_news = |column: &&String| !declared.ignore.contains(column) && shown(&format!("{table}.{column}"));
    for column in columns.iter().filter(is_news) {
        add("a column is ignored", column.clone(), &|wrong| wrong.ignore.push(column.clone()));
    }
    for tag in tags.iter().chain(lists) {
        if tags.len() + lists.len() > 1 {
            add("a tag is not declared", tag.clone(), &|wrong| {
                wrong.tags.retain(|other| other != tag);
                wrong.lists.retain(|other| other != tag);
            });
        }
        let mut respell = |to: String| {
            add("a tag is declared wrongly", format!("{tag} as {to}"), &|wrong| {
                for other in wrong.tags.iter_mut().chain(&mut wrong.lists).filter(|other| *other == tag) {
                    other.clone_from(&to);
                }
            });
        };
        respell(format!("misspelt-{tag}"));
        for column in columns {
            for other in columns.iter().filter(|other| *other != column) {
                let (hole, to) = (format!("{{{column}}}"), format!("{{{other}}}"));
                if tag.contains(&hole) {
                    respell(tag.replace(&hole, &to));
                }
            }
        }
    }
    for tag in tags {
        add("a tag is declared as a list", tag.clone(), &|wrong| {
            wrong.tags.retain(|other| other != tag);
            wrong.lists.push(tag.clone());
        });
    }
    for column in &declared.membership {
        add("a column of membership is missing", column.clone(), &|wrong| {
            wrong.membership.retain(|other| other != column)
        });
    }
    let (kind, plant) = ("a table is not declared", format!("select cache_untrack('{table}')"));
    omissions.push(Omission { kind, name: table.clone(), table: table.clone(), plant });
    omissions
}

/// Triggers that are dropped or disabled, or that fire in other sessions only. Truncation of a
/// partitioned table fires the triggers of its partitions too, so its own makes no difference.
async fn of_triggers(pool: &PgPool) -> Vec<Omission> {
    let sql = "select tgrelid::regclass::text, tgname::text from pg_trigger join pg_class on pg_class.oid = tgrelid
        where tgname like 'invalidates\\_%' and tgparentid = 0 and not (relkind = 'p' and tgname = 'invalidates_truncated') order by 1, 2";
    let triggers: Vec<(String, String)> = sqlx::query_as(sql).fetch_all(pool).await.expect("the triggers");
    let mut omissions = Vec::new();
    for (table, trigger) in triggers {
        for (kind, plant) in [
            ("a trigger is dropped", format!("drop trigger {trigger} on {table}")),
            ("a trigger is disabled", format!("alter table {table} disable trigger {trigger}")),
            ("a trigger fires in replication only", format!("alter table {table} enable replica trigger {trigger}")),
        ] {
            if kind != "a trigger fires in replication only" || trigger != "invalidates_replicated" {
                omissions.push(Omission { kind, name: format!("{table}: {trigger}"), table: table.clone(), plant });
            }
        }
    }
    omissions
}

/// A check of all loads, also of those that only some omissions affect.
fn check(pool: &PgPool) -> DependencyCheck {
    let mut check = DependencyCheck::new(pool);
    of_products(&mut check);
    of_orders(&mut check);
    // A page knows by the row behind it that there is another page. It does not depend on that row.
    for (name, category, department, limit) in [
        ("product-list of another category", Some("OTHER"), None, 20),
        ("product-list of another department", None, Some("OTHER"), 20),
        ("product-list of a new department", None, Some("PRODUCE"), 20),
        ("first products", None, None, 3),
        ("first products of a category", Some("C D"), None, 2),
        ("first products of a department", None, Some("Ä"), 1),
    ] {
        let filter = ProductFilter { category: category.map(Into::into), department: department.map(Into::into) };
        load(&mut check, name, move |db| {
            products::store::load_page(db, filter.clone(), PageRequest { limit, after: None })
        });
    }
    load(&mut check, "another product", |db| products::store::load_one(db, 2));
    load(&mut check, "a new product", |db| products::store::load_one(db, NEW.0));
    load(&mut check, "a product that goes", |db| products::store::load_one(db, 4));
    let demo = || Tenant::parse("demo").expect("a tenant");
    load(&mut check, "a new order", move |db| orders::store::load_one(db, (demo(), NEW.1)));
    load(&mut check, "order-list of another customer", move |db| {
        let filter = OrderFilter { customer_id: 750, status: None };
        orders::store::load_page(
            db,
            Tenant::parse("acme").expect("a tenant"),
            filter,
            PageRequest { limit: 20, after: None },
        )
    });
    let db = check.pool();
    check.load("log", move || {
        let db = db.clone();
        async move {
            let sql = "select text from logs where id in (7, 8) order by id";
            let texts: Vec<String> = sqlx::query_scalar(sql).fetch_all(&db).await.expect("the logs");
            Answer::new(texts.join(" "), ["log:7", "log:8"])
        }
    });
    check
}

async fn run(pool: &PgPool, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.map(|_| ())
}

async fn reset(pool: &PgPool) {
    let sql = format!("truncate products, orders, order_items, idempotency_keys restart identity cascade; {DATA}");
    run(pool, &sql).await.expect("the data");
}

/// Found and planted omissions of each kind, and the names of those that were not found.
#[derive(Default)]
struct Tally {
    kinds: BTreeMap<&'static str, (usize, usize)>,
    missed: Vec<String>,
}

impl Tally {
    fn count(&mut self, kind: &'static str, name: &str, found: bool) {
        let (finds, planted) = self.kinds.entry(kind).or_default();
        *planted += 1;
        *finds += usize::from(found);
        if !found {
            println!("not found: {kind}: {name}");
            self.missed.push(format!("{kind}: `{name}`"));
        }
    }

    fn sums(&self) -> (usize, usize) {
        self.kinds.values().fold((0, 0), |(found, planted), kind| (found + kind.0, planted + kind.1))
    }

    /// The generated page.
    fn page(&self) -> String {
        let (found, planted) = self.sums();
        let mut page = format!(
            "# Planted omissions\n\n**In short:** the dependency check finds {found} of {planted} omissions before deployment. `make omissions` \
             plants them one by one and writes this page.\n\n\
             They are made mechanically from the triggers, the declared tags and columns, the tags of the service's writes, and the tags of its loads \
             (`tests/api/omissions.rs`). Omissions that make no difference are left out.\n\n| omission | planted | found |\n|---|---|---|\n"
        );
        for (kind, (found, planted)) in &self.kinds {
            page += &format!("| {kind} | {planted} | {found} |\n");
        }
        let missed: Vec<String> = self.missed.iter().map(|name| format!("* {name}\n")).collect();
        page + &if missed.is_empty() {
            String::new()
        } else {
            format!("\nNot found, because the test's data do not show them:\n\n{}", missed.concat())
        }
    }
}

#[sqlx::test]
#[ignore = "make omissions plants each omission, which takes minutes"]
async fn the_dependency_check_finds_nearly_every_omission(pool: PgPool) {
    let begun = Instant::now();
    run(&pool, LOGS).await.expect("a partitioned table");
    reset(&pool).await;
    let declarations = Declaration::read(&pool).await;
    let whole: String = declarations.iter().map(|declared| format!("{}; ", declared.sql())).collect();
    let report = check(&pool).run().await;
    let wrong: Vec<_> = report.findings.iter().filter(|f| f.change != "none").map(|f| &f.message).collect();
    assert!(wrong.is_empty(), "without an omission: {wrong:#?}");
    let shown = |column: &str| report.effective.contains(column);

    let mut omissions = of_triggers(&pool).await;
    omissions.extend(declarations.iter().flat_map(|declared| of_declaration(declared, &shown)));
    let mut tally = Tally::default();
    for Omission { kind, name, table, plant } in omissions {
        // Some of the declarations are not possible.
        if run(&pool, &plant).await.is_ok() {
            let tables: Vec<&str> = match table.as_str() {
                "logs" => vec!["logs", "logs_1", "logs_2"],
                table => vec![table],
            };
            let found = check(&pool).only(&tables).first_finding().await;
            tally.count(kind, &name, found.is_some());
        }
        run(&pool, &whole).await.expect("the declarations are restored");
    }
    of_loads(&pool, &mut tally).await;
    of_writes(pool, &mut tally).await;

    let ((found, planted), page) = (tally.sums(), tally.page());
    println!("{page}\n{found} of {planted} were found in {:?}", begun.elapsed());
    if let Some(path) = environment::variable("OMISSIONS_PAGE") {
        std::fs::write(path, page).expect("the page is written");
    }
    assert!(planted >= 200 && 100 * found >= 95 * planted, "{found} of {planted}: {:?}", tally.missed);
}

/// Each load forgets each of its tags. All shards of a tag are one tag.
async fn of_loads(pool: &PgPool, tally: &mut Tally) {
    for (name, tags) in check(pool).depends_on().await {
        for tag in tags {
            FORGOTTEN.set(Some((name.to_owned(), tag.clone())));
            let of_products = ["products"];
            let tables = if tag.starts_with("product") { &of_products[..] } else { &["orders", "order_items", "logs"] };
            let found = check(pool).only(tables).first_finding().await;
            // The table of logs is not loaded by the service, so its load forgets nothing.
            if name != "log" {
                tally.count("a load forgets a tag", &format!("{name}: {tag}"), found.is_some());
            }
            FORGOTTEN.set(None);
        }
    }
}

/// Each write of the service forgets each of its tags: the ledger does not take it.
async fn of_writes(pool: PgPool, tally: &mut Tally) {
    let app = Arc::new(TestApp::start(pool).await);
    let pool = &app.pool;
    run(pool, "create function forget() returns trigger language plpgsql as 'begin return null; end'")
        .await
        .expect("a function");
    for (name, write) in WRITES {
        reset(pool).await;
        let newest: i64 =
            sqlx::query_scalar("select max(version) from cache_ledger").fetch_one(pool).await.expect("a version");
        write(Arc::clone(&app)).await;
        let raised = "select tag from cache_ledger where version > $1 order by tag";
        let tags: Vec<String> = sqlx::query_scalar(raised).bind(newest).fetch_all(pool).await.expect("the raised tags");
        for tag in tags {
            reset(pool).await;
            let plant = format!(
                "create trigger forget before insert on cache_ledger for each row when (new.tag = '{tag}') execute function forget()"
            );
            run(pool, &plant).await.expect("an omission");
            let report = check(pool).only(&[]).write(*name, write(Arc::clone(&app))).run().await;
            run(pool, "drop trigger forget on cache_ledger").await.expect("as before");
            let found = report.findings.iter().any(|finding| finding.change.starts_with("the write"));
            tally.count("a write forgets a tag", &format!("{name}: {tag}"), found);
        }
    }
}
