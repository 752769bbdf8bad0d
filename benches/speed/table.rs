//! The table of a run.

use crate::{
    figure::Figure,
    numbers::{Spread, grouped},
    pin::machine,
    trace::Trace,
};

/// One server under one load, against another one.
pub struct Row {
    pub name: &'static str,
    pub rate: Spread,
    /// The server's processor time for an answer, in microseconds.
    pub processor: Spread,
    pub p50: Spread,
    pub p99: Spread,
    /// What the ratios are to.
    pub base: &'static str,
    pub processors: Spread,
    pub rates: Spread,
    pub p50s: Spread,
    pub p99s: Spread,
}

impl Row {
    fn markdown(&self) -> String {
        let own = [&self.rate, &self.processor, &self.p50, &self.p99].map(Spread::cell).join(" | ");
        let ratios = [&self.rates, &self.processors, &self.p50s, &self.p99s].map(Spread::cell).join(" | ");
        format!("| {} | {own} | {} | {ratios} |\n", self.name, self.base)
    }
}

/// The ratios as bars.
pub fn figures(rows: &[Row]) -> Vec<Figure> {
    let figure = |title, scale, of: fn(&Row) -> Spread| Figure {
        title,
        method: String::new(),
        columns: &[],
        rows: vec![],
        scale,
        bars: rows.iter().map(|row| (format!("{} / {}", row.name, row.base), of(row))).collect(),
    };
    vec![
        figure("Requests a second", "against the other server; more is better", |row| row.rates),
        figure("Processor time for an answer", "against the other server; less is better", |row| row.processors),
    ]
}

pub fn document(rows: &[Row], trace: &Trace) -> String {
    let rows: String = rows.iter().map(Row::markdown).collect();
    format!(
        "# How fast\n\n\
         Written by `make bench`, all in one run, on {}. Read the ratios: times belong to the machine. A cell is the median of the rounds \
         and, in brackets, the lowest and the highest; a ratio is of two loads in the same round.\n\n\
         Each server is a process with one worker on one core, which it has for itself while it is measured; the clients, 16 connections \
         that send one request after the other, have the other core, and share it with Postgres and Redis. Log lines below warnings are \
         off. `processor` is the server's processor time for an answer. All servers of a row answer `GET /products/{{id}}` with the same data; the route with constant bytes also with the same \
         headers.\n\n\
         ![the ratios as bars](speed.svg)\n\n\
         | load | requests/s | processor, µs | median, µs | 99 %, µs | against | requests/s, ratio | processor, ratio | median, ratio | 99 %, ratio |\n\
         |---|---|---|---|---|---|---|---|---|---|\n{rows}\n\
         ## How often L1 answers\n\n\
         The {} lines of all orders of the data set in their order, each as a read of its product; there are {} products, which would \
         take {:.1} MB of L1 ({} bytes each), and L1 has room for 5 % of that. It answered {:.1} % of the reads; a cache that knows how \
         often each was asked for so far, and keeps those asked for most, answers {:.1} %.\n",
        machine(),
        grouped(trace.reads as i64),
        grouped(trace.products as i64),
        trace.bytes as f64 / 1e6,
        trace.bytes / trace.products as u64,
        100.0 * trace.aside,
        100.0 * trace.ideal
    )
}
