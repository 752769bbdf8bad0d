//! `Cache-Status` (RFC 9211): what each tier did.

use aside_cache::Outcome;
use axum::http::HeaderValue;

use super::{representation::Representation, text::Text};

/// Builds `Cache-Status` (RFC 9211): the names and results of the tiers, with the tier nearest to
/// the database first. Keys are never included. The RFC describes HTTP caches, so the mapping of
/// the outcomes is this crate's own. So is the parameter `aside-read-age`, the seconds since the
/// database was read.
pub(crate) fn cache_status(answer: &Representation, l2: bool) -> Option<HeaderValue> {
    let ttl = answer.ttl_ms.div_euclid(1000);
    let read_age = answer.since_read.as_secs() as i64;
    let stored = if answer.stored { "; stored" } else { "" };
    let mut text = Text::default();
    // The result of L2, which is left out when there is none, and the result of L1, before and
    // after `stored`.
    let (second, first, detail) = match answer.outcome {
        Outcome::L1Hit => {
            text.put("aside-l1; hit; ttl=").number(ttl).put("; aside-read-age=").number(read_age);
            return Some(text.value());
        }
        Outcome::L2Hit => {
            text.put("aside-l2; hit; ttl=").number(ttl).put("; aside-read-age=").number(read_age);
            return Some(text.put(", aside-l1; fwd=miss").put(stored).value());
        }
        // The negative number shows how long ago the lifetime ended, as the RFC flags stale
        // answers. The header does not say which tier held it.
        Outcome::Stale => {
            text.put("aside; hit; ttl=").number(ttl.min(-1)).put("; detail=database-away; aside-read-age=");
            return Some(text.number(read_age).value());
        }
        Outcome::Collapsed => return Some(HeaderValue::from_static("aside-l1; fwd=miss; collapsed")),
        Outcome::Bypass => return Some(HeaderValue::from_static("aside-l1; fwd=request")),
        // An entry was found and rejected. The header does not say which tier held it.
        Outcome::LoadedExpired | Outcome::LoadedInvalidated => {
            let detail = if answer.outcome == Outcome::LoadedInvalidated { "invalidated" } else { "expired" };
            let name = if l2 { "aside; fwd=stale" } else { "aside-l1; fwd=stale" };
            return Some(text.put(name).put(stored).put("; detail=").put(detail).value());
        }
        // At this time it is not known whether L2 will be filled, so there is no `stored`.
        Outcome::LoadedCold => ("fwd=miss", "fwd=miss", ""),
        Outcome::LoadedNotCurrent => ("fwd=bypass; detail=not-current", "fwd=bypass", "; detail=not-current"),
        Outcome::LoadedUnreadable => ("fwd=miss; detail=unreadable", "fwd=miss", ""),
        Outcome::L2Error => ("fwd=bypass; detail=error", "fwd=miss", ""),
        Outcome::L2Skipped => ("fwd=bypass; detail=breaker-open", "fwd=miss", ""),
        // An error that this service generates itself says nothing about a cache (RFC 9211, section
        // 2).
        Outcome::NotCached | Outcome::Failed => return None,
    };
    if l2 {
        text.put("aside-l2; ").put(second).put(", ");
    }
    Some(text.put("aside-l1; ").put(first).put(stored).put(detail).value())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::representation::tests::answer;

    fn text(answer: &Representation, l2: bool) -> Option<String> {
        cache_status(answer, l2).map(|status| status.to_str().unwrap().to_owned())
    }

    #[test]
    fn every_outcome_has_its_cache_status() {
        let hit = Some("aside-l1; hit; ttl=12; aside-read-age=631");
        let cases = [
            (Outcome::L1Hit, hit, hit),
            (Outcome::L2Hit, Some("aside-l2; hit; ttl=12; aside-read-age=631, aside-l1; fwd=miss; stored"), None),
            (
                Outcome::LoadedCold,
                Some("aside-l2; fwd=miss, aside-l1; fwd=miss; stored"),
                Some("aside-l1; fwd=miss; stored"),
            ),
            (
                Outcome::LoadedExpired,
                Some("aside; fwd=stale; stored; detail=expired"),
                Some("aside-l1; fwd=stale; stored; detail=expired"),
            ),
            (Outcome::LoadedInvalidated, Some("aside; fwd=stale; stored; detail=invalidated"), None),
            (Outcome::L2Error, Some("aside-l2; fwd=bypass; detail=error, aside-l1; fwd=miss; stored"), None),
            (Outcome::L2Skipped, Some("aside-l2; fwd=bypass; detail=breaker-open, aside-l1; fwd=miss; stored"), None),
            (Outcome::Collapsed, Some("aside-l1; fwd=miss; collapsed"), Some("aside-l1; fwd=miss; collapsed")),
            (Outcome::Stale, Some("aside; hit; ttl=-1; detail=database-away; aside-read-age=631"), None),
            (Outcome::Bypass, Some("aside-l1; fwd=request"), Some("aside-l1; fwd=request")),
        ];
        for (outcome, with_l2, without) in cases {
            assert_eq!(text(&answer(outcome), true).as_deref(), with_l2, "{outcome:?}");
            if let Some(without) = without {
                assert_eq!(text(&answer(outcome), false).as_deref(), Some(without), "{outcome:?}");
            }
        }
        for outcome in Outcome::ALL {
            let unkept = cache_status(&Representation { stored: false, ..answer(outcome) }, true);
            assert!(unkept.is_none_or(|status| !status.to_str().unwrap().contains("stored")), "{outcome:?}");
            let status = text(&answer(outcome), true);
            let silent = matches!(outcome, Outcome::NotCached | Outcome::Failed);
            assert_eq!(status.is_none(), silent, "{outcome:?}");
            let exclusive =
                status.is_none_or(|status| status.split(", ").all(|one| one.contains("hit") != one.contains("fwd=")));
            assert!(exclusive, "{outcome:?}: hit and fwd exclude each other");
        }
    }

    #[test]
    fn an_entry_that_has_outlived_its_lifetime_has_a_negative_ttl() {
        for (ttl_ms, expected) in
            [(999, "ttl=0;"), (0, "ttl=0;"), (-1, "ttl=-1;"), (-1_000, "ttl=-1;"), (-1_001, "ttl=-2;")]
        {
            let status = text(&Representation { ttl_ms, ..answer(Outcome::L1Hit) }, true).unwrap();
            assert!(status.contains(expected), "{ttl_ms}: {status}");
        }
    }
}
