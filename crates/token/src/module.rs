//! The libraries that talk to tokens, and the tokens that they find.

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result, bail, ensure};
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
    if let Some(path) = &uri.module_path {
        check_owner(path, rustix::process::geteuid().as_raw())?;
    }
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

/// A library's code runs with the rights of whoever reads the key. So nobody may have put it there but that user (`user`) and root:
/// in the folder of another user, which root has checked by `sealcast doctor`, that user writes the URI.
fn check_owner(path: &Path, user: u32) -> Result<()> {
    let whole = path.canonicalize().with_context(|| format!("module-path: {}", path.display()))?;
    for part in whole.ancestors() {
        let found = part.metadata().with_context(|| format!("module-path: {}", part.display()))?;
        // In a folder such as /tmp only a file's owner can replace it.
        let is_sticky = found.is_dir() && found.mode() & 0o1000 != 0;
        ensure!(
            (found.uid() == 0 || found.uid() == user) && (found.mode() & 0o022 == 0 || is_sticky),
            "module-path: {} is not used, since others than root and the user of this process may change {}",
            path.display(),
            part.display()
        );
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn a_library_that_others_may_change_is_not_used() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let (path, user) = (dir.path().join("lib.so"), dir.path().metadata()?.uid());
        fs::write(&path, "")?;
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
        set(&path, 0o644)?;
        check_owner(&path, user)?;
        for mode in [0o664, 0o646] {
            set(&path, mode)?;
            assert!(check_owner(&path, user).is_err(), "{mode:o}");
        }
        set(&path, 0o644)?;
        set(dir.path(), 0o777)?;
        assert!(check_owner(&path, user).is_err(), "another file could be put in its place");
        set(dir.path(), 0o1777)?;
        check_owner(&path, user)?;
        // Another user's, which root must not run. Only root can give a file away.
        let owned = std::os::unix::fs::chown(&path, Some(12_345), None).is_ok();
        assert_eq!(check_owner(&path, user).is_err(), owned);
        assert!(check_owner(&dir.path().join("missing"), user).is_err());
        Ok(())
    }
}
