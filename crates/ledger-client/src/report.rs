//! What a device's agent tells the hub of itself, for the console: the method `sealcast_report`.
//!
//! It has counts and names, and neither payloads nor values but those that the agent's configuration shares. The device signs
//! it, since over a broker of somebody else's anybody can call in its name.

use alloy_primitives::Bytes;
use sealcast_identity::{KeyError, PublicKey, SigningKey};
use sealcast_ledger::{LedgerId, Number};
use serde::{Deserialize, Serialize};

/// Text at the head of what the device signs.
const LABEL: &[u8] = b"sealcast-report-v1";
/// The longest report, in bytes.
pub const MAX_REPORT_BYTES: usize = 32 << 10;
/// Entries of each list in a report.
const MAX_LISTED: usize = 128;
/// Bytes of each text in a report.
const MAX_TEXT: usize = 512;
/// Bytes of a reading's name, and of its unit.
const MAX_NAME: usize = 128;
/// Bytes of the reason why a reading was flagged or blocked.
const MAX_REASON: usize = 160;
/// The greatest figure of a reading, with either sign.
const MAX_FIGURE: f64 = 1e12;

/// An agent, since it was started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeReport {
    /// When it was made, Unix ms, by the device's clock.
    pub at_ms: u64,
    /// Messages that were sealed.
    pub sealed: u64,
    /// Messages that were opened.
    pub opened: u64,
    /// Messages that were refused, by the code of the cause.
    pub refused: Vec<(String, u64)>,
    /// Topics whose values break a rule, or do not come.
    pub alarms: Vec<ValueAlarm>,
    /// Why messages cannot be sealed now: the code of the cause, and the cause in words.
    pub missing: Vec<(String, String)>,
    /// Readings since the report before, where the configuration shares them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shared: Vec<SharedSeries>,
}

/// Readings of one topic, and of one name within its messages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedSeries {
    /// The topic.
    pub topic: String,
    /// The name; empty where a message holds one value.
    pub name: String,
    /// What the values are in; empty if nothing says so.
    pub unit: String,
    /// The least value that the rules allow.
    pub min: Option<f64>,
    /// The greatest.
    pub max: Option<f64>,
    /// The greatest distance to the reading before.
    pub step: Option<f64>,
    /// The oldest first.
    pub points: Vec<SharedPoint>,
}

/// A reading that is shared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedPoint {
    /// When the agent judged it, Unix ms, by the device's clock.
    pub at_ms: u64,
    /// The value.
    pub value: f64,
    /// What the agent's checks made of it.
    pub verdict: SharedVerdict,
    /// Why it was flagged or blocked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What the checks of an agent made of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SharedVerdict {
    /// Nothing was found.
    Good,
    /// It was handed on with a mark.
    Flagged,
    /// It was not sent.
    Blocked,
}

/// Values of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValueAlarm {
    /// The topic.
    pub topic: String,
    /// Whether no value comes; else values come and are blocked.
    pub is_silent: bool,
    /// The rules that they break.
    pub rules: Vec<String>,
    /// Since when, Unix ms.
    pub since_ms: u64,
}

/// A report with the device's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedReport {
    /// The report as JSON, byte by byte as it was signed.
    report: String,
    /// By the device's key: on a label, the ledger's chain id and address, the device's number, and the report.
    signature: Bytes,
}

/// Why a report is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// It is longer, or has more in it, than a report may.
    #[error("it is too long")]
    TooLong,
    /// It cannot be read.
    #[error("it is malformed")]
    Malformed,
    /// The signature is not the device's.
    #[error("the device has not signed it with its present key")]
    Signature,
}

impl SignedReport {
    /// Signs a report.
    ///
    /// # Errors
    /// The key did not sign.
    pub fn sign(report: &NodeReport, device: Number, key: &SigningKey, ledger: &LedgerId) -> Result<Self, KeyError> {
        // Its fields are numbers and texts, which JSON can always say.
        let report = serde_json::to_string(report).unwrap_or_default();
        let signature = key.sign(&preimage(&report, device, ledger))?.to_vec().into();
        Ok(Self { report, signature })
    }

    /// The report, if `key` has signed it for this device and ledger.
    ///
    /// # Errors
    /// It has not, or the report is none.
    pub fn verify(&self, device: Number, key: &PublicKey, ledger: &LedgerId) -> Result<NodeReport, ReportError> {
        if self.report.len() > MAX_REPORT_BYTES {
            return Err(ReportError::TooLong);
        }
        let signature = <[u8; 64]>::try_from(&self.signature[..]).map_err(|_| ReportError::Signature)?;
        if !key.verifies(&preimage(&self.report, device, ledger), &signature) {
            return Err(ReportError::Signature);
        }
        let report: NodeReport = serde_json::from_str(&self.report).map_err(|_| ReportError::Malformed)?;
        if report.is_bounded() { Ok(report) } else { Err(ReportError::TooLong) }
    }
}

impl NodeReport {
    fn is_bounded(&self) -> bool {
        let Self { refused, alarms, missing, shared, .. } = self;
        let lengths = [refused.len(), alarms.len(), missing.len(), shared.len(), self.points()];
        let few = lengths.into_iter().all(|len| len <= MAX_LISTED);
        few && refused.iter().all(|(code, _)| is_short(code))
            && alarms.iter().all(|alarm| alarm.topic.len() <= MAX_REPORT_BYTES && alarm.rules.len() <= MAX_LISTED)
            && missing.iter().all(|(code, text)| is_short(code) && is_short(text))
            && shared.iter().all(SharedSeries::is_bounded)
    }

    /// How many readings are in it.
    fn points(&self) -> usize {
        self.shared.iter().map(|series| series.points.len()).sum()
    }

    /// Drops the oldest reading. `false`: there is none.
    fn drop_oldest(&mut self) -> bool {
        let first = |series: &SharedSeries| series.points.first().map(|point| point.at_ms);
        let some = self.shared.iter().enumerate().filter_map(|(at, series)| Some((first(series)?, at)));
        let Some((_, at)) = some.min() else { return false };
        if let Some(series) = self.shared.get_mut(at) {
            series.points.remove(0);
        }
        self.shared.retain(|series| !series.points.is_empty());
        true
    }

    /// Leaves out what is more than a report may have. Of readings these are the oldest.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.refused.retain(|(code, _)| is_short(code));
        self.refused.truncate(MAX_LISTED);
        self.missing.retain(|(code, text)| is_short(code) && is_short(text));
        self.missing.truncate(MAX_LISTED);
        self.alarms.truncate(MAX_LISTED);
        self.alarms.iter_mut().for_each(|alarm| alarm.rules.truncate(MAX_LISTED));
        self.shared.iter_mut().for_each(SharedSeries::bound);
        self.shared.retain(|series| series.is_bounded() && !series.points.is_empty());
        while self.points() > MAX_LISTED && self.drop_oldest() {}
        let is_long = |report: &Self| serde_json::to_string(report).is_ok_and(|text| text.len() > MAX_REPORT_BYTES);
        while is_long(&self) && self.drop_least() {}
        self
    }

    /// Drops what is missed the least: a chart with a gap is better than an alarm that nobody sees. `false`: only counts are
    /// left.
    fn drop_least(&mut self) -> bool {
        self.drop_oldest()
            || self.alarms.pop().is_some()
            || self.missing.pop().is_some()
            || self.refused.pop().is_some()
    }
}

impl SharedSeries {
    /// Leaves out what a report may not have.
    fn bound(&mut self) {
        let finite = |limit: Option<f64>| limit.filter(|limit| is_shown(*limit));
        (self.min, self.max, self.step) = (finite(self.min), finite(self.max), finite(self.step));
        self.points.retain(|point| is_shown(point.value));
        for reason in self.points.iter_mut().filter_map(|point| point.reason.as_mut()) {
            reason.truncate(reason.floor_char_boundary(MAX_REASON));
        }
    }

    fn is_bounded(&self) -> bool {
        let figures = [self.min, self.max, self.step].into_iter().flatten();
        let mut figures = figures.chain(self.points.iter().map(|point| point.value));
        let mut reasons = self.points.iter().filter_map(|point| point.reason.as_ref());
        is_short(&self.topic)
            && self.name.len() <= MAX_NAME
            && self.unit.len() <= MAX_NAME
            && figures.all(is_shown)
            && reasons.all(|reason| reason.len() <= MAX_REASON)
    }
}

/// Whether a report has room for a text.
fn is_short(text: &str) -> bool {
    text.len() <= MAX_TEXT
}

/// Whether a chart can show a figure. JSON has no infinity, either.
fn is_shown(figure: f64) -> bool {
    figure.abs() <= MAX_FIGURE
}

fn preimage(report: &str, device: Number, ledger: &LedgerId) -> Vec<u8> {
    [LABEL, &ledger.chain_id.to_be_bytes(), &ledger.address, device.as_bytes(), report.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(topics: usize) -> NodeReport {
        let alarm = |at| ValueAlarm {
            topic: format!("{at}/{}", "t".repeat(1_000)),
            is_silent: at % 2 == 0,
            rules: vec!["range".into()],
            since_ms: 7,
        };
        NodeReport {
            at_ms: 1_767_225_600_000,
            sealed: 3,
            opened: 4,
            refused: vec![("not-a-member".into(), 5)],
            alarms: (0..topics).map(alarm).collect(),
            missing: vec![("group-no-keys".into(), "no keys".into())],
            shared: Vec::new(),
        }
    }

    fn series(points: u64) -> SharedSeries {
        let point =
            |at_ms| SharedPoint { at_ms, value: 21.5, verdict: SharedVerdict::Flagged, reason: Some("step 9".into()) };
        SharedSeries {
            topic: "t".into(),
            name: String::new(),
            unit: "Cel".into(),
            min: Some(-20.0),
            max: None,
            step: Some(2.0),
            points: (0..points).map(point).collect(),
        }
    }

    #[test]
    fn shared_readings_are_bounded_and_the_oldest_left_out() {
        let key = SigningKey::generate().unwrap();
        let (ledger, device) = (LedgerId { chain_id: 5, address: [7; 20] }, Number::from([3; 20]));
        let read = |report: &NodeReport| {
            SignedReport::sign(report, device, &key, &ledger).unwrap().verify(device, key.public(), &ledger)
        };
        let many = NodeReport { shared: vec![series(100), series(100)], ..report(0) };
        assert_eq!(read(&many), Err(ReportError::TooLong));
        let bounded = many.bounded();
        assert_eq!(read(&bounded).as_ref(), Ok(&bounded));
        let kept: Vec<_> = bounded.shared.iter().map(|series| (series.points.len(), series.points[0].at_ms)).collect();
        assert_eq!(kept, [(64, 36), (64, 36)]);
        // An alarm is worth more than a chart.
        let full = NodeReport { shared: vec![series(MAX_LISTED as u64)], ..report(28) }.bounded();
        assert!(full.alarms.len() == 28 && full.points() < MAX_LISTED);
        // One that cannot be shown takes no other along.
        let mut odd = SharedSeries { max: Some(f64::INFINITY), ..series(3) };
        odd.points[1].value = 1e13;
        odd.points[2].reason = Some("é".repeat(MAX_REASON));
        let report = NodeReport { shared: vec![odd], ..report(0) };
        assert_eq!(read(&report), Err(ReportError::TooLong));
        let bounded = report.bounded();
        assert_eq!(read(&bounded).as_ref(), Ok(&bounded));
        assert_eq!((bounded.shared[0].max, bounded.points()), (None, 2));
    }

    #[test]
    fn only_what_the_device_has_signed_for_this_ledger_is_taken() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let (ledger, device) = (LedgerId { chain_id: 5, address: [7; 20] }, Number::from([3; 20]));
        let said = report(2);
        let signed = SignedReport::sign(&said, device, &key, &ledger).unwrap();
        assert_eq!(signed.verify(device, key.public(), &ledger), Ok(said));
        let another = LedgerId { chain_id: 6, ..ledger };
        for refused in [
            signed.verify(device, other.public(), &ledger),
            signed.verify(Number::from([4; 20]), key.public(), &ledger),
            signed.verify(device, key.public(), &another),
            SignedReport { report: signed.report.replace('3', "4"), ..signed.clone() }.verify(
                device,
                key.public(),
                &ledger,
            ),
        ] {
            assert_eq!(refused, Err(ReportError::Signature));
        }
    }

    #[test]
    fn a_report_is_bounded_by_its_maker_and_by_its_reader() {
        let key = SigningKey::generate().unwrap();
        let (ledger, device) = (LedgerId { chain_id: 5, address: [7; 20] }, Number::from([3; 20]));
        let read = |report: &NodeReport| {
            SignedReport::sign(report, device, &key, &ledger).unwrap().verify(device, key.public(), &ledger)
        };
        let long = report(1_000);
        assert_eq!(read(&long), Err(ReportError::TooLong));
        let bounded = long.bounded();
        assert!(read(&bounded).is_ok() && bounded.alarms.len() > 20);
        let wordy = NodeReport { missing: vec![("code".into(), "w".repeat(MAX_TEXT + 1))], ..NodeReport::default() };
        assert_eq!(read(&wordy), Err(ReportError::TooLong));
        assert!(wordy.bounded().missing.is_empty());
    }
}
