//! The fields of a record by their labels (RFC 8428 §5 and §6).

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, general_purpose};

use super::record::PackRecord;
use crate::decimal::Decimal;
use crate::fault::{DecodeError, Fault, Position};
use crate::reading::Value;
use crate::tree::{Key, Kind, Node};

/// The URL-safe alphabet; written without padding, read with or without.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The standard alphabet, for devices that know no other.
pub(crate) const BASE64_STANDARD: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    general_purpose::NO_PAD.with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Which of the two representations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Cbor,
}

/// A field and its labels in JSON and CBOR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    BaseVersion = -1,
    BaseName = -2,
    BaseTime = -3,
    BaseUnit = -4,
    BaseValue = -5,
    BaseSum = -6,
    Name = 0,
    Unit = 1,
    Value = 2,
    StringValue = 3,
    BooleanValue = 4,
    Sum = 5,
    Time = 6,
    UpdateTime = 7,
    DataValue = 8,
}

const LABELS: [(Label, &str, &str); 15] = [
    (Label::Name, "n", "0"),
    (Label::Unit, "u", "1"),
    (Label::Value, "v", "2"),
    (Label::Time, "t", "6"),
    (Label::BaseName, "bn", "-2"),
    (Label::BaseTime, "bt", "-3"),
    (Label::BaseUnit, "bu", "-4"),
    (Label::BaseValue, "bv", "-5"),
    (Label::BaseSum, "bs", "-6"),
    (Label::BaseVersion, "bver", "-1"),
    (Label::StringValue, "vs", "3"),
    (Label::BooleanValue, "vb", "4"),
    (Label::DataValue, "vd", "8"),
    (Label::Sum, "s", "5"),
    (Label::UpdateTime, "ut", "7"),
];

impl Label {
    pub fn text(self) -> &'static str {
        LABELS.iter().find(|(label, ..)| *label == self).map_or("", |(_, text, _)| text)
    }

    pub fn number(self) -> i128 {
        self as i128
    }

    fn find(key: &Key<'_>, form: Form) -> Option<Self> {
        // In CBOR a text label of a known field is another field (§6).
        if key.integer != (form == Form::Cbor) {
            return None;
        }
        let matches = |(_, text, number): &&(Self, &str, &str)| match form {
            Form::Json => key.text == *text,
            Form::Cbor => key.text == *number,
        };
        LABELS.iter().find(matches).map(|(label, ..)| *label)
    }
}

pub(super) fn read_record(node: &Node<'_>, form: Form) -> Result<PackRecord, DecodeError> {
    let Kind::Map(members) = &node.kind else {
        return Err(Position::byte(node.at).error(node.mismatch("a SenML record, an object")));
    };
    let mut record = PackRecord::default();
    for (key, field) in members {
        let Some(label) = Label::find(key, form) else {
            if key.text.ends_with('_') {
                let fault = Fault::MustUnderstand { label: key.text.to_string() };
                return Err(Position::byte(field.at).error(fault));
            }
            continue;
        };
        read_field(&mut record, label, field, form)
            .map_err(|fault| Position::path(label.text()).with_byte(field.at).error(fault))?;
    }
    Ok(record)
}

fn read_field(record: &mut PackRecord, label: Label, field: &Node<'_>, form: Form) -> Result<(), Fault> {
    let text = || field.text().map(|text| Some(text.to_owned()));
    let number = || field.number().map(Some);
    let value = match label {
        Label::BaseName => return text().map(|it| record.base_name = it),
        Label::BaseTime => return number().map(|it| record.base_time = it),
        Label::BaseUnit => return text().map(|it| record.base_unit = it),
        Label::BaseValue => return number().map(|it| record.base_value = it),
        Label::BaseSum => return number().map(|it| record.base_sum = it),
        Label::BaseVersion => return version(field.number()?).map(|it| record.base_version = Some(it)),
        Label::Name => return text().map(|it| record.name = it),
        Label::Unit => return text().map(|it| record.unit = it),
        Label::Time => return number().map(|it| record.time = it),
        Label::UpdateTime => return number().map(|it| record.update_time = it),
        Label::Sum => return number().map(|it| record.sum = it),
        Label::Value => Value::Number(field.number()?),
        Label::StringValue => Value::Text(field.text()?.to_owned()),
        Label::BooleanValue => match field.kind {
            Kind::Bool(state) => Value::Bool(state),
            _ => return Err(field.mismatch("true or false")),
        },
        Label::DataValue => Value::Data(data(field, form)?),
    };
    if record.value.replace(value).is_some() {
        return Err(Fault::Senml("the record has more than one of v, vs, vb and vd"));
    }
    Ok(())
}

fn version(number: Decimal) -> Result<u64, Fault> {
    let whole = number.to_integer().and_then(|whole| u64::try_from(whole).ok()).filter(|&version| version > 0);
    whole.ok_or(Fault::Senml("the version must be a positive integer"))
}

fn data(field: &Node<'_>, form: Form) -> Result<Vec<u8>, Fault> {
    match (&field.kind, form) {
        (Kind::Bytes(bytes), Form::Cbor) => Ok(bytes.to_vec()),
        (Kind::Text(text), Form::Json) => {
            BASE64.decode(text.as_bytes()).map_err(|_| Fault::Senml("data must be base64 in the URL-safe alphabet"))
        }
        (_, Form::Cbor) => Err(field.mismatch("bytes")),
        (_, Form::Json) => Err(field.mismatch("a text of base64")),
    }
}
