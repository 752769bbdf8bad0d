//! Loads real products and orders, as data to show and to measure: grocery purchases of 2,469
//! households (the "Complete Journey" data of 84.51°, CC0).
//!
//! A load runs in one transaction, so it adds all rows or none. It may be repeated and may run
//! twice at once. Existing rows stay unchanged, even if they differ from the data set. Running
//! instances see the new rows like any other write. Rows of an earlier load are not updated.

mod merge;
mod naming;
mod progress;
mod rows;
mod source;

#[cfg(test)]
mod tests;

use std::{
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

use sqlx::PgPool;

pub use progress::Progress;
pub use source::Source;

use progress::Step;

/// The result of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Rows that did not exist before.
    pub products: u64,
    pub orders: u64,
    pub lines: u64,
    pub duration: Duration,
}

/// The reason why nothing was loaded.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    #[error("{path} can't be opened: {error}", path = path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("{file} has a row that can't be read: {error}")]
    Row { file: &'static str, error: csv::Error },
    #[error("the thread that reads the file panicked")]
    Reader,
    #[error("the database refused: {0} (has `aside migrate` been run?)")]
    Database(#[from] sqlx::Error),
}

/// Loads `source` into a migrated database.
pub async fn seed(db: &PgPool, source: Source, progress: Progress) -> Result<Report, SeedError> {
    let began = Instant::now();
    // The triggers invalidate the tags of all loaded rows, so running instances drop cached absences.
    let mut transaction = db.begin_with("begin isolation level read committed").await?;
    // A second load waits here. Afterwards it finds that all rows exist.
    sqlx::query("select pg_advisory_xact_lock(hashtext('aside seed'))").execute(&mut *transaction).await?;
    source::copy::<rows::Products>(&mut transaction, &source, progress).await?;
    source::copy::<rows::Orders>(&mut transaction, &source, progress).await?;
    source::copy::<rows::Lines>(&mut transaction, &source, progress).await?;

    let step = Step::begin(progress, "merge", 0);
    let (products, orders, lines) = merge::merge(&mut transaction).await?;
    transaction.commit().await?;
    merge::analyze(db).await?;
    step.finish(&format!("{products} products, {orders} orders, {lines} lines added"));
    Ok(Report { products, orders, lines, duration: began.elapsed() })
}
