//! Valid data with defaults, so that a test names only what it is about.

use serde_json::{Value, json};

/// A product to create.
#[derive(Clone, Debug)]
pub struct NewProduct(Value);

/// A valid product: 199 cents, 100 in stock.
pub fn product() -> NewProduct {
    NewProduct(json!({
        "name": "Bananas, tropical fruit, 40 lb",
        "department": "PRODUCE",
        "brand": "National",
        "category": "TROPICAL FRUIT",
        "type": "BANANAS",
        "package_size": "40 LB",
        "price_cents": 199,
        "currency": "USD",
        "stock": 100,
    }))
}

impl NewProduct {
    /// With another price.
    pub fn price(self, cents: i64) -> Self {
        self.with("price_cents", cents)
    }

    /// With another stock.
    pub fn stock(self, pieces: i64) -> Self {
        self.with("stock", pieces)
    }

    /// With another name.
    pub fn name(self, name: &str) -> Self {
        self.with("name", name)
    }

    /// In another category.
    pub fn category(self, category: &str) -> Self {
        self.with("category", category)
    }

    /// In another department.
    pub fn department(self, department: &str) -> Self {
        self.with("department", department)
    }

    /// With any member changed, to valid or invalid.
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.0[member] = value.into();
        self
    }

    /// With a member left out.
    pub fn without(mut self, member: &str) -> Self {
        self.0.as_object_mut().expect("an object").remove(member);
        self
    }
}

impl From<NewProduct> for Value {
    fn from(product: NewProduct) -> Self {
        product.0
    }
}

/// An order to place.
#[derive(Clone, Debug)]
pub struct NewOrder(Value);

/// An order of a customer, empty so far.
pub fn order(customer: i64) -> NewOrder {
    NewOrder(json!({ "customer_id": customer, "items": [] }))
}

impl NewOrder {
    /// With one more line.
    pub fn item(mut self, product: i64, quantity: i64) -> Self {
        let line = json!({ "product_id": product, "quantity": quantity });
        self.0["items"].as_array_mut().expect("an array").push(line);
        self
    }
}

impl From<NewOrder> for Value {
    fn from(order: NewOrder) -> Self {
        order.0
    }
}
