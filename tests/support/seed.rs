//! The sample data, as `aside seed` loads it.

use aside::seed::{Progress, Report, Source, seed};
use sqlx::PgPool;

/// Loads the sample into the test's database.
pub async fn sample(pool: &PgPool) -> Report {
    seed(pool, Source::Sample, Progress::Silent).await.expect("the sample is loaded")
}
