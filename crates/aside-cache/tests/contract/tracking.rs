//! The tags that the triggers of `cache_track` raise: those of the changed rows, of their lists and
//! of their parents.

use std::collections::BTreeSet;

use aside_cache::{ShardedTag, Tag};
use sqlx::{AssertSqlSafe, PgPool};

/// The tags that the transaction has raised.
const RAISED: &str = "select tag from cache_ledger where xid = pg_current_xact_id()";

/// Runs SQL that must succeed.
pub async fn run(pool: &PgPool, sql: &str) {
    let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// Runs SQL in one transaction, as another program does, and returns the tags that it raised.
pub async fn raised(pool: &PgPool, sql: &str) -> BTreeSet<String> {
    let mut transaction = pool.begin().await.expect("a transaction");
    let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *transaction).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let tags: Vec<String> = sqlx::query_scalar(RAISED).fetch_all(&mut *transaction).await.expect("the raised tags");
    transaction.commit().await.expect("a commit");
    tags.into_iter().collect()
}

/// Checks which tags SQL raises, by the triggers of statements.
async fn statement_raises(pool: &PgPool, sql: &str, tags: &[&str]) {
    let expected: BTreeSet<String> = tags.iter().map(ToString::to_string).collect();
    assert_eq!(raised(pool, sql).await, expected, "{sql}");
}

/// Checks which tags SQL raises. The trigger of rows, which fires for replicated changes, raises the
/// same.
async fn raises(pool: &PgPool, sql: &str, tags: &[&str]) {
    let by_rows = format!(
        "do $$ declare changed regclass; begin
             for changed in select tracked from cache_tracked loop
                 execute format('alter table %s disable trigger invalidates_inserted, disable trigger invalidates_updated,
                     disable trigger invalidates_deleted', changed);
             end loop;
         end $$;
         set local session_replication_role = replica; {sql}"
    );
    let mut transaction = pool.begin().await.expect("a transaction");
    let done = sqlx::raw_sql(AssertSqlSafe(by_rows)).execute(&mut *transaction).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let found: Vec<String> = sqlx::query_scalar(RAISED).fetch_all(&mut *transaction).await.expect("the raised tags");
    transaction.rollback().await.expect("as before");
    let expected: BTreeSet<String> = tags.iter().map(ToString::to_string).collect();
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected, "{sql}, row by row");
    statement_raises(pool, sql, tags).await;
}

/// Creates a table of articles with lists by topic.
async fn articles(pool: &PgPool) {
    let sql = "create table articles (id bigint primary key, topic text, title text not null, hidden boolean not null default false, reads int not null default 0);
        select cache_track('articles', tags => array['article:{id}'], lists => array['article-list:{topic}#{id%16}'],
            membership => array['hidden'], ignore => array['reads'])";
    run(pool, sql).await;
}

#[sqlx::test]
async fn a_change_raises_the_row_and_its_lists_only_when_it_moves(pool: PgPool) {
    articles(&pool).await;
    let (row, old, new) = ("article:1", "article-list:a%20b#1", "article-list:c#1");
    raises(&pool, "insert into articles values (1, 'a b', 'x')", &[row, old]).await;
    raises(&pool, "update articles set title = 'y'", &[row]).await;
    raises(&pool, "update articles set title = 'y'", &[]).await;
    raises(&pool, "update articles set reads = 7", &[]).await;
    raises(&pool, "update articles set reads = 8, title = 'z'", &[row]).await;
    raises(&pool, "update articles set hidden = true", &[row, old]).await;
    raises(&pool, "update articles set topic = 'c'", &[row, old, new]).await;
    raises(&pool, "update articles set topic = null", &[row, new]).await;
    raises(&pool, "update articles set topic = 'c', reads = 9", &[row, new]).await;
    raises(&pool, "update articles set id = 2", &[row, new, "article:2", "article-list:c#2"]).await;
    raises(
        &pool,
        "insert into articles values (2, 'c', 'x') on conflict (id) do update set title = 'new'",
        &["article:2"],
    )
    .await;
    raises(&pool, "delete from articles", &["article:2", "article-list:c#2"]).await;
    raises(&pool, "delete from articles", &[]).await;
    raises(&pool, "truncate articles", &["article:*", "article-list:*"]).await;
    // A write of the service invalidates its own changes.
    raises(&pool, "set local aside.invalidates = 'on'; insert into articles values (3, 'c', 'x')", &[]).await;
    // A column that was added later is no ignored one.
    run(&pool, "alter table articles add note json; insert into articles values (4, 'c', 'x')").await;
    raises(&pool, r#"update articles set note = '{"a": 1}', reads = 1 where id = 4"#, &["article:4"]).await;
}

#[sqlx::test]
async fn rows_without_a_primary_key_raise_old_and_new_tags(pool: PgPool) {
    let sql = "create table stops (line int, place text); select cache_track('stops', tags => array['line:{line}', 'line-list'])";
    run(&pool, sql).await;
    raises(&pool, "insert into stops values (1, 'a'), (1, 'b')", &["line:1", "line-list"]).await;
    raises(&pool, "update stops set line = 2", &["line:1", "line:2", "line-list"]).await;
    raises(&pool, "delete from stops where place = 'a'", &["line:2", "line-list"]).await;
}

#[sqlx::test]
async fn segments_are_spelt_as_keys_are(pool: PgPool) {
    let sql = "create domain code as varchar(90); create type size as enum ('small', 'very large');
        create table things (number bigint, small smallint, text text, code code, size size, flag boolean, uuid uuid);
        select cache_track('things', tags => array['thing:{text}:is.{code}:{size}', 'thing:{flag}:{uuid}:{small}', 'thing#{number%16}'])";
    run(&pool, sql).await;
    let mut random = fastrand::Rng::with_seed(4_711);
    let mut texts: Vec<String> =
        ["", "a-Z_0.9", "a b:c", "50%", "\u{1F34C}", "*", "#1", "a/b\\c'\""].map(String::from).to_vec();
    texts.extend((0..40).map(|_| (0..random.usize(0..9)).map(|_| random.char('\u{1}'..)).collect()));
    for (text, number) in texts.into_iter().zip([i64::MIN, -17, -1, 0, 16, i64::MAX].into_iter().cycle()) {
        let uuid = uuid::Uuid::from_u128(u128::from(random.u64(..)));
        let mut transaction = pool.begin().await.expect("a transaction");
        let sql = "insert into things values ($1, -5, $2, $2, 'very large', true, $3::uuid)";
        let row = sqlx::query(sql).bind(number).bind(&text).bind(uuid.to_string());
        row.execute(&mut *transaction).await.unwrap_or_else(|error| panic!("{text:?}: {error}"));
        let tags: Vec<String> = sqlx::query_scalar(RAISED).fetch_all(&mut *transaction).await.expect("the raised tags");
        transaction.commit().await.expect("a commit");
        let expected = [
            Tag::new("thing", (&text, format!("is.{text}"), "very large")),
            Tag::new("thing", (true, uuid, -5_i16)),
            ShardedTag::new(Tag::new("thing", ())).shard(number),
        ];
        let expected: BTreeSet<String> = expected.iter().map(ToString::to_string).collect();
        assert_eq!(tags.into_iter().collect::<BTreeSet<_>>(), expected, "{text:?}");
    }
}

/// Creates invoices with lines. The list of a product's invoices is known to the lines only.
async fn invoices(pool: &PgPool) {
    let sql = "create table invoices (tenant text, id bigint, customer int, primary key (tenant, id));
        create table lines (tenant text, invoice bigint, product int, quantity int,
            foreign key (tenant, invoice) references invoices on delete cascade);
        select cache_track('lines', tags => array['invoice:{tenant}:{invoice}', 'invoice-list:{tenant}:{invoices.customer}', 'bought:{invoices.customer}:{product}']);
        select cache_track('invoices', tags => array['invoice:{tenant}:{id}', 'invoice-list:{tenant}:{customer}']);
        insert into invoices values ('demo', 1, 7), ('demo', 2, 8)";
    run(pool, sql).await;
}

#[sqlx::test]
async fn a_child_raises_the_tags_of_its_old_and_its_new_parent(pool: PgPool) {
    invoices(&pool).await;
    let (one, two) = (["invoice:demo:1", "invoice-list:demo:7"], ["invoice:demo:2", "invoice-list:demo:8"]);
    raises(&pool, "insert into lines values ('demo', 1, 5, 1)", &[one[0], one[1], "bought:7:5"]).await;
    raises(&pool, "update lines set quantity = 2", &[one[0], one[1], "bought:7:5"]).await;
    let both = [one[0], one[1], two[0], two[1], "bought:7:5", "bought:8:5"];
    raises(&pool, "update lines set invoice = 2", &both).await;
    raises(&pool, "update lines set invoice = null", &[two[0], two[1], "bought:8:5"]).await;
    raises(&pool, "update lines set quantity = 3", &[]).await;
    raises(&pool, "delete from lines", &[]).await;
}

/// The parent is gone when the triggers of its children run.
#[sqlx::test]
async fn children_that_go_with_their_parent_raise_what_the_parent_does_not(pool: PgPool) {
    invoices(&pool).await;
    run(&pool, "insert into lines values ('demo', 1, 5, 1), ('demo', 2, 5, 1)").await;
    let cascade = "delete from invoices where id = 1";
    statement_raises(&pool, cascade, &["invoice:demo:1", "invoice-list:demo:7", "bought:*"]).await;
    // The triggers of the children know what the parent declares now.
    run(&pool, "select cache_track('invoices', tags => array['invoice:{tenant}:{id}'])").await;
    let cascade = "delete from invoices where id = 2";
    statement_raises(&pool, cascade, &["invoice:demo:2", "invoice-list:*", "bought:*"]).await;
}

#[sqlx::test]
async fn more_than_a_thousand_rows_raise_their_patterns(pool: PgPool) {
    articles(&pool).await;
    let wildcards = ["article:*", "article-list:*"];
    let many = "insert into articles select n, 'a', 'x' from generate_series(1, 1001) n";
    statement_raises(&pool, many, &wildcards).await;
    statement_raises(&pool, "update articles set reads = 1", &[]).await;
    statement_raises(&pool, "update articles set title = 'y'", &wildcards).await;
    assert_eq!(raised(&pool, "update articles set title = 'z' where id <= 1000").await.len(), 1_000);
    // One of the rows has moved, and no one knows which the triggers see first.
    let moved = "update articles set title = 'n', topic = case when id = 1001 then 'b' else topic end";
    statement_raises(&pool, moved, &wildcards).await;
    statement_raises(&pool, "delete from articles", &wildcards).await;
}

/// Few tags stand for many rows. None of them may be missed, and no wildcard is necessary.
#[sqlx::test]
async fn many_rows_with_few_tags_raise_each_of_them(pool: PgPool) {
    let sql = "create table events (id bigint primary key, tenant int not null, text text);
        select cache_track('events', tags => array['event-count:{tenant}'])";
    run(&pool, sql).await;
    let all = ["event-count:0", "event-count:1", "event-count:2"];
    let many = "insert into events select n, n / 2000, '' from generate_series(1, 5999) n";
    statement_raises(&pool, many, &all).await;
    statement_raises(&pool, "update events set text = 'x'", &all).await;
    statement_raises(&pool, "update events set tenant = id", &["event-count:*"]).await;
}
