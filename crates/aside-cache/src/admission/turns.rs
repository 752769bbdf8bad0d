//! A fair queue: round robin over keys, and first in, first out behind each key. It nests: a queue
//! of classes contains queues of tenants, which contain queues of key patterns. A flood behind one
//! key delays the other keys by one turn in each round.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

/// An item that waits. An item whose caller gave up is skipped.
pub(crate) trait Waiting {
    /// Whether its caller gave up.
    fn is_abandoned(&self) -> bool;
}

/// A queue of items, or of queues.
pub(crate) trait Queue: Default {
    type Item;

    /// The number of items in the queue, with abandoned ones.
    fn len(&self) -> usize;

    /// Takes the next item. `None` if there is none.
    fn pop(&mut self) -> Option<Self::Item>;
}

impl<I: Waiting> Queue for VecDeque<I> {
    type Item = I;

    fn len(&self) -> usize {
        Self::len(self)
    }

    fn pop(&mut self) -> Option<I> {
        while let Some(item) = self.pop_front() {
            if !item.is_abandoned() {
                return Some(item);
            }
        }
        None
    }
}

/// Takes turns among its keys. A key without items is removed.
pub(crate) struct Turns<K, Q> {
    order: VecDeque<K>,
    queues: HashMap<K, Q>,
    len: usize,
}

impl<K, Q> Default for Turns<K, Q> {
    fn default() -> Self {
        Self { order: VecDeque::new(), queues: HashMap::new(), len: 0 }
    }
}

impl<K: Clone + Eq + Hash, Q: Queue> Turns<K, Q> {
    /// Adds to the queue behind `key`. The turn of a new key comes after those of all keys that
    /// wait already.
    pub(crate) fn push<R>(&mut self, key: &K, push: impl FnOnce(&mut Q) -> R) -> R {
        if !self.queues.contains_key(key) {
            self.order.push_back(key.clone());
        }
        let queue = self.queues.entry(key.clone()).or_default();
        let before = queue.len();
        let pushed = push(queue);
        self.len += queue.len() - before;
        pushed
    }

    /// Takes the next item behind a key for which `may` returns true.
    pub(crate) fn pop_if(&mut self, may: impl Fn(&K) -> bool) -> Option<Q::Item> {
        let mut at = 0;
        while at < self.order.len() {
            if !may(&self.order[at]) {
                at += 1;
                continue;
            }
            let key = self.order.remove(at)?;
            let queue = self.queues.get_mut(&key)?;
            let before = queue.len();
            let item = queue.pop();
            self.len -= before - queue.len();
            if queue.len() == 0 {
                self.queues.remove(&key);
            } else {
                self.order.push_back(key);
            }
            if item.is_some() {
                return item;
            }
        }
        None
    }

    /// The queue behind `key`.
    pub(crate) fn of(&self, key: &K) -> Option<&Q> {
        self.queues.get(key)
    }

    /// The number of waiting keys, where `key` counts in any case.
    pub(crate) fn keys_with(&self, key: &K) -> usize {
        self.order.len() + usize::from(!self.queues.contains_key(key))
    }
}

impl<K: Clone + Eq + Hash, Q: Queue> Queue for Turns<K, Q> {
    type Item = Q::Item;

    fn len(&self) -> usize {
        self.len
    }

    fn pop(&mut self) -> Option<Q::Item> {
        self.pop_if(|_| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Item(u8, bool);

    impl Waiting for Item {
        fn is_abandoned(&self) -> bool {
            self.1
        }
    }

    type Nested = Turns<&'static str, Turns<u8, VecDeque<Item>>>;

    fn push(turns: &mut Nested, outer: &'static str, inner: u8, item: Item) {
        turns.push(&outer, |queue| queue.push(&inner, |items| items.push_back(item)));
    }

    fn all(turns: &mut Nested) -> Vec<u8> {
        std::iter::from_fn(|| turns.pop()).map(|item| item.0).collect()
    }

    #[test]
    fn keys_take_turns_and_items_behind_one_key_keep_their_order() {
        let mut turns = Nested::default();
        (1..=4).for_each(|item| push(&mut turns, "flood", 0, Item(item, false)));
        push(&mut turns, "other", 1, Item(11, false));
        push(&mut turns, "other", 2, Item(21, false));
        push(&mut turns, "other", 1, Item(12, false));
        assert_eq!(turns.len(), 7);
        assert_eq!(all(&mut turns), [1, 11, 2, 21, 3, 12, 4]);
        assert_eq!(
            (turns.len(), turns.order.len(), turns.queues.len()),
            (0, 0, 0),
            "nothing is kept of keys that are empty"
        );
    }

    #[test]
    fn a_key_that_may_not_have_its_turn_keeps_its_place() {
        let mut turns = Nested::default();
        push(&mut turns, "held", 0, Item(1, false));
        push(&mut turns, "free", 0, Item(2, false));
        push(&mut turns, "free", 0, Item(3, false));
        assert_eq!(turns.pop_if(|key| *key == "free"), Some(Item(2, false)));
        assert_eq!(all(&mut turns), [1, 3]);
    }

    #[test]
    fn items_without_a_waiter_are_skipped() {
        let mut turns = Nested::default();
        (1..=3).for_each(|item| push(&mut turns, "a", 0, Item(item, item != 3)));
        push(&mut turns, "b", 0, Item(4, true));
        assert_eq!(all(&mut turns), [3]);
        assert_eq!(turns.len(), 0);
    }
}
