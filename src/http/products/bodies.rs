//! The bodies of `POST /products` and `PATCH /products/{id}`, and their way into the domain.
//!
//! Types and unknown fields are refused while the JSON is read; the rules for the values are the domain's.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    domain::products::{NewProduct, ProductChange},
    http::{body::Field, problem::Problem},
};

/// A new product.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewProduct)]
pub struct NewProductBody {
    #[schema(example = "Lemonade, cloudy, 1 l")]
    name: String,
    #[schema(example = "GROCERY")]
    department: String,
    #[schema(example = "Private")]
    brand: String,
    #[schema(example = "SOFT DRINKS")]
    category: String,
    #[serde(rename = "type")]
    #[schema(example = "LEMONADE")]
    kind: String,
    #[schema(example = "1 L")]
    package_size: Option<String>,
    #[schema(example = 149, minimum = 0)]
    price_cents: i64,
    #[serde(default = "usd")]
    #[schema(example = "USD", default = "USD")]
    currency: String,
    #[schema(example = 40, minimum = 0)]
    stock: i32,
}

fn usd() -> String {
    "USD".into()
}

impl From<NewProductBody> for NewProduct {
    fn from(body: NewProductBody) -> Self {
        let NewProductBody { name, department, brand, category, kind, package_size, price_cents, currency, stock } =
            body;
        Self { name, department, brand, category, kind, package_size, price_cents, currency, stock }
    }
}

/// Changes to a product: only the fields that are named. `null` is allowed for `package_size`, which it removes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ProductPatch, example = json!({ "price_cents": 89, "stock": 120 }))]
pub struct ProductPatchBody {
    #[serde(default)]
    #[schema(value_type = String)]
    name: Field<String>,
    #[serde(default)]
    #[schema(value_type = String)]
    department: Field<String>,
    #[serde(default)]
    #[schema(value_type = String)]
    brand: Field<String>,
    #[serde(default)]
    #[schema(value_type = String)]
    category: Field<String>,
    #[serde(default, rename = "type")]
    #[schema(value_type = String)]
    kind: Field<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    package_size: Field<String>,
    #[serde(default)]
    #[schema(value_type = i64, minimum = 0)]
    price_cents: Field<i64>,
    #[serde(default)]
    #[schema(value_type = String)]
    currency: Field<String>,
    #[serde(default)]
    #[schema(value_type = i32, minimum = 0)]
    stock: Field<i32>,
}

impl ProductPatchBody {
    /// The change, if it keeps the domain's rules.
    pub fn check(self) -> Result<ProductChange, Problem> {
        let mut kept = Kept::default();
        let change = ProductChange {
            name: kept.value("/name", self.name),
            department: kept.value("/department", self.department),
            brand: kept.value("/brand", self.brand),
            category: kept.value("/category", self.category),
            kind: kept.value("/type", self.kind),
            package_size: match self.package_size {
                Field::Absent => None,
                Field::Null => Some(None),
                Field::Value(size) => Some(Some(size)),
            },
            price_cents: kept.value("/price_cents", self.price_cents),
            currency: kept.value("/currency", self.currency),
            stock: kept.value("/stock", self.stock),
        };
        if !kept.removed.is_empty() {
            return Err(Problem::validation(kept.removed));
        }
        Ok(change)
    }
}

/// Collects attempts to remove fields that every product has.
#[derive(Default)]
struct Kept {
    removed: Vec<(String, String)>,
}

impl Kept {
    fn value<T>(&mut self, pointer: &str, field: Field<T>) -> Option<T> {
        match field {
            Field::Absent => None,
            Field::Value(value) => Some(value),
            Field::Null => {
                self.removed.push((pointer.to_owned(), "can't be removed".to_owned()));
                None
            }
        }
    }
}
