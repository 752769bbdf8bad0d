-- Answers already given to requests that carried an Idempotency-Key, so that a repeated request gets the same answer and does
-- nothing twice.
--
-- The row is written in the transaction of the work itself: the work without the row, or the row without the work, can't
-- exist. A second request with the key waits on the unique index until the first has committed (then it finds the answer) or
-- rolled back (then it does the work itself). A cache would be the wrong place: forgetting here means a second order.

create table idempotency_keys (
    tenant      text        not null,
    -- Method and path: the same key on another route is another key.
    route       text        not null check (char_length(route) between 1 and 100),
    key         text        not null check (char_length(key) between 1 and 255),
    -- A digest of the payload: the same key with another payload is a client's mistake, and is refused.
    fingerprint bytea       not null check (octet_length(fingerprint) between 1 and 64),
    -- What the work made, and the body of its answer. Null only inside the transaction that does the work.
    order_id    bigint      references orders (id),
    response    bytea,
    created_at  timestamptz not null default clock_timestamp(),
    primary key (tenant, route, key),
    check ((order_id is null) = (response is null))
);

-- Keys are remembered for at least a day and then removed, a thousand at a time. With 60,000 keys:
--   Delete on idempotency_keys
--     InitPlan 1 (returns $2)
--       ->  Limit
--             ->  LockRows
--                   ->  Index Scan using idempotency_keys_by_age on idempotency_keys
--                         Index Cond: (created_at < (statement_timestamp() - make_interval(secs => $1)))
--     ->  Tid Scan on idempotency_keys
--           TID Cond: (ctid = ANY ($2))
create index idempotency_keys_by_age on idempotency_keys (created_at);
