//! pymodbus as the device, Debian's mbpoll as a second client of it; and devices with the habits of real ones.

use std::{
    collections::BTreeMap,
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::pair;
use crate::{
    harness::{Agent, Hub, PATIENCE, Port, Process, succeed, until},
    python::python,
};

/// The device, once it answers on `port`.
fn device(port: &str) -> Process {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/doors/modbus_device.py");
    let process = Process::start(Command::new(python()).arg(script).arg(port));
    assert_eq!(process.line(), port);
    process
}

/// mbpoll reads or, with values, writes: table 0 coils, 3 input, 4 holding registers; addresses from 0.
fn mbpoll(port: &str, table: &str, address: &str, values: &[&str]) -> String {
    let mut command = Command::new("mbpoll");
    command.args(["-m", "tcp", "-p", port, "-a", "1", "-0", "-r", address, "-t", table, "-1", "-q"]);
    // The longest time for an answer that it takes, in s.
    command.args(["-o", "10", "127.0.0.1"]);
    let output = succeed(command.args(values));
    let line = output.lines().find_map(|line| line.strip_prefix(&format!("[{address}]:")));
    line.unwrap_or_default().trim().to_owned()
}

#[test]
fn registers_are_published_and_messages_open_the_valve() {
    let reserved = Port::reserve();
    let port = reserved.number();
    let process = device(&port);
    let config = format!(
        "[[modbus]]
device = '127.0.0.1:{port}'
unit = 1
period_ms = 100
[[modbus.read]]
topic = 'hsu0001/temperature'
table = 'input'
address = 0
scale = 0.1
unit = 'Cel'
retain = true
[[modbus.read]]
topic = 'hsu0001/json'
table = 'input'
address = 2
type = 'f32'
name = 'pressure'
unit = 'Pa'
format = 'json'
[[modbus.read]]
topic = 'hsu0001/none'
table = 'input'
address = 500
[[modbus.read]]
topic = 'hsu0001/level'
table = 'holding'
address = 6
[[modbus.read]]
topic = 'hsu0001/valve'
table = 'coil'
address = 3
[[modbus.write]]
topic = 'hsu0001/valve/set'
table = 'coil'
address = 3
[[modbus.write]]
topic = 'hsu0001/setpoint'
table = 'holding'
address = 5
scale = 0.1
max = 100
"
    );
    let hub = Hub::start();
    let [agent, other] = pair(&hub, &config);

    // Polled, scaled with the digits kept, sealed, opened at the other end.
    let reader = |topic: &str| other.subscribe(topic, &[]);
    assert_eq!(reader("hsu0001/temperature").message(PATIENCE).as_deref(), Some("hsu0001/temperature 21.5"));
    let json = reader("hsu0001/json").message(PATIENCE).unwrap();
    assert!(json.starts_with(r#"hsu0001/json {"name":"pressure","value":21.5,"unit":"Pa","time":"#), "{json}");
    // Three cycles in which it is due: what cannot be read is not published.
    let mut none = other.subscribe("hsu0001/none", &["-t", "hsu0001/level"]);
    for _ in 0..3 {
        assert_eq!(none.before("hsu0001/level "), [""; 0]);
    }

    // A second client writes; the agent sees it.
    mbpoll(&port, "4", "6", &["777"]);
    let mut level = reader("hsu0001/level");
    until("what mbpoll wrote is published", || level.message(PATIENCE).as_deref() == Some("hsu0001/level 777"));

    // A message writes; the second client and the agent see it.
    assert_eq!(mbpoll(&port, "0", "3", &[]), "0");
    other.publish("hsu0001/valve/set", "on", &[]);
    until("the valve is open", || mbpoll(&port, "0", "3", &[]) == "1");
    let mut valve = reader("hsu0001/valve");
    until("the valve says so", || valve.message(PATIENCE).as_deref() == Some("hsu0001/valve 1"));
    other.publish("hsu0001/setpoint", "100.1", &[]);
    other.publish("hsu0001/setpoint", r#"{"value": 25.5}"#, &[]);
    until("the set point is written", || mbpoll(&port, "4", "5", &[]) == "255");

    // The device goes and comes back: what was commanded meanwhile is written, and polling goes on.
    process.kill();
    other.publish("hsu0001/valve/set", "1", &[]);
    agent.publish("hsu0001/probe", "the agent does all else", &[]);
    let _process = device(&port);
    until("the valve is opened after all", || mbpoll(&port, "0", "3", &[]) == "1");
    assert_eq!(reader("hsu0001/temperature").message(PATIENCE).as_deref(), Some("hsu0001/temperature 21.5"));
}

#[test]
fn the_fail_safe_opens_the_valve_without_a_broker() {
    let reserved = Port::reserve();
    let port = reserved.number();
    let _process = device(&port);
    let config = format!(
        "[[quality]]
filter = 'hsu0001/temperature'
fail_safe = {{ on_silence = {{ after_ms = 6000, publish = 'on', topic = 'hsu0001/valve/set' }} }}
[[modbus]]
device = '127.0.0.1:{port}'
[[modbus.write]]
topic = 'hsu0001/valve/set'
table = 'coil'
address = 3
"
    );
    let mut hub = Hub::start();
    let [mut valve, sensor] = pair(&hub, &config);
    let open = || mbpoll(&port, "0", "3", &[]) == "1";
    // Good values, and a valve that a person has shut.
    // In this order: the fail-safe may open it as soon as it was told of a value, and does so once.
    mbpoll(&port, "0", "3", &["0"]);
    sensor.publish("hsu0001/temperature", "21.5", &[]);
    hub.kill();
    until("the valve is open though the broker went away", open);
    // The same when the agent starts without one.
    valve.kill();
    mbpoll(&port, "0", "3", &["0"]);
    valve.restart();
    until("the valve is open though there never was a broker", open);
}

/// A device, or a gateway to any unit, that closes a connection on which nothing was asked for `patience`, as gateways do
/// (theirs: 10 s to 60 s).
#[derive(Clone, Default)]
struct Impatient {
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    connections: usize,
    /// The registers that were read, for each request.
    reads: Vec<(u8, u16, u16)>,
    written: BTreeMap<u16, u16>,
}

impl Impatient {
    /// Where it listens.
    fn start(&self, patience: Duration) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let device = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let device = device.clone();
                device.seen.lock().unwrap().connections += 1;
                stream.set_read_timeout(Some(patience)).unwrap();
                std::thread::spawn(move || device.serve(stream));
            }
        });
        address
    }

    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let mut frame = [0; 12];
            stream.read_exact(&mut frame)?;
            let (address, count) =
                (u16::from_be_bytes([frame[8], frame[9]]), u16::from_be_bytes([frame[10], frame[11]]));
            let mut seen = self.seen.lock().unwrap();
            let pdu = if frame[7] == 6 {
                seen.written.insert(address, count);
                frame[7..].to_vec()
            } else if address <= 500 && 500 < address + count {
                vec![frame[7] | 0x80, 2]
            } else {
                seen.reads.push((frame[6], address, count));
                // Registers 2 and 3: how often they were read, as f32 with its words swapped; the others: their address.
                let reads = seen.reads.iter().filter(|(_, address, _)| *address == 2).count();
                let [a, b, c, d] = (u8::try_from(reads).map_or(f32::NAN, f32::from)).to_be_bytes();
                let words = (address..address + count).map(|address| match address {
                    2 => [c, d],
                    3 => [a, b],
                    address => address.to_be_bytes(),
                });
                let words: Vec<u8> = words.flatten().collect();
                [&[frame[7], u8::try_from(words.len()).unwrap()], words.as_slice()].concat()
            };
            drop(seen);
            let length = u16::try_from(pdu.len() + 1).unwrap().to_be_bytes();
            stream.write_all(&[&frame[..4], &length, &frame[6..7], &pdu].concat())?;
        }
    }
}

/// A member with this configuration, and another one that sees what it publishes.
fn polled(hub: &Hub, config: &str) -> [Agent; 2] {
    hub.members("home", [config, ""]).map(|dir| Agent::start(&dir, &[]))
}

#[test]
fn case_01_modbus_idle_close() {
    let device = Impatient::default();
    let address = device.start(Duration::from_millis(100));
    // Takes connections and never answers: it holds up nobody else.
    let dead = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = format!(
        "[[modbus]]
device = '{}'
[[modbus.read]]
topic = 'home/dead'
table = 'holding'
address = 2
[[modbus]]
device = '{address}'
period_ms = 1000
[[modbus.read]]
topic = 'home/mbi/only'
table = 'holding'
address = 2
type = 'f32'
endian = 'big_swapped'
[[modbus.write]]
topic = 'home/mbi/set'
table = 'holding'
address = 9
",
        dead.local_addr().unwrap()
    );
    let hub = Hub::start();
    let [agent, other] = polled(&hub, &config);
    let mut readings = other.subscribe("home/mbi/only", &[]);
    let mut next = || readings.message(PATIENCE).unwrap();
    let first: u32 = next().strip_prefix("home/mbi/only ").unwrap().parse().unwrap();
    for count in 1..=6 {
        assert_eq!(next(), format!("home/mbi/only {}", first + count), "every reading of the schedule comes");
    }
    // A write finds the connection closed, too.
    until("the message is written", || {
        other.publish("home/mbi/set", "77", &[]);
        device.seen.lock().unwrap().written.get(&9) == Some(&77)
    });
    let seen = device.seen.lock().unwrap();
    assert!(seen.connections > 6, "{}: it was not cut", seen.connections);
    // The cut is said once, and is no fault.
    let cut = agent.log.until(&["the device closed the connection"]);
    assert!(cut.contains("INFO") && cut.contains(&address), "{cut}");
    assert!(cut.contains("connects again whenever a request is due"), "{cut}");
    let about_it = format!("device=\"{address}\" about=\"connection\"");
    assert_eq!(agent.log.count(&about_it), 1, "nothing else is said of the connection");
    assert_eq!(agent.log.count("works again"), 0);
}

#[test]
fn neighbours_are_read_together_and_units_share_a_connection() {
    let device = Impatient::default();
    let address = device.start(PATIENCE);
    let read = |topic: &str, register: u16| {
        format!("[[modbus.read]]\ntopic = 'home/{topic}'\ntable = 'holding'\naddress = {register}\n")
    };
    let table =
        |unit: u8, reads: String| format!("[[modbus]]\ndevice = '{address}'\nunit = {unit}\nperiod_ms = 100\n{reads}");
    let many: String = (499..=510).map(|register| read(&format!("one/{register}"), register)).collect();
    let config = table(1, many) + &table(2, read("two", 10) + &read("too", 11));
    let hub = Hub::start();
    let [agent, other] = polled(&hub, &config);
    let mut readings = other.subscribe("home/#", &[]);
    let mut wanted: Vec<String> = (499..=510)
        .filter(|register| *register != 500)
        .map(|register| format!("home/one/{register} {register}"))
        .collect();
    wanted.extend(["home/two 10".to_owned(), "home/too 11".to_owned()]);
    until("all but the wrong address are read", || {
        let message = readings.message(PATIENCE).unwrap();
        wanted.retain(|wanted| *wanted != message);
        wanted.is_empty()
    });
    let seen = device.seen.lock().unwrap();
    assert_eq!(seen.connections, 1, "one connection for both units");
    assert!(seen.reads.iter().all(|read| read.0 != 2 || *read == (2, 10, 2)), "neighbours are read together");
    assert!(seen.reads.iter().any(|(unit, _, count)| *unit == 1 && *count > 2), "the rest of a refused request, too");
    let warning = agent.log.until(&["home/one/500, unit 1, holding register 500"]);
    for part in ["WARN", address.as_str(), "exception 02, illegal data address"] {
        assert!(warning.contains(part), "{warning}");
    }
    assert_eq!(
        agent.log.count("exception 02, illegal data address: the device has nothing at this address"),
        1 + agent.log.count("read in parts from now on")
    );
}
