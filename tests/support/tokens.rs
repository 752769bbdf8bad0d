//! Bearer tokens, valid and forged. This file creates and signs them without code of the service.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use jsonwebtoken::get_current_timestamp;
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use serde_json::{Value, json};

/// The signing secret of an instance under test.
pub const SECRET: &str = "a-secret-for-tests-that-everybody-may-know";

/// The claims of a token.
#[derive(Clone, Debug)]
pub struct Token(Value);

/// Returns a token for one hour, of a user of this tenant with all scopes.
pub fn token(tenant: &str) -> Token {
    Token(json!({
        "tenant": tenant,
        "sub": format!("somebody-of-{tenant}"),
        "scope": "orders:read orders:write products:write",
        "aud": "aside",
        "exp": get_current_timestamp() + 3600,
    }))
}

impl Token {
    /// Sets a claim.
    pub fn with(mut self, claim: &str, value: impl Into<Value>) -> Self {
        self.0[claim] = value.into();
        self
    }

    /// Removes a claim.
    pub fn without(mut self, claim: &str) -> Self {
        self.0.as_object_mut().expect("an object").remove(claim);
        self
    }

    /// Signs the token with [`SECRET`].
    pub fn signed(&self) -> String {
        self.signed_with(SECRET)
    }

    /// Signs the token with this secret.
    pub fn signed_with(&self, secret: &str) -> String {
        self.written(&json!({ "alg": "HS256", "typ": "JWT" }), |message| with_secret(secret, message))
    }

    /// Signs the token with a private key.
    pub fn signed_by(&self, signer: &Signer) -> String {
        let algorithm = match signer.key {
            PrivateKey::Elliptic(_) => "ES256",
            PrivateKey::Rsa(_) => "RS256",
        };
        let header = json!({ "alg": algorithm, "typ": "JWT", "kid": signer.id });
        self.written(&header, |message| signer.key.sign(message))
    }

    /// Signs the token with [`SECRET`], under a header with these additional members.
    pub fn signed_under(&self, more: &Value) -> String {
        let mut header = json!({ "alg": "HS256" });
        header.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        self.written(&header, |message| with_secret(SECRET, message))
    }

    fn written(&self, header: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
        let message = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(self.0.to_string()));
        let signature = sign(message.as_bytes());
        format!("{message}.{}", BASE64.encode(signature))
    }

    /// Returns the token with `alg` set to `none` and an empty signature.
    pub fn unsigned(&self) -> String {
        let part = |value: &Value| BASE64.encode(value.to_string());
        format!("{}.{}.", part(&json!({ "alg": "none", "typ": "JWT" })), part(&self.0))
    }

    /// Returns the token with the signature of another token.
    pub fn with_signature_of(&self, other: &str) -> String {
        let parts: Vec<&str> = other.split('.').collect();
        format!("{}.{}.{}", parts[0], BASE64.encode(self.0.to_string()), parts[2])
    }
}

fn with_secret(secret: &str, message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), message).as_ref().to_vec()
}

/// A key pair that signs tokens.
pub struct Signer {
    id: String,
    key: PrivateKey,
    /// The public key as a JSON Web Key.
    pub public: Value,
}

impl Signer {
    /// Creates a key pair for ES256.
    pub fn elliptic(id: &str) -> Self {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key pair");
        let key = EcdsaKeyPair::from_pkcs8(algorithm, pair.as_ref(), &random).expect("a key pair");
        let (x, y) = key.public_key().as_ref()[1..].split_at(32);
        let public = json!({ "kty": "EC", "crv": "P-256", "kid": id, "x": BASE64.encode(x), "y": BASE64.encode(y) });
        Self { id: id.to_owned(), key: PrivateKey::Elliptic(key), public }
    }

    /// Returns a key pair for RS256. It is always the same and not secret, because generating one
    /// takes too long.
    pub fn rsa(id: &str) -> Self {
        let private = base64::prelude::BASE64_STANDARD.decode(RSA_PRIVATE).expect("base64");
        Self {
            id: id.to_owned(),
            key: PrivateKey::Rsa(RsaKeyPair::from_der(&private).expect("a key pair")),
            public: json!({ "kty": "RSA", "kid": id, "n": RSA_MODULUS, "e": "AQAB" }),
        }
    }
}

enum PrivateKey {
    Elliptic(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl PrivateKey {
    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Elliptic(key) => key.sign(&random, message).expect("a signature").as_ref().to_vec(),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).expect("a signature");
                signature
            }
        }
    }
}

/// Returns a JSON Web Key Set of these public keys.
pub fn key_set(signers: &[&Signer]) -> String {
    json!({ "keys": signers.iter().map(|signer| &signer.public).collect::<Vec<_>>() }).to_string()
}

const RSA_MODULUS: &str = "wi_qxoBkh9XzzZBFyzlM07WbFfYEQ9yfz0GSTGJpThS0amRaEuQrD50jC7quintOY6I4DRJcjdhjdZa92OsPkHrSAoyae7Lxq4Rc1f34RQ6wMC\
    bxeelBAaLpV4jshnYKDP0tNZMXIyhpGxbmOvg8zPqC73osl3jdtL9ZxEX8gap0EzZdsXshtAe_l451vz5T2_2UU4WITxkCE1sARJlg5Je1OqMW\
    20dyM156cvVPSgvItCFMQ4E1l5Hs5FvopwmRvMvUuqKS9sHkR1pN55xUp91O9suu78geqG2NZLq_5wjWyjMgOopAc1zv1xF2O36vb0ANFDG-\
    MBaqmZfoLylGkw";
const RSA_PRIVATE: &str = "MIIEowIBAAKCAQEAwi/qxoBkh9XzzZBFyzlM07WbFfYEQ9yfz0GSTGJpThS0amRaEuQrD50jC7quintOY6I4DRJcjdhjdZa92OsPkHrSAoyae7\
    Lxq4Rc1f34RQ6wMCbxeelBAaLpV4jshnYKDP0tNZMXIyhpGxbmOvg8zPqC73osl3jdtL9ZxEX8gap0EzZdsXshtAe/l451vz5T2/2UU4WITxkC\
    E1sARJlg5Je1OqMW20dyM156cvVPSgvItCFMQ4E1l5Hs5FvopwmRvMvUuqKS9sHkR1pN55xUp91O9suu78geqG2NZLq/5wjWyjMgOopAc1zv1x\
    F2O36vb0ANFDG+MBaqmZfoLylGkwIDAQABAoIBAAJNwjnHpSmtYp6SMxnFnME4OtZIXGWXtPem/f7U/g3Ulg1bEmx983rUcOl/Nfnjm5r3/jU9\
    fgaaxhdLigYMR9t9cYdhNqX4CgDwaY+KW0sqcPGpTJ0XJNPJpH4K3E9+EAF2cXZcv94FaTXOkD2r20DNSgdgSi4j23F9Aaof8G5zW21cAC45Ur\
    MKJk4O2U09bnM2eVmQ6M7yo8NEqLKsRVR9uh9qBaQRozBI60iKe9e+Sjoy68YPYd9pX1m7XG/qr0l5+XzacYb35pOeu2iZCKYAeA4tTjZ+Jaf4\
    Gp3x/12+uZBLAxXdseYAhdngPKeZq/G86Zb7nku6VG9j9GM5ZjUCgYEA8eORp25Ha7fzYdbqKRi6lUYfedW7gHb55AWLETH0QPqniHheFxcZNM\
    L+NM4fbxmqJsbExnsi7EkvnS+xPVmTAobjcAghYjQl71Gsma3q6IGa+TGR5b9t6aHbNJzMxasKQBaN+ineuSYg+vrB0jroh8h68AgwD//nXxtb\
    DwpzYUcCgYEAzYP1M/dOZ/7Da1k0EVq1PFC/di1dQFwB6JRXRWT4bTQq6Qyifa2zAwVUubiq8g8VFtF9dSlIve6nNIHkEcaXQPVJX1I3+CgLj7\
    SMRk7zB2JPfJM5VAngAKKOM+M4c9D0cdGVODbvw1OuQhsBmIgiZ7jtLOLHza7onWgMhR+DNlUCgYEAwXjW8Id5YsRATBp9Mp/P5UOwO1/j2E3R\
    dDumzvsYtbyGsdYs0+UqyRPKBex0IgXyHY/QpjypYzrqdZxG9J4nwtanJd2q7gRt7yxxlH4SLSQ1E2o9mvjxbfSDA2MDOnui+D3SE6zXs1m2+W\
    gGDSQHB0woYML7xmBV7LFRtQcT4FMCgYAhMKZw9gebk/FLbOSTyOpsCz5gf4MH2dQVE5/kfSIBwOMNMBUt5td6LWo5dDFnVjg5rytruHce9WPb\
    fv6uQDw9KV/oHQcc9JqpYqck06s8Dgx4Oe6QO+gJMjd0+cUsLxrLJuXKZlTiXqlN0762O4YS6jKjhRxvg0fd4+fht+0g4QKBgBo6bCIAcGRSYt\
    4NhgfvYhHSFiuyXYr8hUUHhkyG9XUHitWGtWJWoEVVzg5r+9ID3LC0aZNM8mTkbT+aet/0RUpNv016yJCgI588UOj+4z9a4QiT30JpTNfohAKg\
    hMkV9a2nIFFPwiQlp80jW2axutwzypuEWRnUUay11o6jkWBK";
