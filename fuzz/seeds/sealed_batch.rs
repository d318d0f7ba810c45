//! Seeds made of the genuine batches: as they are, and with each kind of change.

use crate::body::frames::genuine_frames;

type Failure = Box<dyn std::error::Error>;

pub fn seeds() -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let mut seeds = Vec::new();
    let count = u8::try_from(genuine_frames().len() / 2)?;
    for which in 0..count {
        seeds.push((format!("seed-same-{which}"), vec![which, which]));
        seeds.push((format!("seed-renumbered-{which}"), vec![which, which + 1]));
        for (name, change) in [
            ("flags", [0, 0, 0, 0x20]),
            ("payload", [0, 0, 5, 1]),
            ("signature", [1, 0, 3, 1]),
            ("place", [1, 0, 65, 1]),
            ("path", [1, 0, 70, 1]),
            ("other-signature", [2, 0, 0, which + 1]),
            ("other-path", [3, 0, 66 + 32, which + 1]),
            ("alone-in-two", [4, 0, 1, 0]),
            ("longer", [5, 0, 8, 7]),
            ("shorter", [6, 0, 8, 32]),
        ] {
            seeds.push((format!("seed-{name}-{which}"), [&[which, which][..], &change].concat()));
        }
    }
    Ok(seeds)
}
