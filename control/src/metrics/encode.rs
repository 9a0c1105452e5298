//! From the daemon's answers to OpenMetrics text.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, text as open_metrics};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use serde_json::Value;

use super::names::{Kind, METRICS, Metric};

/// A document with the fields of `stats`, and `status` and `members` as fields of its own.
#[derive(Debug)]
struct Snapshot(Value);

/// The whole page.
pub fn text(document: Value) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Snapshot(document)));
    let mut page = String::new();
    open_metrics::encode(&mut page, &registry)?;
    Ok(page)
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        // Rows of one name are one family: their descriptor is written once.
        for family in METRICS.chunk_by(|one, next| one.name == next.name) {
            let kind = match family[0].kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
            };
            let mut encoder = encoder.encode_descriptor(family[0].name, family[0].help, None, kind)?;
            for metric in family {
                encode(&mut encoder, metric, &self.0)?;
            }
        }
        Ok(())
    }
}

fn encode(encoder: &mut MetricEncoder, metric: &Metric, document: &Value) -> Result<(), fmt::Error> {
    for (label, value) in super::values(document, metric) {
        let Some(number) = value.as_u64().or_else(|| value.as_bool().map(u64::from)) else { continue };
        match label {
            Some(label) => {
                number_of(metric.kind, number, encoder.encode_family(&[(metric.label.key(), label)])?)?
            }
            None => {
                // A family without labels has this one value.
                let none: [(&str, &str); 0] = [];
                number_of(metric.kind, number, encoder.encode_family(&none)?)?;
            }
        }
    }
    Ok(())
}

fn number_of(kind: Kind, number: u64, encoder: MetricEncoder) -> Result<(), fmt::Error> {
    match kind {
        Kind::Counter => ConstCounter::new(number).encode(encoder),
        Kind::Gauge => ConstGauge::new(i64::try_from(number).unwrap_or(i64::MAX)).encode(encoder),
    }
}
