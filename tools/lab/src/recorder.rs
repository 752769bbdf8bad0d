//! Records a run: the metrics of the instances, and the picture of the whole run.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::{
    chart::{Band, Chart, Form, Series, svg},
    environment::Instance,
    load::{Asked, End, count, milliseconds},
    numbers::{grouped, quantile, short},
};

/// The width of the steps in the picture, in seconds.
const STEP: f64 = 0.5;

/// The metrics of all instances together at one moment.
#[derive(Clone, Copy)]
pub struct Gauge {
    pub at: f64,
    pub loads: f64,
    pub connections: f64,
    /// Answers that were compared with the database, and those of them that were staler than
    /// promised.
    pub checked: (f64, f64),
}

/// Waits for a second of the run.
pub async fn until(begun: Instant, second: f64) {
    tokio::time::sleep_until((begun + Duration::from_secs_f64(second)).into()).await;
}

/// Reads the metrics of the instances repeatedly.
pub async fn watch(fleet: Arc<[Instance; 2]>, begun: Instant, gauges: Arc<Mutex<Vec<Gauge>>>) {
    for step in 0.. {
        until(begun, f64::from(step) * STEP).await;
        let (first, second) = tokio::join!(fleet[0].metrics(), fleet[1].metrics());
        let Some((first, second)) = first.zip(second) else { continue };
        let sum = |name: &str| first.sum(name, &[]) + second.sum(name, &[]);
        let gauge = Gauge {
            at: begun.elapsed().as_secs_f64(),
            loads: sum("cache_loads_total"),
            connections: sum("database_connections_in_use"),
            checked: (sum("cache_served_checked_total"), sum("cache_stale_served_total")),
        };
        gauges.lock().expect("nobody panicked").push(gauge);
    }
}

/// The columns of a table of requests by their end.
pub fn columns() -> Vec<String> {
    let ends = End::ALL.map(End::name);
    ["", "requests"].into_iter().chain(ends).chain(["median", "99 %", "longest"]).map(str::to_owned).collect()
}

/// The row of such a table for these requests.
pub fn row(name: &str, asked: &[Asked]) -> Vec<String> {
    let mut row = vec![name.to_owned(), grouped(asked.len() as i64)];
    row.extend(End::ALL.map(|end| grouped(count(asked, end) as i64)));
    let mut took = milliseconds(asked);
    row.extend([0.5, 0.99, 1.0].map(|part| short(quantile(&mut took, part))));
    row
}

/// Draws the ends of the requests over time, with the faults in the background.
pub fn picture(asked: &[Asked], gauges: &[Gauge], faults: &[Band], seconds: u64) -> String {
    let steps = (seconds as f64 / STEP) as usize;
    let mut by_step: Vec<Vec<Asked>> = vec![Vec::new(); steps];
    for one in asked {
        let at = (one.at.as_secs_f64() / STEP) as usize;
        by_step[at.min(steps - 1)].push(*one);
    }
    let moment = |step: usize| (step as f64 + 0.5) * STEP;
    let colours = ["#2e7d4f", "#7fb98f", "#3b6ea5", "#e0a526", "#8e6bb0", "#999999", "#b3261e"];
    let layer = |(end, colour): (End, &'static str)| Series {
        name: end.name().to_owned(),
        colour,
        points: by_step.iter().enumerate().map(|(at, step)| (moment(at), count(step, end) as f64 / STEP)).collect(),
    };
    let line = |name: &str, colour, part: f64| Series {
        name: name.to_owned(),
        colour,
        points: by_step
            .iter()
            .enumerate()
            .filter(|(_, step)| !step.is_empty())
            .map(|(at, step)| (moment(at), quantile(&mut milliseconds(step), part)))
            .collect(),
    };
    let rate = |pair: &[Gauge]| (pair[1].at, (pair[1].loads - pair[0].loads).max(0.0) / (pair[1].at - pair[0].at));
    let charts = [
        Chart {
            title: "Requests a second by their end",
            form: Form::Stacked,
            series: End::ALL.into_iter().zip(colours).map(layer).collect(),
        },
        Chart {
            title: "Time to the end of the answer, ms",
            form: Form::Powers,
            series: vec![
                line("median", "#2e7d4f", 0.5),
                line("99 %", "#3b6ea5", 0.99),
                line("longest", "#b3261e", 1.0),
            ],
        },
        Chart {
            title: "Loads from Postgres a second, and its connections in use",
            form: Form::Lines,
            series: vec![
                Series { name: "loads".into(), colour: "#3b6ea5", points: gauges.windows(2).map(rate).collect() },
                Series {
                    name: "connections".into(),
                    colour: "#b3261e",
                    points: gauges.iter().map(|gauge| (gauge.at, gauge.connections)).collect(),
                },
            ],
        },
    ];
    svg(&charts, faults, seconds as f64)
}
