-- Up to where changes have been purged from the shared cache in front of the service. One row, written by the instance that holds the
-- purger's lock, when all that was committed up to there has been purged for good. A snapshot is worth nothing in another life of the
-- database, so its life stands beside it.
create table cdn_position (
    one  boolean     primary key default true check (one),
    life text        not null,
    snap pg_snapshot not null,
    -- A moment that is not after the snapshot: a position that is too old says nothing about names that were quiet since.
    at   timestamptz not null
);
