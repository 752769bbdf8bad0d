//! Decides which texts are valid keys of cache entries or tags on which lists depend.

use aside_cache::{Tenant, is_segment};

/// The valid forms, shown to a client that sent another text.
pub const FORMS: &str = "must be a key or a tag: product:ID, product-top:LIMIT, product-list, product-list:category:NAME, \
    product-list:department:NAME, order:TENANT:ID, order-list:TENANT:CUSTOMER, or the key of a page.";

/// Returns whether `text` is a valid key or tag. It must consist of segments joined by colons, and
/// no segment may be empty.
pub fn is_name(text: &str) -> bool {
    let segments: Vec<&str> = text.split(':').collect();
    match segments[..] {
        ["product", id] => is_number(id),
        ["order" | "order-list", tenant, id] => Tenant::parse(tenant).is_some() && is_number(id),
        ["product-top", limit] => is_number(limit),
        ["product-list"] => true,
        ["product-list", "category" | "department", text] => is_segment(text),
        ["product-list", category, department, limit, after] => {
            let any = |part: &str| part == "any" || part.starts_with("is.") && is_segment(part);
            any(category) && any(department) && is_number(limit) && (after == "0" || is_number(after))
        }
        ["order-list", tenant, customer, status, limit, after] => {
            Tenant::parse(tenant).is_some()
                && is_segment(status)
                && is_number(customer)
                && is_number(limit)
                && (after == "0" || is_number(after))
        }
        _ => false,
    }
}

/// Returns whether `text` is a positive number in its canonical spelling, as keys contain it.
fn is_number(text: &str) -> bool {
    text.parse::<i64>().is_ok_and(|number| number > 0 && number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        orders::{Order, OrderFilter, OrderPage},
        page::PageRequest,
        products::{Product, ProductFilter, TopProducts, tags::category_tag},
    };

    #[test]
    fn all_keys_and_tags_are_names_and_what_looks_like_one_is_none() {
        let demo = Tenant::parse("demo").unwrap();
        let page = PageRequest { limit: 20, after: Some(7) };
        let products = ProductFilter { category: Some("A:B".into()), department: None };
        for name in [
            Product::tag_of(42).to_string(),
            TopProducts::key(20).as_str().to_owned(),
            products.key(page).as_str().to_owned(),
            category_tag("A:B").to_string(),
            Order::key(&demo, 7).as_str().to_owned(),
            OrderPage::tag(&demo, 749).to_string(),
            OrderFilter { customer_id: 749, status: None }.key(&demo, page).as_str().to_owned(),
        ] {
            assert!(is_name(&name), "{name}");
        }
        for text in
            ["product-list:category:%e4", "product-list:category:a%2", "product-list:category:%61", "order:Acme:1"]
        {
            assert!(!is_name(text), "{text} is another spelling, or none");
        }
        for text in ["product", "order", "order:demo", "order:1", "product:00042", "product:%zz", "product-list:x"] {
            assert!(!is_name(text), "{text}");
        }
        assert!(!is_name("product:99999999999999999999"));
    }
}
