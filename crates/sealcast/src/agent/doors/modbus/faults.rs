//! What goes wrong with Modbus devices: exceptions by name, what to do about them, how long to wait, and what the log says.

use std::{collections::BTreeMap, time::Duration};

use tokio_modbus::ExceptionCode;

/// How long to wait before the next connection, by the number of those that failed.
const CONNECT_PAUSES: [Duration; 5] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
];
/// The longest pause of a unit that shares its connection: each try costs the other units a time-out.
const SHARED_PAUSE: Duration = Duration::from_secs(30);

/// The pause after so many failures in a row, at least one.
pub fn pause(failures: usize) -> Duration {
    let index = failures.saturating_sub(1);
    CONNECT_PAUSES.get(index).or(CONNECT_PAUSES.last()).copied().unwrap_or_default()
}

/// The same for a unit; `shared` if others are behind the same connection.
pub fn unit_pause(failures: usize, shared: bool) -> Duration {
    if shared && failures > CONNECT_PAUSES.len() { SHARED_PAUSE } else { pause(failures) }
}

/// Why a request has no answer. The connection is given up then: what still comes on it could be taken for the answer to
/// another request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// The device closed or reset the connection.
    #[error("the device closed the connection")]
    Closed,
    /// Nothing came in time.
    #[error(
        "no answer within {} ms: check that the device has power and that `unit` is right, or raise `timeout_ms`", .0.as_millis()
    )]
    Timeout(Duration),
    /// What came is not the answer to the request.
    #[error("the device breaks the Modbus standard: {0}; the agent connects again")]
    Lied(String),
    /// The network.
    #[error("the connection broke: {0}")]
    Broken(String),
}

/// What an exception code is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// What was asked for. A request for less may succeed.
    Request,
    /// The function, for all addresses of the table.
    Function,
    /// The unit as a whole, for now.
    Unit,
}

/// Modbus Application Protocol V1.1b3, section 7.
pub fn scope(code: ExceptionCode) -> Scope {
    match code {
        ExceptionCode::IllegalFunction => Scope::Function,
        ExceptionCode::Acknowledge
        | ExceptionCode::ServerDeviceBusy
        | ExceptionCode::GatewayPathUnavailable
        | ExceptionCode::GatewayTargetDevice => Scope::Unit,
        _ => Scope::Request,
    }
}

/// An exception with its number, its name in the standard and what to do.
pub fn explain(code: ExceptionCode) -> String {
    let (name, advice) = match code {
        ExceptionCode::IllegalFunction => {
            ("illegal function", "the device does not have this table, or cannot write to it: check `table`")
        }
        ExceptionCode::IllegalDataAddress => (
            "illegal data address",
            "the device has nothing at this address: check `table`, `address` (from 0) and `type`",
        ),
        ExceptionCode::IllegalDataValue => {
            ("illegal data value", "the device does not accept this value or length: check `type`, `min` and `max`")
        }
        ExceptionCode::ServerDeviceFailure => {
            ("server device failure", "the device failed to do this: look at the device")
        }
        ExceptionCode::Acknowledge => ("acknowledge", "the device needs longer for this: the agent asks again"),
        ExceptionCode::ServerDeviceBusy => {
            ("server device busy", "the device is busy with an earlier request: the agent asks again")
        }
        ExceptionCode::MemoryParityError => ("memory parity error", "the device's memory is faulty: have it repaired"),
        ExceptionCode::GatewayPathUnavailable => (
            "gateway path unavailable",
            "the gateway cannot reach this unit, or is too busy: check `unit` and the gateway's settings",
        ),
        ExceptionCode::GatewayTargetDevice => (
            "gateway target device failed to respond",
            "check the unit's power and wires, and `unit`; the agent asks again",
        ),
        ExceptionCode::Custom(_) => ("not in the standard", "look it up in the device's manual"),
    };
    format!("exception {:02X}, {name}: {advice}", u8::from(code))
}

/// What a fault is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum About<R> {
    /// The connection, with all units behind it.
    Connection,
    /// A unit, by its identifier.
    Unit(u8),
    /// A value that is read.
    Read(R),
}

/// Faults that last. Each is said once, and once that it is over.
#[derive(Debug)]
pub struct Faults<R>(BTreeMap<About<R>, String>);

impl<R> Default for Faults<R> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<R: Ord> Faults<R> {
    /// Whether it is new.
    pub fn put(&mut self, about: About<R>, reason: &str) -> bool {
        let new = self.0.get(&about).is_none_or(|known| known != reason);
        if new {
            self.0.insert(about, reason.to_owned());
        }
        new
    }

    /// Whether there was one.
    pub fn over(&mut self, about: &About<R>) -> bool {
        self.0.remove(about).is_some()
    }

    /// What is wrong now.
    pub fn reason(&self, about: &About<R>) -> Option<&str> {
        self.0.get(about).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_have_their_names_and_say_what_to_do() {
        for (code, scoped, parts) in [
            (1, Scope::Function, ["01, illegal function", "table"]),
            (2, Scope::Request, ["02, illegal data address", "address"]),
            (3, Scope::Request, ["03, illegal data value", "type"]),
            (4, Scope::Request, ["04, server device failure", "look at the device"]),
            (5, Scope::Unit, ["05, acknowledge", "asks again"]),
            (6, Scope::Unit, ["06, server device busy", "asks again"]),
            (8, Scope::Request, ["08, memory parity error", "repaired"]),
            (10, Scope::Unit, ["0A, gateway path unavailable", "unit"]),
            (11, Scope::Unit, ["0B, gateway target device failed to respond", "wires"]),
            (0x80, Scope::Request, ["80, not in the standard", "manual"]),
        ] {
            let code = ExceptionCode::new(code);
            assert_eq!(scope(code), scoped, "{code:?}");
            assert!(parts.iter().all(|part| explain(code).contains(part)), "{}", explain(code));
        }
    }

    #[test]
    fn pauses_grow_to_a_limit() {
        assert_eq!(pause(1), Duration::from_millis(250));
        assert_eq!(pause(99), Duration::from_secs(10));
        assert_eq!(unit_pause(5, true), Duration::from_secs(10));
        assert_eq!(unit_pause(99, true), SHARED_PAUSE);
        assert_eq!(unit_pause(99, false), Duration::from_secs(10));
    }

    #[test]
    fn a_fault_is_said_once_and_once_that_it_is_over() {
        let mut faults = Faults::default();
        assert!(faults.put(About::Read(1), "a"));
        assert!(!faults.put(About::Read(1), "a"));
        assert!(faults.put(About::Unit(1), "a"));
        assert!(faults.put(About::Read(1), "b"));
        assert!(faults.over(&About::Read(1)));
        assert!(!faults.over(&About::Read(1)));
    }
}
