//! Assigns cores: the clients have one and the compared servers have the other, so that neither
//! takes time from the other.

use std::{path::Path, process::Command};

use rustix::thread::{CpuSet, sched_setaffinity};

/// The core of the compared servers.
pub const SERVER: usize = 0;
/// The core of the clients. Postgres and Redis run there as far as the system schedules them there.
pub const CLIENTS: usize = 1;

/// Pins this thread, and the processes that it starts, to a core. Without a second core, everything
/// shares the first.
pub fn pin(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core);
    if let Err(error) = sched_setaffinity(None, &cores) {
        eprintln!("  not on a core of its own: {error}");
    }
}

/// Calls `start` on a thread that is pinned to the servers' core. Processes that `start` starts
/// stay on that core.
pub fn on_server_core<R: Send>(start: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|threads| {
        let thread = threads.spawn(|| {
            pin(SERVER);
            start()
        });
        thread.join().expect("the thread ends")
    })
}

/// A description of the machine, for the table's head.
pub fn machine() -> String {
    let model = std::fs::read_to_string(Path::new("/proc/cpuinfo")).unwrap_or_default();
    let model = model.lines().find_map(|line| line.strip_prefix("model name")).and_then(|line| line.split_once(": "));
    let kernel = Command::new("uname").arg("-r").output().ok().and_then(|out| String::from_utf8(out.stdout).ok());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{cores} cores ({}), Linux {}",
        model.map_or("of unknown kind", |(_, model)| model.trim()),
        kernel.unwrap_or_default().trim()
    )
}
