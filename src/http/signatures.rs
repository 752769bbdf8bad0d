//! The signatures of tokens (JWS, RFC 7515), created and verified by `ring`. The token library
//! parses the tokens and checks their claims. It calls the provider in this file for all
//! cryptography. The provider supports HS256, RS256 and ES256 and refuses all other algorithms. RSA
//! keys below 2048 bits or above 8192 bits verify nothing.
//!
//! `identity.rs` installs the provider before it creates a verifier or signs a token.

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{Error, ErrorKind, new_error},
    signature::{self, Signer, Verifier},
};
use ring::{
    hmac,
    signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey},
};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    // This service converts no keys into JSON Web Keys. The library's own placeholders panic.
    key_utils: KeyUtils {
        rsa_pub_components_from_private_key: |_| Err(unsupported()),
        rsa_pub_components_from_public_key: |_| Err(unsupported()),
        ec_pub_components_from_private_key: |_, _| Err(unsupported()),
        ed_pub_components_from_private_key: |_, _| Err(unsupported()),
        compute_digest: |_, _| Err(unsupported()),
    },
};

/// Installs this provider for the process. Later calls change nothing.
pub(super) fn install() {
    // The call fails only if a provider is already installed, which is this one.
    let _ = PROVIDER.install_default();
}

/// A verifying key with all data that its algorithm needs.
enum VerifyingKey {
    Secret(hmac::Key),
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    Elliptic(UnparsedPublicKey<Vec<u8>>),
}

impl Verifier<Vec<u8>> for VerifyingKey {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        match self {
            Self::Secret(key) => hmac::verify(key, message, signature),
            Self::Rsa(key) => key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature),
            Self::Elliptic(key) => key.verify(message, signature),
        }
        .map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for VerifyingKey {
    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Secret(_) => Algorithm::HS256,
            Self::Rsa(_) => Algorithm::RS256,
            Self::Elliptic(_) => Algorithm::ES256,
        }
    }
}

/// Builds the verifier. The algorithm and the key must belong together, so a public key is never
/// used as a secret.
fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    let key = match (algorithm, key.family(), key.kind()) {
        (Algorithm::HS256, AlgorithmFamily::Hmac, DecodingKeyKind::SecretOrDer(secret)) => {
            VerifyingKey::Secret(hmac::Key::new(hmac::HMAC_SHA256, secret))
        }
        (Algorithm::RS256, AlgorithmFamily::Rsa, DecodingKeyKind::RsaModulusExponent { n, e }) => {
            VerifyingKey::Rsa(RsaPublicKeyComponents { n: without_leading_zeros(n), e: e.clone() })
        }
        (Algorithm::ES256, AlgorithmFamily::Ec, DecodingKeyKind::SecretOrDer(point)) => {
            VerifyingKey::Elliptic(UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point.clone()))
        }
        _ => return Err(unsupported()),
    };
    Ok(Box::new(key))
}

/// Removes leading zero octets. Some issuers write one in front of a modulus (RFC 7518, 6.3.1.1),
/// and `ring` rejects it.
fn without_leading_zeros(number: &[u8]) -> Vec<u8> {
    number.iter().copied().skip_while(|byte| *byte == 0).collect()
}

/// A signing secret.
struct SigningSecret(hmac::Key);

impl Signer<Vec<u8>> for SigningSecret {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        Ok(hmac::sign(&self.0, message).as_ref().to_vec())
    }
}

impl JwtSigner for SigningSecret {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    match (algorithm, key.family()) {
        (Algorithm::HS256, AlgorithmFamily::Hmac) => {
            Ok(Box::new(SigningSecret(hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()))))
        }
        _ => Err(unsupported()),
    }
}

fn unsupported() -> Error {
    new_error(ErrorKind::UnsupportedAlgorithm)
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
    use jsonwebtoken::crypto::{sign, verify};

    use super::*;

    const CLAIMS: &str =
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    const SECRET: &str = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    const MODULUS: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL\
        -yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7W\
        TBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PA\
        cDTW9gb54h4FRWyuXpoQ";
    const POINT: [&str; 2] =
        ["f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"];

    fn secret() -> Vec<u8> {
        BASE64.decode(SECRET).expect("base64")
    }

    /// The examples of RFC 7515, appendices A.1 to A.3: key, algorithm, header of the token,
    /// signature.
    fn examples() -> [(DecodingKey, Algorithm, &'static str, &'static str); 3] {
        [
            (
                DecodingKey::from_secret(&secret()),
                Algorithm::HS256,
                "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
                "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
            ),
            (
                DecodingKey::from_rsa_components(MODULUS, "AQAB").expect("a key"),
                Algorithm::RS256,
                "eyJhbGciOiJSUzI1NiJ9",
                "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7\
                 t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi\
                 12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_Ioyp\
                 GlUPQGe77Rw",
            ),
            (
                DecodingKey::from_ec_components(POINT[0], POINT[1]).expect("a key"),
                Algorithm::ES256,
                "eyJhbGciOiJFUzI1NiJ9",
                "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
            ),
        ]
    }

    #[test]
    fn the_examples_of_the_standard_are_verified_and_changed_ones_are_not() {
        install();
        for (key, algorithm, head, signature) in examples() {
            let message = format!("{head}.{CLAIMS}");
            let verified = |message: &str, signature: &str| verify(signature, message.as_bytes(), &key, algorithm);
            assert_eq!(verified(&message, signature), Ok(true), "{algorithm:?}");
            assert_eq!(verified(&format!("{message}x"), signature), Ok(false), "{algorithm:?}");
            assert_eq!(
                verified(&message, &signature.replacen(['0', '1', '2', '3'], "4", 1)),
                Ok(false),
                "{algorithm:?}"
            );
            assert_eq!(verified(&message, ""), Ok(false), "{algorithm:?}");
        }
    }

    #[test]
    fn a_key_verifies_with_its_own_algorithm_only() {
        install();
        for (key, own, head, signature) in examples() {
            let message = format!("{head}.{CLAIMS}");
            for other in [Algorithm::HS256, Algorithm::HS512, Algorithm::RS256, Algorithm::PS256, Algorithm::ES256] {
                let verified = verify(signature, message.as_bytes(), &key, other);
                assert_eq!(verified.is_ok(), other == own, "{own:?} taken for {other:?}");
            }
        }
    }

    #[test]
    fn a_modulus_may_begin_with_zeros() {
        install();
        let number = BASE64.decode(MODULUS).expect("base64");
        let key = DecodingKey::from_rsa_raw_components(&[&[0, 0], number.as_slice()].concat(), &[1, 0, 1]);
        let (_, algorithm, head, signature) = &examples()[1];
        assert_eq!(verify(signature, format!("{head}.{CLAIMS}").as_bytes(), &key, *algorithm), Ok(true));
    }

    #[test]
    fn a_secret_signs_as_the_standard_says_and_nothing_else_signs() {
        install();
        let (_, algorithm, head, signature) = &examples()[0];
        let (message, key) = (format!("{head}.{CLAIMS}"), EncodingKey::from_secret(&secret()));
        assert_eq!(sign(message.as_bytes(), &key, *algorithm).as_deref(), Ok(*signature));
        assert!(sign(message.as_bytes(), &key, Algorithm::HS512).is_err());
        assert!(sign(message.as_bytes(), &EncodingKey::from_ec_der(&secret()), Algorithm::ES256).is_err());
    }
}
