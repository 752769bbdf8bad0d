//! The limit of open files. Each connection is an open file, also those to Postgres and Redis and of the management listener, and a
//! system usually starts a program with 1,024: so many idle clients would take what the service itself needs. At start the service
//! takes all that the system lets it have, and lets clients have what it does not need itself.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Connections of clients at a time, however many files may be open.
const MAX_CLIENTS: u64 = 16_384;
/// Open files beside clients, the management listener and the pools: connections to Redis and to other services, logs, libraries.
const OTHER_FILES: u64 = 128;

/// Raises the limit of open files to what the system allows, and says how many clients may be connected at a time.
///
/// `own`: connections that the service has beside those of its clients.
pub fn max_clients(own: usize) -> usize {
    let limits = getrlimit(Resource::Nofile);
    let mut raised = limits;
    raised.current = limits.maximum;
    // Some systems have a lower limit than they say; then the one of before stays.
    let limit = if setrlimit(Resource::Nofile, raised).is_ok() { limits.maximum } else { limits.current };
    let clients = clients_within(limit, own as u64 + OTHER_FILES);
    if clients < MAX_CLIENTS {
        let limit = limit.unwrap_or_default();
        tracing::warn!(
            limit,
            clients,
            "few files may be open: more clients than this wait; raise the hard limit (ulimit -Hn)"
        );
    }
    usize::try_from(clients).unwrap_or(usize::MAX)
}

/// What `limit` leaves to clients. `None`: there is no limit. However low it is, clients get a quarter.
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
