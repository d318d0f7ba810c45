//! What a device tells the hub of itself: as JSON that nobody has signed, as JSON that a hostile device has signed, and as
//! what an agent would tell, however much that is.

use std::sync::OnceLock;

use sealcast_identity::SigningKey;
use sealcast_ledger::{LedgerId, Number};
use sealcast_ledger_client::{MAX_REPORT_BYTES, NodeReport, ReportError, SharedSeries, SignedReport};

pub const LEDGER: LedgerId = LedgerId { chain_id: 5318, address: [7; 20] };
const DEVICE: [u8; 20] = [3; 20];

/// `what u8 | JSON`.
pub fn run(data: &[u8]) {
    let Some(([what], json)) = data.split_first_chunk::<1>() else { return };
    match what % 3 {
        0 => unsigned(json),
        1 => signed(json),
        _ => told(json),
    }
}

/// Nobody has the key.
fn unsigned(json: &[u8]) {
    let Ok(report) = serde_json::from_slice::<SignedReport>(json) else { return };
    assert!(verify(&report).is_err(), "the device has signed nothing");
}

/// The device signs whatever it likes. What the hub takes has the bounds of a report.
fn signed(text: &[u8]) {
    let Ok(text) = str::from_utf8(text) else { return };
    let signed = [b"sealcast-report-v1", &LEDGER.chain_id.to_be_bytes()[..], &LEDGER.address, &DEVICE, text.as_bytes()];
    let signature = key().sign(&signed.concat()).expect("a signature");
    let whole = serde_json::json!({ "report": text, "signature": format!("0x{}", hex::encode(signature)) });
    match verify(&serde_json::from_value(whole).expect("a signed report")) {
        Ok(report) => {
            assert!(text.len() <= MAX_REPORT_BYTES);
            assert!(
                [report.refused.len(), report.missing.len(), report.shared.len()].into_iter().all(|len| len <= 128)
            );
            report.shared.iter().for_each(check);
        }
        Err(error) => assert_ne!(error, ReportError::Signature),
    }
}

/// What a page can draw.
fn check(series: &SharedSeries) {
    let limits = [series.min, series.max, series.step].into_iter().flatten();
    let mut figures = limits.chain(series.points.iter().map(|point| point.value));
    assert!(figures.all(|figure| figure.abs() <= 1e12), "{series:?}");
    let mut reasons = series.points.iter().filter_map(|point| point.reason.as_ref());
    assert!(series.points.len() <= 128 && reasons.all(|reason| reason.len() <= 160), "{series:?}");
}

/// Whatever an agent has to tell, the hub takes what is left of it within the bounds.
fn told(json: &[u8]) {
    let Ok(report) = serde_json::from_slice::<NodeReport>(json) else { return };
    let bounded = report.bounded();
    let signed = SignedReport::sign(&bounded, Number::from(DEVICE), key(), &LEDGER).expect("a signature");
    assert_eq!(verify(&signed).err(), None, "{bounded:?}");
}

fn verify(report: &SignedReport) -> Result<NodeReport, ReportError> {
    report.verify(Number::from(DEVICE), key().public(), &LEDGER)
}

fn key() -> &'static SigningKey {
    static KEY: OnceLock<SigningKey> = OnceLock::new();
    KEY.get_or_init(|| SigningKey::generate().expect("a key"))
}
