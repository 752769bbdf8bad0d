//! Under which keys products are cached, and under which names their changes are counted.
//!
//! A list depends on one tag, which says who belongs to it, and on every product it shows. So a new price invalidates the
//! pages that show the product and no other, and only joining or leaving a list costs all of its pages.

use super::{Product, ProductFilter, ProductPage, TopProducts};
use crate::{
    cache::{Cacheable, Key, Name},
    domain::page::PageRequest,
};

impl Product {
    /// The key of the product with this id.
    pub fn key(id: i64) -> Key<Self> {
        Key::shared(&[&id])
    }

    /// The name under which changes of the product with this id are counted.
    pub fn name_of(id: i64) -> Name {
        Self::key(id).name().clone()
    }

    /// The tags of the filtered lists that the product belongs to.
    pub fn list_tags(&self) -> [Name; 2] {
        [tag("category", &self.category), tag("department", &self.department)]
    }
}

impl ProductPage {
    /// The tag of the unfiltered list: raised when a product comes or goes.
    pub fn tag_of_all() -> Name {
        Name::shared(Self::POLICY.pattern, &[])
    }
}

impl ProductFilter {
    /// The tag that the pages of this filter depend on. One is enough, because a product that changes its category or its
    /// department raises the tags of both.
    pub fn tag(&self) -> Name {
        match (&self.category, &self.department) {
            (Some(category), _) => tag("category", category),
            (None, Some(department)) => tag("department", department),
            (None, None) => ProductPage::tag_of_all(),
        }
    }

    /// The key of one page of this filter.
    pub fn key(&self, page: PageRequest) -> Key<ProductPage> {
        // `any` can't be mistaken for a category called so: that one reads `is.any`.
        let part =
            |value: &Option<String>| value.as_ref().map_or_else(|| "any".to_owned(), |value| format!("is.{value}"));
        let after = page.after.unwrap_or(0);
        Key::shared(&[&part(&self.category), &part(&self.department), &page.limit, &after])
    }
}

impl TopProducts {
    /// The key of the first `limit` products by popularity.
    pub fn key(limit: u16) -> Key<Self> {
        Key::shared(&[&limit])
    }
}

/// The tag of the lists filtered by a category or a department.
pub fn tag(kind: &str, value: &str) -> Name {
    Name::shared(ProductPage::POLICY.pattern, &[&kind, &value])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(category: Option<&str>, department: Option<&str>) -> ProductFilter {
        ProductFilter { category: category.map(Into::into), department: department.map(Into::into) }
    }

    #[test]
    fn a_page_depends_on_the_narrowest_tag() {
        assert_eq!(filter(None, None).tag().as_str(), "product-list");
        assert_eq!(filter(None, Some("DRUG GM")).tag().as_str(), "product-list:department:DRUG%20GM");
        assert_eq!(filter(Some("A:B"), Some("DRUG GM")).tag().as_str(), "product-list:category:A%3AB");
    }

    #[test]
    fn no_two_filters_share_a_key() {
        let page = PageRequest { limit: 20, after: None };
        let filters =
            [filter(None, None), filter(Some("any"), None), filter(None, Some("any")), filter(Some("any:any"), None)];
        let keys: std::collections::HashSet<_> = filters.iter().map(|f| f.key(page).as_str().to_owned()).collect();
        assert_eq!(keys.len(), filters.len());
        assert!(keys.contains("product-list:any:any:20:0"));
    }
}
