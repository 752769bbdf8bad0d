//! Histories in which one rule is broken, and the same histories without the fault. They show that
//! the checker catches each violation.

use crate::check::{
    check,
    history::{Ack, Audit, History, Key, List, Micros, Record, Sight, State, Told},
};

const MS: Micros = 1_000;
const P: Key = Key::Product(1);
const Q: Key = Key::Product(2);

fn list() -> List {
    List::Category("FRUIT".into())
}

/// Version `version` of a row, committed at `made`. Its digest depends on key and version.
fn state(key: Key, version: i64, made: Micros) -> State {
    State { version, digest: Some(sight(key, version).digest), member: Some(list()), xid: version as u64 * 10, made }
}

fn gone(version: i64, made: Micros) -> State {
    State { version, digest: None, member: None, xid: version as u64 * 10, made }
}

fn sight(key: Key, version: i64) -> Sight {
    let (Key::Product(id) | Key::Order(id)) = key;
    Sight { version, digest: id as u64 * 1_000 + version as u64 }
}

fn record(instance: u8, (invoked, completed): (Micros, Micros), told: Told) -> Record {
    Record {
        client: 0,
        instance: Some(instance),
        process_run: 1,
        verb: "planted",
        invoked,
        completed,
        status: 200,
        source: "l1_hit",
        told,
        token_of: None,
        fleet: false,
    }
}

fn read(instance: u8, at: Micros, key: Key, version: Option<i64>) -> Record {
    let value = version.map(|version| sight(key, version));
    record(instance, (at, at + MS), Told::Values(vec![(key, value)]))
}

fn page(instance: u8, at: Micros, rows: &[(Key, i64)]) -> Record {
    let items = rows.iter().map(|(key, version)| (*key, sight(*key, *version))).collect();
    record(instance, (at, at + MS), Told::Page { list: list(), items, cut: false })
}

/// A write by instance 0, acknowledged at 200 ms.
fn write(version: i64) -> Record {
    record(0, (100 * MS, 200 * MS), Told::Written(Ack::Version(P, version)))
}

/// Product 1 has two versions, product 2 has one.
fn audit() -> Audit {
    [(P, vec![state(P, 1, 0), state(P, 2, 150 * MS)]), (Q, vec![state(Q, 1, 0)])].into()
}

fn rules(audit: Audit, records: Vec<Record>) -> Vec<String> {
    let findings = check(&History { audit, records, max_staleness: 500 * MS });
    findings.violations.into_iter().map(|violation| violation.rule).collect()
}

#[test]
fn a_faultless_history_is_not_convicted() {
    let records = vec![
        read(1, 50 * MS, P, Some(1)),
        read(0, 120 * MS, P, Some(1)),
        write(2),
        read(0, 201 * MS, P, Some(2)),
        read(1, 690 * MS, P, Some(1)),
        page(1, 690 * MS, &[(P, 1), (Q, 1)]),
        page(0, 201 * MS, &[(P, 2), (Q, 1)]),
        read(1, 701 * MS, P, Some(2)),
        read(1, 900 * MS, Key::Product(99), None),
    ];
    assert_eq!(rules(audit(), records), [""; 0]);
}

#[test]
fn a1_a_body_that_was_never_committed_is_convicted() {
    assert_eq!(rules(audit(), vec![read(0, 0, P, Some(3))]), ["A1"]);
    let mixed = Told::Values(vec![(P, Some(Sight { version: 2, ..sight(P, 1) }))]);
    assert_eq!(rules(audit(), vec![record(0, (300 * MS, 301 * MS), mixed)]), ["A1"], "a body under another's version");
    assert_eq!(rules(audit(), vec![read(0, 50 * MS, P, Some(2))]), ["A1"], "answered before it was made");
    assert_eq!(rules(audit(), vec![write(9)]), ["A1"], "acknowledged and not there");
}

#[test]
fn a2_an_instance_behind_its_own_write_is_caught_also_in_a_later_epoch() {
    assert_eq!(rules(audit(), vec![write(2), read(0, 201 * MS, P, Some(1))]), ["A2"]);
    let later = Record { process_run: 2, ..read(0, 400 * MS, P, Some(1)) };
    assert_eq!(rules(audit(), vec![write(2), later]), ["A2"]);
    assert_eq!(rules(audit(), vec![write(2), read(1, 201 * MS, P, Some(1))]), [""; 0], "another one has until D");
    assert_eq!(rules(audit(), vec![write(2), read(0, 199 * MS, P, Some(1))]), [""; 0], "it was asked before");
}

#[test]
fn a10_a_flagged_answer_may_be_old_but_not_behind_its_own_instance_and_no_absence() {
    let flagged = |record: Record| Record { source: "stale", ..record };
    assert_eq!(rules(audit(), vec![write(2), flagged(read(1, 9_000 * MS, P, Some(1)))]), [""; 0]);
    assert_eq!(rules(audit(), vec![write(2), flagged(read(0, 9_000 * MS, P, Some(1)))]), ["A2"]);
    assert_eq!(rules(audit(), vec![flagged(read(1, 0, P, Some(9)))]), ["A1"]);
    let gone = [(P, vec![State { digest: None, ..state(P, 1, 0) }])].into();
    assert_eq!(rules(gone, vec![flagged(read(1, 0, P, None))]), ["A10"]);
}

#[test]
fn a3_an_instance_behind_by_more_than_d_is_convicted() {
    assert_eq!(rules(audit(), vec![write(2), read(1, 701 * MS, P, Some(1))]), ["A3"]);
    let direct = Record { instance: None, told: Told::Written(Ack::Transaction(20)), ..write(2) };
    assert_eq!(rules(audit(), vec![direct, read(1, 701 * MS, P, Some(1))]), ["A3"], "direct writes count as well");
    let unknown = Record { told: Told::Lost, ..write(2) };
    assert_eq!(rules(audit(), vec![unknown, read(1, 701 * MS, P, Some(1))]), [""; 0], "nobody was told of the write");
}

#[test]
fn a4_an_instance_behind_a_write_of_the_fleet_is_convicted() {
    let fleet = Record { fleet: true, ..write(2) };
    assert_eq!(rules(audit(), vec![fleet, read(1, 201 * MS, P, Some(1))]), ["A4"]);
}

#[test]
fn a5_an_answer_older_than_its_token_is_convicted() {
    let seen = read(2, 205 * MS, P, Some(2));
    let older = Record { token_of: Some(1), ..read(1, 210 * MS, P, Some(1)) };
    assert_eq!(rules(audit(), vec![write(2), seen, older.clone()]), ["A5"]);
    let of_the_write = Record { token_of: Some(0), ..older };
    assert_eq!(rules(audit(), vec![write(2), of_the_write]), ["A5"]);
}

#[test]
fn a6_an_absence_that_is_over_or_never_was_is_convicted() {
    assert_eq!(rules(audit(), vec![read(1, 300 * MS, P, None)]), ["A6"]);
    let back = || Audit::from([(P, vec![state(P, 1, 0), gone(2, 50 * MS), state(P, 3, 150 * MS)])]);
    assert_eq!(rules(back(), vec![write(3), read(0, 201 * MS, P, None)]), ["A6 (A2)"]);
    assert_eq!(rules(back(), vec![write(3), read(1, 300 * MS, P, None)]), [""; 0], "another one has until D");
    assert_eq!(rules(back(), vec![write(3), read(1, 701 * MS, P, None)]), ["A6 (A3)"]);
    let removed = || Audit::from([(P, vec![state(P, 1, 0), gone(2, 150 * MS)])]);
    assert_eq!(rules(removed(), vec![write(2), read(0, 201 * MS, P, Some(1))]), ["A2"], "served after its deletion");
}

#[test]
fn a7_a_page_with_an_old_row_a_missing_one_or_a_foreign_one_is_convicted() {
    assert_eq!(rules(audit(), vec![write(2), page(0, 201 * MS, &[(P, 1), (Q, 1)])]), ["A7 (A2)"]);
    assert_eq!(rules(audit(), vec![page(0, 300 * MS, &[(P, 1)])]), ["A7"], "product 2 has always belonged to it");
    let joined = || Audit::from([(P, vec![State::absent(), state(P, 1, 150 * MS)])]);
    assert_eq!(rules(joined(), vec![write(1), page(0, 201 * MS, &[])]), ["A7 (A2)"]);
    assert_eq!(rules(joined(), vec![write(1), page(1, 201 * MS, &[])]), [""; 0], "another one has until D");
    let left = State { member: Some(List::Category("MEAT".into())), ..state(P, 2, 150 * MS) };
    let moved = || Audit::from([(P, vec![state(P, 1, 0), left.clone()])]);
    assert_eq!(rules(moved(), vec![page(1, 300 * MS, &[(P, 2)])]), ["A7"], "it does not belong there");
    assert_eq!(rules(moved(), vec![write(2), page(1, 701 * MS, &[(P, 1)])]), ["A7 (A3)"]);
    assert_eq!(rules(audit(), vec![page(1, 300 * MS, &[(Q, 1), (P, 2)])]), ["A7"], "not in order");
}

#[test]
fn a7_a_page_of_two_moments_is_convicted() {
    let audit = Audit::from([
        (P, vec![state(P, 1, 0), state(P, 2, 150 * MS)]),
        (Q, vec![state(Q, 1, 0), state(Q, 3, 400 * MS)]),
    ]);
    assert_eq!(rules(audit, vec![write(2), page(1, 500 * MS, &[(P, 1), (Q, 3)])]), ["A7"]);
}

#[test]
fn what_a_page_cuts_off_is_not_missed() {
    let cut = Record {
        told: Told::Page { list: list(), items: vec![(P, sight(P, 1))], cut: true },
        ..page(1, 300 * MS, &[])
    };
    assert_eq!(rules(audit(), vec![cut]), [""; 0]);
}

#[test]
fn answers_that_must_not_be_are_convicted_and_refusals_are_not() {
    let broken = record(0, (0, MS), Told::VerifyError("500".into()));
    assert_eq!(rules(audit(), vec![broken]), ["5xx"]);
    let fine = [Told::Refused, Told::Unavailable, Told::Lost].map(|told| record(0, (0, MS), told));
    assert_eq!(rules(audit(), fine.into()), [""; 0]);
}

#[test]
fn the_age_of_answers_counts_from_the_acknowledgement_that_overtook_them() {
    let records = vec![write(2), read(1, 300 * MS, P, Some(1)), read(1, 300 * MS, P, Some(2))];
    let findings = check(&History { audit: audit(), records, max_staleness: 500 * MS });
    assert_eq!(findings.staleness, [100 * MS, 0]);
}
