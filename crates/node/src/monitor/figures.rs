//! Figures, and how they are written.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

const PREFIX: &str = "sealcast";

/// Names and values that tell the values of one figure apart.
pub type Labels = Vec<(&'static str, String)>;

/// One value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// A count.
    Whole(u64),
    /// A time in seconds, or an amount.
    Real(f64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Whole(value as u64)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Whole(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

/// Whether a value only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

/// One figure, with a value for each set of labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    values: Vec<(Labels, Value)>,
}

impl Figure {
    /// What was counted since the process started. `_total` is added to its name, as Prometheus has it.
    pub fn counter(name: &'static str, help: &'static str, values: Vec<(Labels, u64)>) -> Self {
        let values = values.into_iter().map(|(labels, value)| (labels, value.into())).collect();
        Self { name, help, kind: Kind::Counter, values }
    }

    /// What is so now.
    pub fn gauge(name: &'static str, help: &'static str, value: impl Into<Value>) -> Self {
        Self::gauges(name, help, vec![(Labels::new(), value.into())])
    }

    /// Of which version the process is.
    pub fn version(version: &'static str) -> Self {
        let labels = vec![("version", version.to_owned())];
        Self::gauges("build_info", "The version, beside the constant 1", vec![(labels, 1_u64.into())])
    }

    /// The same for several things.
    pub fn gauges(name: &'static str, help: &'static str, values: Vec<(Labels, Value)>) -> Self {
        Self { name, help, kind: Kind::Gauge, values }
    }
}

#[derive(Debug)]
struct Snapshot(Vec<Figure>);

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Figure { name, help, kind, values } in self.0.iter().filter(|figure| !figure.values.is_empty()) {
            let metric = match kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
            };
            let help = format!("{help}.");
            let mut of_figure = encoder.encode_descriptor(name, &help, None, metric)?;
            match &values[..] {
                [(labels, value)] if labels.is_empty() => put(*kind, *value, of_figure)?,
                values => values
                    .iter()
                    .try_for_each(|(labels, value)| put(*kind, *value, of_figure.encode_family(labels)?))?,
            }
        }
        Ok(())
    }
}

fn put(kind: Kind, value: Value, encoder: MetricEncoder<'_>) -> fmt::Result {
    match (kind, value) {
        (Kind::Counter, Value::Whole(value)) => ConstCounter::new(value).encode(encoder),
        (Kind::Counter, Value::Real(value)) => ConstCounter::new(value).encode(encoder),
        // A gauge may be below 0, so its whole numbers are signed.
        (Kind::Gauge, Value::Whole(value)) => ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(encoder),
        (Kind::Gauge, Value::Real(value)) => ConstGauge::new(value).encode(encoder),
    }
}

/// As OpenMetrics text.
pub(super) fn encode(figures: Vec<Figure>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Snapshot(figures)));
    let mut encoded = String::new();
    text::encode(&mut encoded, &registry)?;
    Ok(encoded)
}
