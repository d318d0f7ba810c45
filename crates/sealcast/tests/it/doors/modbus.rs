//! pymodbus as the device, Debian's mbpoll as a second client of it.

use std::{path::Path, process::Command};

use super::pair;
use crate::{
    harness::{Hub, PATIENCE, Port, Process, succeed, until},
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
