-- The answers to earlier requests with an Idempotency-Key. A repeated request gets the same answer
-- and has no second effect.
--
-- The row is written in the transaction of the work itself, so neither can exist without the other.
-- A second request with the same key waits on the unique index until the first one ends. After a
-- commit it finds the answer, and after a rollback it does the work itself. A cache would be the
-- wrong place, because a lost key means a second order.

create table idempotency_keys (
    tenant      text        not null,
    -- Method and path. The same key on another route is a different key.
    route       text        not null check (char_length(route) between 1 and 100),
    key         text        not null check (char_length(key) between 1 and 255),
    -- A digest of the payload. The same key with another payload is an error of the client, and is
    -- refused.
    fingerprint bytea       not null check (octet_length(fingerprint) between 1 and 64),
    -- The order that was made, and the body of the answer. Null only inside the transaction that
    -- does the work.
    order_id    bigint      references orders (id),
    response    bytea,
    created_at  timestamptz not null default clock_timestamp(),
    primary key (tenant, route, key),
    check ((order_id is null) = (response is null))
);

-- Keys are stored for at least a day. They are then deleted, a thousand at a time. With 60,000
-- keys:
--   Delete on idempotency_keys
--     InitPlan 1 (returns $2)
--       ->  Limit
--             ->  LockRows
--                   ->  Index Scan using idempotency_keys_by_age on idempotency_keys
--                         Index Cond: (created_at < (statement_timestamp() - make_interval(secs => $1)))
--     ->  Tid Scan on idempotency_keys
--           TID Cond: (ctid = ANY ($2))
create index idempotency_keys_by_age on idempotency_keys (created_at);
