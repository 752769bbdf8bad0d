//! The tests of the file with requests for manual use. Each request names a path and a method of
//! the API document, or a path of the management listener that the README names.

use serde_json::Value;

use super::sources::read;

#[test]
fn every_request_for_trying_by_hand_is_one_of_the_service() {
    let document: Value = serde_json::from_str(&read("openapi/openapi.json")).expect("JSON");
    let paths = document["paths"].as_object().expect("paths");
    let (mut seen, mut wrong) = (Vec::new(), Vec::new());
    for (method, url) in requests() {
        let path = url.split('?').next().unwrap_or_default();
        if let Some(path) = path.strip_prefix("{{host}}") {
            let known = paths.iter().find(|(template, _)| matches(template, path));
            match known.filter(|(_, item)| item.get(method.to_lowercase()).is_some()) {
                Some((template, _)) => seen.push(format!("{method} {template}")),
                None => wrong.push(format!("{method} {path}")),
            }
        } else {
            let path = path.strip_prefix("{{management}}").expect("one of the two listeners");
            assert!(read("README.md").contains(&format!("{path}`")), "README.md doesn't know {path}");
        }
    }
    assert!(wrong.is_empty(), "not in openapi.json: {wrong:#?}");
    for (path, item) in paths {
        for method in item.as_object().expect("operations").keys() {
            let operation = format!("{} {path}", method.to_uppercase());
            assert!(seen.contains(&operation), "openapi/requests.http has no {operation}");
        }
    }
}

/// The methods and URLs of the file.
fn requests() -> Vec<(String, String)> {
    let methods = ["GET", "POST", "PATCH", "PUT", "DELETE"];
    let text = read("openapi/requests.http");
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.filter(|(method, _)| methods.contains(method)).map(|(m, url)| (m.to_owned(), url.to_owned())).collect()
}

/// Whether a path matches a template such as `/products/{id}`. A fixed segment wins over a
/// parameter.
fn matches(template: &str, path: &str) -> bool {
    let (parts, given): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    let fits = |(part, given): (&&str, &&str)| {
        part == given
            || part.starts_with('{') && given.contains(|c: char| c.is_ascii_digit() || c == '-')
            || *part == "{name}"
    };
    parts.len() == given.len() && parts.iter().zip(&given).all(fits)
}
