//! The table of a run.

use crate::{numbers::Spread, pin::machine};

/// One server under one load, against another one.
pub struct Row {
    pub name: &'static str,
    pub rate: Spread,
    pub p50: Spread,
    pub p99: Spread,
    /// What the ratios are to.
    pub base: &'static str,
    pub rates: Spread,
    pub p50s: Spread,
    pub p99s: Spread,
}

impl Row {
    fn markdown(&self) -> String {
        let cells = [&self.rate, &self.p50, &self.p99, &self.rates, &self.p50s, &self.p99s].map(Spread::cell);
        format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} |\n",
            self.name, cells[0], cells[1], cells[2], self.base, cells[3], cells[4], cells[5]
        )
    }
}

pub fn document(rows: &[Row]) -> String {
    let rows: String = rows.iter().map(Row::markdown).collect();
    format!(
        "# How fast\n\n\
         Written by `make bench`, all in one run, on {}. Read the ratios: times belong to the machine. A cell is the median of the rounds \
         and, in brackets, the lowest and the highest; a ratio is of two loads in the same round.\n\n\
         Each server is a process with one worker on one core, which it has for itself while it is measured; the clients, 16 connections \
         that send one request after the other, have the other core, and share it with Postgres and Redis. Log lines below warnings are \
         off. All servers of a row answer `GET /products/{{id}}` with the same data; the route with constant bytes also with the same \
         headers.\n\n\
         | load | requests/s | median, µs | 99 %, µs | against | requests/s, ratio | median, ratio | 99 %, ratio |\n\
         |---|---|---|---|---|---|---|---|\n{rows}",
        machine()
    )
}
