-- The ledger: the version table. Every change of cacheable data raises the version of its tag, in
-- the transaction that makes the change. An invalidation is therefore a committed row. It can't be
-- lost, and it exists if and only if the change does.

-- One sequence for all tags. Versions never repeat, so a row that is deleted and inserted again
-- never has a lower version than before.
create sequence cache_version;

-- One row for each tag, with its last change. fillfactor leaves room for the next version on the
-- same page.
create table cache_ledger (
    tag     text   primary key,
    version bigint not null,
    xid     xid8   not null default pg_current_xact_id(),
    -- When the version was raised. Instances measure their lag from this time, and idle tags are
    -- pruned by it. A row that a transaction raised more than an hour before its commit counts as
    -- idle at once.
    at      timestamptz not null default clock_timestamp()
) with (fillfactor = 70);

-- The poller asks "what was not visible in my last snapshot?": two ranges of xid, each an index scan.
--   Index Scan using cache_ledger_xid_idx on cache_ledger  (Index Cond: xid >= pg_snapshot_xmax(...))
create index cache_ledger_xid_idx on cache_ledger (xid);

-- The identity of this database within its server.
create function cache_database() returns oid language sql stable
    return (select oid from pg_catalog.pg_database where datname = current_database());

-- The epoch: versions and snapshots can only be compared within one. It ends when Postgres may lose
-- or repeat versions that it has already returned. This happens at every start of the server, at
-- crash recovery, on another server and in another database.
--
-- The row names the epoch by random bits, and identifies the run of the server to which they
-- belong. The bits are valid only for that run. A copied row therefore names no epoch, and the next
-- instance replaces it. Copies come from a promoted replica, files of a stopped server, a clone, a
-- dump or a template. No statement here reads the position of the log, because some providers deny
-- it.
create unlogged table cache_epochs (
    one       boolean     primary key default true check (one),
    id        uuid        not null default gen_random_uuid(),
    -- When the server was started. No two runs share it, even if all other data were copied.
    started   timestamptz not null default pg_postmaster_start_time(),
    -- When Postgres last reset its statistics. Crash recovery does so even if the server as a whole
    -- keeps running. (The table is unlogged, so crash recovery also empties it, but some providers
    -- keep unlogged tables.)
    recovered timestamptz default pg_stat_get_bgwriter_stat_reset_time(),
    -- The database, which may be copied as a template.
    database  oid         not null default cache_database(),
    -- The ledger. A restore creates it again with another oid. `vacuum full` only gives it other
    -- files.
    ledger    oid         not null default 'cache_ledger'::regclass::oid
);

-- The present epoch. Null if no row names it, or more than one. The instances have this expression
-- in their own statements (`ledger.rs`), because Postgres would plan the function again for
-- each of them. A test compares the two.
create function cache_epoch() returns text language sql stable
    return (
        select left(md5(min(id::text)), 12) from cache_epochs
        where started = pg_postmaster_start_time()
            and recovered is not distinct from pg_stat_get_bgwriter_stat_reset_time()
            and ledger = 'cache_ledger'::regclass and database = cache_database() and not pg_is_in_recovery()
        having count(*) = 1
    );

-- When an instance last reached this server by a new connection, in milliseconds since 1970. The
-- address of the database may be switched to another server while open connections stay up.
-- Instances share the checks of the address through this number (`address.rs`).
create unlogged sequence cache_address_checked minvalue 0;

-- Snapshots taken every few seconds. An instance that starts uses the newest one that is older than
-- any entry it may find in Redis. It must read all changes that were not visible in this snapshot
-- before it uses Redis.
create unlogged table cache_checkpoints (
    taken_at timestamptz not null default clock_timestamp(),
    epoch    text        not null default cache_epoch(),
    snap     pg_snapshot not null,
    -- How long the service that took the snapshot keeps entries. Rows of the ledger are kept for
    -- twice the longest such time of all services that share it.
    retention interval   not null default '1 hour 30 seconds'
);
create index cache_checkpoints_taken_at_idx on cache_checkpoints (taken_at);

-- Raises the versions of tags, once for each transaction, in the same order for all writers. It can
-- only raise them. A role that may change a table of the service raises versions through this
-- function, and needs no rights on the ledger. People can call it too:
--   select cache_raise(array['product:42', 'order:demo:*']);
-- For more than a thousand tags, it raises all of their patterns instead (`product:*`). Each
-- pattern is one row, for the writer and for every instance that polls the ledger.
create function cache_raise(tags text[]) returns void language plpgsql security definer as $$
begin
    insert into cache_ledger as ledger (tag, version)
    select raised.tag, nextval('cache_version') from cache_bounded_tags(tags) as raised (tag) order by raised.tag
    on conflict (tag) do update
        -- The version must rise even if the sequence has fallen behind.
        set version = greatest(nextval('cache_version'), ledger.version + 1), xid = pg_current_xact_id(), at = clock_timestamp()
        where ledger.xid <> pg_current_xact_id();
end $$;

-- The distinct tags. For more than a thousand tags, the wildcards of their patterns.
create function cache_bounded_tags(tags text[]) returns setof text language sql immutable parallel safe
    begin atomic
        with named as (select distinct unnest(tags) as tag)
        select tag from named where tag is not null and (select count(*) from named) <= 1000
        union
        select case when tag like '*%' then tag else substring(tag from '^[^:#]*') || ':*' end from named
        where tag is not null and (select count(*) from named) > 1000;
    end;

-- No statement lowers a version, with any rights of its role. Only the owner can disable this.
create function cache_refuses_to_lower() returns trigger language plpgsql as $$
begin
    raise exception 'the version of % can only rise', old.tag using errcode = 'integrity_constraint_violation';
end $$;
create trigger only_raises before update on cache_ledger
    for each row when (new.version < old.version or new.tag <> old.tag) execute function cache_refuses_to_lower();
alter table cache_ledger enable always trigger only_raises;

-- Sets the sequence above a version, or above all versions of the ledger. Returns null if it is
-- there already. The role of the service calls this instead of `setval`, so it can't set the
-- sequence back.
create function cache_lift_versions(seen bigint default null) returns bigint language plpgsql security definer as $$
begin
    return (
        select setval('cache_version', highest + 1000000)
        from (select coalesce(seen, (select max(version) from cache_ledger)) as highest) as versions, cache_version
        where highest > last_value
    );
end $$;
revoke execute on function cache_lift_versions(bigint) from public;

-- Removes some rows of tags that have been idle for twice the longest retention of all services.
-- The role of the service calls this, and has no right to delete other rows.
create function cache_prune(kept interval) returns void language plpgsql security definer as $$
begin
    delete from cache_ledger where ctid = any (array(
        select ctid from cache_ledger
        where xid < (
            select pg_snapshot_xmin(snap) from cache_checkpoints
            where epoch = (select cache_epoch())
                and taken_at < clock_timestamp() - 2 * greatest(kept, (select max(retention) from cache_checkpoints))
            order by taken_at desc limit 1
        )
        order by xid limit 1000 for update skip locked
    ));
end $$;
revoke execute on function cache_prune(interval) from public;

-- Grants a role what a service needs, and nothing by which it could lower or delete a version. Run
-- it as the owner of the ledger, after the migrations:
--   select cache_grant('service');
create function cache_grant(service regrole) returns void language plpgsql as $$
begin
    execute format($sql$
        grant usage on schema %1$I to %2$s;
        grant select, insert, update on cache_ledger to %2$s;
        grant select, insert, update, delete on cache_epochs, cache_checkpoints to %2$s;
        grant select, insert, update on cache_tenants to %2$s;
        grant select on cache_tracked to %2$s;
        grant usage, select on sequence cache_version to %2$s;
        grant select, update on sequence cache_address_checked to %2$s;
        grant execute on function cache_raise(text[]), cache_lift_versions(bigint), cache_prune(interval) to %2$s;
    $sql$, current_schema(), service);
end $$;

-- An emptied ledger may get the same versions again, so another epoch begins.
create function cache_ledger_truncated() returns trigger language plpgsql security definer as $$
begin
    update cache_epochs set id = gen_random_uuid();
    return null;
end $$;
create trigger begins_epoch after truncate on cache_ledger
    for each statement execute function cache_ledger_truncated();
alter table cache_ledger enable always trigger begins_epoch;

-- The data of each tenant that the cache needs. A row is inserted when the tenant is first loaded.
-- Its home region may then be set by hand.
create table cache_tenants (
    tenant      text  primary key check (tenant ~ '^[a-z0-9-]{1,64}$'),
    -- The only region in which its regulated data may be cached. Null: any region.
    home_region text  check (home_region ~ '^[a-z0-9-]{1,32}$'),
    -- Mixed into the hashed tags and the encryption keys of all cached data of the tenant. Without
    -- it, no copy of these data can be found or decrypted, wherever the copy is. 244 random bits.
    secret      bytea not null default decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex')
                check (octet_length(secret) = 32)
);

-- A segment of a tag, escaped as in the service (`key.rs`). A test compares the two. Most
-- values need no escaping.
create function cache_segment(value text) returns text
    language sql immutable strict parallel safe
    return case when value ~ '^[A-Za-z0-9._-]*$' then value else (
        select string_agg(
            case when chr(byte) ~ '^[A-Za-z0-9._-]$' and byte < 128 then chr(byte)
                 else '%' || lpad(upper(to_hex(byte)), 2, '0') end, '' order by at)
        from (select at, get_byte(convert_to(value, 'UTF8'), at) as byte
              from generate_series(0, octet_length(value) - 1) as at) as bytes
    ) end;

-- Gives all functions a fixed search path, because callers may have another one: a restore, for
-- example, has an empty path.
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
