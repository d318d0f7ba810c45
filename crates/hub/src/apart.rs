//! What does not belong in the hub's folder: the operator's keys, and the root CA's.
//!
//! The hub makes both at its first start, in folders of their own, and runs without them.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use sealcast_identity::{Authority, Root};
use sealcast_node::{
    KeyFiles,
    files::{self, Mode},
};
use tracing::{info, warn};

pub(crate) const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// The folders of a hub.
#[derive(Debug, Clone)]
pub struct Folders {
    /// The hub's own.
    pub hub: PathBuf,
    /// The operator's: needed at the first start, and kept up to date for as long as it is there.
    pub operator: PathBuf,
    /// The root CA's: needed at the first start.
    pub root: PathBuf,
}

impl Folders {
    /// Those beside `hub`: `hub-operator` and `hub-root`.
    pub fn beside(hub: &Path) -> Result<Self> {
        Self::new(hub, None, None)
    }

    /// Those that are given, else those beside `hub`.
    pub fn new(hub: &Path, operator: Option<PathBuf>, root: Option<PathBuf>) -> Result<Self> {
        let own = std::path::absolute(hub)?;
        // `.` has no name by which something could be beside it.
        let named = if hub.file_name().is_some() { hub } else { &own };
        let beside = |what: &str, given: Option<PathBuf>| {
            let dir = match (given, named.file_name()) {
                (Some(dir), _) => dir,
                (None, Some(name)) => named.with_file_name(format!("{}-{what}", name.to_string_lossy())),
                (None, None) => bail!("{} has no name: give the {what} folder as well (--{what})", hub.display()),
            };
            ensure!(
                !std::path::absolute(&dir)?.starts_with(&own),
                "the {what} folder, {}, is inside the hub's: whoever takes the hub's folder would have both. Give another \
                 one (--{what})",
                dir.display()
            );
            Ok(dir)
        };
        Ok(Self { hub: hub.to_owned(), operator: beside("operator", operator)?, root: beside("root", root)? })
    }

    /// Refuses a hub's folder that holds a key which must not be there.
    pub fn check_apart(&self) -> Result<()> {
        for (key, beside, other, why) in [
            (
                "operator.key",
                &["operator.pem", "root.pem", "network.json"][..],
                &self.operator,
                "whoever takes the hub's folder could let any device into any group",
            ),
            (
                "root.key",
                &["root.pem"],
                &self.root,
                "whoever takes the hub's folder could found another CA that all devices trust",
            ),
        ] {
            let found = self.hub.join(key);
            let files = beside.iter().map(|name| self.hub.join(name)).filter(|path| path.exists());
            let files = files.map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ");
            ensure!(
                !found.exists(),
                "{0} is in the hub's folder, where it must not be: {why}. Move it: mkdir -p -m 700 {1} && mv {0} {1} && cp {files} \
                 {1}. Then move {1} to another machine",
                found.display(),
                other.display()
            );
        }
        Ok(())
    }
}

/// The root CA in `dir`: the one that is there, or a new one.
pub fn root(dir: &Path, key_files: &KeyFiles, now_ms: u64) -> Result<Root> {
    let (key, certificate) = (dir.join("root.key"), dir.join("root.pem"));
    if certificate.exists() {
        return Root::new(key_files.read(&key)?, &files::read(&certificate)?)
            .with_context(|| format!("the root CA in {} cannot be used", dir.display()));
    }
    files::create_dir(dir)?;
    let root = Root::create("Sealcast", now_ms, 20 * YEAR)?;
    key_files.write(&key, root.key())?;
    files::write(&certificate, root.certificate().to_pem().as_bytes(), Mode::Public)?;
    info!(
        "the root CA's key is in {}: only a new issuing CA needs it, and the hub runs without it. Move the folder to a medium \
         that you keep offline",
        dir.display()
    );
    Ok(root)
}

/// Makes the operator's folder, and gives the operator's certificates. What a failed start has left there is used.
pub fn make_operator(dir: &Path, authority: &Authority, key_files: &KeyFiles, now_ms: u64) -> Result<String> {
    let path = |name: &str| dir.join(name);
    let (root, key) = (path("root.pem"), path("operator.key"));
    if root.exists() {
        ensure!(
            files::certificate(&root)? == *authority.root(),
            "{} is the folder of another hub's operator: give the operator of this one another folder (--operator)",
            dir.display()
        );
    } else {
        ensure!(
            !key.exists(),
            "{} is there without a root.pem, so nobody knows which hub it is for: move it away, or give another folder \
             (--operator)",
            key.display()
        );
        files::create_dir(dir)?;
        files::write(&root, authority.root().to_pem().as_bytes(), Mode::Public)?;
    }
    if !key.exists() {
        key_files.make(&key, None)?;
    }
    let chain = authority.issue_operator(key_files.read(&key)?.public(), now_ms, 10 * YEAR)?.chain_pem();
    files::write(&path("operator.pem"), chain.as_bytes(), Mode::Public)?;
    info!(
        "the operator's key is in {}, apart from the hub's folder, because whoever has both can let any device into any group. \
         Move the folder to the operator's machine",
        dir.display()
    );
    Ok(chain)
}

/// Gives the operator's folder, if it is still here, a copy of the descriptor by which the commands find the hub.
pub fn tell_operator(dir: &Path, network: &str, authority: &Authority) {
    let copy = dir.join("network.json");
    let is_ours = files::certificate(&dir.join("root.pem")).is_ok_and(|root| root == *authority.root());
    if is_ours
        && files::read(&copy).ok().as_deref() != Some(network)
        && let Err(error) = files::write(&copy, network.as_bytes(), Mode::Public)
    {
        warn!("{error:#}: copy network.json from the hub's folder, or the operator's commands do not find the hub");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    fn said<T>(outcome: Result<T>) -> String {
        outcome.map_or_else(|error| format!("{error:#}"), |_| String::new())
    }

    #[test]
    fn other_folders_are_beside_the_hub_s_and_never_in_it() {
        let beside = Folders::beside(Path::new("/srv/hub/")).unwrap();
        assert_eq!((beside.operator, beside.root), ("/srv/hub-operator".into(), "/srv/hub-root".into()));
        let relative = Folders::new(Path::new("hub"), None, Some("elsewhere".into())).unwrap();
        assert_eq!((relative.operator, relative.root), ("hub-operator".into(), "elsewhere".into()));
        let here = Folders::beside(Path::new(".")).unwrap();
        let name = std::env::current_dir().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(here.root, std::env::current_dir().unwrap().with_file_name(format!("{name}-root")));
        for inside in ["hub", "hub/operator"] {
            let refused = said(Folders::new(Path::new("hub"), Some(inside.into()), None));
            assert!(refused.contains("--operator") && refused.contains("inside the hub's"), "{inside}: {refused}");
        }
        assert!(said(Folders::beside(Path::new("/"))).contains("--operator"));
    }

    #[test]
    fn a_key_in_the_hub_s_folder_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let hub = dir.path().join("hub");
        fs::create_dir(&hub).unwrap();
        let folders = Folders::beside(&hub).unwrap();
        folders.check_apart().unwrap();
        for key in ["root.pem", "network.json"] {
            fs::write(hub.join(key), "").unwrap();
        }
        for key in ["root.key", "operator.key"] {
            fs::write(hub.join(key), "").unwrap();
            let refused = said(folders.check_apart());
            assert!(refused.contains(key) && refused.contains("must not be"), "{refused}");
            // What it says does it.
            let commands = refused.split("Move it: ").nth(1).unwrap().split(". Then").next().unwrap();
            assert!(std::process::Command::new("sh").arg("-ec").arg(commands).status().unwrap().success());
            folders.check_apart().unwrap();
        }
        assert!(folders.operator.join("operator.key").exists() && folders.operator.join("network.json").exists());
        assert!(folders.root.join("root.key").exists() && folders.root.join("root.pem").exists());
    }

    #[test]
    fn a_folder_of_another_hub_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| {
            let root = root(&dir.path().join(name), &KeyFiles::default(), sealcast_node::now_ms()).unwrap();
            root.create_authority("Sealcast", sealcast_node::now_ms(), Duration::from_secs(3_600)).unwrap()
        });
        let operator = dir.path().join("operator");
        make_operator(&operator, &first, &KeyFiles::default(), sealcast_node::now_ms()).unwrap();
        tell_operator(&operator, "the first hub's", &first);
        let refused = said(make_operator(&operator, &second, &KeyFiles::default(), sealcast_node::now_ms()));
        assert!(refused.contains("another hub's operator"), "{refused}");
        tell_operator(&operator, "the second hub's", &second);
        assert_eq!(fs::read_to_string(operator.join("network.json")).unwrap(), "the first hub's");
        fs::remove_file(operator.join("root.pem")).unwrap();
        let refused = said(make_operator(&operator, &second, &KeyFiles::default(), sealcast_node::now_ms()));
        assert!(refused.contains("without a root.pem"), "{refused}");
    }
}
