//! Who may use the API: tokens, of which a server has verifiers only, sessions, and how often a sign-in may fail.

mod attempts;
mod holder;
mod sessions;
mod token;

pub use self::{
    attempts::Attempts,
    holder::role_of,
    sessions::{MAX_AGE, Role, Session, SessionId, Sessions, SignedInBy},
    token::{Token, Verifier},
};
