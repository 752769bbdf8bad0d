//! Access to a test's own keys in a Redis server, with which the test inspects and damages them.

use std::collections::BTreeMap;

use deadpool_redis::redis::{AsyncCommands, aio::MultiplexedConnection};

/// The field of an entry's hash that holds the sealed value.
const PAYLOAD: &str = "d";

/// The keys of one namespace.
pub struct RedisKeys {
    namespace: String,
    connection: MultiplexedConnection,
}

impl RedisKeys {
    /// Reads the keys of `namespace` through `connection`.
    pub fn new(namespace: impl Into<String>, connection: MultiplexedConnection) -> Self {
        Self { namespace: namespace.into(), connection }
    }

    /// Returns the full keys of the entries whose key ends with `:{suffix}`. A key with a lease
    /// alone is no entry.
    pub async fn ending(&mut self, suffix: &str) -> Vec<String> {
        let mut entries = Vec::new();
        let all: Vec<String> = self.connection.keys(format!("{}:*", self.namespace)).await.expect("KEYS");
        for key in all.into_iter().filter(|key| key.ends_with(&format!(":{suffix}"))) {
            if self.connection.hexists(&key, PAYLOAD).await.expect("HEXISTS") {
                entries.push(key);
            }
        }
        entries
    }

    /// Returns all entries, each with its full key and its sealed value.
    pub async fn entries(&mut self) -> BTreeMap<String, Vec<u8>> {
        let all: Vec<String> = self.connection.keys(format!("{}:*", self.namespace)).await.expect("KEYS");
        if all.is_empty() {
            return BTreeMap::new();
        }
        let mut asked = deadpool_redis::redis::pipe();
        for key in &all {
            asked.hget(key, PAYLOAD);
        }
        let sealed: Vec<Option<Vec<u8>>> = asked.query_async(&mut self.connection).await.expect("HGET");
        all.into_iter().zip(sealed).filter_map(|(key, sealed)| Some((key, sealed?))).collect()
    }

    /// Replaces the sealed value of the entry with this full key.
    pub async fn plant(&mut self, full: &str, sealed: &[u8]) {
        let (): () = self.connection.hset(full, PAYLOAD, sealed).await.expect("HSET");
    }

    /// Returns whether there is an entry of `key`, which is given without the namespace.
    pub async fn holds(&mut self, key: &str) -> bool {
        !self.ending(key).await.is_empty()
    }

    /// Replaces the sealed value of an entry. Its lifetime continues.
    pub async fn overwrite(&mut self, key: &str, bytes: &[u8]) {
        let full = self.only(key).await;
        let (): () = self.connection.hset(full, PAYLOAD, bytes).await.expect("HSET");
    }

    /// Runs a command on an entry's key.
    pub async fn damage(&mut self, key: &str, command: &str, arguments: &[&str]) {
        let full = self.only(key).await;
        let mut command = deadpool_redis::redis::cmd(command);
        command.arg(full).arg(arguments).exec_async(&mut self.connection).await.expect("a command");
    }

    /// Returns the remaining lifetime of an entry in milliseconds. It is negative if the entry has
    /// none.
    pub async fn lifetime_ms(&mut self, key: &str) -> i64 {
        let full = self.only(key).await;
        self.connection.pttl(full).await.expect("PTTL")
    }

    async fn only(&mut self, key: &str) -> String {
        let mut found = self.ending(key).await;
        assert_eq!(found.len(), 1, "one entry of {key}, not {found:?}");
        found.remove(0)
    }
}
