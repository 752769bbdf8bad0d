//! Real processes that never outlive the run, however it ends: a shell waits on a pipe that only the run holds open. And ports for them.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

/// Starts its arguments, says the pid, and ends with the process or with the run, whichever is first. `$0` is the log.
/// `3<&0`: background commands of a shell get an empty input, so the pipe is handed down under another number.
const GUARD: &str = r#"exec 3<&0
    "$@" >>"$0" 2>&1 </dev/null &
    server=$!
    echo "$server"
    exec >/dev/null
    { cat >/dev/null; kill -9 "$server"; } <&3 3<&- &
    exec 3<&-
    wait "$server"
    kill $! 2>/dev/null"#;

/// How long a server may take on a busy machine until it answers.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many free ports are tried until a server comes up on one.
pub const TRIES: usize = 5;
/// Ports for servers, and how many: below those that systems give to outgoing connections, which would take them in passing.
const PORTS: (u16, u16) = (20_000, 10_000);

/// A user to run as, when the run is root's and the program refuses that.
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

    /// Waits until it answers. `None`: it has ended instead, perhaps because somebody took its port. `answers` is told its pid, because
    /// whoever took the port may answer too.
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

    /// The same beside the other tasks of the run.
    pub async fn up(self, answers: impl Fn(u32) -> bool + Send + 'static) -> Option<Self> {
        let waiting = tokio::task::spawn_blocking(move || self.once_up(answers));
        waiting.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal. `false`: there is nobody any more to take it, which is well where it was to end the process.
    pub fn signal(&self, name: &str) -> bool {
        // The shell's own `kill`: the program of that name is missing on a bare machine.
        shell(&format!("kill -{name} {}", self.pid))
    }

    /// Signals the process and those that it has started.
    pub fn signal_with_children(&self, name: &str) {
        let pid = self.pid;
        // It stands still meanwhile: so it starts no more of them, and they are still known as its own.
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

    /// Waits for the end of the process, and so does the thread.
    pub fn wait(mut self) {
        // Waiting closes the guard's input, and with it the process would be killed.
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

/// Runs a script; true if it ends well. `kill` is the shell's own: a bare Debian has no program of that name.
pub fn shell(script: &str) -> bool {
    Command::new("sh").args(["-c", script]).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// A port on which nobody listens, to be bound soon; no two are the same. Only the server's own bind decides: whoever starts one tries
/// others when it ends at once.
pub fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(fastrand::u16(..PORTS.1)));
    let next = || PORTS.0 + NEXT.fetch_add(1, Ordering::Relaxed) % PORTS.1;
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(next).take(1_000).find(free).expect("a free port")
}
