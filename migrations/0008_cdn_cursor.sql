-- Up to where changes have been purged from the shared cache in front of the service. One row, written by the instance that holds the
-- purger's lock, when all that was committed up to there has been purged for good. A snapshot is worth nothing in another epoch of the
-- database, so its epoch stands beside it.
create table cdn_cursor (
    one   boolean     primary key default true check (one),
    epoch text        not null,
    snap  pg_snapshot not null,
    -- A moment that is not after the snapshot: a cursor that is too old says nothing about tags that were idle since.
    at    timestamptz not null
);
