//! The limit of open files. Every connection is an open file, including those to Postgres and Redis
//! and to the management listener. Many systems start a program with a limit of 1,024, so that many
//! idle clients would use up the files of the service itself. At start, the service raises its
//! limit to the allowed maximum. Clients may use only the files that the service does not need
//! itself.

use rustix::process::{Resource, getrlimit, setrlimit};

/// The maximum number of client connections, even if more files may be open.
const MAX_CLIENTS: u64 = 16_384;
/// Open files besides clients, the management listener and the pools: connections to Redis and to
/// other services, logs, libraries.
const OTHER_FILES: u64 = 128;

/// Raises the limit of open files to the allowed maximum, and returns how many clients may be
/// connected at a time.
///
/// `own` is the number of connections besides those of clients.
pub fn max_clients(own: usize) -> usize {
    let limits = getrlimit(Resource::Nofile);
    let mut raised = limits;
    raised.current = limits.maximum;
    // Some systems report a higher maximum than they accept. The old limit then stays in force.
    let limit = if setrlimit(Resource::Nofile, raised).is_ok() { limits.maximum } else { limits.current };
    let clients = clients_within(limit, own as u64 + OTHER_FILES);
    if clients < MAX_CLIENTS {
        let limit = limit.unwrap_or_default();
        tracing::warn!(
            limit,
            clients,
            "the limit of open files is low: further clients wait; raise the hard limit (ulimit -Hn)"
        );
    }
    usize::try_from(clients).unwrap_or(usize::MAX)
}

/// How many of `limit` files clients may use; `None` means no limit. Clients always get at least a
/// quarter.
fn clients_within(limit: Option<u64>, own: u64) -> u64 {
    limit.map_or(MAX_CLIENTS, |limit| limit.saturating_sub(own).max(limit / 4).clamp(1, MAX_CLIENTS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_the_service_does_not_need() {
        let cases =
            [(None, MAX_CLIENTS), (Some(1 << 20), MAX_CLIENTS), (Some(1_024), 724), (Some(400), 100), (Some(1), 1)];
        for (limit, clients) in cases {
            assert_eq!(clients_within(limit, 300), clients, "{limit:?}");
        }
    }
}
