//! Administration of the cache: its policies, warming, and the two manual actions of an operator,
//! invalidation and erasure.

use aside_cache::{CacheMode, Tag, Tenant, on_behalf_of};
use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;

use super::{Management, problem::problem};
use crate::{
    domain::{
        names::{FORMS, is_name},
        products::tags::expand,
    },
    warming,
};

/// The maximum number of tags in one request, because they are locked together until the
/// transaction ends.
const MAX_NAMES: usize = 1000;
const MAX_NAME_BYTES: usize = 512;
/// The subject of the manual actions.
pub const OPERATOR: &str = "operator";

pub async fn show_stats(State(state): State<Management>) -> Response {
    Json(state.cache.stats()).into_response()
}

pub async fn list_policies(State(state): State<Management>) -> Response {
    Json(state.cache.policies()).into_response()
}

/// Repeats the warming of the start.
pub async fn warm_cache(State(state): State<Management>) -> Response {
    Json(warming::warm(&state.products, state.warm_top, CacheMode::Default).await).into_response()
}

/// The tenant whose data to erase.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erasure {
    tenant: String,
}

/// Makes all cached data of a tenant unreadable, including all copies.
pub async fn erase_tenant(State(state): State<Management>, body: Result<Json<Erasure>, JsonRejection>) -> Response {
    let Ok(Json(Erasure { tenant })) = body else {
        return problem(StatusCode::UNPROCESSABLE_ENTITY, r#"The body must be JSON such as {"tenant": "demo"}."#);
    };
    let Some(tenant) = Tenant::parse(&tenant) else {
        return problem(StatusCode::UNPROCESSABLE_ENTITY, "tenant must be 1 to 64 of a-z, 0-9 and '-'.");
    };
    let erased = on_behalf_of(OPERATOR, state.cache.erase(&tenant)).await;
    if let Some(audit) = &state.audit {
        audit.by_hand("erase", tenant.as_str(), matches!(erased, Ok(true)));
    }
    match erased {
        Ok(false) => problem(StatusCode::NOT_FOUND, "No such tenant is known here; nothing was erased."),
        Ok(true) => {
            tracing::info!(%tenant, "cached data of a tenant erased by an operator");
            Json(json!({ "erased": tenant.as_str() })).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "failed to erase cached data of a tenant");
            problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "The ledger can't be written at the moment. It may have been done all the same: send it again.",
            )
        }
    }
}

/// The target of an invalidation: tags, a whole type, or all of a tenant.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub enum Invalidation {
    /// Resources (`product:42`) and list tags (`order-list:demo:749`).
    Names(Vec<String>),
    /// A type (`product`): all its entries, and every list that contains one of its values.
    Pattern(String),
    /// A tenant: all its entries.
    Tenant(String),
}

/// Raises versions in the ledger. After the commit, no instance serves entries that depend on them.
pub async fn invalidate_names(
    State(state): State<Management>,
    body: Result<Json<Invalidation>, JsonRejection>,
) -> Response {
    let patterns: Vec<&str> = state.cache.policies().iter().map(|policy| policy.name).collect();
    let mut tenant = String::new();
    let names = match body {
        Ok(Json(invalidation)) => {
            if let Invalidation::Tenant(named) = &invalidation {
                tenant.clone_from(named);
            }
            check(invalidation, &patterns)
        }
        Err(rejection) => {
            let form = match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => "The body is longer than any list of names.",
                StatusCode::UNSUPPORTED_MEDIA_TYPE => "Send the body with Content-Type: application/json.",
                _ => r#"The body must be JSON such as {"names": ["product:42"]} or {"pattern": "product"}."#,
            };
            return problem(rejection.status(), form);
        }
    };
    let names = match names {
        Ok(names) => names,
        Err(rule) => return problem(StatusCode::UNPROCESSABLE_ENTITY, &rule),
    };
    let texts: Vec<String> = names.iter().map(Tag::to_string).collect();
    let invalidated = on_behalf_of(OPERATOR, state.cache.invalidate(names)).await;
    if let Some(audit) = &state.audit {
        audit.by_hand("invalidate", &tenant, invalidated.is_ok());
    }
    match invalidated {
        Ok(()) => {
            // Tags may contain the ids of persons, so only their number is logged.
            tracing::info!(count = texts.len(), "cache invalidated by an operator");
            Json(json!({ "invalidated": texts })).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "failed to invalidate by an operator");
            problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "The ledger can't be written at the moment. It may have been done all the same: send it again.",
            )
        }
    }
}

fn check(invalidation: Invalidation, patterns: &[&str]) -> Result<Vec<Tag>, String> {
    match invalidation {
        Invalidation::Names(names) => {
            check_names(&names, patterns)?;
            Ok(names.iter().flat_map(|name| expand(name)).collect())
        }
        Invalidation::Pattern(pattern) if patterns.contains(&pattern.as_str()) => Ok(vec![Tag::prefix(pattern)]),
        Invalidation::Tenant(tenant) => match Tenant::parse(&tenant) {
            Some(tenant) => Ok(vec![Tag::all_of(&tenant)]),
            None => Err("tenant must be 1 to 64 of a-z, 0-9 and '-'.".to_owned()),
        },
        Invalidation::Pattern(_) => Err(format!("pattern must be one of: {}.", patterns.join(", "))),
    }
}

/// Refuses tags that no cache entry can have. Otherwise a typing error would be answered like a
/// success.
pub fn check_names(names: &[String], patterns: &[&str]) -> Result<(), String> {
    if names.is_empty() || names.len() > MAX_NAMES {
        return Err(format!("names must hold 1 to {MAX_NAMES} names."));
    }
    for (index, name) in names.iter().enumerate() {
        check_name(name, patterns).map_err(|rule| format!("names[{index}] {rule}"))?;
    }
    Ok(())
}

/// Returns an error with the rule that a tag breaks.
pub fn check_name(name: &str, patterns: &[&str]) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'%' | b':');
    let form = (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(allowed);
    if !form || name.split(':').any(str::is_empty) {
        return Err(format!(
            "must be segments joined by ':', of letters, digits, '-', '.' and '_' (others percent-escaped), \
             {MAX_NAME_BYTES} bytes at most."
        ));
    }
    if !patterns.contains(&Tag::from_ledger(name).pattern()) {
        return Err(format!("must begin with one of the key patterns: {}.", patterns.join(", ")));
    }
    if !is_name(name) {
        return Err(FORMS.to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_under_which_something_can_be_cached_are_taken() {
        let patterns = ["product", "product-list", "order-list"];
        let check =
            |names: &[&str]| check_names(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(), &patterns);
        let longest = format!("product:{}", "9".repeat(MAX_NAME_BYTES));
        assert!(check(&["product:42", "order-list:demo:749", "product-list:category:a%20b"]).is_ok());
        for wrong in [
            &[][..],
            &[""],
            &["product:42", "products:42"],
            &["product: 42"],
            &["product:*"],
            &["product:"],
            &["product::42"],
            &[":42"],
            &["product:42\0"],
            &[longest.as_str()],
            &["product:1"; MAX_NAMES + 1],
        ] {
            assert!(check(wrong).is_err(), "{wrong:?}");
        }
    }
}
