//! The compliance report that regulated teams need before they may cache. For each data type it
//! lists where its values may be stored, for how long, and how they are protected there. It also
//! checks whether this instance, as it is configured, satisfies the policy.

use aside_cache::{OutOfRegion, Policy, Residency};
use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use super::{Management, problem::problem};

/// The parts of the configuration that the report covers.
#[derive(Clone, Debug)]
pub struct Protection {
    /// The kind of L2, and whether its connection uses TLS or stays on this machine; `None` if
    /// there is no L2.
    pub l2: Option<(&'static str, bool)>,
    /// Whether the connection to Postgres uses TLS or stays on this machine.
    pub postgres_connection_secure: bool,
    /// Whether callers are verified.
    pub callers_verified: bool,
    /// Whether accesses are recorded.
    pub audited: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    format: Option<Format>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    #[default]
    Json,
    Markdown,
}

#[derive(Debug, Serialize)]
struct Report {
    satisfied: bool,
    /// The ids of the keys that seal entries in L2, with the primary key first.
    keys: Vec<String>,
    postgres_connection_secure: bool,
    /// `Redis`, `Memcached`, or `null` if there is none.
    l2: Option<&'static str>,
    l2_connection_secure: Option<bool>,
    callers_verified: bool,
    types: Vec<TypeReport>,
}

#[derive(Debug, Serialize)]
struct TypeReport {
    #[serde(flatten)]
    policy: Policy,
    /// Where this instance stores values.
    kept: String,
    sealed_in_l2: bool,
    audited: bool,
    /// Requirements of the policy that this instance does not satisfy.
    missing: Vec<&'static str>,
}

pub async fn show_compliance(
    State(state): State<Management>,
    wanted: Result<Query<Params>, QueryRejection>,
) -> Response {
    let Ok(Query(Params { format })) = wanted else {
        return problem(StatusCode::BAD_REQUEST, "format is json or markdown, and there is no other parameter.");
    };
    let report = report(state.cache.policies(), state.cache.key_ids(), &state.protection);
    match format.unwrap_or_default() {
        Format::Json => Json(report).into_response(),
        Format::Markdown => {
            ([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], markdown(&report)).into_response()
        }
    }
}

fn report(policies: &[Policy], keys: Vec<String>, protection: &Protection) -> Report {
    let sealed = !keys.is_empty();
    let types: Vec<TypeReport> = policies.iter().map(|policy| of_type(policy, sealed, protection)).collect();
    Report {
        satisfied: types.iter().all(|of_type| of_type.missing.is_empty()),
        keys,
        postgres_connection_secure: protection.postgres_connection_secure,
        l2: protection.l2.map(|(name, _)| name),
        l2_connection_secure: protection.l2.map(|(_, safe)| safe),
        callers_verified: protection.callers_verified,
        types,
    }
}

fn of_type(policy: &Policy, sealed: bool, protection: &Protection) -> TypeReport {
    let personal = policy.sensitivity.is_personal();
    let regulated = policy.sensitivity == aside_cache::Sensitivity::Regulated;
    let process_only = policy.residency == Residency::ProcessOnly;
    let in_l2 = protection.l2.filter(|_| !process_only && (sealed || !personal));
    let mut missing = Vec::new();
    let mut ask = |holds: bool, what| {
        if !holds {
            missing.push(what);
        }
    };
    ask(!personal || protection.callers_verified, "callers are not verified: set JWT_SECRET or JWT_JWKS_FILE");
    ask(
        !personal || protection.postgres_connection_secure,
        "the connection to Postgres can be read: use sslmode=verify-full",
    );
    ask(
        in_l2.is_none_or(|(_, safe)| safe) || sealed,
        "the connection to L2 can be read and changed: use CACHE_KEYS, or rediss:// with Redis",
    );
    ask(!regulated || protection.audited, "accesses are not recorded: set AUDIT_LOG");
    TypeReport {
        policy: *policy,
        kept: match (in_l2, policy.residency) {
            (None, _) => "process".to_owned(),
            (Some((l2, _)), Residency::Regional(_)) => format!("process and {l2}, in the tenant's home region"),
            (Some((l2, _)), _) => format!("process and {l2}, in every region"),
        },
        sealed_in_l2: in_l2.is_some() && sealed,
        audited: regulated && protection.audited,
        missing,
    }
}

fn markdown(report: &Report) -> String {
    use std::fmt::Write;
    let yes = |holds: bool| if holds { "yes" } else { "no" };
    let mut text = String::from("# Compliance of the cache\n\n");
    // Writing to a String can't fail.
    let _ = writeln!(text, "Satisfied: **{}**.\n", yes(report.satisfied));
    let (l2, connection) = (report.l2.unwrap_or("L2"), report.l2_connection_secure.map_or("there is none", yes));
    let _ = writeln!(
        text,
        "Keys that seal: {}. Connection to Postgres secure: {}; to {l2}: {connection}. Callers verified: {}.\n",
        if report.keys.is_empty() { "none".to_owned() } else { report.keys.join(", ") },
        yes(report.postgres_connection_secure),
        yes(report.callers_verified),
    );
    text.push_str("| data type | sensitivity | lifetime in process / L2 / at most | kept in | sealed in L2 | abroad | recorded | missing |\n");
    text.push_str("|---|---|---|---|---|---|---|---|\n");
    for TypeReport { policy, kept, sealed_in_l2, audited, missing } in &report.types {
        let abroad = match policy.residency {
            Residency::Shared => "kept",
            Residency::Regional(OutOfRegion::NoStore) => "answered, not kept",
            Residency::Regional(OutOfRegion::Reject) => "refused",
            Residency::ProcessOnly => "kept in the process",
        };
        let [l1, l2, most] = [policy.l1_ttl, policy.l2_ttl, policy.max_age].map(|time| format!("{} s", time.as_secs()));
        let missing = if missing.is_empty() { "nothing".to_owned() } else { missing.join("; ") };
        let _ = writeln!(
            text,
            "| {} | {:?} | {l1} / {l2} / {most} | {kept} | {} | {abroad} | {} | {missing} |",
            policy.name,
            policy.sensitivity,
            yes(*sealed_in_l2),
            yes(*audited),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policies;

    fn whole() -> Protection {
        Protection {
            l2: Some(("Redis", true)),
            postgres_connection_secure: true,
            callers_verified: true,
            audited: true,
        }
    }

    #[test]
    fn each_protection_that_is_missing_is_named() {
        let keys = || vec!["one".to_owned()];
        assert!(report(&policies(), keys(), &whole()).satisfied);
        let weak = [
            Protection { callers_verified: false, ..whole() },
            Protection { postgres_connection_secure: false, ..whole() },
            Protection { audited: false, ..whole() },
        ];
        for protection in weak {
            let report = report(&policies(), keys(), &protection);
            assert!(!report.satisfied && markdown(&report).contains("**no**"), "{protection:?}");
            assert!(
                report.types.iter().all(|one| one.missing.len() == usize::from(one.policy.sensitivity.is_personal()))
            );
        }
        let open = Protection { l2: Some(("Memcached", false)), ..whole() };
        let sealed = report(&policies(), keys(), &open);
        assert!(sealed.satisfied, "what is sealed may go by any line");
        assert!(sealed.types.iter().any(|one| one.kept == "process and Memcached, in every region"), "{sealed:?}");
        let unsealed = report(&policies(), Vec::new(), &open);
        assert!(!unsealed.satisfied);
        let order = unsealed.types.iter().find(|one| one.policy.name == "order").unwrap();
        assert_eq!(
            (order.kept.as_str(), order.missing.len()),
            ("process", 0),
            "without keys orders stay in the process"
        );
    }
}
