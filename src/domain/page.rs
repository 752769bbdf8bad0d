//! Keyset pagination: which slice of a list is asked for, and the opaque cursors that say where the next one begins.
//!
//! A cursor names the last row of a page, so a page costs the same wherever it lies, and rows that come or go meanwhile
//! neither repeat nor hide others. It is no secret and no proof: a forged cursor only picks another place to begin.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::violation::{Violation, between};

/// The most rows of one page.
const MAX_LIMIT: u16 = 100;
/// Rows of a page when the client doesn't say.
const DEFAULT_LIMIT: u16 = 20;

/// The lists that are paged. A cursor of one is refused by the other: it would go on at a meaningless place, and backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// By id, ascending.
    Products,
    /// By id, descending: newest first.
    Orders,
}

impl ListKind {
    /// The first byte of the list's cursors: stands for the list and its direction.
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
    /// How many rows at most: 1 to 100.
    pub limit: u16,
    /// The last id of the page before; `None` for the first page.
    pub after: Option<i64>,
}

impl PageRequest {
    /// The slice that a client's `limit` and `cursor` ask for, or everything that is wrong with them.
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

    /// Cuts `rows`, read with one row more than the limit, to the page; returns the cursor of the next one if there is one.
    pub fn cut<T>(&self, list: ListKind, rows: &mut Vec<T>, id: impl Fn(&T) -> i64) -> Option<String> {
        let limit = usize::from(self.limit);
        let more = rows.len() > limit;
        rows.truncate(limit);
        rows.last().filter(|_| more).map(|last| Cursor::encode(list, id(last)))
    }

    /// How many rows to read: one more than the page shows, to know whether another page follows.
    pub fn rows_to_read(&self) -> i64 {
        i64::from(self.limit) + 1
    }
}

/// Cursors: twelve characters that stand for a list, its direction, and the id of a row.
pub struct Cursor;

impl Cursor {
    /// The cursor that goes on after the row `id`.
    pub fn encode(list: ListKind, id: i64) -> String {
        let mut bytes = [list.mark(); 9];
        bytes[1..].copy_from_slice(&id.to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The id of the row that a cursor of this list goes on after; `None` for anything that isn't one.
    pub fn decode(list: ListKind, cursor: &str) -> Option<i64> {
        // Bounds the work before any is done.
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
