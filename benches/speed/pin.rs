//! Cores: the clients have one and the servers that are compared the other, so that neither takes time from the other.

use std::{path::Path, process::Command};

use rustix::thread::{CpuSet, sched_setaffinity};

/// The core of the servers that are compared.
pub const SERVER: usize = 0;
/// The core of the clients, and of Postgres and Redis as far as the system puts them there.
pub const CLIENTS: usize = 1;

/// Keeps this thread, and what it starts, on a core. Without a second core everything shares the first.
pub fn pin(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core);
    if let Err(error) = sched_setaffinity(None, &cores) {
        eprintln!("  not on a core of its own: {error}");
    }
}

/// Calls `start` on a thread that is kept on the servers' core: what it starts stays there.
pub fn on_server_core<R: Send>(start: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|threads| {
        let thread = threads.spawn(|| {
            pin(SERVER);
            start()
        });
        thread.join().expect("the thread ends")
    })
}

/// What the machine is, for the table's head.
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
