//! Cores: the servers that are compared have one, and everything else (clients, Postgres, Redis) has the other.

use std::fs;

use rustix::thread::{CpuSet, Pid, sched_setaffinity};

/// The core of the servers that are compared.
const SERVER: usize = 0;
/// The core of everything else.
const OTHERS: usize = 1;

/// Keeps all threads of this process, and what they start from now on, on the core of everything else.
pub fn leave_the_servers_core() {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    for thread in threads.filter_map(|thread| thread.file_name().to_str()?.parse().ok()) {
        pin(Pid::from_raw(thread), OTHERS);
    }
}

/// Calls `start` on a thread that is kept on the servers' core: what it starts stays there.
pub fn on_servers_core<R: Send>(start: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|threads| {
        let thread = threads.spawn(|| {
            pin(None, SERVER);
            start()
        });
        thread.join().expect("the thread ends")
    })
}

/// Keeps a thread, or else this one, on a core. Without a second core everything shares the first.
fn pin(thread: Option<Pid>, core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core);
    if let Err(error) = sched_setaffinity(thread, &cores) {
        eprintln!("  not on a core of its own: {error}");
    }
}
