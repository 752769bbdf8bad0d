//! Keyset pagination: the requested slice of a list, and the opaque cursors that mark where the
//! next slice begins.
//!
//! A cursor names the last row of a page, so every page costs the same. Rows that are added or
//! removed meanwhile do not cause repeated or skipped rows. A cursor is neither secret nor
//! authenticated: a forged cursor only selects another start.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::violation::{Violation, between};

/// The maximum number of rows of a page.
const MAX_LIMIT: u16 = 100;
/// The number of rows if the client gives no limit.
const DEFAULT_LIMIT: u16 = 20;

/// The lists that are paged. A cursor of one list is rejected by the other, where it would continue
/// at a meaningless place and in the other direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// By id, ascending.
    Products,
    /// By id, descending, so the newest come first.
    Orders,
}

impl ListKind {
    /// The first byte of the list's cursors. It identifies the list and its direction.
    const fn mark(self) -> u8 {
        match self {
            Self::Products => b'P',
            Self::Orders => b'O',
        }
    }
}

/// A slice of a list that is ordered by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// The maximum number of rows: 1 to 100.
    pub limit: u16,
    /// The last id of the previous page; `None` for the first page.
    pub after: Option<i64>,
}

impl PageRequest {
    /// Parses the `limit` and `cursor` of a client, or returns all their violations.
    pub fn parse(list: ListKind, limit: Option<i64>, cursor: Option<&str>) -> Result<Self, Vec<Violation>> {
        let mut violations = Vec::new();
        let limit = limit.unwrap_or(DEFAULT_LIMIT.into());
        between("limit", limit, 1, MAX_LIMIT.into(), &mut violations);
        let after = cursor.map(|cursor| Cursor::decode(list, cursor));
        if after == Some(None) {
            violations.push(Violation::new("cursor", "must be a next_cursor of this list, unchanged"));
        }
        if violations.is_empty() {
            Ok(Self { limit: u16::try_from(limit).unwrap_or(MAX_LIMIT), after: after.flatten() })
        } else {
            Err(violations)
        }
    }

    /// Truncates `rows`, which contain one row more than the limit, to the page. It returns the
    /// cursor of the next page if there is one.
    pub fn cut<T>(&self, list: ListKind, rows: &mut Vec<T>, id: impl Fn(&T) -> i64) -> Option<String> {
        let limit = usize::from(self.limit);
        let more = rows.len() > limit;
        rows.truncate(limit);
        rows.last().filter(|_| more).map(|last| Cursor::encode(list, id(last)))
    }

    /// How many rows to read: one more than the page shows, which tells whether another page
    /// follows.
    pub fn rows_to_read(&self) -> i64 {
        i64::from(self.limit) + 1
    }
}

/// Cursors of twelve characters. Each contains the list, its direction, and the id of a row.
pub struct Cursor;

impl Cursor {
    /// The cursor that continues after the row `id`.
    pub fn encode(list: ListKind, id: i64) -> String {
        let mut bytes = [list.mark(); 9];
        bytes[1..].copy_from_slice(&id.to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The id of the row after which a cursor of this list continues; `None` for an invalid cursor.
    pub fn decode(list: ListKind, cursor: &str) -> Option<i64> {
        // This check bounds the work.
        if cursor.len() != 12 {
            return None;
        }
        let bytes: [u8; 9] = URL_SAFE_NO_PAD.decode(cursor).ok()?.try_into().ok()?;
        let [mark, id @ ..] = bytes;
        let id = i64::from_be_bytes(id);
        (mark == list.mark() && id > 0).then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_back_to_its_row() {
        for id in [1, 1_082_185, i64::MAX] {
            assert_eq!(Cursor::decode(ListKind::Products, &Cursor::encode(ListKind::Products, id)), Some(id));
        }
    }

    #[test]
    fn a_cursor_of_another_list_is_refused() {
        assert_eq!(Cursor::decode(ListKind::Products, &Cursor::encode(ListKind::Orders, 7)), None);
        assert_eq!(Cursor::decode(ListKind::Orders, &Cursor::encode(ListKind::Products, 7)), None);
    }

    #[test]
    fn damaged_cursors_are_refused() {
        let good = Cursor::encode(ListKind::Products, 7);
        let ids_below_one = [0, -1].map(|id| Cursor::encode(ListKind::Products, id));
        let longer = format!("{good}A");
        let long = "A".repeat(100_000);
        let others = ["", "7", "ääääää", "\0", "AAAAAAAAAAA=", &good[..11], &longer, &long];
        for cursor in others.into_iter().chain(ids_below_one.iter().map(String::as_str)) {
            assert_eq!(Cursor::decode(ListKind::Products, cursor), None, "{} bytes: {cursor:.20}", cursor.len());
        }
    }

    #[test]
    fn every_wrong_parameter_is_named() {
        let wrong = PageRequest::parse(ListKind::Orders, Some(0), Some("x")).unwrap_err();
        assert_eq!(wrong.iter().map(|v| v.field.as_str()).collect::<Vec<_>>(), ["limit", "cursor"]);
        assert!(PageRequest::parse(ListKind::Orders, Some(101), None).is_err());
        assert!(PageRequest::parse(ListKind::Orders, Some(100), None).is_ok());
    }

    #[test]
    fn the_row_beyond_the_page_becomes_a_cursor() {
        let page = PageRequest { limit: 2, after: None };
        let mut rows = vec![5, 4, 3];
        let next = page.cut(ListKind::Orders, &mut rows, |id| *id);
        assert_eq!((rows, next), (vec![5, 4], Some(Cursor::encode(ListKind::Orders, 4))));
        assert_eq!(page.cut(ListKind::Orders, &mut vec![2, 1], |id| *id), None);
    }
}
