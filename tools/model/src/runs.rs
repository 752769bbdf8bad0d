//! The runs. The protocol holds under each kind of fault, and breaks without any one of its rules.
//! Three rules are exceptions, and runs show that too. They are L2's own rules: they keep L2 tidy,
//! and no served value depends on them.
//!
//! Short runs are part of the suite. `make model` prints the long ones as the table of
//! `docs/model.md`.

use std::time::Duration;

use super::{
    check::{Outcome, exhaust, refute, wander},
    events::Event,
    protocol::{FILL, FLEET, OWN, Protocol, WAITED},
    rules::Rule,
    state::Budget,
};

/// One write, two reads and one tick. Most faults need no more.
const SMALL: Budget = Budget { ticks: 1, writes: 1, reads: 2, ..Budget::NOTHING };
/// The same, long enough for entries to expire and for floors to be dropped.
const LONGER: Budget = Budget { ticks: 2, ..SMALL };
/// All faults at once. Only random walks use it.
const ALL: Budget = Budget {
    ticks: 5,
    writes: 3,
    reads: 8,
    refreshes: 2,
    evictions: 2,
    saves: 2,
    rollbacks: 2,
    crashes: 2,
    promotions: 1,
    checkpoints: 2,
    overflows: 1,
    silences: 2,
    repeats: 2,
};

/// The faults under which L2 must stay tidy as well.
const TIDY: Budget = Budget { refreshes: 0, promotions: 0, ..ALL };

/// Long enough for a short run on a busy machine. A run that exceeds it fails.
const SHORT: Duration = Duration::from_secs(120);

fn protocol(budget: Budget) -> Protocol {
    Protocol { budget, ..Protocol::default() }
}

fn without(rules: &'static [Rule], budget: Budget) -> Protocol {
    Protocol { without: rules, ..protocol(budget) }
}

fn untidy(protocol: Protocol) -> Protocol {
    Protocol { untidy: true, ..protocol }
}

fn waiting(protocol: Protocol) -> Protocol {
    Protocol { waits: true, ..protocol }
}

/// Prints a run's row, which is visible with `--nocapture`.
fn shown(outcome: Outcome) -> Outcome {
    eprintln!("{}", outcome.line());
    outcome
}

/// For each rule, a configuration without it in which a promise breaks.
fn refutations() -> Vec<(&'static str, Protocol, &'static str)> {
    let instant = Budget { ticks: 0, ..SMALL };
    let crash = Budget { crashes: 1, ..instant };
    vec![
        ("no floor check on L1", without(&[Rule::FloorOnL1], instant), OWN),
        ("no floor check on L2", without(&[Rule::FloorOnL2], instant), OWN),
        ("no age check", without(&[Rule::Age], LONGER), OWN),
        ("no staleness bound", without(&[Rule::MaxStaleness], SMALL), FLEET),
        ("lease stamped on arrival", without(&[Rule::LeaseFromSending], SMALL), FLEET),
        ("boot without window", without(&[Rule::BootWindow], crash), OWN),
        ("reply before own floor", without(&[Rule::FloorBeforeReply], instant), OWN),
        ("repeated write without floor", without(&[Rule::FloorWhenSettled], Budget { repeats: 1, ..instant }), OWN),
        ("joined load not judged", without(&[Rule::JoinJudged], instant), OWN),
        ("floors kept shorter than entries", without(&[Rule::FloorsKept], SMALL), OWN),
        ("floors dropped without a common floor", without(&[Rule::CommonFloor], Budget { overflows: 1, ..SMALL }), OWN),
        ("numbers read after the data", without(&[Rule::LabelsWithData], instant), OWN),
        ("numbers raised after the commit", without(&[Rule::BumpInTransaction], SMALL), FLEET),
        ("epochs mixed", untidy(without(&[Rule::Epochs], Budget { promotions: 1, ..SMALL })), FLEET),
        ("fleet promised without the wait", waiting(without(&[Rule::Wait], SMALL)), WAITED),
        ("fill without lease", without(&[Rule::FillNeedsLease], Budget { evictions: 1, ..instant }), FILL),
        ("fill older than a known change", without(&[Rule::FillRefusesOlder], instant), FILL),
        ("blind SET", without(&[Rule::FillNeedsLease, Rule::FillRefusesOlder], instant), FILL),
    ]
}

/// L2's own rules, on which no served value depends.
const TIDYING: [(&str, &[Rule]); 3] = [
    ("served all the same: fill without lease", &[Rule::FillNeedsLease]),
    ("served all the same: blind SET", &[Rule::FillNeedsLease, Rule::FillRefusesOlder]),
    ("served all the same: L2 never told", &[Rule::InvalidateL2]),
];

#[test]
fn the_protocol_holds() {
    let run = shown(exhaust("protocol", protocol(SMALL), SHORT));
    run.holds().saw(&[Event::ServedFromL1, Event::ServedFromL2, Event::ServedToJoiner, Event::JoinerRefused]);
    run.saw(&[Event::FillKept, Event::FillTooOld, Event::L2Told, Event::L1FilledLate, Event::L2BelowFloor]);
}

#[test]
fn a_writer_that_waits_promises_for_the_whole_fleet() {
    let run = shown(exhaust("writers wait", waiting(protocol(Budget { reads: 1, ..LONGER })), SHORT));
    run.holds().saw(&[Event::WaitedAndAcknowledged]);
}

#[test]
fn every_rule_is_needed() {
    for (name, broken, promise) in refutations() {
        // The way to this violation is long. A random walk finds it sooner than a search for the
        // shortest way.
        let long = broken.without == [Rule::Age];
        shown(if long { wander(name, broken, 1_000_000) } else { refute(name, broken, promise) }).breaks(promise);
    }
}

#[test]
fn what_is_served_does_not_depend_on_the_rules_of_l2() {
    for (name, rules) in TIDYING {
        shown(wander(name, untidy(without(rules, ALL)), 30_000)).breaks_nothing();
    }
}

#[test]
fn no_random_walk_through_all_mishaps_breaks_a_promise() {
    let walk = shown(wander("all mishaps at once, at random", untidy(protocol(ALL)), 60_000));
    walk.breaks_nothing().saw(&[
        Event::ServedFromL1,
        Event::ServedFromL2,
        Event::ServedByLoad,
        Event::ServedToJoiner,
        Event::JoinerRefused,
        Event::L1BelowFloor,
        Event::L2BelowFloor,
        Event::TooOld,
        Event::Untrusted,
        Event::OtherEpoch,
        Event::FillWithoutLease,
        Event::FillTooOld,
        Event::LeaseBusy,
        Event::LeaseTakenOver,
        Event::UnleasedFill,
        Event::Evicted,
        Event::RolledBack,
        Event::Crashed,
        Event::BootByCheckpoint,
        Event::BootByRefusal,
        Event::LateLook,
        Event::FloorForgotten,
        Event::CommonFloor,
        Event::Promoted,
        Event::CommitLost,
    ]);
    let walk = shown(wander("the same, writers wait", waiting(untidy(protocol(ALL))), 30_000));
    walk.breaks_nothing().saw(&[Event::WaitedAndAcknowledged]);
    shown(wander("mishaps that leave L2 tidy, at random", protocol(TIDY), 30_000)).breaks_nothing();
}

/// The runs of `make model`. Each reports whether it visited every state or reached its time limit.
#[test]
#[ignore = "minutes of two cores: make model"]
fn long_runs() {
    let limit = Duration::from_secs(180);
    println!("| run | worlds | steps | s | result |\n|---|---|---|---|---|");
    let print = |outcome: Outcome| {
        println!("{}", outcome.line());
        outcome
    };
    let runs = [
        ("protocol, to the end of all lifetimes", protocol(LONGER)),
        ("two writes", protocol(Budget { writes: 2, ..SMALL })),
        ("eviction", protocol(Budget { evictions: 1, ..LONGER })),
        ("Redis goes back to old contents", protocol(Budget { saves: 1, rollbacks: 1, ..LONGER })),
        ("an instance crashes", protocol(Budget { crashes: 1, ..SMALL })),
        ("an instance crashes, with a checkpoint", protocol(Budget { crashes: 1, checkpoints: 1, ..SMALL })),
        ("L2 silent", protocol(Budget { silences: 1, ..SMALL })),
        ("a write is repeated", protocol(Budget { repeats: 1, ..SMALL })),
        ("too many floors", protocol(Budget { overflows: 1, ..LONGER })),
        ("writers wait", waiting(protocol(LONGER))),
        ("unleased fills", untidy(protocol(Budget { refreshes: 1, ..SMALL }))),
        ("promotion", untidy(protocol(Budget { promotions: 1, reads: 1, ..LONGER }))),
    ];
    for (name, protocol) in runs {
        print(exhaust(name, protocol, limit)).breaks_nothing();
    }
    for (name, rules) in TIDYING {
        let budget = Budget { evictions: 1, ..SMALL };
        print(exhaust(name, untidy(without(rules, budget)), limit)).breaks_nothing();
    }
    let walk = print(wander("all mishaps at once, at random", untidy(protocol(ALL)), 50_000_000));
    walk.breaks_nothing();
    println!("{}", walk.protocol.events.summary());
    print(wander("the same, writers wait", waiting(untidy(protocol(ALL))), 20_000_000)).breaks_nothing();
    print(wander("mishaps that leave L2 tidy, at random", protocol(TIDY), 20_000_000)).breaks_nothing();
    for (name, broken, promise) in refutations() {
        print(refute(name, broken, promise)).breaks(promise);
    }
}
