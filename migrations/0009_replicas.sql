-- A moment such that the statement's snapshot shows everything that was committed before it, in microseconds since 1970. On the
-- primary the time at which the transaction began. On a replica the time of the last commit that it has heard of, less a second:
-- commits don't reach it exactly in the order of their times. (It may hear of more after the snapshot was taken, so who asks a
-- replica takes the moment of an answer before.) A session that expects a replica gets nothing from a server that is none any more: one that
-- was promoted goes its own way, and its numbers can't be compared with those of the primary. Nor does a session that expects the
-- primary from a standby, to which an address may have been switched.
create function cache_read_at() returns bigint language sql stable as $$
    select (extract(epoch from case
        when pg_is_in_recovery() <> (coalesce(current_setting('aside.replica', true), '') = 'on') then null
        when pg_is_in_recovery() then pg_last_xact_replay_timestamp() - interval '1 second'
        else now()
    end) * 1000000)::bigint
$$;
