//! Valid data with defaults, so that a test sets only the fields that matter to it.

use serde_json::{Value, json};

/// The body of a request that creates a product.
#[derive(Clone, Debug)]
pub struct NewProduct(Value);

/// Returns a valid product: 199 cents, 100 in stock.
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
    pub fn price(self, cents: i64) -> Self {
        self.with("price_cents", cents)
    }

    pub fn stock(self, pieces: i64) -> Self {
        self.with("stock", pieces)
    }

    pub fn name(self, name: &str) -> Self {
        self.with("name", name)
    }

    pub fn category(self, category: &str) -> Self {
        self.with("category", category)
    }

    pub fn department(self, department: &str) -> Self {
        self.with("department", department)
    }

    /// Sets any member, to a valid or an invalid value.
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.0[member] = value.into();
        self
    }

    /// Removes a member.
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

/// The body of a request that places an order.
#[derive(Clone, Debug)]
pub struct NewOrder(Value);

/// Returns an order of a customer without lines.
pub fn order(customer: i64) -> NewOrder {
    NewOrder(json!({ "customer_id": customer, "items": [] }))
}

impl NewOrder {
    /// Adds a line.
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
