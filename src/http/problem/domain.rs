//! Maps errors of the domain and refusals of `aside_axum` to problems. This is the only place that
//! knows both sides.
//!
//! Only the class of a database error is logged, never its message, because messages can quote
//! values.

use aside_axum::Refusal;
use aside_cache::VersionConflict;

use crate::domain::{DomainError, Violation};

use super::{Kind, Problem};

impl From<DomainError> for Problem {
    fn from(error: DomainError) -> Self {
        match error {
            DomainError::NotFound { kind, id } => {
                Self::new(&Kind::NOT_FOUND, format!("{} {id} does not exist.", capitalized(kind)))
            }
            DomainError::VersionConflict(VersionConflict { current }) => Self::new(
                &Kind::VERSION_CONFLICT,
                format!("The resource is at version {current}. Read it again and retry."),
            ),
            DomainError::Invalid(broken) => invalid(broken),
            DomainError::Rule { field, rule } => Self::validation([(field, rule)]),
            DomainError::UnknownProduct { item, product_id } => {
                let (member, rule) =
                    (format!("items/{item}/product_id"), format!("names product {product_id}, which does not exist"));
                Self::validation([(format!("/{member}"), rule)])
            }
            DomainError::OutOfStock { item, product_id, available } => {
                Self::new(&Kind::OUT_OF_STOCK, format!("Product {product_id}: only {available} in stock."))
                    .with_pointer(format!("/items/{item}/quantity"), format!("must be at most {available}"))
            }
            DomainError::IllegalTransition { from, to } => {
                Self::new(&Kind::INVALID_TRANSITION, format!("The order is {from} and cannot become {to}."))
                    .with_pointer("/status".into(), format!("cannot follow {from}"))
            }
            DomainError::IdempotencyMismatch => {
                Self::new(&Kind::IDEMPOTENCY_MISMATCH, "This Idempotency-Key was used for a request with another body.")
            }
            DomainError::IdempotencyInProgress => Self::new(
                &Kind::IDEMPOTENCY_IN_PROGRESS,
                "The first request with this Idempotency-Key has not ended; retry after 1 s.",
            ),
            DomainError::Busy => {
                Self::new(&Kind::OVERLOADED, "Too many requests at once; retry after 1 s.").with_cause("database busy")
            }
            DomainError::NotCached => Refusal::NotCached.into(),
            DomainError::OutOfRegion => {
                Self::new(&Kind::OTHER_REGION, "The data of this tenant may only be read in its home region.")
            }
            DomainError::Unavailable(error) => {
                Self::new(&Kind::UNAVAILABLE, "The database does not answer; retry after 5 s.")
                    .with_cause(cause(&error))
            }
            DomainError::Database(error) => Self::internal(cause(&error)),
            DomainError::Panicked => Self::internal("a load or a write panicked"),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::MalformedHeader { header, rule } => Self::header(header, rule),
            Refusal::Absent => Self::new(&Kind::NOT_FOUND, "The resource does not exist."),
            Refusal::PreconditionFailed => Self::new(
                &Kind::VERSION_CONFLICT,
                "`If-Match` does not name the current version. Read the resource again and retry.",
            ),
            Refusal::TokenNotReached => Self::new(
                &Kind::OVERLOADED,
                "The answer could not be proven to be as new as the `Consistency-Token`; retry after 1 s.",
            )
            .with_cause("tokens wait for a late poll of the ledger"),
            Refusal::NotCached => Self::new(&Kind::NOT_CACHED, "No tier has an answer that may be served."),
        }
    }
}

/// Builds the problem of broken rules. Names that begin with a slash point into a body that was
/// understood (422). Others are query parameters (400).
fn invalid(broken: Vec<Violation>) -> Problem {
    if broken.iter().all(|broken| broken.field.starts_with('/')) {
        return Problem::validation(broken.into_iter().map(|broken| (broken.field, broken.rule)));
    }
    Problem::parameters(broken.into_iter().map(|broken| (broken.field, broken.rule)))
}

/// The text about a database error that an operator may see. The reason why there is no connection
/// is logged separately, once.
fn cause(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Io(error) => format!("database connection: {}", error.kind()),
        sqlx::Error::Protocol(_) => "database connection: broken off".into(),
        sqlx::Error::Tls(_) => "database connection: TLS".into(),
        sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => "database pool closed".into(),
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            match error.constraint() {
                Some(constraint) => format!("database error {code} ({constraint})"),
                None => format!("database error {code}"),
            }
        }
        _ => "database: unexpected answer".into(),
    }
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_is_down_is_unavailable() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let cases = [
            (sqlx::Error::Io(refused), "unavailable"),
            (sqlx::Error::PoolClosed, "unavailable"),
            (sqlx::Error::PoolTimedOut, "overloaded"),
            (sqlx::Error::RowNotFound, "internal"),
        ];
        for (error, name) in cases {
            let text = error.to_string();
            assert_eq!(Problem::from(DomainError::from(error)).name(), name, "{text}");
        }
    }

    #[test]
    fn broken_rules_of_the_query_are_a_400_and_of_the_body_a_422() {
        for (field, name) in [("limit", "invalid-parameter"), ("/items/0/quantity", "validation")] {
            let problem = Problem::from(DomainError::Invalid(vec![Violation::new(field, "must be less")]));
            assert_eq!(problem.name(), name, "{field}");
        }
    }
}
