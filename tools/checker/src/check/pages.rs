//! A7, the rule for pages. A page is an answer about every row that could be on it, including the
//! rows that it does not show.

use super::{
    Judge, View,
    history::{Key, List, Sight},
};

impl Judge<'_> {
    pub(super) fn page(&mut self, list: &List, items: &[(Key, Sight)], cut: bool) {
        let sorted = match list {
            List::Category(_) => items.is_sorted_by(|(one, _), (next, _)| one < next),
            List::Customer(_) => items.is_sorted_by(|(one, _), (next, _)| one > next),
        };
        if !sorted {
            self.convict("A7", "its rows are not in order, or stand twice".to_owned(), None, None);
        }
        let shown = self.shown(list, items);
        self.one_moment(&shown);
        // If a page is cut, it says nothing about rows after its last one.
        let last = items.last().filter(|_| cut).map(|(key, _)| *key);
        let behind = |key: &Key| {
            last.is_some_and(|last| match list {
                List::Category(_) => *key > last,
                List::Customer(_) => *key < last,
            })
        };
        let missing = self.truth.universe.get(list).into_iter().flatten();
        let missing = missing.filter(|key| !behind(key) && !items.iter().any(|(shown, _)| shown == *key));
        for key in missing.copied().collect::<Vec<_>>() {
            self.away(list, key);
        }
    }

    fn shown(&mut self, list: &List, items: &[(Key, Sight)]) -> Vec<(Key, usize)> {
        let mut shown = Vec::with_capacity(items.len());
        for (key, sight) in items {
            let Some(state) = self.committed(*key, *sight) else { continue };
            let member = self.truth.timeline(*key).and_then(|timeline| timeline.states[state].member.clone());
            if member.as_ref() == Some(list) {
                self.fresh(*key, state, View::Row);
                shown.push((*key, state));
            } else {
                self.convict(
                    "A7",
                    "it did not belong to the list in the state it is shown in".to_owned(),
                    None,
                    Some(*key),
                );
            }
        }
        shown
    }

    fn away(&mut self, list: &List, key: Key) {
        let truth = self.truth;
        let Some(timeline) = truth.timeline(key) else { return };
        match timeline.latest_without(Some(list), self.record.completed) {
            Some(state) => self.fresh(key, state, View::Away),
            None => self.convict("A7", "it is missing and has always belonged to the list".to_owned(), None, Some(key)),
        }
    }

    /// Checks that all rows were current at one common moment. No row may be made after the
    /// acknowledgement of the write that replaced another row.
    fn one_moment(&mut self, shown: &[(Key, usize)]) {
        let truth = self.truth;
        let made = |(key, state): &(Key, usize)| Some((truth.timeline(*key)?.committed_after(*state), *key));
        let overtaken = |(key, state): &(Key, usize)| Some((truth.timeline(*key)?.overtaken(*state), *key));
        let (Some(youngest), Some(oldest)) =
            (shown.iter().filter_map(made).max(), shown.iter().filter_map(overtaken).min())
        else {
            return;
        };
        if youngest.0 > oldest.0 {
            let why = format!("{:?} was written after {:?} had been overtaken: two moments", youngest.1, oldest.1);
            self.convict("A7", why, None, Some(oldest.1));
        }
    }
}
