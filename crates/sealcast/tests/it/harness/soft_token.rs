//! A token without hardware, by SoftHSM.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use super::process::succeed;

const PIN: &str = "7654321";
/// Where distributions put the library.
const MODULES: [&str; 4] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
];

/// A token of a test's own. Processes find it by [`environment`](Self::environment).
pub struct SoftToken {
    dir: tempfile::TempDir,
    module: &'static str,
}

impl SoftToken {
    pub fn new() -> Self {
        let module = MODULES.into_iter().find(|path| Path::new(path).exists());
        let token = Self { dir: tempfile::tempdir().unwrap(), module: module.expect("SoftHSM: Debian's softhsm2") };
        fs::create_dir(token.dir.path().join("tokens")).unwrap();
        let tokens = token.dir.path().join("tokens");
        fs::write(token.path("conf"), format!("directories.tokendir = {}\n", tokens.display())).unwrap();
        fs::write(token.path("pin"), format!("{PIN}\n")).unwrap();
        fs::set_permissions(token.path("pin"), fs::Permissions::from_mode(0o600)).unwrap();
        let mut make = Command::new("softhsm2-util");
        make.args(["--init-token", "--free", "--label", "sealcast", "--so-pin", "87654321", "--pin", PIN]);
        succeed(make.envs([token.environment()]));
        token
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What a process must have in its environment.
    pub fn environment(&self) -> (String, String) {
        ("SOFTHSM2_CONF".to_owned(), self.path("conf").to_str().unwrap().to_owned())
    }

    /// The URI of a key in it.
    pub fn uri(&self, object: &str) -> String {
        format!("{}&pin-source={}", self.uri_without_pin(object), self.path("pin").display())
    }

    /// The same, so that the passphrase is the PIN.
    pub fn uri_without_pin(&self, object: &str) -> String {
        format!("pkcs11:token=sealcast;object={object}?module-path={}", self.module)
    }

    /// The file with the PIN.
    pub fn pin(&self) -> PathBuf {
        self.path("pin")
    }
}
