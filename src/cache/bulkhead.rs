//! The bulkhead: how many loads of one kind, and of one tenant, and how many writes an instance has under way. What doesn't fit is refused at once,
//! because a queue before a slow database makes everybody late and nobody served.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::key::Tenant;

/// All loads of a key pattern, or those of one tenant.
type Compartment = (&'static str, Option<Tenant>);

#[derive(Clone, Default)]
pub(super) struct Bulkhead(Arc<Mutex<HashMap<Compartment, usize>>>);

/// Room for one load. Dropped, it is free again.
pub(super) struct Room {
    bulkhead: Bulkhead,
    taken: Vec<Compartment>,
}

impl Bulkhead {
    /// Room for a load of `pattern`, of which there may be `most`, and half as many for one tenant. `None`: there is none.
    pub(super) fn enter(&self, pattern: &'static str, tenant: Option<&Tenant>, most: usize) -> Option<Room> {
        let mut compartments = vec![((pattern, None), most)];
        compartments.extend(tenant.map(|tenant| ((pattern, Some(tenant.clone())), most.div_ceil(2))));
        let mut under_way = self.lock();
        if compartments.iter().any(|(compartment, most)| under_way.get(compartment).is_some_and(|n| n >= most)) {
            return None;
        }
        let taken: Vec<_> = compartments.into_iter().map(|(compartment, _)| compartment).collect();
        for compartment in &taken {
            *under_way.entry(compartment.clone()).or_default() += 1;
        }
        drop(under_way);
        Some(Room { bulkhead: self.clone(), taken })
    }

    /// Loads of a pattern that are under way.
    pub(super) fn under_way(&self, pattern: &'static str) -> usize {
        self.lock().get(&(pattern, None)).copied().unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Compartment, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut under_way = self.bulkhead.lock();
        for compartment in self.taken.drain(..) {
            match under_way.get_mut(&compartment) {
                Some(n) if *n > 1 => *n -= 1,
                // Tenants come and go: an empty compartment isn't kept.
                _ => drop(under_way.remove(&compartment)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_until_there_is_room_again() {
        let bulkhead = Bulkhead::default();
        let mut rooms: Vec<_> = (0..3).map(|_| bulkhead.enter("order", None, 3)).collect();
        assert!(rooms.iter().all(Option::is_some));
        assert!(bulkhead.enter("order", None, 3).is_none());
        assert!(bulkhead.enter("product", None, 3).is_some(), "another kind has its own room");
        rooms.pop();
        assert_eq!(bulkhead.under_way("order"), 2);
        assert!(bulkhead.enter("order", None, 3).is_some());
    }

    #[test]
    fn one_tenant_gets_half() {
        let (bulkhead, greedy, other) = (Bulkhead::default(), Tenant::parse("greedy"), Tenant::parse("other"));
        let rooms: Vec<_> = (0..4).filter_map(|_| bulkhead.enter("order", greedy.as_ref(), 4)).collect();
        assert_eq!(rooms.len(), 2);
        assert!(bulkhead.enter("order", other.as_ref(), 4).is_some());
        drop(rooms);
        assert_eq!(bulkhead.under_way("order"), 0);
        assert!(bulkhead.lock().is_empty(), "nothing is kept of tenants that went");
    }
}
