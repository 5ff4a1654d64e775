//! What was measured, for people and for programs.

use std::fs;

use hdrhistogram::Histogram;
use ringtail::cli::json::Json;

/// What one thread saw within the measured time.
pub struct Tally {
    pub requests: u64,
    pub records: u64,
    pub bytes: u64,
    /// Requests that were refused, by Kafka's code (the connection goes on), or that a fixed rate could not send.
    pub errors: u64,
    /// Nanoseconds.
    pub latency: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        // Three digits up to a minute; what takes longer counts as a minute.
        let latency = Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are valid");
        Self {
            requests: 0,
            records: 0,
            bytes: 0,
            errors: 0,
            latency,
        }
    }
}

impl Tally {
    pub fn add(&mut self, latency_ns: u64, records: u64, bytes: u64) {
        self.requests += 1;
        self.records += records;
        self.bytes += bytes;
        self.latency.saturating_record(latency_ns.max(1));
    }

    pub fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.records += other.records;
        self.bytes += other.bytes;
        self.errors += other.errors;
        self.latency
            .add(&other.latency)
            .expect("all histograms have the same bounds");
    }
}

/// User and system seconds of a process so far.
pub fn cpu_seconds_of(pid: u32) -> Result<f64, String> {
    /// USER_HZ, which is 100 on every Linux this runs on.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|error| format!("process {pid}: {error}"))?;
    // The name in parentheses may hold blanks: fields are counted from behind it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    match (ticks(11), ticks(12)) {
        (Some(user), Some(system)) => Ok((user + system) as f64 / TICKS_PER_SECOND),
        _ => Err(format!("process {pid}: /proc tells no CPU time")),
    }
}

pub struct Report {
    pub workload: &'static str,
    /// What was asked for, to be shown with the result.
    pub parameters: Vec<(&'static str, Json)>,
    pub seconds: f64,
    pub tally: Tally,
    pub broker_cpu_seconds: Option<f64>,
    /// Of this process.
    pub client_cpu_seconds: f64,
}

impl Report {
    fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.seconds
    }

    fn per_gigabyte(&self, seconds: f64) -> Option<f64> {
        (self.tally.bytes > 0).then(|| seconds / (self.tally.bytes as f64 / 1e9))
    }

    fn percentiles(&self) -> [(&'static str, f64); 5] {
        let latency = &self.tally.latency;
        let at = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 1e6;
        [
            ("p50", at(0.5)),
            ("p99", at(0.99)),
            ("p99.9", at(0.999)),
            ("max", latency.max() as f64 / 1e6),
            ("mean", latency.mean() / 1e6),
        ]
    }

    fn json(&self) -> Json {
        let rounded = |value: f64| Json::Number((value * 1000.0).round() / 1000.0);
        let latency = self.percentiles().map(|(name, ms)| (name, rounded(ms)));
        Json::Object(vec![
            ("workload", self.workload.into()),
            ("parameters", Json::Object(self.parameters.clone())),
            ("seconds", rounded(self.seconds)),
            ("requests", self.tally.requests.into()),
            ("records", self.tally.records.into()),
            ("bytes", self.tally.bytes.into()),
            ("errors", self.tally.errors.into()),
            ("megabytes_per_second", rounded(self.per_second(self.tally.bytes) / 1e6)),
            ("requests_per_second", rounded(self.per_second(self.tally.requests))),
            ("records_per_second", rounded(self.per_second(self.tally.records))),
            ("latency_ms", Json::Object(latency.into())),
            (
                "broker_cpu_seconds",
                self.broker_cpu_seconds.map_or(Json::Null, rounded),
            ),
            (
                "broker_cpu_seconds_per_gigabyte",
                self.broker_cpu_seconds
                    .and_then(|s| self.per_gigabyte(s))
                    .map_or(Json::Null, rounded),
            ),
            ("client_cpu_seconds", rounded(self.client_cpu_seconds)),
        ])
    }

    pub fn print(&self, json: bool) {
        if json {
            println!("{}", self.json());
            return;
        }
        let parameters = self.parameters.iter().map(|(name, value)| format!("{name}={value}"));
        println!("{}: {}", self.workload, parameters.collect::<Vec<_>>().join(" "));
        let megabytes = self.per_second(self.tally.bytes) / 1e6;
        let (requests, records) = (
            self.per_second(self.tally.requests),
            self.per_second(self.tally.records),
        );
        println!("  throughput  {megabytes:10.1} MB/s  {requests:10.0} requests/s  {records:12.0} records/s");
        let latency = self.percentiles().map(|(name, ms)| format!("{name} {ms:.3}"));
        println!("  latency ms  {}", latency.join("  "));
        if let Some(seconds) = self.broker_cpu_seconds {
            let each = seconds / (self.tally.requests.max(1)) as f64 * 1e6;
            let per_gigabyte = self.per_gigabyte(seconds).unwrap_or(0.0);
            println!("  broker CPU  {seconds:10.2} s  {per_gigabyte:10.2} s/GB  {each:10.1} us/request");
        }
        println!(
            "  client CPU  {:10.2} s   measured for {:.1} s, {} errors",
            self.client_cpu_seconds, self.seconds, self.tally.errors
        );
    }
}
