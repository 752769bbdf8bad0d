//! The table of a run.

use std::time::Duration;

use crate::{
    figure::Figure,
    forms::Measured,
    numbers::{Spread, grouped, short},
    pin::machine,
    scale::Scale,
    trace::Trace,
};

/// All results of a run.
pub struct Report {
    pub rows: Vec<Row>,
    pub trace: Trace,
    pub scale: Vec<Scale>,
    pub forms: Vec<Measured>,
    /// Milliseconds from the start of an instance until it is ready.
    pub start: Spread,
    pub seeded: Duration,
}

/// One server under one load, compared with another one.
pub struct Row {
    pub name: &'static str,
    pub rate: Spread,
    /// The server's processor time for an answer, in microseconds.
    pub processor: Spread,
    pub p50: Spread,
    pub p99: Spread,
    /// The server to which the ratios are.
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

impl Scale {
    fn markdown(&self) -> String {
        let Self { entries, nanos, ratios, overhead } = self;
        let overhead = overhead.map(short).unwrap_or_default();
        format!("| {} | {} | {} | {overhead} |\n", grouped(*entries as i64), nanos.cell(), ratios.cell())
    }
}

impl Measured {
    /// `plain` is the same page as plain JSON.
    fn markdown(&self, plain: &Self) -> String {
        let (more, saved) = (self.open.median - plain.open.median, plain.bytes as f64 - self.bytes as f64);
        let pays = match () {
            () if std::ptr::eq(self, plain) => String::new(),
            () if saved <= 0.0 => "never".to_owned(),
            () if more <= 0.0 => "always".to_owned(),
            () => format!("below {} Mbit/s", short(8.0 * saved / more)),
        };
        let Self { products, form, bytes, seal, open } = self;
        let bytes = grouped(*bytes as i64);
        format!("| {products} | {form} | {bytes} | {} | {} | {pays} |\n", seal.cell(), open.cell())
    }
}

pub fn document(Report { rows, trace, scale, forms, start, seeded }: &Report) -> String {
    let rows: String = rows.iter().map(Row::markdown).collect();
    let scale: String = scale.iter().map(Scale::markdown).collect();
    let plain = |one: &Measured| forms.iter().find(|plain| plain.products == one.products).expect("plain JSON");
    let forms: String = forms.iter().map(|one| one.markdown(plain(one))).collect();
    format!(
        "# How fast\n\n\
         Written by `make bench`, all in one run, on {}. Read the ratios, because times depend on the machine. A cell is the median of the rounds \
         and, in brackets, the lowest and the highest; a ratio is of two loads in the same round.\n\n\
         Each server is a process with one worker on one core, which it has for itself while it is measured. The clients are 16 connections \
         that send one request after the other. They have the other core, and share it with Postgres and Redis. Log lines below warnings are \
         off. `processor` is the server's processor time for an answer. All servers of a row answer `GET /products/{{id}}` with the same data. \
         The route with constant bytes also sends the same headers.\n\n\
         ![the ratios as bars](speed.svg)\n\n\
         | load | requests/s | processor, µs | median, µs | 99 %, µs | against | requests/s, ratio | processor, ratio | median, ratio | 99 %, ratio |\n\
         |---|---|---|---|---|---|---|---|---|---|\n{rows}\n\
         ## How often L1 answers\n\n\
         The trace is the {} lines of all orders of the data set in their order, each as a read of its product. There are {} products, which \
         would take {:.1} MB of L1 ({} bytes each), and L1 has room for 5 % of that. It answered {:.1} % of the reads. An ideal cache, which \
         keeps the products that were requested most so far, answers {:.1} %.\n\n\
         ## From a thousand to a million entries\n\n\
         Hits of `Cache::get_or_load` of random products, by one thread of this process, with all of these caches in memory. The last \
         column is the growth of the process while the largest was filled, less the texts of the keys, the products with their texts, and the \
         bodies of their responses. It covers the map's nodes, the entry's own fields, its tag versions, and waste of the allocator.\n\n\
         | entries | ns for a hit | ratio | bytes for each beyond key and value |\n|---|---|---|---|\n{scale}\n\
         ## Forms in L2\n\n\
         Pages of this many real products, written (`seal`) and read (`open`) like an entry of L2. `pays` names the links on which the saved \
         bytes take longer than the extra reading, compared with plain JSON.\n\n\
         | products | form | bytes | seal, µs | open, µs | pays for a read on links |\n|---|---|---|---|---|---|\n{forms}\n\
         ## Starts\n\n\
         From the start of the process until `/readyz` answers 200, without warming, with Redis: {} ms. Bringing the data set into an \
         empty database took {:.1} s.\n",
        machine(),
        grouped(trace.reads as i64),
        grouped(trace.products as i64),
        trace.bytes as f64 / 1e6,
        trace.bytes / trace.products as u64,
        100.0 * trace.aside,
        100.0 * trace.ideal,
        start.cell(),
        seeded.as_secs_f64(),
    )
}
