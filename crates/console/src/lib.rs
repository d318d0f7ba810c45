//! The console: the hub's HTTP API, and the page that shows it.
//!
//! It is a view. The hub gives it its copy of the ledger and tells it each record ([`Console::observe`]), the hub's own broker
//! tells it what passes ([`Console::take`]), the agents' reports come by [`Console::reports`]. It never sees a group's key, and
//! it changes nothing: what an operator asks for on the page goes to a process that has the operator's key
//! ([`Console::call`]), with a proof that the hub cannot make.
//!
//! | module | what |
//! | --- | --- |
//! | `access` | tokens and their verifiers, sessions, failed sign-ins |
//! | `certificate` | sign-in by a client certificate |
//! | `guard` | names, origins and headers: what holds for each request |
//! | `api` | the routes, and their description ([`openapi`]) |
//! | `feed` | the live feed with resume |
//! | `log`, `history`, `values`, `shared`, `traffic`, `reports` | what is known, from where |
//! | `view` | what the overview shows of it |
//! | `actions` | what the operator's process is asked to do |
//! | `page` | the files of the page |
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod access;
mod actions;
mod api;
mod certificate;
mod console;
mod feed;
mod fields;
mod guard;
mod history;
mod log;
mod model;
mod names;
mod page;
mod pulse;
mod refused;
mod reports;
mod shared;
mod traffic;
mod values;
mod verify;
mod view;

pub use self::{
    access::{Role, Token, Verifier},
    actions::{Act, Action, Call, MAX_AGE, Orders, Outcome, OutcomeState},
    api::{SignedIn, openapi, router},
    certificate::Shown,
    console::{Console, Setup, first_token, new_token, use_token},
    model::{
        Alarm, Authenticity, Bands, Demo, DemoState, Entry, EntryPage, EventError, FeedEvent, Group, GroupState,
        HubState, LedgerState, Level, Node, NodeState, Place, Point, Quality, QualityState, RESET, Refusals, Series,
        Source, State, Step, Totals, TotalsEvent, Valve, ValveState, Verdict, Wire, WireEvent, WirePage,
    },
    refused::{ErrorBody, ErrorText},
    reports::{Report, Reports},
    verify::Records,
};

/// Where the operator's process calls, at the hub's HTTPS side.
pub const CALL_PATH: &str = "/sealcast/console";
/// The longest body of a call, in bytes.
pub const MAX_CALL_BYTES: usize = 64 << 10;
