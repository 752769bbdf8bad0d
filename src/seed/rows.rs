//! The rows of the data set's files, and their conversion for the staging tables.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::naming;

/// A file of the data set: the format of its rows, and their form for COPY into its staging table.
pub(super) trait File {
    /// The file's name, and the name of the step that reads it.
    const FILE: &'static str;
    const STEP: &'static str;
    /// Creates the staging table, which the end of the transaction drops.
    const STAGING: &'static str;
    const COPY: &'static str;
    type Row: DeserializeOwned;
    type Staged: Serialize;
    fn stage(row: Self::Row) -> Self::Staged;
}

pub(super) struct Products;
pub(super) struct Orders;
pub(super) struct Lines;

#[derive(Deserialize)]
pub(super) struct ProductRow {
    product_id: i64,
    department: String,
    brand: String,
    product_category: String,
    product_type: String,
    package_size: String,
    price_cents: i64,
    view_count: i64,
}

#[derive(Serialize)]
pub(super) struct StagedProduct {
    id: i64,
    name: String,
    department: String,
    brand: String,
    category: String,
    kind: String,
    /// An empty field is null in the CSV format of COPY.
    package_size: String,
    price_cents: i64,
    stock: i64,
    view_count: i64,
}

impl File for Products {
    const FILE: &'static str = "products.csv.gz";
    const STEP: &'static str = "products";
    const STAGING: &'static str = "create temporary table staged_products (id bigint, name text, department text, brand text,
         category text, type text, package_size text, price_cents bigint, stock integer, view_count bigint) on commit drop";
    const COPY: &'static str = "copy staged_products from stdin (format csv)";
    type Row = ProductRow;
    type Staged = StagedProduct;

    fn stage(row: ProductRow) -> StagedProduct {
        StagedProduct {
            id: row.product_id,
            name: naming::compose(&row.product_type, &row.product_category, &row.package_size),
            department: row.department,
            brand: row.brand,
            category: row.product_category,
            kind: row.product_type,
            package_size: row.package_size,
            price_cents: row.price_cents,
            stock: stock(row.product_id, row.view_count),
            view_count: row.view_count,
        }
    }
}

/// The data has no stock. The generated stock is 100 to 1000, higher for popular products, and the
/// same at every load.
fn stock(product_id: i64, view_count: i64) -> i64 {
    100 + product_id.rem_euclid(101) + view_count.clamp(0, 800)
}

#[derive(Deserialize)]
pub(super) struct OrderRow {
    order_id: i64,
    customer_id: i64,
    placed_at: String,
}

impl File for Orders {
    const FILE: &'static str = "orders.csv.gz";
    const STEP: &'static str = "orders";
    const STAGING: &'static str =
        "create temporary table staged_orders (id bigint, customer_id bigint, placed_at timestamptz) on commit drop";
    const COPY: &'static str = "copy staged_orders from stdin (format csv)";
    type Row = OrderRow;
    type Staged = (i64, i64, String);

    fn stage(row: OrderRow) -> Self::Staged {
        (row.order_id, row.customer_id, row.placed_at)
    }
}

#[derive(Deserialize)]
pub(super) struct LineRow {
    order_id: i64,
    product_id: i64,
    quantity: i32,
    unit_price_cents: i64,
}

impl File for Lines {
    const FILE: &'static str = "order_items.csv.gz";
    const STEP: &'static str = "lines";
    const STAGING: &'static str =
        "create temporary table staged_lines (order_id bigint, product_id bigint, quantity integer,
         unit_price_cents bigint) on commit drop";
    const COPY: &'static str = "copy staged_lines from stdin (format csv)";
    type Row = LineRow;
    type Staged = (i64, i64, i32, i64);

    fn stage(row: LineRow) -> Self::Staged {
        (row.order_id, row.product_id, row.quantity, row.unit_price_cents)
    }
}

#[cfg(test)]
mod tests {
    use super::stock;

    #[test]
    fn stock_lies_between_a_hundred_and_a_thousand_and_grows_with_popularity() {
        assert_eq!(stock(101, 0), 100);
        assert_eq!(stock(100, 1_000_000), 1000);
        assert!(stock(7, 50) > stock(7, 1));
    }
}
