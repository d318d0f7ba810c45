//! The libraries that talk to tokens, and the tokens that they find.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result, bail};
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
    slot::{Slot, TokenInfo},
};

use crate::uri::TokenUri;

/// p11-kit's, which finds all tokens that the machine's administrator has set up.
const DEFAULT: &str = "p11-kit-proxy.so";

/// A library is initialized once in a process.
static MODULES: Mutex<BTreeMap<PathBuf, Pkcs11>> = Mutex::new(BTreeMap::new());

/// The library of the token that `uri` names.
pub fn module(uri: &TokenUri) -> Result<Pkcs11> {
    let path = uri.module_path.as_deref().unwrap_or(Path::new(DEFAULT));
    let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(module) = modules.get(path) {
        return Ok(module.clone());
    }
    let attempt = || -> Result<Pkcs11, Error> {
        let module = Pkcs11::new(path)?;
        match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(module),
            Err(error) => Err(error),
        }
    };
    let module = attempt().with_context(|| {
        format!("the PKCS#11 library {} cannot be used: name the token's by module-path", path.display())
    })?;
    modules.insert(path.to_owned(), module.clone());
    Ok(module)
}

/// The one token that `uri` names.
pub fn slot(module: &Pkcs11, uri: &TokenUri) -> Result<Slot> {
    let mut found = Vec::new();
    let mut others = Vec::new();
    for slot in module.get_slots_with_initialized_token().context("the tokens cannot be listed")? {
        let info = module.get_token_info(slot).context("a token cannot be read")?;
        if is_named(&info, uri) { found.push(slot) } else { others.push(info.label().trim_end().to_owned()) }
    }
    match found.as_slice() {
        [slot] => Ok(*slot),
        [] if others.is_empty() => bail!("there is no token: is it plugged in?"),
        [] => bail!("there is no such token, but these: {}", others.join(", ")),
        _ => bail!("{} tokens are named so: give token and serial", found.len()),
    }
}

fn is_named(info: &TokenInfo, uri: &TokenUri) -> bool {
    [
        (&uri.token, info.label()),
        (&uri.serial, info.serial_number()),
        (&uri.manufacturer, info.manufacturer_id()),
        (&uri.model, info.model()),
    ]
    .into_iter()
    .all(|(wanted, is)| wanted.as_ref().is_none_or(|wanted| wanted == is.trim_end()))
}
