//! What a write touches, held against what the triggers would name: two lists of one thing drift.

use sqlx::PgPool;

/// The triggers' functions (`cache_…_changed`) from now on note what they would raise, in the service's own writes too.
const LISTEN: &str = r"
create table noted (xid xid8, name text);
create function note(names text[]) returns void language sql as
    'insert into noted select distinct pg_current_xact_id(), unnest(names)';
do $$
declare source text;
begin
    for source in select pg_get_functiondef(oid) from pg_proc where proname ~ '^cache_.*_changed$' loop
        execute replace(replace(source, 'aside.invalidates', 'aside.nobody_sets_this'), 'cache_raise(', 'note(');
    end loop;
end $$";

/// Listens to the triggers of a test's database.
pub async fn listen(pool: &PgPool) {
    sqlx::raw_sql(LISTEN).execute(pool).await.expect("the triggers' functions are changed");
}

/// How many names the triggers have named since they were listened to, and those that the write itself did not invalidate. Ask after each write: a
/// later one of the same name covers up for an earlier one.
pub async fn heard(pool: &PgPool) -> (usize, Vec<String>) {
    let sql = "select distinct noted.name, ledger.tag is null as missed
        from noted left join cache_ledger ledger on ledger.tag = noted.name and ledger.xid = noted.xid";
    let rows: Vec<(String, bool)> = sqlx::query_as(sql).fetch_all(pool).await.expect("what was noted");
    sqlx::query("truncate noted").execute(pool).await.expect("a clean sheet");
    (rows.len(), rows.into_iter().filter(|(_, missed)| *missed).map(|(name, _)| name).collect())
}
