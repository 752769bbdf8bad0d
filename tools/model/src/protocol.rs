//! The model as the checker explores it: the possible steps in each state, and the promises that
//! must hold in every state.
//!
//! One step covers everything that the real code does between two of its waits.

use stateright::{Model, Property};

use super::{
    events::{Event, Events},
    rules::Rule,
    state::{
        Budget, Checkpoint, Data, EPOCHS, Entry, Flight, INSTANCES, Instance, Message, NEVER, Owed, Slot, Tick, World,
        Writing,
    },
};

/// D, in ticks. An instance relies on a poll only in the tick in which the poll was sent.
pub const MAX_STALENESS: Tick = 0;
/// The age from which an entry is refused.
pub const MAX_AGE: Tick = 2;
/// How long floors are kept: the shortest time that is correct. The real time is longer by a margin
/// for the database's clock.
pub const MEMORY: Tick = MAX_AGE - 1;

pub const OWN: &str = "P1: no instance serves older than it acknowledged";
pub const FLEET: &str = "P2: nobody serves what was replaced more than D ago";
pub const FILL: &str = "P3: no fill undoes what L2 was told";
pub const WAITED: &str = "P2 with wait: nobody serves older than acknowledged";

/// A configuration of the model.
#[derive(Clone, Debug, Default)]
pub struct Protocol {
    pub budget: Budget,
    /// Whether writers wait for the fleet before they reply.
    pub waits: bool,
    pub without: &'static [Rule],
    /// Whether L2 may hold an outdated entry. Loads without a lease and versions of another epoch
    /// can cause that, so such runs do not check P3.
    pub untidy: bool,
    pub events: Events,
}

/// A step. Instances are numbered by their place in the state, which sorts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Tick,
    Read {
        instance: usize,
        l2: Reply,
    },
    /// The flight takes its next step.
    Fly(usize),
    Refresh(usize),
    RefreshArrives(usize),
    Write(usize),
    /// A write of a change that was already made.
    Repeat(usize),
    /// The write takes its next step.
    WriteOn(usize),
    Poll(usize),
    PollArrives {
        instance: usize,
        overflow: bool,
    },
    BootBegins(usize),
    BootEnds(usize),
    LeaveHorizon,
    /// A message reaches L2.
    Arrives(usize),
    Evict(usize),
    Save,
    RollBack,
    Crash(usize),
    /// Another server becomes the primary, or Postgres restarts after a crash.
    Promote {
        loses: bool,
    },
}

/// The result of a call to L2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// L2 answers. If another instance holds the lease, the caller does not wait any longer.
    Prompt,
    /// Like `Prompt`, but a lease that another instance holds has just ended.
    LeaseEnded,
    /// L2 does not answer, or is not called.
    Silent,
}

impl Protocol {
    pub fn has(&self, rule: Rule) -> bool {
        !self.without.contains(&rule)
    }

    pub fn saw(&self, event: Event) {
        self.events.saw(event);
    }

    pub fn is_current(&self, world: &World, instance: &Instance) -> bool {
        !self.has(Rule::MaxStaleness) || instance.last_poll_sent_at.is_some_and(|at| world.now - at <= MAX_STALENESS)
    }

    /// The data that a request which arrives now at this instance must not get.
    pub fn owed(world: &World, instance: &Instance) -> Owed {
        // No promise covers data that the database has lost. Only `fleet` requires that they
        // disappear within D.
        let older_than = |data: Data| ((1_u8 << data) - 1) & !world.database.lost;
        let late = |&(_, at): &(usize, &Tick)| *at != NEVER && at.saturating_add(MAX_STALENESS) < world.now;
        let fleet = world.database.replaced.iter().enumerate().filter(late).fold(0, |owed, (data, _)| owed | 1 << data);
        Owed { own: older_than(instance.acknowledged), fleet, waited: older_than(world.waited) }
    }

    /// A request gets its answer.
    pub fn serve(world: &mut World, owed: Owed, data: Data) {
        for (bit, owed) in [owed.own, owed.fleet, owed.waited].into_iter().enumerate() {
            world.broken |= (owed >> data & 1) << bit;
        }
    }

    /// The slot of L2 for entries of this epoch.
    pub fn slot<'a>(&self, world: &'a mut World, epoch: u8) -> &'a mut Slot {
        let at = if self.has(Rule::Epochs) { usize::from(epoch) - 1 } else { 0 };
        &mut world.l2[at]
    }

    pub fn put_l1(&self, instance: &mut Instance, entry: Entry) {
        if entry.number < instance.floor {
            self.saw(Event::L1FilledLate);
        }
        instance.l1 = Some(entry);
    }

    fn steps_of(&self, world: &World, at: usize, steps: &mut Vec<Step>) {
        let (left, instance) = (&world.left, &world.instances[at]);
        if left.reads > 0 && (instance.flight == Flight::None || instance.joiner.is_none()) {
            let mut read = |l2| steps.push(Step::Read { instance: at, l2 });
            read(Reply::Prompt);
            if instance.flight == Flight::None && world.l2.iter().any(|slot| slot.lease > 0) {
                read(Reply::LeaseEnded);
            }
            if instance.flight == Flight::None && left.silences > 0 {
                read(Reply::Silent);
            }
        }
        if instance.flight != Flight::None {
            steps.push(Step::Fly(at));
        }
        if left.refreshes > 0 && instance.apart.is_none() {
            steps.push(Step::Refresh(at));
        }
        if instance.apart.is_some() {
            steps.push(Step::RefreshArrives(at));
        }
        match instance.writing {
            Writing::None if left.writes > 0 => steps.push(Step::Write(at)),
            Writing::None => {}
            Writing::Waiting { until, .. } if until >= world.now && self.has(Rule::Wait) => {}
            _ => steps.push(Step::WriteOn(at)),
        }
        if instance.writing == Writing::None && left.repeats > 0 && world.database.data > 0 {
            steps.push(Step::Repeat(at));
        }
        if instance.poll.is_some() {
            steps.push(Step::PollArrives { instance: at, overflow: false });
            if left.overflows > 0 && instance.floor > 0 {
                steps.push(Step::PollArrives { instance: at, overflow: true });
            }
        } else if instance.following {
            // Leaves out a poll that brings neither changes nor a later poll time.
            let database = &world.database;
            let news = instance.seen != database.number || instance.epoch != database.epoch;
            if news || instance.last_poll_sent_at != Some(world.now) || !self.has(Rule::LeaseFromSending) {
                steps.push(Step::Poll(at));
            }
        } else if instance.boot.is_some() {
            steps.push(Step::BootEnds(at));
        } else {
            steps.push(Step::BootBegins(at));
        }
        if left.crashes > 0 {
            steps.push(Step::Crash(at));
        }
    }

    fn take(&self, world: &mut World, step: Step) -> Option<()> {
        match step {
            Step::Tick => self.tick(world),
            Step::Read { instance, l2 } => self.read(world, instance, l2),
            Step::Fly(at) => self.fly(world, at),
            Step::Refresh(at) => self.refresh(world, at),
            Step::RefreshArrives(at) => self.refreshed(world, at),
            Step::Write(at) => self.write(world, at),
            Step::Repeat(at) => Self::repeat(world, at),
            Step::WriteOn(at) => self.write_on(world, at),
            Step::Poll(at) => Self::poll(world, at),
            Step::PollArrives { instance, overflow } => self.polled(world, instance, overflow),
            Step::BootBegins(at) => Self::boot(world, at),
            Step::BootEnds(at) => self.booted(world, at),
            Step::LeaveHorizon => {
                world.left.checkpoints -= 1;
                // The checkpoint's time is after its snapshot, in the model by a whole tick.
                let checkpoint = Checkpoint { number: world.database.number, taken_at: world.now + 1 };
                world.database.checkpoint = Some(checkpoint);
            }
            Step::Arrives(at) => self.arrives(world, at)?,
            Step::Evict(at) => {
                self.saw(Event::Evicted);
                world.left.evictions -= 1;
                world.l2[at] = Slot { told: world.l2[at].told, ..Slot::default() };
            }
            Step::Save => {
                world.left.saves -= 1;
                world.saved = Some(world.l2);
            }
            Step::RollBack => {
                self.saw(Event::RolledBack);
                world.left.rollbacks -= 1;
                world.l2 = world.saved.take()?;
            }
            Step::Crash(at) => {
                self.saw(Event::Crashed);
                world.left.crashes -= 1;
                world.instances[at] = Instance::started(world.instances[at].acknowledged);
            }
            Step::Promote { loses } => self.promote(world, loses),
        }
        Some(())
    }

    /// Whether no further step can break a promise: no request comes, none waits for an answer, and
    /// no fill is in flight.
    fn over(world: &World) -> bool {
        let quiet = |instance: &Instance| instance.leader.is_none() && instance.apart.is_none();
        let fill = |message: &Message| !matches!(message, Message::Invalidate { .. });
        world.left.reads == 0
            && world.left.refreshes == 0
            && world.instances.iter().all(quiet)
            && !world.network.iter().any(fill)
    }

    fn tick(&self, world: &mut World) {
        world.left.ticks -= 1;
        world.now += 1;
        let now = world.now;
        for instance in &mut world.instances {
            // Values that no longer matter are cleared, so that fewer states differ.
            instance.last_poll_sent_at =
                instance.last_poll_sent_at.filter(|at| now - at <= MAX_STALENESS || !self.has(Rule::MaxStaleness));
            instance.l1 = instance.l1.filter(|entry| now - entry.read_at < MAX_AGE || !self.has(Rule::Age));
        }
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.budget)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        if world.broken & if self.untidy { 7 } else { 15 } != 0 || Self::over(world) {
            return;
        }
        let left = &world.left;
        for at in 0..INSTANCES {
            self.steps_of(world, at, steps);
        }
        steps.extend((0..world.network.len()).map(Step::Arrives));
        if left.ticks > 0 {
            steps.push(Step::Tick);
        }
        let used = |slot: &Slot| slot.value.is_some() || slot.lease > 0 || slot.floor > 0;
        if left.evictions > 0 {
            steps.extend((0..EPOCHS).filter(|at| used(&world.l2[*at])).map(Step::Evict));
        }
        // Saved contents matter only if they are not empty.
        if left.saves > 0 && world.l2.iter().any(used) {
            steps.push(Step::Save);
        }
        if left.rollbacks > 0 && world.saved.is_some() {
            steps.push(Step::RollBack);
        }
        let database = &world.database;
        let due = database.checkpoint.is_none_or(|checkpoint| checkpoint.taken_at + MEMORY < world.now);
        if left.checkpoints > 0 && due && world.instances.iter().any(|instance| instance.last_poll_sent_at.is_some()) {
            steps.push(Step::LeaveHorizon);
        }
        if left.promotions > 0 && usize::from(database.epoch) < EPOCHS {
            steps.push(Step::Promote { loses: false });
            if database.before != database.data {
                steps.push(Step::Promote { loses: true });
            }
        }
    }

    fn next_state(&self, last: &World, step: Step) -> Option<World> {
        let mut world = last.clone();
        self.take(&mut world, step)?;
        world.settle();
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut promises = vec![
            Property::always(OWN, |_, world: &World| world.broken & 1 == 0),
            Property::always(FLEET, |_, world: &World| world.broken & 2 == 0),
            Property::always(WAITED, |_, world: &World| world.broken & 4 == 0),
        ];
        if !self.untidy {
            promises.push(Property::always(FILL, |_, world: &World| world.broken & 8 == 0));
        }
        promises
    }
}
