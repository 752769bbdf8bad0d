//! The read time of a load: an SQL expression in every loading statement, on the primary and on a
//! replica alike.
//!
//! The statement's snapshot shows everything that was committed before the read time. On the
//! primary, it is the time at which the transaction began. On a replica, it is the time of the last
//! commit that the replica has replayed, less a second. The second is needed because commits do not
//! reach a replica exactly in the order of their times. A replica may replay more after the
//! snapshot was taken, so `replica.rs` uses the read time of an earlier answer.
//!
//! The expression is null when the server is not the one that the session expects, and no load
//! accepts null. A session that expects a replica (`aside.replica`) gets null from a server that
//! was promoted. Such a server has its own history, and its versions can't be compared with those
//! of the primary. A session that expects the primary gets null from a standby to which an address
//! may have been switched.
//!
//! The expression is part of each statement and not a function. Postgres can't inline a function
//! over these volatile expressions, so it would plan the function's body again for each statement
//! (`scripts/load-cost.sh`).

/// A `timestamptz`, or null.
pub const READ_AT: &str = "case
    when pg_is_in_recovery() <> (coalesce(current_setting('aside.replica', true), '') = 'on') then null
    when pg_is_in_recovery() then pg_last_xact_replay_timestamp() - interval '1 second'
    else now()
end";
