-- The position up to which changes have been purged from the shared cache in front of the service.
-- There is one row. The instance that holds the purger's lock writes it when all commits up to the
-- position have been purged. A snapshot is meaningless in another epoch of the database, so the
-- epoch is stored with it.
create table cdn_cursor (
    one   boolean     primary key default true check (one),
    epoch text        not null,
    snap  pg_snapshot not null,
    -- A time that is not after the snapshot. Idle tags are pruned, so a cursor that is too old
    -- misses changes.
    at    timestamptz not null
);
