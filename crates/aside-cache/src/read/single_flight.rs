//! Single flight: concurrent misses of one key share one load in this process. The load runs in its
//! own task. A caller that disconnects neither cancels nor repeats it, and a load that fails or
//! panics wakes all waiting callers.
//!
//! A flight makes no promise about freshness. A write may have been acknowledged since the load
//! began, so each follower checks the freshness of its result.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rapidhash::quality::RandomState;
use tokio::sync::watch;

use crate::key::Tag;

/// Identifies a flight by its tag and the type of its result.
type FlightId = (Tag, TypeId);

/// The flights in progress, each with the receiver of its result.
type Calls = HashMap<FlightId, Box<dyn Any + Send>, RandomState>;

#[derive(Clone, Default)]
pub(crate) struct SingleFlight(Arc<Mutex<Calls>>);

/// The end of a flight for one caller. `None` if the load panicked.
pub(crate) enum Flight<R, I> {
    /// The result of the caller's own load.
    Leader(Option<R>),
    /// The result of another caller's load, and the unused input of this caller.
    Follower(Option<R>, I),
}

/// A caller that waits for a flight.
pub(crate) struct Waiter<R, I> {
    flight: watch::Receiver<Option<R>>,
    /// The unused input of a follower. `None` for the leader.
    unused: Option<I>,
}

impl SingleFlight {
    /// Joins the flight of `tag`, or starts one with `input`. The flight continues even if no
    /// caller waits for it.
    pub(crate) fn join<R, I, F>(&self, tag: &Tag, input: I, start: impl FnOnce(I) -> F) -> Waiter<R, I>
    where
        R: Clone + Send + Sync + 'static,
        F: Future<Output = R> + Send + 'static,
    {
        let id = (tag.clone(), TypeId::of::<R>());
        let mut flights = self.lock();
        if let Some(flight) = flights.get(&id).and_then(|f| f.downcast_ref::<watch::Receiver<Option<R>>>()) {
            return Waiter { flight: flight.clone(), unused: Some(input) };
        }
        let (sender, flight) = watch::channel(None);
        flights.insert(id.clone(), Box::new(flight.clone()));
        let guard = CallGuard { flights: self.clone(), id };
        // The box avoids copies of a large future before the task starts.
        let load = Box::pin(start(input));
        tokio::spawn(async move {
            let result = load.await;
            // The flight must be removed before its callers are woken. A caller that arrives from
            // now on starts another load.
            drop(guard);
            sender.send_replace(Some(result));
        });
        Waiter { flight, unused: None }
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Clone, I> Waiter<R, I> {
    /// Waits for the end of the flight. The channel closes without a result only if the load
    /// panicked.
    pub(crate) async fn wait(mut self) -> Flight<R, I> {
        let result = self.flight.wait_for(Option::is_some).await.ok().and_then(|result| result.clone());
        match self.unused {
            None => Flight::Leader(result),
            Some(input) => Flight::Follower(result, input),
        }
    }
}

/// Removes a flight when it ends, also after a panic.
struct CallGuard {
    flights: SingleFlight,
    id: FlightId,
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::atomic::{AtomicBool, Ordering},
        task::{Context, Poll, Wake, Waker},
    };

    use super::*;

    /// A waker that checks whether the flight is still listed when it is woken.
    struct Witness {
        flights: SingleFlight,
        woken: AtomicBool,
        in_calls: AtomicBool,
    }

    impl Wake for Witness {
        fn wake(self: Arc<Self>) {
            self.in_calls.store(!self.flights.lock().is_empty(), Ordering::SeqCst);
            self.woken.store(true, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn a_flight_is_off_the_list_before_anyone_is_woken() {
        let flights = SingleFlight::default();
        let (finish, result) = tokio::sync::oneshot::channel::<u8>();
        let tag = Tag::from_ledger("product:1");
        let waiter = flights.join(&tag, result, |result| async move { result.await.unwrap_or(0) });
        let mut waiting = pin!(waiter.wait());
        let witness = Arc::new(Witness {
            flights: flights.clone(),
            woken: AtomicBool::new(false),
            in_calls: AtomicBool::new(false),
        });
        let waker = Waker::from(Arc::clone(&witness));
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert!(!flights.lock().is_empty(), "on the list while it flies");
        finish.send(7).expect("somebody flies");
        while !witness.woken.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        assert!(!witness.in_calls.load(Ordering::SeqCst), "whoever is woken may start a load of its own");
        assert!(matches!(waiting.poll(&mut Context::from_waker(&waker)), Poll::Ready(Flight::Leader(Some(7)))));
    }
}
