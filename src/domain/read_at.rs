//! The moment of a load: an expression that stands in every loading statement, on the primary and on a replica alike.
//!
//! It gives a moment such that the statement's snapshot shows everything that was committed before it:
//! on the primary, the time at which the transaction began; on a replica, the time of the last commit that it has replayed,
//! less a second, since commits don't reach a replica exactly in the order of their times. A replica may replay more after the
//! snapshot was taken, so `replica_router.rs` takes the moment of an earlier answer.
//!
//! It gives null, which no load accepts, when the server is not what the session expects. A session that expects a replica
//! (`aside.replica`) gets nothing from a server that was promoted: that server goes its own way, and its versions can't be
//! compared with those of the primary. A session that expects the primary gets nothing from a standby, to which an address may
//! have been switched.
//!
//! It stands in the statement itself and not in a function: Postgres can't inline a function over these volatile ones, so it
//! would plan the function's body anew for each statement (`scripts/load-cost.sh`).

/// A `timestamptz`, or null.
pub const READ_AT: &str = "case
    when pg_is_in_recovery() <> (coalesce(current_setting('aside.replica', true), '') = 'on') then null
    when pg_is_in_recovery() then pg_last_xact_replay_timestamp() - interval '1 second'
    else now()
end";
