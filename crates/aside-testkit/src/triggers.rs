//! A comparison of the tags that a write invalidates with the tags that the triggers would
//! invalidate. The two lists exist in separate places and could drift apart.

use sqlx::PgPool;

/// SQL that changes the functions of the triggers (`invalidates_…`), which `cache_track` generates.
/// From now on they note the tags that they would raise, in the service's own writes too.
const LISTEN: &str = r"
create table noted (xid xid8, name text);
create function note(names text[]) returns void language sql as
    'insert into noted select distinct pg_current_xact_id(), unnest(names)';
do $$
declare source text;
begin
    for source in
        select pg_get_functiondef(oid) from pg_proc
        where oid in (select tgfoid from pg_trigger where tgname like 'invalidates\_%')
    loop
        execute replace(replace(source, 'aside.invalidates', 'aside.nobody_sets_this'), 'cache_raise(', 'note(');
    end loop;
    if source is null then
        raise 'no table has such triggers';
    end if;
end $$";

/// Makes the triggers of a test's database note their tags.
pub async fn listen(pool: &PgPool) {
    sqlx::raw_sql(LISTEN).execute(pool).await.expect("the triggers' functions are changed");
}

/// Returns the number of tags that the triggers have noted, and those of them that the write itself
/// did not invalidate. It clears the notes.
///
/// Call it after each write, because a later write of the same tag would hide an earlier omission.
pub async fn heard(pool: &PgPool) -> (usize, Vec<String>) {
    let sql = "select distinct noted.name, ledger.tag is null as missed
        from noted left join cache_ledger ledger on ledger.tag = noted.name and ledger.xid = noted.xid";
    let rows: Vec<(String, bool)> = sqlx::query_as(sql).fetch_all(pool).await.expect("what was noted");
    sqlx::query("truncate noted").execute(pool).await.expect("a clean sheet");
    (rows.len(), rows.into_iter().filter(|(_, missed)| *missed).map(|(name, _)| name).collect())
}
