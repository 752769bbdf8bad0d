//! The page docs/http-conformance.md, which consists of the tables.

use super::{authentication, bodies, caching, documents, hosts_and_targets, methods, preflights, table::Table, tokens};
use crate::support::environment::variable;

const PAGE: &str = "docs/http-conformance.md";

const HEAD: &str = "# HTTP, section by section

This page lists rules of RFCs and how the service follows them. The tests in `tests/api/conformance` send each row to a running instance byte for byte. They also
write this page: `UPDATE_PAGES=1 scripts/test.sh api::conformance::page`. `{product}`, `{order}` and the like stand for rows of the test's database.

";

fn tables() -> Vec<Table> {
    let topics: [fn() -> Table; 8] = [
        hosts_and_targets::table,
        methods::table,
        preflights::table,
        caching::table,
        tokens::table,
        authentication::table,
        bodies::table,
        documents::table,
    ];
    topics.iter().map(|table| table()).collect()
}

#[test]
fn the_page_shows_every_row() {
    let page = format!("{HEAD}{}", tables().iter().map(Table::printed).collect::<Vec<_>>().join("\n"));
    println!("{page}");
    let path = format!("{}/{PAGE}", env!("CARGO_MANIFEST_DIR"));
    if variable("UPDATE_PAGES").is_some() {
        std::fs::write(&path, &page).expect("the page can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "run: UPDATE_PAGES=1 scripts/test.sh api::conformance::page");
}
