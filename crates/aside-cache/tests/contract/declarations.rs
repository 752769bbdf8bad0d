//! Declarations of `cache_track`: which are accepted, how they are replaced and removed, and for
//! which writers their triggers fire.

use std::{collections::BTreeSet, time::Duration};

use aside_testkit::eventually;
use sqlx::{AssertSqlSafe, PgPool};

use super::{
    bench::{Backend, Bench},
    tracking::{raised, run},
};

/// Returns the message of the error that SQL ends with.
async fn refused(pool: &PgPool, sql: &str) -> String {
    let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await;
    let error = done.expect_err(sql);
    error.as_database_error().unwrap_or_else(|| panic!("{sql}: {error}")).message().to_owned()
}

async fn count(pool: &PgPool, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(pool).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

fn set(tags: &[&str]) -> BTreeSet<String> {
    tags.iter().map(ToString::to_string).collect()
}

#[sqlx::test]
async fn a_wrong_declaration_says_what_is_wrong(pool: PgPool) {
    let sql = "create table parents (id int primary key, name text);
        create table others (id int primary key, name text);
        create table children (id int primary key, mother int references parents, father int references parents, other int, price numeric, tenant text);
        create table keyless (id int); create view shown as select * from parents";
    run(&pool, sql).await;
    for (arguments, message) in [
        ("'nowhere', tags => array['a:{id}']", "relation \"nowhere\" does not exist"),
        ("'shown', tags => array['a:{id}']", "cache_track(shown): only a table can be tracked"),
        ("'parents', tags => '{}'", "cache_track(parents): name at least one tag, and none that is null"),
        ("'parents', tags => array['a', null]", "cache_track(parents): name at least one tag, and none that is null"),
        ("'parents', tags => array['a:{nope}']", "cache_track(parents): parents has no column nope"),
        ("'parents', tags => array['{id}']", "cache_track(parents): {id} is not a tag"),
        ("'parents', tags => array['a:{id']", "cache_track(parents): a:{id is not a tag"),
        ("'parents', tags => array['a:{id}{name}']", "cache_track(parents): a:{id}{name} is not a tag"),
        ("'parents', tags => array['a:']", "cache_track(parents): a: is not a tag"),
        ("'parents', tags => array['a:*']", "cache_track(parents): a:* is not a tag"),
        ("'parents', tags => array['a:{id%16}']", "cache_track(parents): a:{id%16} is not a tag"),
        ("'parents', tags => array['a#{id%8}']", "cache_track(parents): a#{id%8} is not a tag"),
        (
            "'parents', tags => array['a#{name%16}']",
            "cache_track(parents): column name of parents is no integer, so {name%16} can not name a shard",
        ),
        (
            "'children', tags => array['a:{price}']",
            "cache_track(children): column price of children has the type numeric, which can not be a segment of a tag",
        ),
        (
            "'parents', tags => array['a:{id}'], ignore => array['views']",
            "cache_track(parents): the table has no column views",
        ),
        (
            "'parents', tags => array['a:{id}'], membership => array['hidden']",
            "cache_track(parents): the table has no column hidden",
        ),
        (
            "'parents', tags => array['a:{name}'], ignore => array['name']",
            "cache_track(parents): a column that tags or membership name can not be ignored",
        ),
        (
            "'keyless', tags => array['a'], lists => array['b:{id}']",
            "cache_track(keyless): without a primary key, the old and the new values of a row can not be compared",
        ),
        (
            "'children', tags => array['a:{parents.name}']",
            "cache_track(children): the table has 2 foreign keys to parents",
        ),
        (
            "'children', tags => array['a:{others.name}']",
            "cache_track(children): the table has no foreign key to others",
        ),
        (
            "'children', tags => array['a:{nobody.name}'], through => array['other']",
            "cache_track(children): the table has no foreign key to nobody",
        ),
        (
            "'children', tags => array['a:{parents.nope}'], through => array['mother']",
            "cache_track(children): parents has no column nope",
        ),
        (
            "'children', tags => array['a:{parents.name}', 'b:{others.name}']",
            "cache_track(children): the tags name columns of several parents: others, parents",
        ),
    ] {
        assert_eq!(refused(&pool, &format!("select cache_track({arguments})")).await, message, "{arguments}");
    }
    assert_eq!(
        refused(&pool, "select cache_untrack('parents')").await,
        "cache_untrack(parents): the table is not tracked"
    );
    let left = "select (select count(*) from cache_tracked) + (select count(*) from pg_trigger where tgname like 'invalidates%')";
    assert_eq!(count(&pool, left).await, 0, "nothing is half declared");
}

#[sqlx::test]
async fn a_parent_is_found_by_the_columns_that_are_named(pool: PgPool) {
    let sql = "create table people (id int primary key, name text);
        create table letters (id int primary key, sender int references people, receiver int references people, carrier int);
        insert into people values (1, 'ann'), (2, 'bob'), (3, 'eve')";
    run(&pool, sql).await;
    for (through, tag) in [("sender", "mail:ann"), ("receiver", "mail:bob"), ("carrier", "mail:eve")] {
        run(
            &pool,
            &format!(
                "select cache_track('letters', tags => array['mail:{{people.name}}'], through => array['{through}'])"
            ),
        )
        .await;
        assert_eq!(raised(&pool, "insert into letters values (1, 1, 2, 3)").await, set(&[tag]));
        run(&pool, "delete from letters").await;
    }
}

#[sqlx::test]
async fn a_declaration_is_replaced_and_removed(pool: PgPool) {
    run(&pool, "create table notes (id int primary key); select cache_track('notes', tags => array['note:{id}'])")
        .await;
    run(&pool, "create table gone (id int); select cache_track('gone', tags => array['gone']); drop table gone").await;
    let functions = "select count(*) from pg_proc where proname ~ '^cache_.*_changed$'";
    assert_eq!(count(&pool, functions).await, 2);
    run(&pool, "alter table notes rename to memos; select cache_track('memos', tags => array['memo:{id}'])").await;
    assert_eq!(raised(&pool, "insert into memos values (1)").await, set(&["memo:1"]));
    assert_eq!(count(&pool, functions).await, 1, "the function of the table that was dropped is gone too");
    assert_eq!(count(&pool, "select count(*) from pg_trigger where tgname like 'invalidates%'").await, 5);
    let declared: Vec<(String, Vec<String>)> =
        sqlx::query_as("select tracked::regclass::text, tags from cache_tracked")
            .fetch_all(&pool)
            .await
            .expect("declarations");
    assert_eq!(declared, [("memos".to_owned(), vec!["memo:{id}".to_owned()])]);
    // Another table has the former name. The renamed one keeps its function.
    run(&pool, "create table notes (id int); select cache_track('notes', tags => array['note:{id}'])").await;
    assert_eq!(
        raised(&pool, "insert into memos values (2); insert into notes values (3)").await,
        set(&["memo:2", "note:3"])
    );
    run(&pool, "select cache_untrack('memos'); select cache_untrack('notes')").await;
    assert_eq!(raised(&pool, "insert into memos values (4)").await, set(&[]));
    assert_eq!(count(&pool, functions).await, 0);
}

/// The tables have the same name, and one that is longer than a name of a function may be.
#[sqlx::test]
async fn tables_of_all_schemas_have_triggers_of_their_own(pool: PgPool) {
    let long = "a_table_whose_name_takes_all_of_the_63_bytes_that_a_name_may_have";
    let long = &long[..63];
    run(
        &pool,
        "create schema old; create table notes (id int primary key); create table old.notes (id int primary key)",
    )
    .await;
    for (table, tag) in [("notes", "note"), ("old.notes", "old-note"), (long, "long")] {
        run(&pool, &format!("create table if not exists {table} (id int primary key); select cache_track('{table}', tags => array['{tag}:{{id}}'])"))
            .await;
    }
    let sql = format!(
        "set local search_path = ''; insert into public.notes values (1); insert into old.notes values (2); insert into public.{long} values (3); reset search_path"
    );
    assert_eq!(raised(&pool, &sql).await, set(&["note:1", "old-note:2", "long:3"]));
}

/// The role is that of another program. It can't read the parent of the rows that it writes.
#[sqlx::test]
async fn a_writer_needs_rights_on_its_own_table_only(pool: PgPool) {
    let role = format!("lines_writer_{}_{}", std::process::id(), fastrand::u32(..));
    let sql = format!(
        "create table orders (id int primary key, customer int);
        create table lines (order_id int references orders, quantity int);
        select cache_track('lines', tags => array['order-list:{{orders.customer}}']);
        insert into orders values (1, 7); insert into lines values (1, 1);
        create role {role}; grant select, update on lines to {role}"
    );
    run(&pool, &sql).await;
    let change = format!("set local role {role}; update lines set quantity = 2; reset role");
    let raised = raised(&pool, &change).await;
    run(&pool, &format!("drop owned by {role}; drop role {role}")).await;
    assert_eq!(raised, set(&["order-list:7"]));
}

#[sqlx::test]
async fn statements_that_name_a_partition_raise_too(pool: PgPool) {
    let sql = "create table logs (id int, month int, primary key (id, month)) partition by list (month);
        create table logs_1 partition of logs for values in (1);
        select cache_track('logs', tags => array['log:{id}'], lists => array['log-list:{month}']);
        create table logs_2 partition of logs for values in (2)";
    run(&pool, sql).await;
    assert_eq!(
        raised(&pool, "insert into logs values (1, 1), (2, 2)").await,
        set(&["log:1", "log:2", "log-list:1", "log-list:2"])
    );
    assert_eq!(
        raised(&pool, "update logs set month = 2 where id = 1").await,
        set(&["log:1", "log-list:1", "log-list:2"])
    );
    assert_eq!(raised(&pool, "insert into logs_1 values (3, 1)").await, set(&["log:3", "log-list:1"]));
    // A partition that was added later has its triggers after this.
    run(&pool, "select cache_generate_triggers('logs')").await;
    assert_eq!(raised(&pool, "delete from logs_2 where id = 2").await, set(&["log:2", "log-list:2"]));
    run(&pool, "select cache_untrack('logs')").await;
    assert_eq!(count(&pool, "select count(*) from pg_trigger where tgname like 'invalidates%'").await, 0);
}

/// Some restores run in such a session. It fires the triggers of statements and those of rows.
#[sqlx::test]
async fn a_session_that_restores_raises_a_bounded_number_of_tags(pool: PgPool) {
    let sql =
        "create table notes (id int primary key, text text); select cache_track('notes', tags => array['note:{id}'])";
    run(&pool, sql).await;
    let replica = |sql: &str| format!("set local session_replication_role = replica; {sql}");
    assert_eq!(raised(&pool, &replica("insert into notes values (1, 'x')")).await, set(&["note:1"]));
    let many = raised(&pool, &replica("insert into notes select n, 'x' from generate_series(2, 4000) n")).await;
    assert!(many.contains("note:*") && many.len() <= 1_001, "{} tags", many.len());
}

/// Attaching and detaching fire no trigger, although rows come and go.
#[sqlx::test]
async fn partitions_that_come_or_go_are_noticed(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    let sql = "create table logs (id int, month int, primary key (id, month)) partition by list (month);
        create table logs_1 partition of logs for values in (1);
        create table logs_2 (like logs); insert into logs_2 values (1, 2);
        select cache_track('logs', tags => array['log:{id}'])";
    run(&pool, sql).await;
    let cache = bench.cache().await;
    let raised = "select coalesce(max(version), 0) from cache_ledger where tag = '*'";
    let mut before = count(&pool, raised).await;
    assert_eq!(before, 0, "nothing has changed yet");
    for sql in
        ["alter table logs attach partition logs_2 for values in (2)", "alter table logs detach partition logs_1"]
    {
        run(&pool, sql).await;
        bench.advance(Duration::from_secs(61), &[&cache]).await;
        before = eventually(sql, || async {
            let now = count(&pool, raised).await;
            (now > before).then_some(now)
        })
        .await;
    }
}

/// The triggers are dropped, not disabled, so no trigger is there that could be found.
#[sqlx::test]
async fn a_trigger_that_is_missing_is_noticed(pool: PgPool) {
    let bench = Bench::new(&pool, Backend::None).await;
    run(&pool, "select cache_track('notes', tags => array['note:{id}'])").await;
    bench.cache().await.shutdown().await;
    let raised = "select count(*) from cache_ledger where tag = '*'";
    assert_eq!(count(&pool, raised).await, 0, "all triggers are there");
    run(&pool, "drop trigger invalidates_updated on notes").await;
    let _cache = bench.cache().await;
    eventually("everything is refused", || async { (count(&pool, raised).await == 1).then_some(()) }).await;
    run(&pool, "select cache_generate_triggers('notes')").await;
    let wrong = "select count(*) from pg_trigger where tgname like 'invalidates%' and tgenabled = case tgname when 'invalidates_replicated' then 'R' else 'A' end::\"char\"";
    assert_eq!(count(&pool, wrong).await, 5, "one call restores the triggers");
}
