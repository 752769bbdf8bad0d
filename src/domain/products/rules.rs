//! The rules of a product's input. They are pure functions with the same limits as the database's
//! check constraints. A violation names the JSON member.

use super::{NewProduct, Product, ProductChange, ProductFilter};
use crate::domain::{
    error::DomainError,
    violation::{Violation, between, into_result, text},
};

/// Maximum length of a name in characters.
pub const MAX_NAME: usize = 200;
/// Maximum length of department, brand, category and type in characters.
pub const MAX_LABEL: usize = 80;
/// Maximum length of a package size in characters.
pub const MAX_PACKAGE_SIZE: usize = 40;
/// The highest price of one unit.
pub const MAX_PRICE_CENTS: i64 = 1_000_000_000;
/// The highest stock.
pub const MAX_STOCK: i32 = 1_000_000_000;

impl NewProduct {
    /// Returns all violations in the input. A new product is checked like a change that sets every
    /// member.
    pub fn violations(&self) -> Vec<Violation> {
        let Self { name, department, brand, category, kind, package_size, price_cents, currency, stock } = self.clone();
        let all = ProductChange {
            name: Some(name),
            department: Some(department),
            brand: Some(brand),
            category: Some(category),
            kind: Some(kind),
            package_size: Some(package_size),
            price_cents: Some(price_cents),
            currency: Some(currency),
            stock: Some(stock),
        };
        all.violations()
    }

    /// Returns an error if the input has violations.
    pub fn check(&self) -> Result<(), DomainError> {
        into_result(self.violations())
    }
}

impl ProductChange {
    /// Returns all violations in the members that the change sets.
    pub fn violations(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        let texts = [
            ("/name", &self.name, MAX_NAME),
            ("/department", &self.department, MAX_LABEL),
            ("/brand", &self.brand, MAX_LABEL),
            ("/category", &self.category, MAX_LABEL),
            ("/type", &self.kind, MAX_LABEL),
        ];
        for (field, value, longest) in texts {
            if let Some(value) = value {
                text(field, value, longest, &mut found);
            }
        }
        if let Some(Some(size)) = &self.package_size {
            text("/package_size", size, MAX_PACKAGE_SIZE, &mut found);
        }
        if let Some(price) = self.price_cents {
            between("/price_cents", price, 0, MAX_PRICE_CENTS, &mut found);
        }
        if let Some(currency) = &self.currency
            && !(currency.len() == 3 && currency.bytes().all(|b| b.is_ascii_uppercase()))
        {
            found.push(Violation::new("/currency", "must be three capital letters, as in ISO 4217"));
        }
        if let Some(stock) = self.stock {
            between("/stock", stock.into(), 0, MAX_STOCK.into(), &mut found);
        }
        found
    }

    /// Returns an error if the input has violations.
    pub fn check(&self) -> Result<(), DomainError> {
        into_result(self.violations())
    }
}

impl ProductChange {
    /// Returns whether the change would modify `product`.
    pub fn changes(&self, product: &Product) -> bool {
        fn differs<T: PartialEq>(new: &Option<T>, old: &T) -> bool {
            new.as_ref().is_some_and(|new| new != old)
        }
        differs(&self.name, &product.name)
            || differs(&self.department, &product.department)
            || differs(&self.brand, &product.brand)
            || differs(&self.category, &product.category)
            || differs(&self.kind, &product.kind)
            || differs(&self.package_size, &product.package_size)
            || differs(&self.price_cents, &product.price_cents)
            || differs(&self.currency, &product.currency)
            || differs(&self.stock, &product.stock)
    }

    /// Returns whether the product stays in all lists that contain it.
    pub fn keeps_lists(&self) -> bool {
        self.category.is_none() && self.department.is_none()
    }
}

impl ProductFilter {
    /// Returns an error if a text is longer than any stored text can be. A client can ask for every
    /// text that a product can have, including texts that another program stored. A category
    /// without products is valid, and its list is empty.
    pub fn check(&self) -> Result<(), DomainError> {
        let mut found = Vec::new();
        for (field, value) in [("category", &self.category), ("department", &self.department)] {
            if value.as_ref().is_some_and(|value| value.chars().count() > MAX_NAME) {
                found.push(Violation::new(field, format!("must have at most {MAX_NAME} characters")));
            }
        }
        into_result(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dragon_fruit() -> NewProduct {
        NewProduct {
            name: "Dragon fruit".into(),
            department: "PRODUCE".into(),
            brand: "National".into(),
            category: "TROPICAL FRUIT".into(),
            kind: "DRAGON FRUIT".into(),
            package_size: None,
            price_cents: 399,
            currency: "USD".into(),
            stock: 0,
        }
    }

    #[test]
    fn a_sound_product_breaks_no_rule() {
        assert_eq!(dragon_fruit().violations(), []);
        assert!(NewProduct { price_cents: 0, package_size: Some("1 CT".into()), ..dragon_fruit() }.check().is_ok());
    }

    #[test]
    fn every_wrong_field_is_named_at_once() {
        let wrong = NewProduct {
            name: "x".repeat(201),
            department: String::new(),
            brand: " National".into(),
            category: "a\u{7}".into(),
            kind: "x".repeat(81),
            package_size: Some(String::new()),
            price_cents: -1,
            currency: "usd".into(),
            stock: 1_000_000_001,
        };
        let fields: Vec<_> = wrong.violations().into_iter().map(|v| v.field).collect();
        let all = [
            "/name",
            "/department",
            "/brand",
            "/category",
            "/type",
            "/package_size",
            "/price_cents",
            "/currency",
            "/stock",
        ];
        assert_eq!(fields, all);
    }

    #[test]
    fn a_change_is_examined_only_where_it_changes_something() {
        assert_eq!(ProductChange::default().violations(), []);
        let dear = ProductChange { price_cents: Some(MAX_PRICE_CENTS + 1), ..Default::default() };
        assert_eq!(dear.violations(), [Violation::new("/price_cents", "must be between 0 and 1000000000")]);
    }

    #[test]
    fn null_clears_the_package_size_and_nothing_else() {
        let read = |json: &str| serde_json::from_str::<ProductChange>(json).map_err(|e| e.to_string());
        assert_eq!(read(r#"{"package_size":null}"#).unwrap().package_size, Some(None));
        assert_eq!(read("{}").unwrap(), ProductChange::default());
        assert!(read(r#"{"price_cents":null}"#).unwrap_err().contains("null"));
        assert!(read(r#"{"version":3}"#).unwrap_err().contains("unknown field"));
    }
}
