//! Files of a role's folder: read with an error that names them, written whole or not at all, secrets for the owner only.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::OFlags;
use sealcast_identity::{Certificate, certificates_from_pem};

/// Who may read a file that is written.
#[derive(Clone, Copy)]
pub enum Mode {
    /// Only the owner: keys, tokens.
    Secret,
    /// Anybody: certificates, addresses.
    Public,
}

/// Makes `dir`, and what lies above it, readable by the owner only.
pub fn create_dir(dir: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot make the folder {}", dir.display()))
}

/// Largest file that [`read`] takes: configurations, certificates, descriptors are far smaller.
const MAX_TEXT_BYTES: usize = 4 << 20;

/// What a path may lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A regular file.
    File,
    /// A regular file or a pipe, as a shell makes one of `<(…)`: only for what the user names on the command line.
    FileOrPipe,
}

/// Opens a file to read it, a symbolic link's target as well. Whoever else may write to its folder can put a pipe or a device
/// in its place, which has no end or makes a reader wait: only what `source` allows is opened.
///
/// # Errors
/// It cannot be opened, or is something else.
pub fn open(path: &Path, source: Source) -> Result<fs::File> {
    // Looked at before, since opening some devices does something, and after, since it may be another file by then.
    check_kind(&fs::metadata(path)?, source)?;
    let flags = match source {
        // What has become a pipe meanwhile must not make this wait for a writer.
        Source::File => OFlags::NONBLOCK,
        Source::FileOrPipe => OFlags::empty(),
    };
    let file = fs::OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    check_kind(&file.metadata()?, source)?;
    Ok(file)
}

fn check_kind(found: &fs::Metadata, source: Source) -> Result<()> {
    let kind = found.file_type();
    match source {
        Source::File => ensure!(kind.is_file(), "it is not a regular file"),
        Source::FileOrPipe => ensure!(kind.is_file() || kind.is_fifo(), "it is neither a regular file nor a pipe"),
    }
    Ok(())
}

/// The file as text.
pub fn read(path: &Path) -> Result<String> {
    read_bounded(path, MAX_TEXT_BYTES)
}

/// The file as text, if it has at most `most` bytes.
pub fn read_bounded(path: &Path, most: usize) -> Result<String> {
    String::from_utf8(read_bytes(path, most)?).with_context(|| format!("cannot read {}", path.display()))
}

/// The file's bytes, if it has at most `most`.
pub fn read_bytes(path: &Path, most: usize) -> Result<Vec<u8>> {
    let attempt = || -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = open(path, Source::File)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
        ensure!(read <= most, "it is larger than {most} bytes");
        Ok(bytes)
    };
    attempt().with_context(|| format!("cannot read {}", path.display()))
}

/// The certificates of a PEM file, in their order.
pub fn certificates(path: &Path) -> Result<Vec<Certificate>> {
    certificates_from_pem(&read(path)?).with_context(|| format!("{} cannot be used", path.display()))
}

/// The first certificate of a PEM file.
pub fn certificate(path: &Path) -> Result<Certificate> {
    certificates(path)?.into_iter().next().with_context(|| format!("{} holds no certificate", path.display()))
}

/// Replaces `path` by `content`: after a crash the old file or the new one is there, never a part.
pub fn write(path: &Path, content: &[u8], mode: Mode) -> Result<()> {
    replace(path, mode, |temporary| Ok(fs::OpenOptions::new().write(true).open(temporary)?.write_all(content)?))
}

/// Replaces `path` by what `fill` makes of an empty file, whose path it gets: after a crash or an error the old file or the
/// new one is there, never a part.
pub fn replace(path: &Path, mode: Mode, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let attempt = || -> Result<()> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let temporary = beside(path, ".new");
        let bits = match mode {
            Mode::Secret => 0o600,
            Mode::Public => 0o644,
        };
        let _ = fs::remove_file(&temporary);
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(bits).open(&temporary)?;
        fill(&temporary)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        fs::File::open(dir)?.sync_all()?;
        Ok(())
    };
    attempt().with_context(|| format!("cannot write {}", path.display()))
}

/// Its own name with `end` after it: what stands in the folder under another name is somebody else's.
pub(crate) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Makes `path` with `content`, whole or not at all. If somebody else has made it, that stays, and is an error.
pub fn write_new(path: &Path, content: &[u8], mode: Mode) -> Result<()> {
    let whole = beside(path, ".whole");
    let attempt = || -> Result<()> {
        write(&whole, content, mode)?;
        Ok(fs::hard_link(&whole, path)?)
    };
    let made = attempt().with_context(|| format!("cannot make {}", path.display()));
    // It is there under both names, or somebody else's is.
    let _ = fs::remove_file(&whole);
    made
}

/// Waits for the disk without holding up the other tasks of this thread.
pub fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match tokio::runtime::Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(tokio::runtime::RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// The file by which a process takes a folder.
pub const LOCK: &str = "lock";

/// A folder or file taken for this process; given back when dropped, or when the process dies.
pub struct Lock {
    _file: fs::File,
}

/// Takes `dir` for this process: a second one gets an error that says so.
pub fn lock(dir: &Path) -> Result<Lock> {
    lock_file(&dir.join(LOCK), || format!("the folder {} is in use by another sealcast process", dir.display()))
}

/// Takes the file `path`, which is made if it is not there, for this process: a second one gets the error `taken`.
pub fn lock_file(path: &Path, taken: impl FnOnce() -> String) -> Result<Lock> {
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock { _file: file }),
        Err(fs::TryLockError::WouldBlock) => bail!(taken()),
        Err(fs::TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use rustix::fs::{CWD, mkfifoat};

    use super::*;

    /// A device or a pipe has no end, and a pipe makes its reader wait for a writer.
    #[test]
    fn only_a_regular_file_of_a_bounded_size_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let said = |path: &Path| format!("{:#}", read(path).unwrap_err());
        mkfifoat(CWD, path("pipe"), rustix::fs::Mode::RUSR).unwrap();
        for (name, target) in [("zero", "/dev/zero"), ("link", "pipe"), ("folder", ".")] {
            symlink(target, path(name)).unwrap();
        }
        for name in ["pipe", "zero", "link", "folder"] {
            let found = said(&path(name));
            assert!(found.contains(name) && found.contains("it is not a regular file"), "{found}");
        }
        fs::write(path("file"), "a text").unwrap();
        symlink("file", path("to the file")).unwrap();
        assert_eq!(read(&path("to the file")).unwrap(), "a text");
        fs::File::create(path("large")).unwrap().set_len(1 << 40).unwrap();
        assert!(said(&path("large")).contains("larger than"));
        assert!(said(&path("missing")).contains("missing: No such file"));
        assert!(open(&path("zero"), Source::FileOrPipe).is_err());
    }

    /// What a write that failed at some place leaves: the old file, and nothing that stands in the way of the next try.
    #[test]
    fn a_file_is_the_old_one_or_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("device.key");
        let content = || fs::read_to_string(&path).ok();
        let part = |path: &Path| -> Result<()> {
            fs::write(path, "a part")?;
            bail!("the disk is full")
        };
        fs::write(dir.path().join("device.new"), "of the user").unwrap();
        for before in [None, Some("old")] {
            let error = replace(&path, Mode::Secret, part).unwrap_err();
            assert!(
                format!("{error:#}").contains("cannot write") && format!("{error:#}").contains("full"),
                "{error:#}"
            );
            assert_eq!(content().as_deref(), before);
            // The temporary file cannot be made.
            fs::remove_file(dir.path().join("device.key.new")).unwrap();
            fs::create_dir(dir.path().join("device.key.new")).unwrap();
            write(&path, b"new", Mode::Secret).unwrap_err();
            assert_eq!(content().as_deref(), before);
            fs::remove_dir(dir.path().join("device.key.new")).unwrap();
            replace(&path, Mode::Secret, part).unwrap_err();
            write(&path, b"old", Mode::Secret).unwrap();
            assert_eq!(content().as_deref(), Some("old"));
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(dir.path().join("device.new")).unwrap(), "of the user");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing else is left");
    }
}
