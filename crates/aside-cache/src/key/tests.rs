//! The tests of keys, tags and tenants.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn different_segments_never_meet_in_one_name(a in prop::collection::vec(".{0,8}", 1..4), b in prop::collection::vec(".{0,8}", 1..4)) {
        let name = |segments: &[String]| Tag::new("product", segments);
        prop_assert_eq!(a == b, name(&a) == name(&b));
    }
}

#[test]
fn a_wildcard_covers_whole_segments_only() {
    let covers = |wildcard: Tag, name: &str| Tag::from_ledger(name).matches(wildcard.wildcard().unwrap());
    let tenant = Tag::prefix(("order", "demo"));
    assert_eq!(tenant.as_str(), "order:demo:*");
    assert!(covers(tenant.clone(), "order:demo:7") && !covers(tenant.clone(), "order:demo2:7"));
    assert!(!covers(tenant, "order-list:demo:7"));
    assert!(covers(Tag::prefix("product-list"), "product-list"));
    assert!(covers(Tag::prefix(()), "anything"));
    let demo = Tag::all_of(&Tenant::parse("demo").unwrap());
    assert!(covers(demo.clone(), "order:demo:7") && covers(demo.clone(), "order-list:demo:749"));
    assert!(
        !covers(demo.clone(), "order:demo2:7") && !covers(demo.clone(), "order:acme:demo") && !covers(demo, "demo")
    );
    assert_eq!(Tag::new("product", "*").wildcard(), None, "an id can't be a wildcard: it is escaped");
}

#[test]
fn the_wildcards_of_a_name_are_those_that_cover_it() {
    let all = |name: &str| Tag::from_ledger(name).wildcards().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(all("order:demo:7"), ["order:*", "order:demo:*", "order:demo:7:*", "*:demo:*", "*"]);
    assert_eq!(all("product-list#7"), ["product-list:*", "*"]);
    for name in ["order:demo:7", "product-list#7", "product:42", "product-list:department:DRUG%20GM#3"] {
        let name = Tag::from_ledger(name);
        assert!(name.wildcards().iter().all(|one| name.matches(one.wildcard().unwrap())), "{name}");
    }
}

#[test]
fn tenants_are_short_and_plain() {
    assert!(Tenant::parse("demo-2").is_some());
    for wrong in ["", "Demo", "a:b", "a b", "ä", &"x".repeat(65)] {
        assert_eq!(Tenant::parse(wrong), None, "{wrong}");
    }
}
