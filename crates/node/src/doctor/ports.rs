//! Whether a role can listen where its configuration says, or does.

use std::{
    collections::BTreeSet,
    io::ErrorKind,
    net::{SocketAddr, TcpListener, UdpSocket},
};

use procfs::net;

use super::{Report, holder::Holder};

/// How a place is listened at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Where a role listens by its configuration.
#[derive(Debug, Clone)]
pub struct Place {
    /// The key that says so.
    pub key: String,
    /// How.
    pub transport: Transport,
    /// Where. With port 0 the system chooses one.
    pub address: SocketAddr,
    /// Whether this is the default, which an option may have replaced in the process that runs.
    pub is_default: bool,
}

/// What binding to a place would give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Binding {
    Free,
    Used,
    Impossible(ErrorKind),
}

/// Each place is free, or the process that runs the role listens there.
pub fn check_ports(report: &mut Report, places: &[Place], holder: Option<Holder>) {
    let own = holder.and_then(Holder::sockets);
    let listened = own.as_ref().map(listened);
    let mut good = Vec::new();
    for place in places {
        if place.address.port() == 0 {
            continue;
        }
        let Place { key, address, .. } = place;
        if listened.as_ref().is_some_and(|all| all.iter().any(|found| is_at(found, place))) {
            good.push(format!("{address} ({key}) is listened at"));
            continue;
        }
        judge(report, place, bind(place), holder.is_some(), listened.is_some(), &mut good);
    }
    let others = listened.iter().flatten().filter(|found| !places.iter().any(|place| is_at(found, place)));
    good.extend(others.map(|(_, address)| format!("{address} is listened at")));
    if !good.is_empty() {
        report.ok("ports", good.join(", "));
    }
}

fn judge(report: &mut Report, place: &Place, binding: Binding, runs: bool, is_known: bool, good: &mut Vec<String>) {
    let Place { key, address, transport, is_default } = place;
    let kind = if *transport == Transport::Tcp { 't' } else { 'u' };
    match binding {
        Binding::Free if !runs => good.push(format!("{address} ({key}) is free")),
        // It may have been started with an option in the place of the default.
        Binding::Free | Binding::Used if runs && is_known && *is_default => {}
        Binding::Free => report.warn(
            "ports",
            format!("the process that runs does not listen at {address} ({key})"),
            "start it again, if the configuration was changed since its start; nothing, if an option of its start says \
             another address",
        ),
        Binding::Used if runs && !is_known => good.push(format!("{address} ({key}) is in use, by whom is not shown")),
        Binding::Used => report.fail(
            "ports",
            format!("another process listens at {address} ({key})"),
            format!(
                "see which one (ss -{kind}lnp 'sport = :{}'), and stop it, or choose another address in {key}",
                address.port()
            ),
        ),
        Binding::Impossible(ErrorKind::PermissionDenied) => report.fail(
            "ports",
            format!("this user may not listen at {address} ({key})"),
            "choose a port above 1023, or let the service have it: AmbientCapabilities=CAP_NET_BIND_SERVICE in its unit. \
             Nothing, if the service runs as another user that may",
        ),
        Binding::Impossible(reason) => report.fail(
            "ports",
            format!("nobody can listen at {address} ({key}): {reason}"),
            format!("choose an address that this machine has (ip address) in {key}"),
        ),
    }
}

fn bind(place: &Place) -> Binding {
    let bound = match place.transport {
        Transport::Tcp => TcpListener::bind(place.address).map(drop),
        Transport::Udp => UdpSocket::bind(place.address).map(drop),
    };
    match bound.map_err(|error| error.kind()) {
        Ok(()) => Binding::Free,
        Err(ErrorKind::AddrInUse) => Binding::Used,
        Err(reason) => Binding::Impossible(reason),
    }
}

/// Whether a socket is the one that a place is about.
fn is_at((transport, address): &(Transport, SocketAddr), place: &Place) -> bool {
    *transport == place.transport && *address == place.address
}

/// Where these sockets listen.
fn listened(own: &BTreeSet<u64>) -> Vec<(Transport, SocketAddr)> {
    let tcp = net::tcp().into_iter().chain(net::tcp6()).flatten();
    let tcp = tcp.filter(|socket| socket.state == net::TcpState::Listen && own.contains(&socket.inode));
    // One that is connected is a client's.
    let udp = net::udp().into_iter().chain(net::udp6()).flatten();
    let udp = udp.filter(|socket| socket.remote_address.port() == 0 && own.contains(&socket.inode));
    tcp.map(|socket| (Transport::Tcp, socket.local_address))
        .chain(udp.map(|socket| (Transport::Udp, socket.local_address)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        doctor::CheckVerdict::{self, Failure, Ok as Fine, Warning},
        files,
    };

    fn place(address: SocketAddr, is_default: bool) -> Place {
        Place { key: "listen".into(), transport: Transport::Tcp, address, is_default }
    }

    fn found(report: &Report) -> Vec<(CheckVerdict, &str)> {
        report.checks().iter().map(|check| (check.verdict, check.found.as_str())).collect()
    }

    #[test]
    fn a_port_is_free_or_used_by_the_process_that_runs_or_by_another_one() {
        let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let check = |holder| {
            let mut report = Report::new("agent", Path::new("."));
            check_ports(&mut report, &[place(address, false)], holder);
            report
        };
        let dir = tempfile::tempdir().unwrap();
        let lock = files::lock(dir.path()).unwrap();
        let report = check(Holder::of(dir.path()));
        let text = found(&report)[0];
        assert_eq!(text.0, Fine, "{report:?}");
        assert!(text.1.contains(&format!("{address} (listen) is listened at")), "{report:?}");
        drop(lock);
        let report = check(Holder::of(dir.path()));
        assert_eq!(found(&report), [(Failure, &*format!("another process listens at {address} (listen)"))]);
        assert!(report.checks()[0].advice.as_deref().unwrap().contains(&format!("sport = :{}", address.port())));
    }

    #[test]
    fn what_a_place_gives() {
        let address: SocketAddr = "192.0.2.1:7".parse().unwrap();
        for (binding, is_default, runs, is_known, expected) in [
            (Binding::Free, false, false, false, None),
            (Binding::Free, false, true, true, Some(Warning)),
            (Binding::Free, true, true, true, None),
            (Binding::Used, true, true, true, None),
            (Binding::Used, true, false, false, Some(Failure)),
            (Binding::Used, false, true, true, Some(Failure)),
            (Binding::Used, false, true, false, None),
            (Binding::Impossible(ErrorKind::PermissionDenied), false, false, false, Some(Failure)),
            (Binding::Impossible(ErrorKind::AddrNotAvailable), false, false, false, Some(Failure)),
        ] {
            let mut report = Report::new("agent", Path::new("."));
            judge(&mut report, &place(address, is_default), binding, runs, is_known, &mut Vec::new());
            let verdict = report.checks().first().map(|check| check.verdict);
            assert_eq!(verdict, expected, "{binding:?} {is_default} {runs} {is_known}");
        }
        assert_eq!(bind(&place(address, false)), Binding::Impossible(ErrorKind::AddrNotAvailable));
    }
}
