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

use super::key::Name;

/// A flight is known by its key and by what it brings.
type FlightId = (Name, TypeId);

/// What is under way, and how its end is learned.
type Listing = HashMap<FlightId, Box<dyn Any + Send>, RandomState>;

#[derive(Clone, Default)]
pub(super) struct Flights(Arc<Mutex<Listing>>);

/// The end of a flight as one caller sees it. `None`: the load panicked.
pub(super) enum Landed<R, I> {
    /// The caller's own load.
    Led(Option<R>),
    /// Somebody else's load; what the caller's own would have needed is handed back.
    Joined(Option<R>, I),
}

/// A place in a flight.
pub(super) struct Boarded<R, I> {
    flight: watch::Receiver<Option<R>>,
    /// What the caller's own load would have needed, when the flight is somebody else's.
    unused: Option<I>,
}

impl Flights {
    /// Joins the flight of `name`, or starts one with `input`. It goes on whether anybody waits for it or not.
    pub(super) fn board<R, I, F>(&self, name: &Name, input: I, start: impl FnOnce(I) -> F) -> Boarded<R, I>
    where
        R: Clone + Send + Sync + 'static,
        F: Future<Output = R> + Send + 'static,
    {
        let id = (name.clone(), TypeId::of::<R>());
        let mut flights = self.lock();
        if let Some(flight) = flights.get(&id).and_then(|f| f.downcast_ref::<watch::Receiver<Option<R>>>()) {
            return Boarded { flight: flight.clone(), unused: Some(input) };
        }
        let (sender, flight) = watch::channel(None);
        flights.insert(id.clone(), Box::new(flight.clone()));
        let listed = Listed { flights: self.clone(), id };
        // In a box, because a task is moved about before it begins.
        let load = Box::pin(start(input));
        tokio::spawn(async move {
            let result = load.await;
            // Off the list before anyone is woken: whoever comes now starts a load of its own.
            drop(listed);
            sender.send_replace(Some(result));
        });
        Boarded { flight, unused: None }
    }

    fn lock(&self) -> MutexGuard<'_, Listing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Clone, I> Boarded<R, I> {
    /// Waits for the end. The sender goes without a word only when the load panicked.
    pub(super) async fn landed(mut self) -> Landed<R, I> {
        let landed = self.flight.wait_for(Option::is_some).await.ok().and_then(|result| result.clone());
        match self.unused {
            None => Landed::Led(landed),
            Some(input) => Landed::Joined(landed, input),
        }
    }
}

/// Takes the flight off the list when it ends, also by a panic.
struct Listed {
    flights: Flights,
    id: FlightId,
}

impl Drop for Listed {
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
        flights: Flights,
        woken: AtomicBool,
        listed: AtomicBool,
    }

    impl Wake for Witness {
        fn wake(self: Arc<Self>) {
            self.listed.store(!self.flights.lock().is_empty(), Ordering::SeqCst);
            self.woken.store(true, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn a_flight_is_off_the_list_before_anyone_is_woken() {
        let flights = Flights::default();
        let (landing, landed) = tokio::sync::oneshot::channel::<u8>();
        let name = Name::from_ledger("product:1");
        let boarded = flights.board(&name, landed, |landed| async move { landed.await.unwrap_or(0) });
        let mut joined = pin!(boarded.landed());
        let witness = Arc::new(Witness {
            flights: flights.clone(),
            woken: AtomicBool::new(false),
            listed: AtomicBool::new(false),
        });
        let waker = Waker::from(Arc::clone(&witness));
        assert!(joined.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert!(!flights.lock().is_empty(), "on the list while it flies");
        landing.send(7).expect("somebody flies");
        while !witness.woken.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        assert!(!witness.listed.load(Ordering::SeqCst), "whoever is woken may start a load of its own");
        assert!(matches!(joined.poll(&mut Context::from_waker(&waker)), Poll::Ready(Landed::Led(Some(7)))));
    }
}
