//! Single flight: one load for many concurrent misses of a key, in this process. The load runs in a task of its own, so a caller
//! that goes away neither cancels nor repeats it, and a load that fails or panics wakes everyone who waits.
//!
//! A flight makes no promise about freshness: whoever joined one judges its result anew, because a write may have been
//! acknowledged since the load began.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rapidhash::quality::RandomState;
use tokio::sync::watch;

use super::key::Tag;

/// A flight is known by its key and by what it brings.
type FlightId = (Tag, TypeId);

/// What is under way, and how its end is learned.
type Calls = HashMap<FlightId, Box<dyn Any + Send>, RandomState>;

#[derive(Clone, Default)]
pub(super) struct SingleFlight(Arc<Mutex<Calls>>);

/// The end of a flight as one caller sees it. `None`: the load panicked.
pub(super) enum Flight<R, I> {
    /// The caller's own load.
    Leader(Option<R>),
    /// Somebody else's load; what the caller's own would have needed is handed back.
    Follower(Option<R>, I),
}

/// A place in a flight.
pub(super) struct Waiter<R, I> {
    flight: watch::Receiver<Option<R>>,
    /// What the caller's own load would have needed, when the flight is somebody else's.
    unused: Option<I>,
}

impl SingleFlight {
    /// Joins the flight of `tag`, or starts one with `input`. It goes on whether anybody waits for it or not.
    pub(super) fn join<R, I, F>(&self, tag: &Tag, input: I, start: impl FnOnce(I) -> F) -> Waiter<R, I>
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
        // In a box, because a task is moved about before it begins.
        let load = Box::pin(start(input));
        tokio::spawn(async move {
            let result = load.await;
            // Off the list before anyone is woken: whoever comes now starts a load of its own.
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
    /// Waits for the end. The sender goes without a word only when the load panicked.
    pub(super) async fn wait(mut self) -> Flight<R, I> {
        let result = self.flight.wait_for(Option::is_some).await.ok().and_then(|result| result.clone());
        match self.unused {
            None => Flight::Leader(result),
            Some(input) => Flight::Follower(result, input),
        }
    }
}

/// Takes the flight off the list when it ends, also by a panic.
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

    /// Looks at the list at the moment in which it is woken.
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
