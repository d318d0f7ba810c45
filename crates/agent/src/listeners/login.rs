//! The user name and password of a listener.

use std::time::Duration;

use anyhow::Result;
use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{Digest, SHA256, digest},
};
use sealcast_mqtt::{Credentials, Text};
use sealcast_node::read_password;
use tokio::{sync::Mutex, time::sleep};

use crate::config::listener::LoginFile;

/// After a wrong password, no other one is looked at for so long.
const PAUSE: Duration = Duration::from_millis(100);

/// What a client must give. It holds hashes, so that the time of a comparison does not tell a length.
pub struct Login {
    user: Digest,
    password: Digest,
    /// Held while somebody's password is looked at.
    turn: Mutex<()>,
}

impl Login {
    /// Reads the password.
    pub fn read(file: &LoginFile) -> Result<Self> {
        let password = read_password(&file.password_file)?;
        Ok(Self::new(file.user.as_bytes(), &password))
    }

    fn new(user: &[u8], password: &[u8]) -> Self {
        Self { user: digest(&SHA256, user), password: digest(&SHA256, password), turn: Mutex::new(()) }
    }

    /// Whether these let a client in. Clients take turns: so whoever guesses has ten guesses a second, on however many
    /// connections, and keeps those who know the password waiting only for as long as his guesses take.
    pub async fn admits(&self, given: &Credentials) -> bool {
        let _turn = self.turn.lock().await;
        let is_right = self.is(given);
        if !is_right {
            sleep(PAUSE).await;
        }
        is_right
    }

    fn is(&self, given: &Credentials) -> bool {
        let user = given.username.as_ref().map_or("", Text::as_str);
        let password = given.password.as_deref().unwrap_or_default();
        let same = |a: &Digest, b: &[u8]| verify_slices_are_equal(a.as_ref(), digest(&SHA256, b).as_ref()).is_ok();
        // Both, always.
        same(&self.user, user.as_bytes()) & same(&self.password, password)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn given(user: &str, password: &'static [u8]) -> Credentials {
        Credentials { username: Some(Text::new(user).unwrap()), password: Some(password.into()) }
    }

    #[test]
    fn user_and_password_have_to_be_right() {
        let login = Login::new(b"app", b"secret");
        assert!(login.is(&given("app", b"secret")));
        for (user, password) in [("app", &b"secre"[..]), ("app", b""), ("", b"secret"), ("App", b"secret")] {
            assert!(!login.is(&given(user, password)), "{user}");
        }
        assert!(!login.is(&Credentials::default()));
    }

    #[tokio::test]
    async fn guesses_wait_for_each_other_and_for_nothing_else() {
        let login = Login::new(b"app", b"secret");
        let began = Instant::now();
        let nothing = Credentials::default();
        let guess = || login.admits(&nothing);
        let (first, second, right) = tokio::join!(guess(), guess(), async {
            let right = login.admits(&given("app", b"secret")).await;
            (right, began.elapsed())
        });
        assert!(!first && !second);
        assert!(right.0 && right.1 >= 2 * PAUSE, "in its turn: {:?}", right.1);
        let began = Instant::now();
        assert!(login.admits(&given("app", b"secret")).await);
        assert!(began.elapsed() < PAUSE, "{:?}", began.elapsed());
    }
}
