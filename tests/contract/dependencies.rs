//! The tests of the crate's dependencies, as its lock file lists them.

use super::sources::read;

/// The names of all packages of a lock file.
fn packages(lock: &str) -> Vec<&str> {
    lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).collect()
}

#[test]
fn one_library_does_all_cryptography_with_public_keys() {
    for lock in ["Cargo.lock", "fuzz/Cargo.lock"] {
        let (lock, name) = (read(lock), lock);
        let packages = packages(&lock);
        assert!(packages.contains(&"ring"), "{name} is not read rightly");
        for other in ["aws-lc-rs", "aws-lc-sys", "ed25519-dalek", "openssl-sys", "p256", "p384", "rsa"] {
            assert!(!packages.contains(&other), "{name} holds {other} beside ring");
        }
    }
}
