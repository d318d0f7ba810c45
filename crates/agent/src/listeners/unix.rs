//! Unix sockets, whose clients the system vouches for (`SO_PEERCRED`).

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tracing::debug;

use crate::config::listener::{UnixPlace, User};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 128;
/// Where user names are looked up.
const USERS: &str = "/etc/passwd";

/// A socket, whose file goes with it.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and number of the file: another process may have put its own in the place.
    file: (u64, u64),
}

impl Socket {
    /// Binds it. A file that a process has left behind is replaced, one on which a process listens is not.
    pub async fn bind(place: &UnixPlace) -> Result<Self> {
        let path = place.path.clone();
        let bind = async {
            remove_stale(&path).await?;
            let socket = UnixSocket::new_stream()?;
            socket.bind(&path)?;
            // Before it listens: nobody can connect yet.
            fs::set_permissions(&path, fs::Permissions::from_mode(place.mode))?;
            let file = fs::symlink_metadata(&path)?;
            Ok((socket.listen(BACKLOG)?, (file.dev(), file.ino())))
        };
        let bound: Result<_> = bind.await;
        let (listener, file) = bound.with_context(|| format!("cannot listen on unix:{}", place.path.display()))?;
        Ok(Self { listener, path, file })
    }

    /// The next client and the number of its user.
    pub async fn accept(&self) -> io::Result<(UnixStream, u32)> {
        let (stream, _) = self.listener.accept().await?;
        let user = stream.peer_cred()?.uid();
        Ok((stream, user))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.file);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            debug!(%error, path = %self.path.display(), "the socket's file stays");
        }
    }
}

async fn remove_stale(path: &Path) -> Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Ok(file) => file.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    ensure!(kind.is_socket(), "it is there, and is no socket");
    match UnixStream::connect(path).await {
        Ok(_) => bail!("another process listens on it"),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(fs::remove_file(path)?),
        Err(error) => Err(error).context("whether another process listens on it cannot be seen"),
    }
}

/// The users' numbers.
pub fn numbers(users: &[User]) -> Result<BTreeSet<u32>> {
    let known = if users.iter().any(|user| matches!(user, User::Name(_))) {
        fs::read_to_string(USERS).with_context(|| format!("users: cannot read {USERS}"))?
    } else {
        String::new()
    };
    let number = |user: &User| match user {
        User::Id(id) => Ok(*id),
        User::Name(name) => number_of(&known, name)
            .with_context(|| format!("users: {name:?} is not in {USERS}; give the user's number (`id -u {name}`)")),
    };
    users.iter().map(number).collect()
}

/// The number of a user in passwd(5).
fn number_of(passwd: &str, name: &str) -> Option<u32> {
    let fields = |line: &str| {
        let mut fields = line.split(':');
        Some((fields.next()? == name, fields.nth(1)?.parse().ok()?))
    };
    passwd.lines().filter_map(fields).find_map(|(is_it, number)| is_it.then_some(number))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn place(dir: &Path, mode: u32) -> UnixPlace {
        UnixPlace { path: dir.join("mqtt.sock"), mode, users: None }
    }

    #[tokio::test]
    async fn a_socket_has_its_mode_says_who_connects_and_goes_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path(), 0o620);
        let socket = Socket::bind(&place).await.unwrap();
        assert_eq!(fs::metadata(&place.path).unwrap().mode() & 0o7777, 0o620);
        let (_client, accepted) = tokio::join!(UnixStream::connect(&place.path), socket.accept());
        assert_eq!(accepted.unwrap().1, fs::metadata(dir.path()).unwrap().uid());
        drop(socket);
        assert!(!place.path.exists());
    }

    #[tokio::test]
    async fn a_stale_file_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path(), 0o600);
        // A process that was killed leaves its file.
        drop(std::os::unix::net::UnixListener::bind(&place.path).unwrap());
        let socket = Socket::bind(&place).await.unwrap();
        let said = Socket::bind(&place).await.map(drop).unwrap_err();
        assert!(format!("{said:#}").contains("another process listens"), "{said:#}");
        assert!(UnixStream::connect(&place.path).await.is_ok(), "the first one still listens");
        // What another process has put there stays.
        fs::remove_file(&place.path).unwrap();
        let _other = std::os::unix::net::UnixListener::bind(&place.path).unwrap();
        drop(socket);
        assert!(place.path.exists());
        fs::remove_file(&place.path).unwrap();
        fs::write(&place.path, "a file").unwrap();
        let said = Socket::bind(&place).await.map(drop).unwrap_err();
        assert!(format!("{said:#}").contains("no socket"), "{said:#}");
        assert_eq!(fs::read_to_string(&place.path).unwrap(), "a file");
    }

    #[test]
    fn users_are_found_by_name() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\n# odd\nmosquitto:x:107:112::/var/lib/mosquitto:/sbin/nologin\n";
        assert_eq!((number_of(passwd, "mosquitto"), number_of(passwd, "root")), (Some(107), Some(0)));
        assert_eq!((number_of(passwd, "mosq"), number_of(passwd, "x")), (None, None));
        assert_eq!(numbers(&[User::Id(7), User::Name("root".into())]).unwrap(), [0, 7].into());
        let said = numbers(&[User::Name("no such user".into())]).unwrap_err();
        assert!(said.to_string().contains("id -u"), "{said}");
    }
}
