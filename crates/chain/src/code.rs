//! Whether the code of a contract is what this program's source compiles to.

use std::{collections::BTreeMap, sync::LazyLock};

use serde::Deserialize;

use crate::contract::SealcastLedger::DEPLOYED_BYTECODE;

/// Where the deployed code has the values of immutable variables, which the constructor chose.
static CHOSEN: LazyLock<Vec<Place>> = LazyLock::new(|| {
    let artifact: Artifact =
        serde_json::from_str(include_str!("../../../contracts/SealcastLedger.json")).unwrap_or_default();
    artifact.deployed_bytecode.immutable_references.into_values().flatten().collect()
});

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Artifact {
    deployed_bytecode: Deployed,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Deployed {
    immutable_references: BTreeMap<String, Vec<Place>>,
}

#[derive(Deserialize)]
struct Place {
    start: usize,
    length: usize,
}

/// Whether `code` is the ledger's, whoever deployed it and with which keys.
pub(crate) fn is_ledger(code: &[u8]) -> bool {
    let mut code = code.to_vec();
    for Place { start, length } in &*CHOSEN {
        if let Some(value) = code.get_mut(*start..start + length) {
            value.fill(0);
        }
    }
    code == *DEPLOYED_BYTECODE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_values_that_the_constructor_chose_may_differ() {
        let mut code = DEPLOYED_BYTECODE.to_vec();
        assert!(is_ledger(&code) && !CHOSEN.is_empty());
        for Place { start, length } in &*CHOSEN {
            code[*start..start + length].fill(0x5a);
        }
        assert!(is_ledger(&code));
        let is_chosen = |at: usize| CHOSEN.iter().any(|place| (place.start..place.start + place.length).contains(&at));
        for at in (0..code.len()).filter(|at| !is_chosen(*at)) {
            code[at] ^= 1;
            assert!(!is_ledger(&code), "{at}");
            code[at] ^= 1;
        }
        code.push(0);
        assert!(!is_ledger(&code));
    }
}
