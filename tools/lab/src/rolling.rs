//! Three instances behind a balancer are restarted one after the other, twice, under load. Measures
//! the answers meanwhile.

use std::{
    env, fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use aside_testkit::{
    process::{Process, free_port},
    within,
};

use crate::{
    chart::{Chart, Form, Series, svg},
    environment::{Environment, Instance, Shared},
    load::{Asked, End, by_the_clock, count, milliseconds},
    numbers::quantile,
    recorder::{columns, row},
    report::{Picture, Section},
};

/// Requests a second.
const RATE: f64 = 400.0;
const SECONDS: u64 = 40;
const ROUNDS: usize = 2;
/// The settings of `make fleet`. The drain is long enough for several health checks of the
/// balancer.
const SETTINGS: [(&str, &str); 2] = [("SHUTDOWN_DRAIN_MS", "1000"), ("CACHE_WARM_TOP", "200")];
const STEP: f64 = 0.5;

/// A restart, in seconds of the run: the signal, the end, and the moment when it was ready again.
struct Restart {
    instance: usize,
    told: f64,
    ended: f64,
    ready: f64,
}

pub async fn measure(environment: &Environment) -> Section {
    let start = |ports| environment.instance_on(ports, "rolling", Shared::Redis, &SETTINGS);
    let mut fleet = Vec::new();
    for _ in 0..3 {
        fleet.push(start((free_port(), free_port())).await);
    }
    let (balancer, base) = balancer(environment, &fleet).await;
    let begun = Instant::now();
    let (workload, http, to) = (environment.workload.clone(), environment.http.clone(), base.clone());
    let load = tokio::spawn(async move {
        by_the_clock(begun, RATE, Duration::from_secs(SECONDS), || workload.request(&http, &to)).await
    });
    let now = || begun.elapsed().as_secs_f64();
    let mut restarts = Vec::new();
    tokio::time::sleep(Duration::from_secs(4)).await;
    for _ in 0..ROUNDS {
        for at in 0..fleet.len() {
            let instance = fleet.remove(at);
            let (told, ports) = (now(), (instance.port, instance.management));
            instance.stop().await;
            let ended = now();
            fleet.insert(at, start(ports).await);
            restarts.push(Restart { instance: at + 1, told, ended, ready: now() });
            eprintln!("  instance {} was replaced in {:.1} s", at + 1, now() - told);
            // The balancer needs this time to notice that the instance is back.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    let asked = load.await.expect("the load ends");
    balancer.kill_9().await;
    for instance in fleet {
        instance.stop().await;
    }
    section(&asked, &restarts)
}

/// The balancer of `make fleet`. Returns when it forwards requests.
async fn balancer(environment: &Environment, fleet: &[Instance]) -> (Process, String) {
    let program = env::var_os("CADDY_BIN").filter(|path| !path.is_empty()).map(PathBuf::from);
    let program = program.expect("CADDY_BIN: run `make rolling`, which brings one");
    let config = crate::repository().join("ops/fleet/Caddyfile");
    let port = free_port();
    let upstreams: Vec<String> = fleet.iter().map(|instance| format!("127.0.0.1:{}", instance.port)).collect();
    let home = environment.folder.join("caddy");
    fs::create_dir_all(&home).expect("a folder for the balancer");
    let envs = [
        ("BALANCER_HOST", "127.0.0.1".to_owned()),
        ("BALANCER_PORT", port.to_string()),
        ("BALANCER_UPSTREAMS", upstreams.join(" ")),
        ("HOME", home.display().to_string()),
    ];
    let args = ["run", "--adapter", "caddyfile", "--config", &config.display().to_string()].map(str::to_owned);
    let process = Process::start(&program, &args, &envs, &environment.folder.join("caddy.log"), None);
    let base = format!("http://127.0.0.1:{port}");
    let ready = || async {
        let answer = environment.http.get(format!("{base}/readyz")).send().await.ok()?;
        answer.status().is_success().then_some(())
    };
    within(Duration::from_secs(20), "the balancer passes requests on", ready).await;
    (process, base)
}

fn section(asked: &[Asked], restarts: &[Restart]) -> Section {
    let away = |one: &&Asked| {
        let at = one.at.as_secs_f64();
        restarts.iter().any(|restart| (restart.told..restart.ready).contains(&at))
    };
    let (during, between): (Vec<Asked>, Vec<Asked>) = asked.iter().partition(away);
    let mut took: Vec<f64> = restarts.iter().map(|restart| restart.ready - restart.told).collect();
    let mut ending: Vec<f64> = restarts.iter().map(|restart| restart.ended - restart.told).collect();
    let mut section = Section {
        title: "A rolling restart",
        method: format!(
            "Three instances behind the balancer of `make fleet` (Caddy, `ops/fleet/Caddyfile`), {RATE} requests a second by the clock (94 % \
             reads by the real popularity, writes of prices and orders) for {SECONDS} s. Each instance is told to end (SIGTERM), drains for \
             1 s, ends and is started again, one after the other, {ROUNDS} times. Times in ms, from when a request was due to the end of \
             its answer. An instance was replaced in {:.1} s (median), of which its end took {:.1} s.",
            quantile(&mut took, 0.5),
            quantile(&mut ending, 0.5)
        ),
        columns: columns(),
        rows: vec![row("all three there", &between), row("one of them away", &during)],
        picture: Some(Picture { file: "rolling.svg", svg: picture(asked, restarts) }),
        checks: Vec::new(),
    };
    let all = |end: End| count(asked, end);
    section
        .check(format!("{} restarts under load", restarts.len()), restarts.len() == 3 * ROUNDS && !during.is_empty());
    section.check("every request is answered, and none with an error", all(End::Failed) == 0);
    section.check("nothing is refused or stale", all(End::Refused) + all(End::Stale) == 0);
    section
}

fn picture(asked: &[Asked], restarts: &[Restart]) -> String {
    let steps = (SECONDS as f64 / STEP) as usize;
    let mut by_step: Vec<Vec<Asked>> = vec![Vec::new(); steps];
    for one in asked {
        by_step[((one.at.as_secs_f64() / STEP) as usize).min(steps - 1)].push(*one);
    }
    let line = |name: &str, colour, part: f64| Series {
        name: name.to_owned(),
        colour,
        points: (by_step.iter().enumerate())
            .filter(|(_, step)| !step.is_empty())
            .map(|(at, step)| ((at as f64 + 0.5) * STEP, quantile(&mut milliseconds(step), part)))
            .collect(),
    };
    let charts = [Chart {
        title: "Time to the end of the answer, ms",
        form: Form::Powers,
        series: vec![line("median", "#2e7d4f", 0.5), line("99 %", "#3b6ea5", 0.99), line("longest", "#b3261e", 1.0)],
    }];
    let names = ["1", "2", "3"];
    let bands: Vec<_> =
        restarts.iter().map(|restart| (restart.told, restart.ready, names[restart.instance - 1])).collect();
    svg(&charts, &bands, SECONDS as f64)
}
