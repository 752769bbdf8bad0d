-- What each running instance says of itself, so that the live page of one shows all of them. Nothing but that page reads it: no
-- promise rests on it. Unlogged, because after a crash all of it is old anyway.
create unlogged table instances (
    id      text        primary key,
    state   jsonb       not null,
    seen_at timestamptz not null default clock_timestamp()
);
