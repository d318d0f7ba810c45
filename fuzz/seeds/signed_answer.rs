//! A hub that is forgotten as soon as it has answered, and seeds made of its answers.

use std::{fs, time::Duration};

use sealcast_identity::{Authority, Root, SigningKey};
use sealcast_ledger_client::AnswerSigner;

use crate::{
    body::{ANSWER, LEDGER, LIFE_MS, NODE, NOW_MS},
    write::fuzz_path,
};

type Failure = Box<dyn std::error::Error>;

const LIFE: Duration = Duration::from_millis(LIFE_MS);

fn signer(authority: &Authority, is_hub: bool) -> Result<AnswerSigner, Failure> {
    let key = SigningKey::generate()?;
    let issued = match is_hub {
        true => authority.issue_hub_client(key.public(), NOW_MS, LIFE)?,
        false => authority.issue_device(&"1112".parse()?, key.public(), NOW_MS, LIFE)?,
    };
    Ok(AnswerSigner::new(LEDGER, key, &issued.chain().map(|certificate| certificate.der().to_vec())))
}

/// Writes `fuzz/fixtures/answers.bin`. All is made anew, so the corpus has to be made anew after it.
pub fn write_fixture() -> Result<(), Failure> {
    let root = Root::create("fuzz", NOW_MS, 2 * LIFE)?;
    let authority = root.create_authority("fuzz", NOW_MS, 2 * LIFE)?;
    let foreign = Root::create("foreign", NOW_MS, 2 * LIFE)?.create_authority("foreign", NOW_MS, 2 * LIFE)?;
    let hub = signer(&authority, true)?;
    let parts = [
        root.certificate().der().to_vec(),
        hub.sign(NODE, ANSWER)?,
        hub.sign("1113", br#"{"jsonrpc":"2.0","id":"7","result":1}"#)?,
        signer(&authority, false)?.sign(NODE, br#"{"jsonrpc":"2.0","id":"7","result":2}"#)?,
        signer(&foreign, true)?.sign(NODE, br#"{"jsonrpc":"2.0","id":"7","result":3}"#)?,
    ];
    let mut out = Vec::new();
    for part in parts {
        out.extend(u32::try_from(part.len())?.to_be_bytes());
        out.extend(part);
    }
    Ok(fs::write(fuzz_path("fixtures/answers.bin"), out)?)
}

pub fn seeds() -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let fixture = fs::read(fuzz_path("fixtures/answers.bin"))?;
    let mut rest = fixture.as_slice();
    let mut parts = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (part, after) = after.split_at_checked(usize::try_from(u32::from_be_bytes(*length))?).ok_or("cut off")?;
        parts.push(part);
        rest = after;
    }
    let [_, answers @ ..] = &parts[..] else { return Err("too few parts".into()) };
    let say = |what: u8, bytes: &[u8]| -> Result<Vec<u8>, Failure> {
        Ok([&[what][..], &u16::try_from(bytes.len())?.to_be_bytes(), bytes].concat())
    };
    let mut seeds = Vec::new();
    for (place, answer) in (0_u8..).zip(answers) {
        seeds.push((format!("seed-{place}-whole"), say(0, answer)?));
        seeds.push((format!("seed-{place}-kept"), [say(6 | place << 3, b"")?, say(6, b"")?].concat()));
        for other in 0..4 {
            let chain_and_signature = 2 | place << 3 | other << 5;
            seeds.push((format!("seed-{place}-{other}-any"), say(chain_and_signature, ANSWER)?));
            seeds.push((format!("seed-{place}-{other}-its"), say(chain_and_signature | 1, b"")?));
        }
        for at in (0..answer.len()).step_by(61) {
            let change = [&u16::try_from(at)?.to_be_bytes()[..], &[1]].concat();
            seeds.push((format!("seed-{place}-changed-{at}"), [say(1 | place << 3, &change)?, say(6, b"")?].concat()));
        }
    }
    let at = |ms: u64| say(4, &ms.to_be_bytes());
    let [last, known, over] = [LIFE_MS - 1, LIFE_MS + 30_000, LIFE_MS + 120_000].map(|age_ms| at(NOW_MS + age_ms));
    let genuine = say(6, b"")?;
    seeds.push((
        "seed-ends".to_owned(),
        [&last?, &genuine, &known?, &genuine, &over?, &genuine].map(Vec::as_slice).concat(),
    ));
    seeds.push((
        "seed-before".to_owned(),
        [&at(0)?, &genuine, &say(5, &[255; 9])?, &genuine].map(Vec::as_slice).concat(),
    ));
    Ok(seeds)
}
