-- The state that each running instance reports, so that the live page of one instance shows all of
-- them. Only that page reads it, and no promise depends on it. The table is unlogged, because its
-- rows are outdated after a crash.
create unlogged table instances (
    id      text        primary key,
    state   jsonb       not null,
    seen_at timestamptz not null default clock_timestamp()
);
