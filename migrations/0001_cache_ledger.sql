-- The ledger: every change of anything cacheable raises the version of its tag, in the transaction that makes the change.
-- An invalidation is therefore a committed row: it can't be lost, and it is there exactly when the change is.

-- One sequence for all tags: versions never repeat, so a row that is deleted and made again is never "older" than before.
create sequence cache_version;

-- Only the last change of each tag is kept. fillfactor leaves room for the next version on the same page.
create table cache_ledger (
    tag     text   primary key,
    version bigint not null,
    xid     xid8   not null default pg_current_xact_id(),
    -- When the version was raised: how long instances take to learn of it is measured from here, and what was quiet for hours is
    -- known by it: a row that a transaction raised more than an hour before it committed counts as quiet at once.
    at      timestamptz not null default clock_timestamp()
) with (fillfactor = 70);

-- The poller asks "what was not visible in my last snapshot?": two ranges of xid, each an index scan.
--   Index Scan using cache_ledger_xid_idx on cache_ledger  (Index Cond: xid >= pg_snapshot_xmax(...))
create index cache_ledger_xid_idx on cache_ledger (xid);

-- The identity of this database within its server.
create function cache_database() returns oid language sql stable
    return (select oid from pg_catalog.pg_database where datname = current_database());

-- The epoch: versions and snapshots can only be compared within one. It ends when Postgres may forget or repeat what it has
-- already shown: at every start of the server, at crash recovery, on another server or in another database.
--
-- The row names the epoch by random bits, and says which run of which server they belong to. The bits count only there, so a
-- row that was copied (a replica that is promoted, files of a stopped server, a clone, a dump, a template) names no epoch, and
-- the next instance replaces it. Nothing here asks for the position of the log, which some providers refuse to tell.
create unlogged table cache_epochs (
    one       boolean     primary key default true check (one),
    id        uuid        not null default gen_random_uuid(),
    -- When the server was started: no two runs share it, whatever else was copied.
    started   timestamptz not null default pg_postmaster_start_time(),
    -- When Postgres last threw its statistics away. Crash recovery does so, even if the server as a whole goes on running. (The
    -- table is unlogged, so crash recovery also empties it; but some providers keep unlogged tables.)
    recovered timestamptz default pg_stat_get_bgwriter_stat_reset_time(),
    -- The database, which a template may be copied from.
    database  oid         not null default cache_database(),
    -- The ledger: a restore makes it anew. `vacuum full` does not, it only gives it other files.
    ledger    oid         not null default 'cache_ledger'::regclass::oid
);

-- The epoch that holds now; null when no row names it, or more than one. The instances have this expression in their statements
-- (src/cache/ledger.rs), because Postgres would plan the function anew for each of them; a test compares the two.
create function cache_epoch() returns text language sql stable
    return (
        select left(md5(min(id::text)), 12) from cache_epochs
        where started = pg_postmaster_start_time()
            and recovered is not distinct from pg_stat_get_bgwriter_stat_reset_time()
            and ledger = 'cache_ledger'::regclass and database = cache_database() and not pg_is_in_recovery()
        having count(*) = 1
    );

-- Snapshots taken every few seconds. An instance that starts takes the newest one that is older than anything it may find in
-- Redis; what was not visible in it is what the instance must know before it uses Redis.
create unlogged table cache_checkpoints (
    taken_at timestamptz not null default clock_timestamp(),
    epoch    text        not null default cache_epoch(),
    snap     pg_snapshot not null
);
create index cache_checkpoints_taken_at_idx on cache_checkpoints (taken_at);

-- Raises the versions of tags, once for each transaction, in one order for all writers. It can only raise: whoever may change a
-- table of the service raises through it, and needs no rights on the ledger. The same for a person:
--   select cache_raise(array['product:42', 'order:demo:*']);
-- Beyond a thousand tags, all of their patterns are raised instead (`product:*`): that is one row for each, for the writer and for
-- every instance that hears of it.
create function cache_raise(tags text[]) returns void language plpgsql security definer as $$
begin
    insert into cache_ledger as ledger (tag, version)
    select raised.tag, nextval('cache_version') from cache_bounded_tags(tags) as raised (tag) order by raised.tag
    on conflict (tag) do update
        -- Above its own version also where the sequence has fallen behind.
        set version = greatest(nextval('cache_version'), ledger.version + 1), xid = pg_current_xact_id(), at = clock_timestamp()
        where ledger.xid <> pg_current_xact_id();
end $$;

-- The tags, each once; beyond a thousand, the wildcards of their patterns.
create function cache_bounded_tags(tags text[]) returns setof text language sql immutable parallel safe
    begin atomic
        with named as (select distinct unnest(tags) as tag)
        select tag from named where tag is not null and (select count(*) from named) <= 1000
        union
        select case when tag like '*%' then tag else substring(tag from '^[^:#]*') || ':*' end from named
        where tag is not null and (select count(*) from named) > 1000;
    end;

-- An emptied ledger may be filled again with versions of before, so another epoch begins.
create function cache_ledger_truncated() returns trigger language plpgsql security definer as $$
begin
    update cache_epochs set id = gen_random_uuid();
    return null;
end $$;
create trigger begins_epoch after truncate on cache_ledger
    for each statement execute function cache_ledger_truncated();
alter table cache_ledger enable always trigger begins_epoch;

-- Functions find their tables wherever their callers look for theirs: restores, for example, look nowhere.
create function cache_fix_search_paths() returns void language plpgsql as $$
declare
    this regprocedure;
begin
    for this in
        select oid from pg_catalog.pg_proc
        where pronamespace = current_schema()::regnamespace and proname like 'cache\_%' and probin is null and prosqlbody is null
    loop
        execute format('alter function %s set search_path = %I, pg_temp', this, current_schema());
    end loop;
end $$;
select cache_fix_search_paths();
