//! The write path and the ledger poller of the model (`crates/aside-cache/src/write.rs`, `poller.rs`,
//! `floors.rs`), and the promotion of another database server.

use super::{
    events::Event,
    protocol::{MAX_STALENESS, MEMORY, Protocol},
    rules::Rule,
    state::{Boot, Data, Instance, Message, NEVER, Number, Poll, World, Writing},
};

impl Protocol {
    /// A transaction commits. Its reply is still in flight.
    pub fn write(&self, world: &mut World, at: usize) {
        world.left.writes -= 1;
        let database = &mut world.database;
        database.before = database.data;
        database.replaced[usize::from(database.data)] = world.now;
        database.newest += 1;
        database.data = database.newest;
        let data = database.data;
        world.instances[at].writing = match self.has(Rule::BumpInTransaction) {
            true => {
                database.number += 1;
                Writing::Committed { data, number: database.number }
            }
            false => Writing::Unnumbered { data },
        };
    }

    /// A write finds that its change is already there. The version that it read is still in flight.
    pub fn repeat(world: &mut World, at: usize) {
        world.left.repeats -= 1;
        let (data, number) = (world.database.data, world.database.number);
        world.instances[at].writing = Writing::Settling { data, number };
    }

    pub fn write_on(&self, world: &mut World, at: usize) {
        match world.instances[at].writing {
            Writing::Unnumbered { data } => {
                world.database.number += 1;
                let number = world.database.number;
                world.instances[at].writing = Writing::Committed { data, number };
            }
            Writing::Settling { data, number } => {
                if self.has(Rule::FloorWhenSettled) {
                    let now = world.now;
                    world.instances[at].raise(number, now);
                }
                world.instances[at].writing = Writing::None;
                self.acknowledge(world, at, data);
            }
            Writing::Committed { data, number } if self.has(Rule::FloorBeforeReply) => {
                self.forget(world, at, number);
                world.instances[at].writing = Writing::None;
                match self.waits {
                    true => world.instances[at].writing = Writing::Waiting { data, until: world.now + MAX_STALENESS },
                    false => self.acknowledge(world, at, data),
                }
            }
            Writing::Committed { data, number } => {
                self.acknowledge(world, at, data);
                world.instances[at].writing = Writing::Hasty { number };
            }
            Writing::Hasty { number } => {
                self.forget(world, at, number);
                world.instances[at].writing = Writing::None;
            }
            Writing::Waiting { data, .. } => {
                self.saw(Event::WaitedAndAcknowledged);
                world.waited = world.waited.max(data);
                world.instances[at].writing = Writing::None;
                self.acknowledge(world, at, data);
            }
            Writing::None => {}
        }
    }

    /// The instance raises its floor, drops its L1 entry, and sends an invalidation to L2.
    fn forget(&self, world: &mut World, at: usize, number: Number) {
        let now = world.now;
        let instance = &mut world.instances[at];
        instance.raise(number, now);
        instance.l1 = None;
        let epoch = instance.epoch;
        if epoch > 0 && self.has(Rule::InvalidateL2) {
            world.network.push(Message::Invalidate { number, epoch });
        }
    }

    fn acknowledge(&self, world: &mut World, at: usize, data: Data) {
        self.saw(Event::Acknowledged);
        let instance = &mut world.instances[at];
        instance.acknowledged = instance.acknowledged.max(data);
    }

    /// The database answers a poll. The answer is still in flight.
    pub fn poll(world: &mut World, at: usize) {
        let poll = Poll { sent: world.now, number: world.database.number, epoch: world.database.epoch };
        world.instances[at].poll = Some(poll);
    }

    pub fn polled(&self, world: &mut World, at: usize, overflow: bool) {
        let now = world.now;
        let instance = &mut world.instances[at];
        let Some(poll) = instance.poll.take() else { return };
        if poll.epoch != instance.epoch && self.has(Rule::Epochs) {
            // In another epoch, all earlier knowledge is void.
            (instance.last_poll_sent_at, instance.l1, instance.following) = (None, None, false);
            (instance.floor, instance.floor_at, instance.min_read_time) = (0, 0, NEVER);
            return;
        }
        if poll.number > instance.seen {
            instance.raise(poll.number, now);
        }
        instance.seen = poll.number;
        if now > poll.sent {
            self.saw(Event::LateLook);
        }
        let stamp = if self.has(Rule::LeaseFromSending) { poll.sent } else { now };
        instance.last_poll_sent_at =
            Some(stamp).filter(|at| now - at <= MAX_STALENESS || !self.has(Rule::MaxStaleness));
        let memory = if self.has(Rule::FloorsKept) { MEMORY } else { 0 };
        if instance.floor > 0 && instance.floor_at + memory < poll.sent {
            self.saw(Event::FloorForgotten);
            (instance.floor, instance.floor_at) = (0, 0);
        }
        if overflow {
            self.saw(Event::CommonFloor);
            world.left.overflows -= 1;
            if self.has(Rule::CommonFloor) {
                instance.min_read_time = instance.min_read_time.max(poll.sent);
            }
            if instance.floor_at < poll.sent {
                (instance.floor, instance.floor_at) = (0, 0);
            }
        }
    }

    /// The first poll of an instance that starts.
    pub fn boot(world: &mut World, at: usize) {
        let database = &world.database;
        let (epoch, first, checkpoint) = (database.epoch, database.number, database.checkpoint);
        world.instances[at].boot = Some(Boot { epoch, first, checkpoint, after: world.now + 1 });
    }

    /// The second poll, with which the instance enters the epoch. It uses the tiers after the next
    /// poll.
    pub fn booted(&self, world: &mut World, at: usize) {
        let (now, epoch, number) = (world.now, world.database.epoch, world.database.number);
        let instance = &mut world.instances[at];
        let Some(Boot { epoch: first_epoch, first, checkpoint, after }) = instance.boot.take() else { return };
        if first_epoch != epoch {
            return;
        }
        if !self.has(Rule::BootWindow) {
            instance.min_read_time = 0;
        } else {
            let known = checkpoint.map_or(first, |checkpoint| checkpoint.number);
            if number > known {
                instance.raise(number, now);
            }
            // Without a checkpoint, the instance refuses values read before this poll reached the
            // database. That moment is after the first poll.
            instance.min_read_time = checkpoint.map_or(now.max(after), |checkpoint| checkpoint.taken_at);
            self.saw(if checkpoint.is_some() { Event::BootByCheckpoint } else { Event::BootByRefusal });
        }
        (instance.epoch, instance.seen, instance.following) = (epoch, number, true);
    }

    /// Another epoch of the database begins. With `loses`, the last commit is lost, although its
    /// writer may know of the commit.
    pub fn promote(&self, world: &mut World, loses: bool) {
        self.saw(Event::Promoted);
        world.left.promotions -= 1;
        let database = &mut world.database;
        database.epoch += 1;
        database.checkpoint = None;
        if !loses {
            return;
        }
        self.saw(Event::CommitLost);
        let (lost, kept) = (database.data, database.before);
        database.replaced[usize::from(lost)] = world.now;
        database.lost |= 1 << lost;
        database.replaced[usize::from(kept)] = NEVER;
        (database.data, database.number) = (kept, database.number - 1);
        // No cache can keep a promise about data that the database itself has lost.
        let earlier = |data: &mut Data| *data = if *data == lost { kept } else { *data };
        earlier(&mut world.waited);
        for instance in &mut world.instances {
            earlier(&mut instance.acknowledged);
            if let Writing::Committed { data, .. }
            | Writing::Settling { data, .. }
            | Writing::Waiting { data, .. }
            | Writing::Unnumbered { data } = &mut instance.writing
                && *data == lost
            {
                *data = 0;
            }
            for owed in instance.leader.iter_mut().chain(&mut instance.joiner) {
                for owed in [&mut owed.own, &mut owed.fleet, &mut owed.waited] {
                    *owed &= !(1 << kept);
                }
            }
        }
    }
}

impl Instance {
    fn raise(&mut self, number: Number, now: u8) {
        self.floor = self.floor.max(number);
        self.floor_at = now;
    }
}
