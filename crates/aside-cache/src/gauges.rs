//! Metrics that are not counted but read from the cache when they are requested. They are sizes,
//! the age of the last poll, the breaker, and loads in flight.

use std::sync::Weak;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use super::{
    Inner, admission::Concurrency, breaker::BreakerState, l1::L1, metrics::OfKind, metrics::OfPattern,
    pressure::MemoryUse,
};

/// Encodes these gauges and the cache's read counters for a registry.
#[derive(Debug)]
pub(super) struct Gauges(pub(super) Weak<Inner>);

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(cache) = self.0.upgrade() else {
            return Ok(());
        };
        let (bytes, entries) = cache.l1.size();
        let poll_age = cache.freshness.since_poll().map_or(f64::INFINITY, |age| age.as_secs_f64());
        let open = cache.l2.as_ref().is_some_and(|l2| l2.breaker() != BreakerState::Closed);
        let memory_known = cache.l2.is_none() || cache.pressure.l2().is_some();
        let values = [
            ("cache_l2_memory_known", "0 while L2 doesn't say how full it is", f64::from(memory_known)),
            ("cache_l1_bytes", "Bytes held in L1", bytes as f64),
            ("cache_l1_capacity_bytes", "Capacity of L1", cache.l1_bytes as f64),
            ("cache_l1_entries", "Entries held in L1", entries as f64),
            ("cache_floors", "Floors held", cache.freshness.floors() as f64),
            ("cache_poll_age_seconds", "Time since the ledger was last polled", poll_age),
            ("cache_is_current", "1 while tiers may be used", f64::from(cache.freshness.is_current())),
            ("cache_l2_breaker_open", "1 while L2 is skipped or probed", f64::from(open)),
        ];
        cache.metrics.encode_reads(&mut encoder)?;
        encode_memory(&mut encoder, &cache.pressure.seen())?;
        encode_l1(&mut encoder, &cache.l1)?;
        encode_admission(&mut encoder, &cache)?;
        for (name, help, value) in values {
            let gauge = ConstGauge::new(value);
            let descriptor = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(descriptor)?;
        }
        Ok(())
    }
}

/// Encodes the bytes and evictions of each key pattern in L1.
fn encode_l1(encoder: &mut DescriptorEncoder<'_>, l1: &L1) -> std::fmt::Result {
    let shares = l1.usage();
    let help = "Bytes held in L1 by key pattern";
    let mut bytes = encoder.encode_descriptor("cache_l1_pattern_bytes", help, None, MetricType::Gauge)?;
    for (pattern, share) in &shares {
        ConstGauge::new(share.bytes).encode(bytes.encode_family(&OfPattern { pattern })?)?;
    }
    let help = "Entries that L1 gave up for want of room, by key pattern";
    let mut evicted = encoder.encode_descriptor("cache_l1_evictions", help, None, MetricType::Counter)?;
    for (pattern, share) in &shares {
        ConstCounter::new(share.evicted).encode(evicted.encode_family(&OfPattern { pattern })?)?;
    }
    Ok(())
}

/// Encodes the work that uses the database, the work that waits, and the number of permits.
fn encode_admission(encoder: &mut DescriptorEncoder<'_>, cache: &Inner) -> std::fmt::Result {
    let usages = cache.admission.usages(&cache.policies);
    let help = "Loads and writes that use a connection to Postgres now, by key pattern";
    let mut in_flight = encoder.encode_descriptor("cache_admission_in_flight", help, None, MetricType::Gauge)?;
    for (pattern, usage, _) in &usages {
        ConstGauge::new(*usage as f64).encode(in_flight.encode_family(&OfPattern { pattern })?)?;
    }
    let help = "Loads and writes that wait for their turn to use Postgres, by key pattern";
    let mut waiting = encoder.encode_descriptor("cache_admission_waiting", help, None, MetricType::Gauge)?;
    for (pattern, _, usage) in &usages {
        ConstGauge::new(*usage as f64).encode(waiting.encode_family(&OfPattern { pattern })?)?;
    }
    let help = "Loads and writes that may use Postgres at a time; more wait";
    let mut permits = encoder.encode_descriptor("cache_admission_permits", help, None, MetricType::Gauge)?;
    let Concurrency { loads, writes, total } = cache.admission.most();
    for (kind, most) in [("loads", loads), ("writes", writes), ("total", total)] {
        ConstGauge::new(most as f64).encode(permits.encode_family(&OfKind { kind })?)?;
    }
    Ok(())
}

/// Encodes the use of each memory, and the report of each node of L2.
fn encode_memory(encoder: &mut DescriptorEncoder<'_>, seen: &[MemoryUse]) -> std::fmt::Result {
    type Value = fn(&MemoryUse) -> Option<f64>;
    let gauges: [(&str, &str, Value); 5] = [
        ("cache_memory_used_bytes", "Memory in use by tier and node", |memory| Some(memory.used_bytes as f64)),
        ("cache_memory_limit_bytes", "Memory that may be used; 0: no limit is set", |memory| {
            Some(memory.limit_bytes.unwrap_or_default() as f64)
        }),
        ("cache_memory_state", "0 normal, 1 warning (from 70 %), 2 critical (from 85 %)", |memory| {
            Some(f64::from(memory.state as u8))
        }),
        ("cache_memory_refuses_when_full", "1 when a node refuses writes instead of evicting", |memory| {
            Some(f64::from(!memory.reported.as_ref()?.evicts()))
        }),
        ("cache_memory_fragmentation", "Memory that the system has given to a node, for each byte in use", |memory| {
            Some(memory.reported.as_ref()?.fragmentation)
        }),
    ];
    for (name, help, value) in gauges {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for memory in seen {
            if let Some(value) = value(memory) {
                ConstGauge::new(value).encode(family.encode_family(&memory.memory)?)?;
            }
        }
    }
    let help = "Entries that a node evicted because its memory was full, since its start";
    let mut evicted = encoder.encode_descriptor("cache_memory_evicted_keys", help, None, MetricType::Counter)?;
    for memory in seen {
        if let Some(reported) = &memory.reported {
            ConstCounter::new(reported.evicted).encode(evicted.encode_family(&memory.memory)?)?;
        }
    }
    Ok(())
}
