//! Composes names for products. The data has only a type, a category and a size, in capitals and
//! abbreviated.
//!
//! `BANANAS`, `TROPICAL FRUIT`, `40 LB` become `Bananas, tropical fruit, 40 lb`. Only unambiguous
//! abbreviations are expanded. The rest keeps the shop's spelling.

/// Composes the name of a product.
pub(super) fn compose(kind: &str, category: &str, size: &str) -> String {
    let kind = readable(kind);
    let category = readable(category);
    let size = size.split_whitespace().map(unit).collect::<Vec<_>>().join(" ");
    let mut name = capitalised(&kind);
    if !category.is_empty() && category != kind {
        name.push_str(", ");
        name.push_str(&category);
    }
    if !size.is_empty() {
        name.push_str(", ");
        name.push_str(&size);
    }
    name
}

/// Converts to lower case, with single spaces, a space after a colon, and expanded abbreviations.
fn readable(text: &str) -> String {
    let text = text.replace(':', ": ");
    text.split_whitespace()
        .map(|word| word.split('/').map(word_of).collect::<Vec<_>>().join("/"))
        .collect::<Vec<_>>()
        .join(" ")
}

fn word_of(word: &str) -> String {
    let long = match word {
        "FRZN" | "FRZ" => "frozen",
        "BKD" => "baked",
        "FD" => "food",
        "DRNK" => "drink",
        "DRNKS" => "drinks",
        "SFT" => "soft",
        "BTL" => "bottle",
        "MISC" | "MISC." => "miscellaneous",
        "REFRGRATD" => "refrigerated",
        "BRKFST" => "breakfast",
        "WHLSM" => "wholesome",
        "PWDR" => "powder",
        "CRYSTL" => "crystal",
        "FLVRD" => "flavored",
        "SNDWCH" => "sandwich",
        "SPRD" => "spread",
        "SALD" => "salad",
        "DRSNG" => "dressing",
        "CLEANG" => "cleaning",
        "SHERBTS" => "sherbets",
        "PKGD" => "packaged",
        "PKLD" => "pickled",
        "WTR" => "water",
        "SPLY" => "supplies",
        "DNRS" => "dinners",
        _ => return word.to_lowercase(),
    };
    long.to_owned()
}

fn unit(word: &str) -> String {
    match word {
        "GA" => "gal".to_owned(),
        "DZ" | "DOZ" => "dozen".to_owned(),
        // A lower-case l looks like a one.
        "L" => "L".to_owned(),
        _ => word.to_lowercase(),
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::compose;

    #[test]
    fn a_name_tells_type_category_and_size() {
        assert_eq!(compose("BANANAS", "TROPICAL FRUIT", "40 LB"), "Bananas, tropical fruit, 40 lb");
        assert_eq!(compose("MEAT: LUNCHMEAT BULK", "DELI MEATS", ""), "Meat: lunchmeat bulk, deli meats");
    }

    #[test]
    fn nothing_is_said_twice() {
        assert_eq!(compose("EGGS", "EGGS", "1 DZ"), "Eggs, 1 dozen");
    }

    #[test]
    fn abbreviations_are_written_out() {
        let soda = compose("SFT DRNK 2 LITER BTL CARB INCL", "SOFT DRINKS", "2 L");
        assert_eq!(soda, "Soft drink 2 liter bottle carb incl, soft drinks, 2 L");
        assert_eq!(compose("PEAS", "FRZN VEGETABLE/VEG DSH", "1/2 GA"), "Peas, frozen vegetable/veg dsh, 1/2 gal");
    }
}
