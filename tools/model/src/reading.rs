//! The read path of the model: `crates/aside-cache/src/read.rs`, `l2_read.rs`, `freshness.rs`.

use super::{
    events::Event,
    protocol::{MAX_AGE, Protocol, Reply},
    rules::Rule,
    state::{Entry, Flight, Message, Number, World},
};

/// How many answers of L2 an instance refuses before it loads the value without a lease.
const REFUSALS: u8 = 2;

/// The source of a cached answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    L1,
    L2,
    Join,
}

impl Protocol {
    /// The freshness rule.
    fn judge(&self, world: &World, at: usize, entry: Entry, from: From) -> bool {
        let instance = &world.instances[at];
        let floor_asked = match from {
            From::L1 => self.has(Rule::FloorOnL1),
            From::L2 => self.has(Rule::FloorOnL2),
            From::Join => true,
        };
        let refused = if !self.is_current(world, instance) {
            Event::Untrusted
        } else if self.has(Rule::Epochs) && entry.epoch != instance.epoch {
            Event::OtherEpoch
        } else if floor_asked && (entry.read_at < instance.min_read_time || entry.number < instance.floor) {
            if from == From::L2 { Event::L2BelowFloor } else { Event::L1BelowFloor }
        } else if self.has(Rule::Age) && world.now - entry.read_at >= MAX_AGE {
            Event::TooOld
        } else {
            return true;
        };
        self.saw(refused);
        false
    }

    /// A request arrives.
    pub fn read(&self, world: &mut World, at: usize, l2: Reply) {
        world.left.reads -= 1;
        let owed = Self::owed(world, &world.instances[at]);
        if let Some(entry) = world.instances[at].l1
            && self.judge(world, at, entry, From::L1)
        {
            self.saw(Event::ServedFromL1);
            Self::serve(world, owed, entry.data);
        } else if world.instances[at].flight == Flight::None {
            world.instances[at].leader = Some(owed);
            self.take_off(world, at, l2);
        } else {
            world.instances[at].joiner = Some(owed);
        }
    }

    /// A flight begins. It calls L2 if the instance is able to check the answer.
    fn take_off(&self, world: &mut World, at: usize, l2: Reply) {
        let epoch = world.instances[at].epoch;
        let usable = epoch > 0 && self.is_current(world, &world.instances[at]);
        world.instances[at].flight = Flight::Loading { token: 0, epoch };
        if l2 == Reply::Silent {
            world.left.silences -= 1;
        } else if usable {
            self.fetch(world, at, (0, 0), epoch, l2);
        }
    }

    /// Models `fetch.lua`. Entries below version `least` are not accepted.
    fn fetch(&self, world: &mut World, at: usize, (least, refusals): (Number, u8), epoch: u8, l2: Reply) {
        let fresh = world.fresh_token();
        let slot = self.slot(world, epoch);
        let hit = slot.value.filter(|entry| entry.number >= slot.floor.max(least));
        world.instances[at].flight = if let Some(entry) = hit {
            Flight::Tagged { entry: Entry { epoch, ..entry }, refusals }
        } else if slot.lease != 0 && l2 == Reply::Prompt {
            self.saw(Event::LeaseBusy);
            Flight::Loading { token: 0, epoch }
        } else {
            if slot.lease != 0 {
                self.saw(Event::LeaseTakenOver);
            }
            // The script deletes an entry that the caller does not accept.
            (slot.value, slot.lease) = (None, fresh);
            Flight::Loading { token: fresh, epoch }
        };
    }

    pub fn fly(&self, world: &mut World, at: usize) {
        let (data, number, now) = (world.database.data, world.database.number, world.now);
        let loaded =
            |data, read_at, token, epoch| Flight::Loaded { entry: Entry { data, number, read_at, epoch }, token };
        match world.instances[at].flight {
            Flight::Tagged { entry, refusals } => self.answered(world, at, entry, refusals),
            Flight::Loading { token, epoch } => {
                world.instances[at].flight = match self.has(Rule::LabelsWithData) {
                    true => loaded(data, now, token, epoch),
                    false => Flight::HalfRead { data, read_at: now, token, epoch },
                };
            }
            Flight::HalfRead { data, read_at, token, epoch } => {
                world.instances[at].flight = loaded(data, read_at, token, epoch);
            }
            Flight::Loaded { entry, token } => {
                self.put_l1(&mut world.instances[at], entry);
                if token > 0 {
                    world.network.push(Message::Fill { entry, token });
                }
                self.saw(Event::ServedByLoad);
                self.land(world, at, entry);
            }
            Flight::None => {}
        }
    }

    /// L2's answer has arrived.
    fn answered(&self, world: &mut World, at: usize, entry: Entry, refusals: u8) {
        if self.judge(world, at, entry, From::L2) {
            self.saw(Event::ServedFromL2);
            self.put_l1(&mut world.instances[at], entry);
            self.land(world, at, entry);
        } else {
            world.instances[at].flight = Flight::Loading { token: 0, epoch: entry.epoch };
            if refusals < REFUSALS {
                self.fetch(world, at, (entry.number + 1, refusals + 1), entry.epoch, Reply::Prompt);
            }
        }
    }

    /// The flight ends. The leader gets the value, and a follower checks it first.
    fn land(&self, world: &mut World, at: usize, entry: Entry) {
        let instance = &mut world.instances[at];
        instance.flight = Flight::None;
        let (leader, joiner) = (instance.leader.take(), instance.joiner.take());
        if let Some(owed) = leader {
            Self::serve(world, owed, entry.data);
        }
        let Some(owed) = joiner else { return };
        if !self.has(Rule::JoinJudged) || self.judge(world, at, entry, From::Join) {
            self.saw(Event::ServedToJoiner);
            Self::serve(world, owed, entry.data);
        } else {
            self.saw(Event::JoinerRefused);
            world.instances[at].leader = Some(owed);
            self.take_off(world, at, Reply::Prompt);
        }
    }

    /// A load outside of single flight, for `no-cache` and warming. It fills L2 under a lease that
    /// it takes afterwards.
    pub fn refresh(&self, world: &mut World, at: usize) {
        world.left.refreshes -= 1;
        let (data, number, read_at) = (world.database.data, world.database.number, world.now);
        let instance = &mut world.instances[at];
        instance.apart = Some(Entry { data, number, read_at, epoch: instance.epoch });
    }

    pub fn refreshed(&self, world: &mut World, at: usize) {
        if let Some(entry) = world.instances[at].apart.take() {
            self.put_l1(&mut world.instances[at], entry);
            if entry.epoch > 0 {
                world.network.push(Message::Unleased { entry });
            }
        }
    }

    /// A message reaches L2. Models `fill.lua` and `invalidate.lua`.
    pub fn arrives(&self, world: &mut World, at: usize) -> Option<()> {
        match world.network.remove(at) {
            Message::Fill { entry, token } => self.fill(world, entry, token),
            Message::Unleased { entry } => {
                let fresh = world.fresh_token();
                let slot = self.slot(world, entry.epoch);
                let held = slot.value.is_some_and(|value| value.number >= slot.floor.max(entry.number));
                if held || slot.lease != 0 {
                    return Some(());
                }
                self.saw(Event::UnleasedFill);
                (slot.value, slot.lease) = (None, fresh);
                world.network.push(Message::Fill { entry, token: fresh });
            }
            Message::Invalidate { number, epoch } => {
                let slot = self.slot(world, epoch);
                slot.told = slot.told.max(number);
                if slot.value.is_none() && slot.lease == 0 || slot.floor >= number {
                    return Some(());
                }
                self.saw(Event::L2Told);
                slot.floor = number;
                slot.value = slot.value.filter(|value| value.number >= number);
            }
        }
        Some(())
    }

    fn fill(&self, world: &mut World, entry: Entry, token: u8) {
        let slot = self.slot(world, entry.epoch);
        if slot.lease != token && self.has(Rule::FillNeedsLease) {
            self.saw(Event::FillWithoutLease);
            return;
        }
        if slot.lease == token {
            slot.lease = 0;
        }
        let known = slot.value.map_or(0, |value| value.number).max(slot.floor);
        if entry.number < known && self.has(Rule::FillRefusesOlder) {
            self.saw(Event::FillTooOld);
            return;
        }
        self.saw(Event::FillKept);
        slot.value = Some(entry);
        if entry.number < slot.told {
            world.broken |= 8;
        }
    }
}
