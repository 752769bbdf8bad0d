//! Assigns cores: the compared servers have one, and everything else (clients, Postgres, Redis) has
//! the other.

use std::fs;

use rustix::thread::{CpuSet, Pid, sched_setaffinity};

/// The core of the compared servers.
const SERVER: usize = 0;
/// The core of everything else.
const OTHERS: usize = 1;

/// Pins all threads of this process to the core of everything else. Processes that it starts later
/// inherit this.
pub fn leave_the_servers_core() {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    for thread in threads.filter_map(|thread| thread.file_name().to_str()?.parse().ok()) {
        pin(Pid::from_raw(thread), OTHERS);
    }
}

/// Calls `start` on a thread that is pinned to the servers' core. Processes that `start` starts
/// stay on that core.
pub fn on_servers_core<R: Send>(start: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|threads| {
        let thread = threads.spawn(|| {
            pin(None, SERVER);
            start()
        });
        thread.join().expect("the thread ends")
    })
}

/// Pins a thread, or this one by default, to a core. Without a second core, everything shares the
/// first.
fn pin(thread: Option<Pid>, core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core);
    if let Err(error) = sched_setaffinity(thread, &cores) {
        eprintln!("  not on a core of its own: {error}");
    }
}
