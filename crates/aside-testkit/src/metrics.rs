//! Counters of the management listener, read as Prometheus reads them.

use std::collections::BTreeMap;

/// The samples of one scrape.
#[derive(Clone, Debug)]
pub struct Metrics {
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

impl Metrics {
    /// Parses the text format.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        Self { samples: lines.map(sample).collect() }
    }

    /// Returns the sum of all samples of `name` that carry all these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let carries = |has: &BTreeMap<String, String>| {
            labels.iter().all(|(key, value)| has.get(*key).is_some_and(|v| v == value))
        };
        self.samples.iter().filter(|(sample, has, _)| sample == name && carries(has)).map(|(_, _, value)| value).sum()
    }

    /// Counts the reads of `pattern` that ended in `outcome`.
    pub fn requests(&self, pattern: &str, outcome: &str) -> u64 {
        self.sum("cache_requests_total", &[("pattern", pattern), ("outcome", outcome)]) as u64
    }

    /// Returns whether there is any sample of `name`.
    pub fn knows(&self, name: &str) -> bool {
        self.samples.iter().any(|(sample, _, _)| sample == name)
    }

    /// Returns the values of a label in the samples of `name`.
    pub fn values(&self, name: &str, label: &str) -> Vec<String> {
        let named = self.samples.iter().filter(|(sample, _, _)| sample == name);
        named.filter_map(|(_, labels, _)| labels.get(label).cloned()).collect()
    }
}

fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let (head, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
    let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
    let Some((name, labels)) = head.split_once('{') else { return (head.into(), BTreeMap::new(), value) };
    let labels = labels.trim_end_matches('}').split(',').filter_map(|pair| pair.split_once('='));
    (name.into(), labels.map(|(key, value)| (key.into(), value.trim_matches('"').into())).collect(), value)
}
