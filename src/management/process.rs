//! The metrics of every process by the names that Prometheus' client libraries give them, and the
//! version. The process metrics come from `/proc`, so they exist on Linux only.

use std::fs;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// Clock ticks per second in `/proc`. Linux has fixed this value for programs.
const TICKS: f64 = 100.0;

#[derive(Debug)]
pub struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut build =
            encoder.encode_descriptor("aside_build_info", "The version; always 1", None, MetricType::Gauge)?;
        let labels = [("version", env!("CARGO_PKG_VERSION"))];
        ConstGauge::new(1i64).encode(build.encode_family(&labels)?)?;
        let Some(usage) = Usage::read() else { return Ok(()) };
        let cpu = ConstCounter::new(usage.cpu_seconds);
        cpu.encode(encoder.encode_descriptor(
            "process_cpu_seconds",
            "CPU time of the process, of user and system",
            None,
            cpu.metric_type(),
        )?)?;
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Resident memory of the process", usage.resident_bytes),
            ("process_start_time_seconds", "Start of the process, in seconds since 1970", usage.started),
            ("process_open_fds", "Open file descriptors", usage.open_files),
            ("process_max_fds", "The limit of open file descriptors", usage.max_files),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

/// The resources that this process uses.
#[derive(Debug)]
struct Usage {
    cpu_seconds: f64,
    resident_bytes: f64,
    started: f64,
    open_files: f64,
    max_files: f64,
}

impl Usage {
    fn read() -> Option<Self> {
        let text = |path: &str| fs::read_to_string(path).ok();
        let (stat, status, limits) = (text("/proc/self/stat")?, text("/proc/self/status")?, text("/proc/self/limits")?);
        let system = text("/proc/stat")?;
        // The second field is the name of the program, which may contain blanks and parentheses.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        // Fields are numbered from 1 in the manual, and the first two are gone.
        let ticks = |field: usize| Some(fields.get(field - 3)?.parse::<f64>().ok()? / TICKS);
        Some(Self {
            cpu_seconds: ticks(14)? + ticks(15)?,
            resident_bytes: 1024.0 * word(&status, "VmRSS:", 0)?,
            started: word(&system, "btime", 0)? + ticks(22)?,
            open_files: fs::read_dir("/proc/self/fd").ok()?.count() as f64,
            max_files: word(&limits, "Max open files", 0).unwrap_or(f64::INFINITY),
        })
    }
}

/// The number at `index` of the line that begins with `name`.
fn word(text: &str, name: &str, index: usize) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().nth(index)?.parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn the_usage_of_this_process_is_plausible() {
        let usage = Usage::read().expect("Linux has /proc");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((1e6..1e12).contains(&usage.resident_bytes), "{usage:?}");
        assert!(usage.started > 1e9 && usage.started <= now + 1.0, "{usage:?}");
        assert!(usage.open_files >= 3.0 && usage.max_files >= usage.open_files, "{usage:?}");
        assert!((0.0..1e6).contains(&usage.cpu_seconds), "{usage:?}");
    }
}
