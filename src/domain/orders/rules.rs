//! The rules of an order's input that need no data. They are pure functions, and a violation names
//! the JSON member.

use std::collections::HashSet;

use super::{Idempotency, NewOrder, OrderFilter};
use crate::domain::{
    error::DomainError,
    violation::{Violation, between, id, into_result},
};

/// Maximum number of items of one order.
pub const MAX_ITEMS: usize = 100;
/// Maximum quantity of one item.
pub const MAX_QUANTITY: i32 = 1000;
/// Maximum length of an idempotency key in characters.
pub const MAX_KEY: usize = 255;

impl NewOrder {
    /// Returns all violations in the input.
    pub fn violations(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        id("/customer_id", self.customer_id, &mut found);
        if !(1..=MAX_ITEMS).contains(&self.items.len()) {
            found.push(Violation::new("/items", format!("must have 1 to {MAX_ITEMS} items")));
        }
        let mut seen = HashSet::new();
        // Items beyond the limit are not checked, so the list of violations is bounded too.
        for (index, item) in self.items.iter().take(MAX_ITEMS).enumerate() {
            let product = format!("/items/{index}/product_id");
            id(&product, item.product_id, &mut found);
            if !seen.insert(item.product_id) {
                found.push(Violation::new(product, "must not repeat the product of another item"));
            }
            between(&format!("/items/{index}/quantity"), item.quantity.into(), 1, MAX_QUANTITY.into(), &mut found);
        }
        found
    }

    /// Returns an error if the input has violations.
    pub fn check(&self) -> Result<(), DomainError> {
        into_result(self.violations())
    }
}

impl OrderFilter {
    /// Returns an error if the input has violations.
    pub fn check(&self) -> Result<(), DomainError> {
        let mut found = Vec::new();
        id("customer_id", self.customer_id, &mut found);
        into_result(found)
    }
}

impl Idempotency {
    /// Returns an error if the input has violations.
    pub fn check(&self) -> Result<(), DomainError> {
        let mut found = Vec::new();
        let printable = self.key.bytes().all(|b| (b' '..=b'~').contains(&b));
        if !(1..=MAX_KEY).contains(&self.key.len()) || !printable {
            found.push(Violation::new(
                "Idempotency-Key",
                format!("must have 1 to {MAX_KEY} printable ASCII characters"),
            ));
        }
        into_result(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::orders::NewOrderItem;

    fn order(items: &[(i64, i32)]) -> NewOrder {
        let items = items.iter().map(|&(product_id, quantity)| NewOrderItem { product_id, quantity }).collect();
        NewOrder { customer_id: 749, items }
    }

    fn fields(order: &NewOrder) -> Vec<String> {
        order.violations().into_iter().map(|v| v.field).collect()
    }

    #[test]
    fn an_order_has_one_to_a_hundred_lines() {
        let lines = |count: i64| (1..=count).map(|id| (id, 1)).collect::<Vec<_>>();
        assert_eq!(fields(&order(&lines(0))), ["/items"]);
        assert!(order(&lines(1)).check().is_ok());
        assert!(order(&lines(100)).check().is_ok());
        assert_eq!(fields(&order(&lines(101))), ["/items"]);
    }

    #[test]
    fn every_wrong_line_is_named() {
        let wrong = order(&[(1, 0), (1, 1), (-7, 1001), (2, i32::MAX), (3, 1000)]);
        let found = [
            "/items/0/quantity",
            "/items/1/product_id",
            "/items/2/product_id",
            "/items/2/quantity",
            "/items/3/quantity",
        ];
        assert_eq!(fields(&wrong), found);
    }

    #[test]
    fn the_largest_order_fits_its_total() {
        use crate::domain::products::rules::MAX_PRICE_CENTS;
        let lines = i64::try_from(MAX_ITEMS).unwrap();
        assert!(lines.checked_mul(MAX_QUANTITY.into()).and_then(|n| n.checked_mul(MAX_PRICE_CENTS)).is_some());
    }

    #[test]
    fn idempotency_keys_are_short_and_printable() {
        let check = |key: &str| Idempotency { key: key.into(), fingerprint: vec![1] }.check().is_ok();
        assert!(check("8e03978e-40d5-43dd-bc93-6894a57f9324") && check(&"k".repeat(255)));
        assert!(!check("") && !check(&"k".repeat(256)) && !check("a\nb") && !check("ключ"));
    }
}
