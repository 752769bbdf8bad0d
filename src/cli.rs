//! The command line: subcommands, and the settings as flags. Standard output contains only the
//! answer of a subcommand.

use std::{
    io::{self, IsTerminal, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use aside_cache::{CacheMode, Tenant, WarmingResult};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::{
    app::{App, StartError, database, doctor, start_services},
    audit::{self, ChainError, Head, Span, Verified},
    config::{
        Config, ConfigErrors, LogConfig, LogFormat, Settings, TokenSigning, env_example, names_of_variables,
        unknown_names, without_empty_variables,
    },
    http::{
        self,
        identity::{self, Expected},
    },
    seed::{self, Progress, Report, SeedError, Source},
    shutdown, telemetry, warming,
};

/// The time limit of `healthcheck` for each of connecting, sending and reading.
const HEALTHCHECK_LIMIT: Duration = Duration::from_secs(3);

/// Orders and products over HTTP, cached in two tiers and never stale: Redis is never trusted.
#[derive(Parser)]
#[command(name = "aside", version, next_line_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT (the default subcommand)
    Serve,
    /// Run the migrations that the database does not have yet
    Migrate,
    /// Load real products and orders: the sample that comes with the program, or the full set
    Seed {
        /// Folder of the full set of data
        #[arg(long, value_name = "DIR")]
        full: Option<PathBuf>,
    },
    /// Load the most viewed products into Redis or Memcached, for all instances
    Warm,
    /// Print the OpenAPI document
    Openapi,
    /// Print a token for a tenant, signed with JWT_SECRET and valid for an hour, for trying things
    /// out
    Token {
        /// The tenant
        #[arg(long, default_value = "demo")]
        tenant: String,
        /// The subject of the token
        #[arg(long, default_value = "somebody")]
        subject: String,
        /// The scopes of the token, separated by blanks
        #[arg(long, default_value = "orders:read orders:write products:write")]
        scope: String,
    },
    /// Work with the file of AUDIT_LOG
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Check everything on which the promises rest, as the service's role and from its place: exit
    /// status 0 if all is well, or 1
    Doctor {
        /// Print the faults as JSON, in one array
        #[arg(long)]
        json: bool,
    },
    /// Ask the running service whether it is ready: exit status 0 or 1
    Healthcheck,
    /// Print .env.example
    #[command(hide = true)]
    EnvExample,
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Verify that files, oldest first, were not changed, and print the head of each: exit status 0
    /// or 1
    ///
    /// Store the last head in a place that users who may change the files can't write, and pass it
    /// as --head the next time. Only this detects a truncated file or a chain that was written
    /// again.
    Verify {
        /// A head that must be in the files, as it was printed or logged before
        #[arg(long, value_name = "NUMBER:HASH")]
        head: Option<Head>,
        /// The head at the end of the previous file, if these files do not begin with record 1
        #[arg(long, value_name = "NUMBER:HASH")]
        after: Option<Head>,
        /// The files, in the order in which they were written
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

/// The reason why a subcommand failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}\n  See aside --help for every setting.")]
    Settings(#[from] ConfigErrors),
    #[error("{0}")]
    Start(#[from] StartError),
    #[error("nothing was loaded: {0}")]
    Seed(#[from] SeedError),
    #[error("the doctor found {0} faults")]
    Faults(usize),
    #[error("not ready: {0}")]
    NotReady(String),
    #[error("{0}")]
    Audit(#[from] ChainError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Failure {
    /// The exit code: 2 for wrong input, 1 for any other failure.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Settings(_) => 2,
            _ => 1,
        }
    }
}

/// The definition of the command line.
pub fn command() -> clap::Command {
    // Values of the environment may be secrets, so --help shows only their names.
    let command = Cli::command().mut_args(|arg| match arg.get_env() {
        Some(_) => arg.global(true).hide_env_values(true),
        None => arg,
    });
    without_empty_variables(command)
}

/// The entry point of the program. It runs the command line and turns a failure into a message and
/// an exit status.
pub fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("aside: the runtime could not be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(run());
    // All necessary work has ended or reached its limit. A pending DNS lookup may still hang, and
    // the exit does not wait for it.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("aside: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Runs the requested subcommand.
async fn run() -> Result<(), Failure> {
    let matches = command().get_matches();
    let Cli { command, settings } = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match command.unwrap_or(Command::Serve) {
        Command::Openapi => print(http::document().trim_end()),
        Command::EnvExample => print(env_example().trim_end()),
        Command::Healthcheck => healthcheck(settings.public_addr()?),
        Command::Serve => with_telemetry(settings, serve).await,
        Command::Migrate => with_telemetry(settings, async |config| Ok(database::migrate(&config).await?)).await,
        Command::Seed { full } => with_telemetry(settings, async |config| load_seed(config, full).await).await,
        Command::Warm => with_telemetry(settings, warm).await,
        Command::Doctor { json } => with_telemetry(settings, async |config| run_doctor(config, json).await).await,
        Command::Audit { command: AuditCommand::Verify { head, after, files } } => {
            verify_audit(&files, &Span { after, known: head })
        }
        Command::Token { tenant, subject, scope } => token(settings.token_signing()?, &tenant, &subject, &scope),
    }
}

/// Checks the settings, starts logs and traces, does the work, and flushes the traces.
async fn with_telemetry(
    settings: Settings,
    work: impl AsyncFnOnce(Config) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (config, LogConfig { filter, format, collector }) = settings.check()?;
    let json = match format {
        Some(format) => format == LogFormat::Json,
        None => !io::stderr().is_terminal(),
    };
    let telemetry = telemetry::init(&filter, json, collector.as_deref());
    telemetry::log_panics();
    for name in unknown_names(names_of_variables()) {
        tracing::warn!(name, "unknown setting: this variable has no effect");
    }
    tracing::debug!(?config, "settings");
    let ended = work(config).await;
    telemetry.flush();
    ended
}

async fn serve(config: Config) -> Result<(), Failure> {
    let asked = shutdown::on_signal()?;
    let app = tokio::select! {
        app = App::build(config) => app?,
        // No request was accepted yet, so nothing has to be finished.
        () = asked.cancelled() => return Ok(()),
    };
    Ok(app.run_until(asked).await?)
}

async fn load_seed(config: Config, full: Option<PathBuf>) -> Result<(), Failure> {
    database::migrate(&config).await?;
    let db = database::patient_pool(&config).await?;
    let source = full.map_or(Source::Sample, Source::Full);
    let seeded = seed::seed(&db, source, Progress::for_terminal()).await;
    db.close().await;
    let Report { products, orders, lines, duration } = seeded?;
    let seconds = duration.as_secs_f64();
    print(&format!("added {products} products and {orders} orders with {lines} lines in {seconds:.1} s"))
}

/// Fills L2 from a separate process before instances start.
async fn warm(config: Config) -> Result<(), Failure> {
    if config.l2.is_none() {
        let what = "warm fills Redis or Memcached, and neither REDIS_URL nor MEMCACHED_URL is set".to_owned();
        return Err(
            StartError { what, advice: "Set REDIS_URL; L1 is warmed by each instance when it starts.".into() }.into()
        );
    }
    let db = database::serving_pool(&config).await?;
    database::expect_migrated(&db).await?;
    let services = start_services(&config, db.clone(), None)?;
    let WarmingResult { warmed, failed, duration_ms, .. } =
        warming::warm(&services.products, config.cache_warm_top, CacheMode::Default).await;
    services.cache.shutdown().await;
    services.cache.close_pools().await;
    print(&format!("warmed {warmed}, failed {failed}, in {duration_ms} ms"))?;
    match failed {
        0 => Ok(()),
        _ => {
            Err(StartError { what: "not everything could be warmed".into(), advice: "The log says why.".into() }.into())
        }
    }
}

/// Prints what is wrong with the stack. Each fault is one line.
async fn run_doctor(config: Config, json: bool) -> Result<(), Failure> {
    let lines = doctor::diagnose(&config).await;
    if json {
        print(&serde_json::to_string_pretty(&lines).map_err(io::Error::other)?)?;
    } else {
        for doctor::Line { check, breaks, what, advice } in &lines {
            let kind = if *breaks { "breaks" } else { "weakens" };
            print(&format!("{kind} a promise: {check}: {what}. {advice}"))?;
        }
    }
    match lines.len() {
        0 if json => Ok(()),
        0 => print("all is well"),
        faults => Err(Failure::Faults(faults)),
    }
}

fn verify_audit(files: &[PathBuf], span: &Span) -> Result<(), Failure> {
    let mut told = Ok(());
    audit::verify_files(files, span, |path, Verified { records, before, lost, torn, head, .. }| {
        let first = before.number + 1;
        let line = format!(
            "{}: {records} records from {first} on, {lost} lost, {torn} broken off; head {head}",
            path.display()
        );
        if told.is_ok() {
            told = print(&line);
        }
    })?;
    told
}

fn token(signing: TokenSigning, tenant: &str, subject: &str, scope: &str) -> Result<(), Failure> {
    let wrong = |what: &str, advice: &str| StartError { what: what.to_owned(), advice: advice.to_owned() };
    let tenant = Tenant::parse(tenant);
    let tenant = tenant.ok_or_else(|| wrong("this is no tenant's name", "Use 1 to 64 of a-z, 0-9 and '-'."))?;
    let expected = Expected { audience: signing.audience, issuer: signing.issuer };
    let signed = identity::sign(&signing.secret, &expected, (&tenant, subject, scope));
    print(&signed.map_err(|error| wrong(&format!("the token can't be signed: {error}"), "Try another secret."))?)
}

/// Sends a request without an HTTP client, so a container needs no other program for its health
/// check.
fn healthcheck(addr: SocketAddr) -> Result<(), Failure> {
    let not_ready = |error: io::Error| Failure::NotReady(format!("{addr}: {error}"));
    let status = ask_ready(reachable(addr)).map_err(not_ready)?;
    match status.split_whitespace().nth(1) {
        Some("200") => Ok(()),
        _ => Err(Failure::NotReady(format!("{addr} answered {status}"))),
    }
}

/// Returns the status line of `GET /readyz`.
fn ask_ready(addr: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&addr, HEALTHCHECK_LIMIT)?;
    stream.set_read_timeout(Some(HEALTHCHECK_LIMIT))?;
    stream.set_write_timeout(Some(HEALTHCHECK_LIMIT))?;
    stream.write_all(
        format!("GET /readyz HTTP/1.0\r\nHost: {addr}\r\nUser-Agent: aside-healthcheck\r\n\r\n").as_bytes(),
    )?;
    let mut answer = [0; 64];
    let mut length = 0;
    while !answer[..length].contains(&b'\n') && length < answer.len() {
        match stream.read(&mut answer[length..])? {
            0 => break,
            read => length += read,
        }
    }
    let text = String::from_utf8_lossy(&answer[..length]);
    Ok(text.lines().next().unwrap_or_default().trim_end().to_owned())
}

/// Converts a listening address (0.0.0.0) into one to connect to (127.0.0.1).
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

fn print(text: &str) -> Result<(), Failure> {
    Ok(writeln!(io::stdout(), "{text}")?)
}
