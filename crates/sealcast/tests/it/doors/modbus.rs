//! pymodbus as the device, Debian's mbpoll as a second client of it.

use std::{path::Path, process::Command, time::Duration};

use super::pair;
use crate::{
    harness::{Hub, Process, succeed, until},
    python::python,
};

const SOON: Duration = Duration::from_secs(20);

/// The device, on `port` or one that the system chooses.
fn device(port: &str) -> (Process, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/doors/modbus_device.py");
    let process = Process::start(Command::new(python()).arg(script).arg(port));
    let port = process.line();
    (process, port)
}

/// mbpoll reads or, with values, writes: table 0 coils, 3 input, 4 holding registers; addresses from 0.
fn mbpoll(port: &str, table: &str, address: &str, values: &[&str]) -> String {
    let mut command = Command::new("mbpoll");
    command.args(["-m", "tcp", "-p", port, "-a", "1", "-0", "-r", address, "-t", table, "-1", "-q", "127.0.0.1"]);
    let output = succeed(command.args(values));
    let line = output.lines().find_map(|line| line.strip_prefix(&format!("[{address}]:")));
    line.unwrap_or_default().trim().to_owned()
}

#[test]
fn registers_are_published_and_messages_open_the_valve() {
    let (process, port) = device("0");
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
    assert_eq!(reader("hsu0001/temperature").message(SOON).as_deref(), Some("hsu0001/temperature 21.5"));
    let json = reader("hsu0001/json").message(SOON).unwrap();
    assert!(json.starts_with(r#"hsu0001/json {"name":"pressure","value":21.5,"unit":"Pa","time":"#), "{json}");
    assert_eq!(reader("hsu0001/none").message(Duration::from_millis(500)), None);

    // A second client writes; the agent sees it.
    mbpoll(&port, "4", "6", &["777"]);
    let mut level = reader("hsu0001/level");
    until("what mbpoll wrote is published", || level.message(SOON).as_deref() == Some("hsu0001/level 777"));

    // A message writes; the second client and the agent see it.
    assert_eq!(mbpoll(&port, "0", "3", &[]), "0");
    other.publish("hsu0001/valve/set", "on", &[]);
    until("the valve is open", || mbpoll(&port, "0", "3", &[]) == "1");
    let mut valve = reader("hsu0001/valve");
    until("the valve says so", || valve.message(SOON).as_deref() == Some("hsu0001/valve 1"));
    other.publish("hsu0001/setpoint", "100.1", &[]);
    other.publish("hsu0001/setpoint", r#"{"value": 25.5}"#, &[]);
    until("the set point is written", || mbpoll(&port, "4", "5", &[]) == "255");

    // The device goes and comes back: what was commanded meanwhile is written, and polling goes on.
    process.kill();
    other.publish("hsu0001/valve/set", "1", &[]);
    agent.publish("hsu0001/probe", "the agent does all else", &[]);
    let (_process, _) = device(&port);
    until("the valve is opened after all", || mbpoll(&port, "0", "3", &[]) == "1");
    assert_eq!(reader("hsu0001/temperature").message(SOON).as_deref(), Some("hsu0001/temperature 21.5"));
}

#[test]
fn the_fail_safe_opens_the_valve_without_a_broker() {
    let (_process, port) = device("0");
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
    sensor.publish("hsu0001/temperature", "21.5", &[]);
    hub.kill();
    mbpoll(&port, "0", "3", &["0"]);
    until("the valve is open though the broker went away", open);
    // The same when the agent starts without one.
    valve.kill();
    mbpoll(&port, "0", "3", &["0"]);
    valve.restart();
    until("the valve is open though there never was a broker", open);
}
