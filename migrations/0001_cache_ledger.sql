-- The ledger: every change of anything cacheable raises the number of its name, in the transaction that makes the change.
-- An invalidation is therefore a committed row: it can't be lost, and it is there exactly when the change is.

-- One sequence for all names: numbers never repeat, so a row that is deleted and made again is never "older" than before.
create sequence cache_ver;

-- Only the last change of each name is kept. fillfactor leaves room for the next number on the same page.
create table cache_ledger (
    name text primary key,
    ver  bigint not null,
    xid  xid8   not null default pg_current_xact_id(),
    -- When the number was raised: how long instances take to learn of it is measured from here, and what was quiet for hours is
    -- known by it: a row that a transaction raised more than an hour before it committed counts as quiet at once.
    at   timestamptz not null default clock_timestamp()
) with (fillfactor = 70);

-- The tail asks "what was not visible in my last snapshot?": two ranges of xid, each an index scan.
--   Index Scan using cache_ledger_xid_idx on cache_ledger  (Index Cond: xid >= pg_snapshot_xmax(...))
create index cache_ledger_xid_idx on cache_ledger (xid);

-- Numbers and snapshots can only be compared within one life of the database. Unlogged tables are emptied by crash recovery,
-- which is just what is wanted: after a crash Postgres may give a transaction number again that it had already shown in a
-- snapshot, so whoever followed the ledger has to begin anew. (After an orderly restart they keep their rows.)
create unlogged table cache_era (
    id  uuid not null default gen_random_uuid(),
    one boolean primary key default true check (one)
);

-- The life of the database that numbers and snapshots belong to. A dump carries none of what comes after the id: a database that
-- is restored, in place or elsewhere, lives another life. On a standby the function fails: its answers prove nothing.
create function cache_life() returns text language sql stable
    return left(md5(concat_ws('-',
        (select id from cache_era),
        (select system_identifier from pg_control_system()),
        (select oid from pg_database where datname = current_database()),
        pg_relation_filenode('cache_ledger'),
        substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))), 12);

-- Snapshots taken every few seconds. An instance that starts takes the newest one that is older than anything it may find in
-- Redis; what was not visible in it is what the instance must know before it trusts Redis.
create unlogged table cache_horizon (
    taken_at timestamptz not null default clock_timestamp(),
    life     text        not null default cache_life(),
    snap     pg_snapshot not null
);
create index cache_horizon_taken_at_idx on cache_horizon (taken_at);
