//! Decodes moments as Postgres sends them. [`DbTime`] is read from a `timestamptz`. A value that is
//! not a moment is an error and never a panic.

use sqlx::{
    Decode, Postgres, Type,
    error::BoxDynError,
    postgres::{PgTypeInfo, PgValueFormat, PgValueRef, types::Oid},
};

use crate::entry::DbTime;

/// Microseconds from 1970 to 2000, the year in which Postgres begins to count.
const POSTGRES_BEGINS: i64 = 946_684_800_000_000;

/// The type of moments in the catalog of every Postgres.
const TIMESTAMPTZ: Oid = Oid(1184);

/// Reads a moment from a `timestamptz`, such as `now()`.
impl Type<Postgres> for DbTime {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMPTZ)
    }
}

impl Decode<'_, Postgres> for DbTime {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        if value.format() == PgValueFormat::Text {
            return Err("a moment is read from a prepared statement".into());
        }
        let since_2000: i64 = Decode::<Postgres>::decode(value)?;
        // The two ends of the range are infinity.
        since_2000
            .checked_add(POSTGRES_BEGINS)
            .filter(|_| since_2000 != i64::MIN)
            .map(Self)
            .ok_or_else(|| "not a moment".into())
    }
}

#[cfg(test)]
mod tests {
    use sqlx::PgPool;

    use super::*;

    #[sqlx::test]
    async fn a_moment_counts_from_1970_and_infinity_is_none(db: PgPool) {
        let moment = |sql: &'static str| sqlx::query_scalar::<_, DbTime>(sql).fetch_one(&db);
        assert_eq!(moment("select timestamptz '1970-01-01 00:00:01+00'").await.unwrap(), DbTime(1_000_000));
        for none in ["select timestamptz 'infinity'", "select timestamptz '-infinity'", "select null::timestamptz"] {
            assert!(matches!(moment(none).await, Err(sqlx::Error::ColumnDecode { .. })), "{none}");
        }
    }
}
