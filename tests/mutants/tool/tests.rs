//! The tests of the tool: the items it finds, the edits it refuses, and the files it reads.

use super::{
    format,
    mutant::{Edit, changed},
};

const RUST: &str = r##"
use std::fmt;

/// fn judge() is only mentioned here: a + b
fn judge(now: u64) -> bool {
    now > 1 // a + b
}

impl<T: Fn() -> u64> Freshness<'_, T>
where
    T: Send,
{
    pub async fn judge(&self, a: impl Fn(u8) -> bool, [b]: [u8; 1]) -> bool {
        let brace = '{';
        if self.floors.permit(
            a,
            b,
        ) && brace != '"' {
            return b == 1;
        }
        sqlx::query("select version
            from cache_ledger where tag = '}' and version > $1");
        b == 1
    }
}

impl fmt::Display for Freshness {
    fn fmt(&self) -> fmt::Result { f.write_str(r#"a "fence" {"#) }
}
impl fmt::Debug for Freshness {
    fn fmt(&self) -> fmt::Result { f.write_str("{") }
}

const LIMITS: [u64; 2] = [1, 2];

#[cfg(test)]
mod tests {
    fn judge() { assert!(1 > 0) }
}
"##;

/// The text after one edit of a file of that name.
fn edit_in(file: &str, text: &str, item: &str, find: &str, replace: &str) -> Result<String, String> {
    changed(text, &[&edit(file, item, find, replace)])
}

fn edit(file: &str, item: &str, find: &str, replace: &str) -> Edit {
    Edit { file: file.into(), item: item.into(), find: find.into(), replace: Some(replace.into()) }
}

fn edit_rust(item: &str, find: &str, replace: &str) -> Result<String, String> {
    edit_in("src/freshness.rs", RUST, item, find, replace)
}

#[test]
fn layout_and_trailing_commas_do_not_matter() {
    let expected = RUST.replace("self.floors.permit(\n            a,\n            b,\n        )", "true");
    for find in ["self.floors.permit(a, b)", "self . floors\n    .permit(\n a , // first\n b,\n)"] {
        assert_eq!(edit_rust("fn Freshness::judge", find, "true").as_ref(), Ok(&expected));
    }
}

#[test]
fn each_item_is_found_by_its_name() {
    for (item, find) in [
        ("fn judge", "now > 1"),
        ("fn tests::judge", "1 > 0"),
        ("fn Freshness::judge", "brace != '\"'"),
        ("fn Freshness::judge", "select version from cache_ledger where tag = '}'"),
        ("impl Freshness", "pub async fn judge"),
        ("fn <Freshness as Display>::fmt", "f.write_str(r#\"a \"fence\" {\"#)"),
        ("fn <Freshness as Debug>::fmt", "f.write_str(\"{\")"),
        ("impl Debug for Freshness", "f.write_str"),
        ("const LIMITS", "[1, 2]"),
        ("mod tests", "assert!(1 > 0)"),
        ("file", "use std::fmt"),
    ] {
        let changed = edit_rust(item, find, "elsewhere()");
        assert!(changed.as_ref().is_ok_and(|text| text.contains("elsewhere()")), "{item}: {changed:?}");
    }
}

#[test]
fn what_is_not_found_exactly_once_is_refused() {
    for (item, find, message) in [
        ("fn Freshness::judge", "c == 1", "doesn't have"),
        ("fn Freshness::judge", "now > 1", "doesn't have `now > 1`, but line 6 does"),
        ("fn Freshness::judge", "b == 1", "more than once: lines 19, 23"),
        ("fn judge", "a + b", "doesn't have"),
        ("fn judge", "1\n}\nimpl", "doesn't have"),
        ("fn Freshness::fmt", "f.write_str", "there are 2 of"),
        ("fn Wall::judge", "b", "there is no"),
        ("fn judge", "", "is empty"),
        ("fn judge", "now > 1", "by itself"),
    ] {
        let replace = if message == "by itself" { "now>1" } else { "c" };
        let refused = edit_rust(item, find, replace).expect_err("it is refused");
        assert!(refused.contains(message), "{item}: {refused}");
    }
}

#[test]
fn edits_are_made_at_once_and_may_not_overlap() {
    let (first, second) = (edit("a.lua", "file", "a + b", "b"), edit("a.lua", "file", "c", "d + a + b"));
    assert_eq!(changed("c = a + b -- c", &[&first, &second]).as_deref(), Ok("d + a + b = b -- c"));
    let overlapping = edit("a.lua", "file", "b - 1", "1");
    let refused = changed("c = a + b - 1", &[&first, &overlapping]).expect_err("it is refused");
    assert!(refused.contains("two edits"), "{refused}");
}

#[test]
fn statements_of_sql_are_found_by_how_they_begin() {
    let sql = "
        create or replace function raise(names text[]) returns void language plpgsql as $$
        begin -- raises; nothing else
            update ledger set ver = 1 where name <> ';';
        end $$;
        create function lower() returns int language sql begin atomic select 1; select 2; end;
        alter table ledger enable always trigger raises;";
    for (item, find) in [
        ("function raise", "update ledger set ver = 1"),
        ("function lower", "select 2"),
        ("alter table ledger", "enable always trigger"),
    ] {
        let changed = edit_in("a.sql", sql, item, find, "nothing");
        assert!(changed.as_ref().is_ok_and(|text| text.contains("nothing") && !text.contains(find)), "{changed:?}");
    }
    for (item, find) in [("function lower", "select 3"), ("function raise", "nothing else"), ("table ledger", "table")]
    {
        assert!(edit_in("a.sql", sql, item, find, "nothing").is_err(), "{item}: {find}");
    }
}

#[test]
fn other_files_are_searched_as_a_whole() {
    let shell = "# unset \"$name\"\nfor name in $(names); do\n    [ -n \"${!name:-}\" ] || unset \"$name\"\ndone\n";
    let changed = edit_in("a.sh", shell, "file", "[ -n \"${!name:-}\" ] || unset \"$name\"", ":");
    assert_eq!(changed.as_deref(), Ok("# unset \"$name\"\nfor name in $(names); do\n    :\ndone\n"));
    assert!(edit_in("a.yml", "on: push", "job push", "push", "never").is_err());
}

#[test]
fn a_file_says_rule_promise_tests_and_edits() {
    let text = "
        # A comment.
        rule = \"it's cold\"
        promise = 'it \"keeps\"'
        caught_by = [
            \"a::b\", # both
            'lib c::d',
        ]
        quick = true
        [[edit]]
        file = \"src/a.rs\"
        item = \"fn a\"
        find = '''
b'\\n'
'''
        replace = \"\"
    ";
    let mutant = format::parse(text).expect("it is read");
    assert_eq!((mutant.rule.as_str(), mutant.promise.as_str()), ("it's cold", "it \"keeps\""));
    assert_eq!((mutant.caught_by, mutant.quick), (vec!["a::b".to_owned(), "lib c::d".to_owned()], true));
    let [edit] = &mutant.edits[..] else { panic!("one edit") };
    assert_eq!((edit.find.as_str(), edit.replace.as_deref()), ("b'\\n'", Some("")));
    for (part, instead, message) in [
        ("rule", "role", "`role` is no key"),
        ("quick = true", "quick = \"yes\"", "line 9: `quick`"),
        ("promise = 'it \"keeps\"'", "", "`promise` is missing"),
        ("replace = \"\"", "", "`replace` is missing"),
        ("file = \"src/a.rs\"", "file = \"src\\\\a.rs\"", "no escapes"),
        ("\"fn a\"", "\"fn a\" b", "is too much"),
        ("item =", "file =", "given twice"),
        ("'lib c::d',\n        ]", "'lib c::d'", "lacks a comma"),
    ] {
        let refused = format::parse(&text.replace(part, instead)).expect_err("it is refused");
        assert!(refused.contains(message), "{instead}: {refused}");
    }
}
