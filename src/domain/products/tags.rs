//! The keys of cached products, and the tags that their changes invalidate.
//!
//! A list depends on one tag for its members and on the tag of every product that it shows. A new
//! price therefore invalidates only the pages that show the product. Only a product that joins or
//! leaves a list invalidates all pages of that list. Tags that many products share are sharded.

use aside_cache::{Cacheable, Key, ShardedTag, Tag};

use super::{Product, ProductFilter, ProductPage, TopProducts};
use crate::domain::page::PageRequest;

impl Product {
    /// The key of the product with this id.
    pub fn key(id: i64) -> Key<Self> {
        Key::new(id)
    }

    /// The tag of the product with this id, which every change of it invalidates.
    pub fn tag_of(id: i64) -> Tag {
        Self::key(id).tag().clone()
    }

    /// The tags to invalidate when the product joins or leaves the filtered lists.
    pub fn list_tags(&self) -> [Tag; 2] {
        [category_tag(&self.category), department_tag(&self.department).shard(self.id)]
    }
}

impl ProductFilter {
    /// The tags on which the pages of this filter depend: those of one condition. One condition is
    /// enough, because a product that changes its category or department invalidates the tags of
    /// both.
    pub fn tags(&self) -> Vec<Tag> {
        match (&self.category, &self.department) {
            (Some(category), _) => vec![category_tag(category)],
            (None, Some(department)) => department_tag(department).shards(),
            (None, None) => catalogue_tag().shards(),
        }
    }

    /// The key of one page of this filter.
    pub fn key(&self, page: PageRequest) -> Key<ProductPage> {
        // `any` can't be confused with a category of that name, which becomes `is.any`.
        let part =
            |value: &Option<String>| value.as_ref().map_or_else(|| "any".to_owned(), |value| format!("is.{value}"));
        let after = page.after.unwrap_or(0);
        Key::new((part(&self.category), part(&self.department), page.limit, after))
    }
}

impl TopProducts {
    /// The key of the first `limit` products by popularity.
    pub fn key(limit: u16) -> Key<Self> {
        Key::new(limit)
    }
}

/// The tag of the unfiltered list, which is invalidated when a product is added or removed.
pub fn catalogue_tag() -> ShardedTag {
    ShardedTag::new(Tag::new(ProductPage::POLICY.name, ()))
}

/// The tag of the lists filtered by a category.
pub fn category_tag(category: &str) -> Tag {
    Tag::new(ProductPage::POLICY.name, ("category", category))
}

/// The tag of the lists filtered by a department.
pub fn department_tag(department: &str) -> ShardedTag {
    ShardedTag::new(Tag::new(ProductPage::POLICY.name, ("department", department)))
}

/// The tags to invalidate for the name `text` that a person typed. For a sharded tag these are all
/// of its rows.
pub fn expand(text: &str) -> Vec<Tag> {
    let pattern = ProductPage::POLICY.name;
    let is_hot = text == pattern || text.strip_prefix(pattern).is_some_and(|rest| rest.starts_with(":department:"));
    let name = Tag::from_ledger(text);
    if is_hot { ShardedTag::new(name).shards() } else { vec![name] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(category: Option<&str>, department: Option<&str>) -> ProductFilter {
        ProductFilter { category: category.map(Into::into), department: department.map(Into::into) }
    }

    #[test]
    fn a_page_depends_on_the_narrowest_tag() {
        let names = |filter: ProductFilter| filter.tags().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(filter(Some("A:B"), Some("DRUG GM"))), ["product-list:category:A%3AB"]);
        assert_eq!(names(filter(None, None))[15], "product-list#15");
        assert_eq!(names(filter(None, Some("DRUG GM")))[0], "product-list:department:DRUG%20GM#0");
    }

    #[test]
    fn a_write_raises_one_of_the_names_that_pages_depend_on() {
        for id in [i64::MIN, -1, 0, 7, 16, i64::MAX] {
            assert!(filter(None, None).tags().contains(&catalogue_tag().shard(id)), "{id}");
        }
    }

    #[test]
    fn invalidating_a_tag_by_its_text_raises_all_that_its_pages_depend_on() {
        for filter in [filter(None, None), filter(None, Some("DRUG GM")), filter(Some("A:B"), None)] {
            let tags = filter.tags();
            let text = tags[0].as_str().trim_end_matches("#0");
            assert_eq!(expand(text), tags);
        }
        assert_eq!(expand("product:42"), [Product::tag_of(42)]);
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
