//! Authentication and authorisation. A bearer token (JWT, RFC 7519) names the tenant, the subject
//! and its scopes. A handler states its required scope in the type of its [`Caller`], so a check
//! can't be forgotten.
//!
//! The keys are either one secret (HS256) or a set of public keys (RS256, ES256), never both. A
//! public key thus can't be used as a secret.

use std::{
    borrow::Cow,
    marker::PhantomData,
    sync::{Arc, PoisonError, RwLock},
};

use aside_cache::Tenant;
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode, get_current_timestamp,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};
use serde::Deserialize;

use super::{
    WebState, audit,
    forwarded::Client,
    problem::{Kind, Problem},
    signatures,
};

/// The maximum length of a token.
const MAX_TOKEN: usize = 8 * 1024;
/// The tolerated difference to the clock of the token's issuer, in seconds.
const LEEWAY: u64 = 30;
const MAX_SUBJECT: usize = 256;
/// The length of a modulus of 2048 bits in base64. Keys with shorter ones are rejected.
const MODULUS: usize = 342;
/// The tenant and subject of all requests when authentication is off.
const ANONYMOUS: (&str, &str) = ("demo", "anonymous");

/// The required audience and issuer of a token.
#[derive(Clone, Debug)]
pub struct Expected {
    pub audience: String,
    /// `None` accepts any issuer that has a key.
    pub issuer: Option<String>,
}

/// The reason why keys can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    #[error("not a JSON Web Key Set (RFC 7517)")]
    Form,
    #[error("it holds no key for RS256 or ES256 that has an id")]
    NoKey,
}

/// Verifies tokens. It is cheap to clone.
#[derive(Clone)]
pub struct Verifier {
    expected: Expected,
    keys: Arc<RwLock<Arc<[KnownKey]>>>,
}

/// A key and the validation rules for tokens that are signed with it.
struct KnownKey {
    /// `None` for the secret.
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
    rules: Validation,
}

/// A JSON Web Key Set whose members are not parsed yet.
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Claims {
    tenant: String,
    sub: String,
    #[serde(default)]
    scope: String,
}

/// The verified sender of a request and its scopes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    tenant: Tenant,
    subject: String,
    scopes: String,
}

impl Verifier {
    /// Accepts tokens signed with the secret (HS256).
    pub fn with_secret(secret: &str, expected: Expected) -> Self {
        signatures::install();
        let key = DecodingKey::from_secret(secret.as_bytes());
        let algorithm = Algorithm::HS256;
        let secret = KnownKey { id: None, algorithm, key, rules: rules(algorithm, &expected) };
        Self { expected, keys: Arc::new(RwLock::new(Arc::new([secret]))) }
    }

    /// Accepts tokens signed with a key of a JSON Web Key Set (RS256 and ES256).
    ///
    /// # Errors
    /// If the text is not a key set or contains no usable key.
    pub fn with_key_set(text: &str, expected: Expected) -> Result<Self, KeySetError> {
        signatures::install();
        Ok(Self { keys: Arc::new(RwLock::new(public_keys(text, &expected)?)), expected })
    }

    /// Replaces the keys. Tokens signed with the previous keys are rejected from now on.
    ///
    /// # Errors
    /// The same as for [`Self::with_key_set`]. The keys then stay the same.
    pub fn change_key_set(&self, text: &str) -> Result<(), KeySetError> {
        let keys = public_keys(text, &self.expected)?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    /// Returns whether a token is valid.
    pub fn accepts(&self, token: &str) -> bool {
        self.verify(token).is_some()
    }

    /// Returns the identity in a token; `None` if the token is not valid.
    fn verify(&self, token: &str) -> Option<Identity> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let head = decode_header(token).ok().filter(is_plain)?;
        let keys = Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner));
        // The key determines the algorithm, and the token's own claim is not trusted.
        let fits = |key: &&KnownKey| key.algorithm == head.alg && (key.id.is_none() || key.id == head.kid);
        let believed = |known: &KnownKey| decode::<Claims>(token, &known.key, &known.rules).ok();
        let Claims { tenant, sub, scope } = keys.iter().filter(fits).find_map(believed)?.claims;
        let readable = (1..=MAX_SUBJECT).contains(&sub.len()) && !sub.chars().any(is_unseen);
        readable.then_some(Identity { tenant: Tenant::parse(&tenant)?, subject: sub, scopes: scope })
    }
}

impl std::fmt::Debug for Verifier {
    /// The output does not contain the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Verifier").field(&self.expected).finish()
    }
}

/// Returns whether a token is a JWT without extensions. A critical extension must be understood or
/// refused (RFC 7515, 4.1.11), and with `b64` other bytes would be signed (RFC 7797).
fn is_plain(head: &Header) -> bool {
    let extended = head.crit.is_some() || !matches!(head.extras.get::<serde_json::Value>("b64"), Ok(None));
    let typ = head.typ.as_deref().map(str::to_ascii_lowercase);
    let named = typ.as_deref().map(|typ| typ.strip_prefix("application/").unwrap_or(typ));
    !extended && matches!(named, None | Some("jwt" | "at+jwt"))
}

/// Returns whether a character is invisible in a log or the audit, or changes how other characters
/// are displayed.
fn is_unseen(c: char) -> bool {
    let marks = matches!(c, '\u{AD}' | '\u{61C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
        | '\u{2060}'..='\u{2069}' | '\u{FEFF}' | '\u{E0000}'..='\u{E007F}');
    c.is_control() || marks
}

fn rules(algorithm: Algorithm, expected: &Expected) -> Validation {
    let mut rules = Validation::new(algorithm);
    rules.leeway = LEEWAY;
    rules.validate_nbf = true;
    rules.set_audience(&[&expected.audience]);
    rules.set_required_spec_claims(&["exp", "aud", "sub"]);
    if let Some(issuer) = &expected.issuer {
        rules.set_issuer(&[issuer]);
        rules.required_spec_claims.insert("iss".to_owned());
    }
    rules
}

fn public_keys(text: &str, expected: &Expected) -> Result<Arc<[KnownKey]>, KeySetError> {
    let set: KeySet = serde_json::from_str(text).map_err(|_| KeySetError::Form)?;
    // Members that can't be parsed are ignored (RFC 7517, section 5).
    let readable: Vec<Jwk> = set.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok()).collect();
    let known = readable.iter().filter_map(|key| {
        if matches!(key.common.public_key_use, Some(PublicKeyUse::Encryption)) {
            return None;
        }
        let algorithm = match &key.algorithm {
            AlgorithmParameters::RSA(rsa) if rsa.n.len() >= MODULUS => Algorithm::RS256,
            AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => Algorithm::ES256,
            _ => return None,
        };
        let named = key.common.key_algorithm;
        if named.is_some_and(|named| named.to_string() != format!("{algorithm:?}")) {
            return None;
        }
        let (id, rules) = (Some(key.common.key_id.clone()?), rules(algorithm, expected));
        Some(KnownKey { id, algorithm, key: DecodingKey::from_jwk(key).ok()?, rules })
    });
    let known: Arc<[KnownKey]> = known.collect();
    if known.is_empty() { Err(KeySetError::NoKey) } else { Ok(known) }
}

/// The scope that a route requires of its caller.
pub trait Scope: Send {
    /// The scope's name in the claim `scope`.
    const NAME: &'static str;
    /// The challenge for a caller without the scope (RFC 6750).
    const MISSING: &'static str;
    /// Whether the scope protects regulated data. A refused caller is then recorded.
    const REGULATED: bool;
}

macro_rules! scope {
    ($name:ident, $text:literal, $what:literal, $regulated:literal) => {
        #[doc = concat!("May ", $what, ".")]
        #[derive(Debug)]
        pub struct $name;
        impl Scope for $name {
            const NAME: &'static str = $text;
            const MISSING: &'static str =
                concat!("Bearer realm=\"aside\", error=\"insufficient_scope\", scope=\"", $text, "\"");
            const REGULATED: bool = $regulated;
        }
    };
}

scope!(OrdersRead, "orders:read", "read orders", true);
scope!(OrdersWrite, "orders:write", "place and change orders", true);
scope!(ProductsWrite, "products:write", "change the catalogue", false);

/// Signs a token for the demonstration with the secret. It is valid for `tenant` for an hour and
/// has these scopes.
///
/// # Errors
/// If the token can't be signed.
pub fn sign(
    secret: &str,
    expected: &Expected,
    (tenant, subject, scope): (&Tenant, &str, &str),
) -> Result<String, jsonwebtoken::errors::Error> {
    signatures::install();
    let mut claims = serde_json::json!({
        "tenant": tenant.as_str(),
        "sub": subject,
        "scope": scope,
        "aud": expected.audience,
        "exp": get_current_timestamp() + 3600,
    });
    if let Some(issuer) = &expected.issuer {
        claims["iss"] = issuer.as_str().into();
    }
    encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(secret.as_bytes()))
}

/// The sender of a request, which has the scope `S`. Without a verifier, every caller is the
/// demonstration's tenant and has all scopes.
#[derive(Debug)]
pub struct Caller<S> {
    pub tenant: Tenant,
    pub subject: Cow<'static, str>,
    scope: PhantomData<fn() -> S>,
}

impl<S: Scope> FromRequestParts<WebState> for Caller<S> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &WebState) -> Result<Self, Problem> {
        let Some(verifier) = &state.verifier else {
            return Ok(Self { tenant: state.tenant.clone(), subject: Cow::Borrowed(ANONYMOUS.1), scope: PhantomData });
        };
        let verified = bearer(&parts.headers).and_then(|token| verifier.verify(token).ok_or_else(invalid_token));
        let identity = verified.or_else(|problem| reject_unauthenticated::<S>(parts, state, problem))?;
        enforce_rate_limit::<S>(&identity, parts, state)?;
        require_scope::<S>(&identity, parts, state)?;
        Ok(Self { tenant: identity.tenant, subject: Cow::Owned(identity.subject), scope: PhantomData })
    }
}

/// Enforces the tenant's rate limit. Only one refusal a second is recorded, because recording all
/// of them would fill the disk.
fn enforce_rate_limit<S: Scope>(identity: &Identity, parts: &Parts, state: &WebState) -> Result<(), Problem> {
    let Some(rates) = &state.rates else { return Ok(()) };
    rates.check_limit(&identity.tenant).inspect_err(|_| {
        if rates.should_record(&identity.tenant) {
            refused::<S>(parts, state, Some(identity));
        }
    })
}

/// Returns an error unless the identity has the scope `S`.
fn require_scope<S: Scope>(identity: &Identity, parts: &Parts, state: &WebState) -> Result<(), Problem> {
    if identity.scopes.split(' ').any(|scope| scope == S::NAME) {
        return Ok(());
    }
    refused::<S>(parts, state, Some(identity));
    Err(Problem::new(&Kind::FORBIDDEN, format!("The token lacks the scope {}.", S::NAME))
        .with_header(header::WWW_AUTHENTICATE, S::MISSING))
}

/// Handles a request without a valid token. An address that sends too many of them gets a 429 and
/// is no longer recorded, because the records would fill the disk.
fn reject_unauthenticated<S: Scope>(parts: &Parts, state: &WebState, problem: Problem) -> Result<Identity, Problem> {
    if let Some(Client(address)) = parts.extensions.get() {
        state.failures.check_limit(*address)?;
    }
    refused::<S>(parts, state, None);
    Err(problem)
}

fn refused<S: Scope>(parts: &Parts, state: &WebState, who: Option<&Identity>) {
    if S::REGULATED {
        audit::refused(parts, state, who.map(|known| (&known.tenant, known.subject.as_str())));
    }
}

/// The tenant of all requests when authentication is off.
pub fn anonymous_tenant() -> Tenant {
    Tenant::parse(ANONYMOUS.0).expect("it keeps the rule for tenants")
}

fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (first, more) = (given.next(), given.next());
    if more.is_some() {
        return Err(invalid_token());
    }
    let value = first.map(|value| value.to_str().unwrap_or_default()).unwrap_or_default();
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(token.trim());
    }
    // A request without a token, or with another scheme, contains no token error, so the challenge
    // names none (RFC 6750, section 3.1).
    Err(Problem::new(&Kind::UNAUTHENTICATED, "Send a bearer token: `Authorization: Bearer …`.")
        .with_header(header::WWW_AUTHENTICATE, r#"Bearer realm="aside""#))
}

/// The problem does not say why the token is invalid, because this would only help a forger.
fn invalid_token() -> Problem {
    Problem::new(&Kind::UNAUTHENTICATED, "The token is expired, or not valid for this service.")
        .with_header(header::WWW_AUTHENTICATE, r#"Bearer realm="aside", error="invalid_token""#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_keys_and_keys_for_other_uses_are_refused() {
        let expected = || Expected { audience: "aside".into(), issuer: None };
        let taken = |more: &str, characters: usize| {
            let key =
                format!(r#"{{"keys":[{{"kty":"RSA","kid":"a","e":"AQAB","n":"{}"{more}}}]}}"#, "w".repeat(characters));
            Verifier::with_key_set(&key, expected()).is_ok()
        };
        assert!(taken("", MODULUS) && taken(r#","use":"sig","alg":"RS256""#, MODULUS));
        // It is two characters shorter, because one less would not be valid base64.
        assert!(!taken("", MODULUS - 2), "below 2048 bits");
        assert!(!taken(r#","use":"enc""#, MODULUS));
        assert!(!taken(r#","alg":"RS512""#, MODULUS) && !taken(r#","alg":"RSA-OAEP""#, MODULUS));
    }

    #[test]
    fn odd_members_of_a_key_set_are_ignored() {
        let good = format!(r#"{{"kty":"RSA","kid":"a","e":"AQAB","n":"{}"}}"#, "w".repeat(MODULUS));
        let expected = || Expected { audience: "aside".into(), issuer: None };
        let read = |keys: &str| Verifier::with_key_set(&format!(r#"{{"keys":[{keys}]}}"#), expected()).map(|_| ());
        for odd in [
            r#"{"kty":"RSA","kid":7,"e":"AQAB","n":"w"}"#,
            "null",
            r#"{"kty":"EC","crv":"P-256","kid":"b","key_ops":"verify","x":"a","y":"b"}"#,
            r#"{"kty":"EC","crv":"P-256","kid":"b","alg":5,"x":"a","y":"b"}"#,
            r#"{"kty":"AKP","kid":"pq","alg":"ML-DSA-44","pub":"AAAA"}"#,
        ] {
            assert!(read(&format!("{odd},{good}")).is_ok(), "{odd}");
            assert!(matches!(read(odd), Err(KeySetError::NoKey)), "{odd}");
        }
        assert!(matches!(Verifier::with_key_set(r#"{"keys":{}}"#, expected()), Err(KeySetError::Form)));
    }
}
