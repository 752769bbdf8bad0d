//! Real processes that never outlive the run, however it ends: a shell waits on a pipe that only the run holds open.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
};

/// Starts its arguments, says the pid, and ends with the process or with the run, whichever is first. `$0` is the log.
const GUARD: &str = r#"exec 3<&0
    "$@" >>"$0" 2>&1 </dev/null &
    server=$!
    echo "$server"
    exec >/dev/null
    { cat >/dev/null; kill -9 "$server"; } <&3 3<&- &
    exec 3<&-
    wait "$server"
    kill $! 2>/dev/null"#;

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

    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub fn signal(&self, name: &str) {
        // The shell's own `kill`: the program of that name is missing on a bare machine. A process that is gone already is as
        // dead as it should be.
        shell(&format!("kill -{name} {}", self.pid));
    }

    /// Signals the process first, and then those that it has started.
    pub fn signal_with_children(&self, name: &str) {
        let pid = self.pid;
        shell(&format!(
            "kill -{name} {pid}
             for stat in /proc/[0-9]*/stat; do
                 read -r child _ _ parent _ <\"$stat\" && [ \"$parent\" = {pid} ] && kill -{name} \"$child\"
             done"
        ));
    }

    pub fn has_ended(&mut self) -> bool {
        self.guard.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Waits for the end of the process.
    pub async fn ended(mut self) {
        // Waiting closes the guard's input, and with it the process would be killed.
        let input = self.guard.stdin.take();
        let _ = tokio::task::spawn_blocking(move || self.guard.wait()).await;
        drop(input);
    }

    pub async fn kill_9(self) {
        self.signal("KILL");
        self.ended().await;
    }
}

fn shell(script: &str) {
    let _ = Command::new("sh").args(["-c", script]).stderr(Stdio::null()).status();
}

pub fn free_port() -> u16 {
    let probe = TcpListener::bind("127.0.0.1:0").expect("a free port");
    probe.local_addr().expect("its address").port()
}
