//! Exports the metrics to a registry of `prometheus-client`. The feature `prometheus` adds it.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};

use crate::{
    Cache,
    cache::Inner,
    observe::snapshot::{Distribution, Metric, MetricKind, MetricValue},
    observe::striped::LatencyHistogram,
};

impl Cache {
    /// Registers the cache's metrics in `registry`. They are computed when the registry is encoded,
    /// and end with the cache.
    pub fn register_metrics(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(CacheCollector(Arc::downgrade(&self.inner))));
    }
}

impl LatencyHistogram {
    /// Writes it as a Prometheus histogram, in seconds.
    ///
    /// # Errors
    /// If the encoder's buffer fails.
    pub fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        encode_distribution(&self.distribution(), encoder)
    }
}

/// Encodes the metrics of a cache that still exists.
struct CacheCollector(Weak<Inner>);

impl fmt::Debug for CacheCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CacheCollector")
    }
}

impl Collector for CacheCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(cache) = self.0.upgrade() else { return Ok(()) };
        cache.snapshot().iter().try_for_each(|metric| encode(metric, &mut encoder))
    }
}

fn encode(metric: &Metric, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let kind = match metric.kind {
        MetricKind::Counter => MetricType::Counter,
        MetricKind::Gauge => MetricType::Gauge,
        MetricKind::Histogram => MetricType::Histogram,
    };
    let unit = metric.in_seconds.then_some(&Unit::Seconds);
    let mut family = encoder.encode_descriptor(metric.name, metric.help, unit, kind)?;
    for series in &metric.series {
        // Without labels there is only one series.
        if series.labels.is_empty() {
            return encode_value(&series.value, family);
        }
        encode_value(&series.value, family.encode_family(&series.labels)?)?;
    }
    Ok(())
}

fn encode_value(value: &MetricValue, encoder: MetricEncoder<'_>) -> fmt::Result {
    match value {
        MetricValue::Count(count) => ConstCounter::new(*count).encode(encoder),
        MetricValue::Gauge(value) => ConstGauge::new(*value).encode(encoder),
        MetricValue::Distribution(distribution) => encode_distribution(distribution, encoder),
    }
}

fn encode_distribution(distribution: &Distribution, mut encoder: MetricEncoder<'_>) -> fmt::Result {
    let Distribution { buckets, sum_seconds } = distribution;
    encoder.encode_histogram::<NoLabelSet>(*sum_seconds, distribution.count(), buckets, None)
}
