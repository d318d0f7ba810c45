//! One key in a token.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};
use cryptoki::{
    error::{Error, RvError},
    mechanism::Mechanism,
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    types::RawAuthPin,
};
use sealcast_identity::{Passphrase, PublicKey, Signature, Token};
use sealcast_node::IfMissing;
use tracing::warn;

use crate::{module, uri::TokenUri};

/// `namedCurve` P-256 (RFC 5480 section 2.1.1.1), DER.
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// What DER puts before the 65 bytes of an uncompressed point in an OCTET STRING.
const OCTET_STRING: &[u8] = &[0x04, 65];

/// A key that signs in its token.
pub struct TokenKey {
    uri: TokenUri,
    pin: Option<Passphrase>,
    public: PublicKey,
    state: Mutex<State>,
}

enum State {
    Open(Opened),
    /// The token was taken out, or has closed the session.
    Lost,
    /// It does not take the PIN any more. A token locks itself after some wrong ones, so it is not asked again.
    Refused,
}

struct Opened {
    session: Session,
    key: ObjectHandle,
}

impl TokenKey {
    /// Finds the key that `uri` names, or makes it, if that is wished for.
    pub fn open(uri: TokenUri, pin: Option<Passphrase>, if_missing: IfMissing) -> Result<(PublicKey, Self)> {
        let session = log_in(&uri, pin.as_ref(), if_missing == IfMissing::Make)?;
        let (public, key) = match (find(&session, &uri)?, if_missing) {
            (Some(found), _) => found,
            (None, IfMissing::Refuse) => bail!("the token holds no such key"),
            (None, IfMissing::Make) => {
                make(&session, &uri).context("the token does not make the key")?;
                find(&session, &uri)?.context("the token does not find the key that it has made")?
            }
        };
        Ok((public, Self { uri, pin, public, state: Mutex::new(State::Open(Opened { session, key })) }))
    }

    fn reopen(&self) -> Result<Opened> {
        let session = log_in(&self.uri, self.pin.as_ref(), false)?;
        let (public, key) = find(&session, &self.uri)?.context("the token holds the key no more")?;
        ensure!(public == self.public, "the token holds another key of that name by now");
        Ok(Opened { session, key })
    }

    fn try_sign(&self, state: &mut State, digest: &[u8; 32]) -> Result<Signature> {
        if let State::Open(opened) = state {
            match sign(opened, digest) {
                Ok(signature) => return Ok(signature),
                // A session ends with its token. Both may be there again.
                Err(error) => warn!("a session with a token is opened once more: {error:#}"),
            }
        }
        ensure!(!matches!(state, State::Refused), "it has refused the PIN: restart the process with the right one");
        *state = State::Lost;
        match self.reopen() {
            Ok(opened) => {
                let signature = sign(&opened, digest)?;
                *state = State::Open(opened);
                Ok(signature)
            }
            Err(error) => {
                if error.downcast_ref::<WrongPin>().is_some() {
                    *state = State::Refused;
                }
                Err(error)
            }
        }
    }
}

impl Token for TokenKey {
    fn sign(&self, digest: &[u8; 32]) -> Result<Signature, String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.try_sign(&mut state, digest).map_err(|error| {
            let words = format!("{error:#}");
            warn!("a token does not sign: {words}");
            words
        })
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the token does not take the PIN: is it the one in pin-source, or the passphrase?")]
struct WrongPin;

fn log_in(uri: &TokenUri, pin: Option<&Passphrase>, to_write: bool) -> Result<Session> {
    let module = module::module(uri)?;
    let slot = module::slot(&module, uri)?;
    let session = if to_write { module.open_rw_session(slot) } else { module.open_ro_session(slot) };
    let session = session.context("the token opens no session")?;
    let Some(pin) = pin else {
        let info = module.get_token_info(slot).context("the token cannot be read")?;
        ensure!(
            !info.login_required(),
            "the token wants a PIN: name the file that holds it by pin-source, or as the passphrase"
        );
        return Ok(session);
    };
    match session.login_with_raw(UserType::User, &RawAuthPin::new(Box::new(pin.expose().to_vec()))) {
        // All sessions of a process are logged in together.
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
        Err(Error::Pkcs11(
            RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange | RvError::PinLocked,
            _,
        )) => Err(WrongPin.into()),
        Err(error) => Err(error).context("the token lets nobody in"),
    }
}

/// The attributes by which `uri` names a key.
fn names(uri: &TokenUri) -> Vec<Attribute> {
    let label = uri.object.as_ref().map(|label| Attribute::Label(label.clone().into_bytes()));
    label.into_iter().chain(uri.id.clone().map(Attribute::Id)).collect()
}

fn find(session: &Session, uri: &TokenUri) -> Result<Option<(PublicKey, ObjectHandle)>> {
    let of = |class| {
        let template = [vec![Attribute::Class(class), Attribute::KeyType(KeyType::EC)], names(uri)].concat();
        session.find_objects(&template).context("the token's keys cannot be listed")
    };
    let private = match of(ObjectClass::PRIVATE_KEY)?.as_slice() {
        [] => return Ok(None),
        [key] => *key,
        several => bail!("{} keys in the token are named so: give object and id", several.len()),
    };
    let Some(public) = of(ObjectClass::PUBLIC_KEY)?.first().copied() else {
        bail!("the token holds the private key, but no public key of the same name");
    };
    let attributes =
        session.get_attributes(public, &[AttributeType::EcPoint]).context("the public key cannot be read")?;
    let Some(Attribute::EcPoint(point)) = attributes.first() else { bail!("the public key cannot be read") };
    // Some tokens give the point as it is.
    let point = point.strip_prefix(OCTET_STRING).unwrap_or(point);
    Ok(Some((PublicKey::from_uncompressed(point).context("the key is not a P-256 key")?, private)))
}

fn make(session: &Session, uri: &TokenUri) -> Result<()> {
    let public = [Attribute::Token(true), Attribute::Verify(true), Attribute::EcParams(P256.to_vec())];
    let private = [
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
    ];
    let [public, private] = [&public[..], &private[..]].map(|template| [template, &names(uri)].concat());
    session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)?;
    Ok(())
}

fn sign(opened: &Opened, digest: &[u8; 32]) -> Result<Signature> {
    let signature = opened.session.sign(&Mechanism::Ecdsa, opened.key, digest)?;
    signature.try_into().map_err(|_| anyhow::anyhow!("the token's signature is not one of P-256"))
}
