//! Real processes that never outlive the run, even if the run is killed, and free ports for them. A
//! shell waits on a pipe that only the run holds open.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

/// A shell script that starts its arguments and prints the pid. It ends with the process or with
/// the run. `$0` is the log.
///
/// Background commands of a shell get an empty input, so `3<&0` passes the pipe under another
/// number.
const GUARD: &str = r#"exec 3<&0
    "$@" >>"$0" 2>&1 </dev/null &
    server=$!
    echo "$server"
    exec >/dev/null
    { cat >/dev/null; kill -9 "$server"; } <&3 3<&- &
    exec 3<&-
    wait "$server"
    kill $! 2>/dev/null"#;

/// The time that a server may take on a busy machine until it answers.
const PATIENCE: Duration = Duration::from_secs(60);
/// The number of free ports to try until a server comes up on one.
pub const TRIES: usize = 5;
/// The first port for servers, and the number of ports. They lie below the range for outgoing
/// connections, which could otherwise take one of them.
const PORTS: (u16, u16) = (20_000, 10_000);

/// The user of a program that refuses to run as root, if the run itself is root's.
#[derive(Clone, Copy)]
pub struct User(pub u32);

/// A running process.
pub struct Process {
    guard: Child,
    pid: u32,
}

impl Process {
    pub fn start(program: &Path, args: &[String], envs: &[(&str, String)], log: &Path, user: Option<User>) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", GUARD]).arg(log).arg(program).args(args).envs(envs.iter().cloned());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        if let Some(User(id)) = user {
            command.uid(id).gid(id);
        }
        let mut guard = command.spawn().expect("sh starts");
        let mut line = String::new();
        let output = guard.stdout.take().expect("the guard's output");
        BufReader::new(output).read_line(&mut line).expect("a pid");
        let pid = line.trim().parse().unwrap_or_else(|_| panic!("no pid of {}: {line:?}", program.display()));
        Self { guard, pid }
    }

    /// Waits until the process answers. Returns `None` if it ended instead, for example because
    /// another process took its port. `answers` receives the pid, because that other process may
    /// answer too.
    pub fn once_up(mut self, answers: impl Fn(u32) -> bool) -> Option<Self> {
        let begun = Instant::now();
        while !answers(self.pid) {
            if self.has_ended() {
                return None;
            }
            assert!(begun.elapsed() < PATIENCE, "process {} neither answers nor ends", self.pid);
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(self)
    }

    /// Like [`Process::once_up`], without blocking the other tasks of the run.
    pub async fn up(self, answers: impl Fn(u32) -> bool + Send + 'static) -> Option<Self> {
        let waiting = tokio::task::spawn_blocking(move || self.once_up(answers));
        waiting.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal. Returns `false` if the process is gone, which is fine if the signal was to
    /// end it.
    pub fn signal(&self, name: &str) -> bool {
        // The script uses the shell's own `kill`, because a minimal machine has no program of that
        // name.
        shell(&format!("kill -{name} {}", self.pid))
    }

    /// Sends a signal to the process and to its children.
    pub fn signal_with_children(&self, name: &str) {
        let pid = self.pid;
        // The process stops first. It then starts no more children, and the existing ones still
        // have it as their parent.
        shell(&format!(
            "kill -STOP {pid}
             children=
             for stat in /proc/[0-9]*/stat; do
                 read -r child _ _ parent _ <\"$stat\" && [ \"$parent\" = {pid} ] && children=\"$children $child\"
             done
             kill -{name} {pid} $children"
        ));
    }

    pub fn has_ended(&mut self) -> bool {
        self.guard.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Waits for the end of the process and blocks the thread.
    pub fn wait(mut self) {
        // `wait` would close the guard's input, and the guard would then kill the process.
        let input = self.guard.stdin.take();
        let _ = self.guard.wait();
        drop(input);
    }

    /// Waits for the end of the process.
    pub async fn ended(self) {
        let _ = tokio::task::spawn_blocking(move || self.wait()).await;
    }

    pub async fn kill_9(self) {
        self.signal("KILL");
        self.ended().await;
    }
}

/// Runs a script and returns whether it succeeded. It may use the shell's own `kill`, because a
/// minimal Debian has no program of that name.
pub fn shell(script: &str) -> bool {
    Command::new("sh").args(["-c", script]).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Returns a port without a listener, and another one each time. Only the server's own bind
/// decides: if the server ends at once, the caller tries another port.
pub fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(fastrand::u16(..PORTS.1)));
    let next = || PORTS.0 + NEXT.fetch_add(1, Ordering::Relaxed) % PORTS.1;
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(next).take(1_000).find(free).expect("a free port")
}

/// Returns the path of another program of the workspace, in the folder in which this one was built.
pub fn built(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("the path of this program");
    let folder = this.parent().expect("a folder of this program");
    // Cargo builds tests and benches one folder deeper.
    let folder = if folder.ends_with("deps") { folder.parent().expect("a folder above") } else { folder };
    folder.join(name)
}
