//! The Modbus TCP door: the agent is the client. It polls coils and registers and publishes what they say, and writes
//! coils and registers when a message says so.
//!
//! One connection and one task for each device: a device that is away holds up none but itself. A command is the newest
//! of its topic: those that it overtook are not written, nor one that the device could not take within [`COMMAND_AGE`].

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use sealcast_mqtt::{Text, TopicName};
use sealcast_reading::{Decimal, Value, packed::Endian, packed::FieldType};
use tokio::{
    net::TcpStream,
    sync::{Notify, mpsc},
    task::JoinSet,
    time::Instant,
};
use tokio_modbus::{
    ExceptionCode,
    client::{Client as _, Context, Reader as _, Writer as _, tcp},
    slave::Slave,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    bus::{Bus, Item, Outgoing},
    settings::{Modbus, Read, Table, Write},
};
use crate::now_ms;

/// How long a command waits for a device that is away.
const COMMAND_AGE: Duration = Duration::from_secs(30);
/// How long a reading waits for the broker.
const READING_AGE: Duration = Duration::from_secs(5);
/// Readings that wait to be published, for each device.
const MAX_QUEUED: usize = 64;
const LISTEN_AGAIN: Duration = Duration::from_secs(3);
const BACKOFF: [Duration; 5] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
];

/// Polls and writes one device until `stop`.
pub async fn serve(config: Modbus, bus: Bus, stop: CancellationToken) {
    let config = Arc::new(config);
    let commands = Arc::new(Commands::default());
    let (readings, queue) = mpsc::channel(MAX_QUEUED);
    let mut tasks = JoinSet::new();
    tasks.spawn(publish(config.device.to_string(), queue, bus.clone()));
    for index in 0..config.writes.len() {
        tasks.spawn(listen(config.clone(), index, bus.clone(), commands.clone()));
    }
    let schedule = (0..config.reads.len()).map(|index| (Instant::now(), index)).collect();
    let device = Device { config, commands, readings, schedule, faults: Faults::default(), failures: 0 };
    tokio::select! {
        () = stop.cancelled() => {}
        () = device.run() => {}
    }
    // Dropped with `tasks`, the others end too.
}

/// What is to be written to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Command {
    Coil(bool),
    Registers(Vec<u16>),
}

/// The newest command for each write of a device.
#[derive(Default)]
struct Commands {
    newest: Mutex<BTreeMap<usize, (Command, Instant)>>,
    news: Notify,
}

impl Commands {
    fn put(&self, index: usize, command: Command) {
        self.newest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(index, (command, Instant::now() + COMMAND_AGE));
        self.news.notify_one();
    }

    fn take(&self) -> Option<(usize, (Command, Instant))> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).pop_first()
    }

    /// Back for the next connection, unless a newer one is there.
    fn put_back(&self, index: usize, command: (Command, Instant)) {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).entry(index).or_insert(command);
        self.news.notify_one();
    }
}

/// Says each fault once, and once that it is over.
#[derive(Default)]
struct Faults(BTreeMap<String, String>);

impl Faults {
    fn put(&mut self, device: &str, what: &str, reason: String) {
        if self.0.get(what) != Some(&reason) {
            warn!(device, topic = what, reason, "Modbus");
            self.0.insert(what.to_owned(), reason);
        }
    }

    fn over(&mut self, device: &str, what: &str) {
        if self.0.remove(what).is_some() {
            info!(device, topic = what, "Modbus: in order again");
        }
    }
}

async fn publish(device: String, mut queue: mpsc::Receiver<(Instant, Outgoing)>, bus: Bus) {
    let mut faults = Faults::default();
    while let Some((read, message)) = queue.recv().await {
        // It would be sealed with the time of now, as if the device had just said it.
        if read.elapsed() > READING_AGE {
            continue;
        }
        let topic = message.topic.as_str().to_owned();
        match bus.publish(message).await {
            Ok(()) => faults.over(&device, &topic),
            Err(refused) => faults.put(&device, &topic, format!("not published: {refused}")),
        }
    }
}

async fn listen(config: Arc<Modbus>, index: usize, bus: Bus, commands: Arc<Commands>) {
    let Some(write) = config.writes.get(index) else { return };
    loop {
        match bus.listen(write.topic.clone()).await {
            Ok(mut listener) => {
                while let Some(item) = listener.next().await {
                    let Item::Message(message) = item else { continue };
                    match command(write, &message.payload) {
                        Ok(command) => commands.put(index, command),
                        Err(reason) => {
                            warn!(device = %config.device, topic = %message.topic, reason, "Modbus: not written");
                        }
                    }
                }
            }
            Err(refused) => warn!(device = %config.device, topic = write.topic.as_str(), reason = %refused, "Modbus"),
        }
        tokio::time::sleep(LISTEN_AGAIN).await;
    }
}

struct Device {
    config: Arc<Modbus>,
    commands: Arc<Commands>,
    readings: mpsc::Sender<(Instant, Outgoing)>,
    /// When which value is polled next.
    schedule: BTreeSet<(Instant, usize)>,
    faults: Faults,
    failures: usize,
}

/// Why a connection is given up.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("no connection: {0}")]
    Connect(std::io::Error),
    #[error("the device closed the connection")]
    Closed,
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    #[error("{0}")]
    Modbus(#[from] tokio_modbus::Error),
}

impl Device {
    async fn run(mut self) {
        loop {
            let outcome = match self.connect().await {
                Ok(mut context) => {
                    let outcome = self.talk(&mut context).await;
                    let _ = tokio::time::timeout(Duration::from_millis(200), context.disconnect()).await;
                    outcome
                }
                Err(broken) => Err(broken),
            };
            let Err(broken) = outcome;
            let device = self.config.device.to_string();
            self.faults.put(&device, "connection", broken.to_string());
            let pause = BACKOFF.get(self.failures).or(BACKOFF.last()).copied().unwrap_or_default();
            self.failures += 1;
            tokio::time::sleep(pause).await;
        }
    }

    async fn connect(&self) -> Result<Context, Broken> {
        let address = &self.config.device;
        let connect = TcpStream::connect((address.host.as_str(), address.port));
        match tokio::time::timeout(self.config.timeout, connect).await {
            Err(_) => Err(Broken::Timeout(self.config.timeout)),
            Ok(Err(error)) => Err(Broken::Connect(error)),
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                Ok(tcp::attach_slave(stream, Slave(self.config.unit)))
            }
        }
    }

    /// Commands first, then what is due.
    async fn talk(&mut self, context: &mut Context) -> Result<std::convert::Infallible, Broken> {
        let config = self.config.clone();
        loop {
            while let Some((index, (command, until))) = self.commands.take() {
                let Some(write) = config.writes.get(index) else { continue };
                self.write(context, write, index, command, until).await?;
            }
            let due = self.schedule.first().copied();
            let until_due = async {
                match due {
                    Some((then, _)) => tokio::time::sleep_until(then).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = self.commands.news.notified() => continue,
                () = until_due => {}
            }
            if let Some((then, index)) = self.schedule.pop_first()
                && let Some(read) = config.reads.get(index)
            {
                // Periods that were missed are not made up for.
                self.schedule.insert(((then + read.period).max(Instant::now()), index));
                self.read(context, read).await?;
            }
        }
    }

    async fn write(
        &mut self,
        context: &mut Context,
        write: &Write,
        index: usize,
        command: Command,
        until: Instant,
    ) -> Result<(), Broken> {
        let (device, topic) = (self.config.device.to_string(), write.topic.as_str());
        if Instant::now() > until {
            let reason = format!("the device could not be reached for {} s", COMMAND_AGE.as_secs());
            warn!(device, topic, reason, "Modbus: not written");
            return Ok(());
        }
        let outcome = self
            .in_time(async {
                match &command {
                    Command::Coil(state) => context.write_single_coil(write.address, *state).await,
                    Command::Registers(words) => match words.as_slice() {
                        [word] => context.write_single_register(write.address, *word).await,
                        words => context.write_multiple_registers(write.address, words).await,
                    },
                }
            })
            .await;
        match outcome {
            Err(broken) => {
                self.commands.put_back(index, (command, until));
                Err(broken)
            }
            Ok(Ok(())) => {
                self.alive(&device);
                info!(device, topic, address = write.address, "Modbus: written");
                self.faults.over(&device, topic);
                Ok(())
            }
            Ok(Err(exception)) => {
                self.alive(&device);
                self.faults.put(&device, topic, said_no("write", write.table, write.address, exception));
                Ok(())
            }
        }
    }

    async fn read(&mut self, context: &mut Context, read: &Read) -> Result<(), Broken> {
        let (device, topic) = (self.config.device.to_string(), read.topic.as_str());
        let (address, count) = (read.address, read.count);
        let outcome = self
            .in_time(async {
                match read.table {
                    Table::Coil => context.read_coils(address, count).await.map(|answer| answer.map(bits)),
                    Table::Discrete => {
                        context.read_discrete_inputs(address, count).await.map(|answer| answer.map(bits))
                    }
                    Table::Input => context.read_input_registers(address, count).await.map(|answer| answer.map(words)),
                    Table::Holding => {
                        context.read_holding_registers(address, count).await.map(|answer| answer.map(words))
                    }
                }
            })
            .await?;
        self.alive(&device);
        let bytes = match outcome {
            Ok(bytes) => bytes,
            Err(exception) => {
                self.faults.put(&device, topic, said_no("read", read.table, address, exception));
                return Ok(());
            }
        };
        match payload(read, &bytes) {
            Ok(payload) => {
                self.faults.over(&device, topic);
                self.hand_on(&read.topic, read, payload);
            }
            Err(reason) => self.faults.put(&device, topic, reason),
        }
        Ok(())
    }

    fn hand_on(&mut self, topic: &TopicName, read: &Read, payload: Vec<u8>) {
        let message = Outgoing {
            topic: topic.clone(),
            payload: Bytes::from(payload),
            retain: read.retain,
            content_type: Text::new(read.encoder.media_type()).ok(),
        };
        if self.readings.try_send((Instant::now(), message)).is_err() {
            debug!(device = %self.config.device, %topic, "Modbus: a reading is dropped, earlier ones wait for the broker");
        }
    }

    async fn in_time<T>(
        &self,
        call: impl Future<Output = tokio_modbus::Result<T>>,
    ) -> Result<Result<T, ExceptionCode>, Broken> {
        match tokio::time::timeout(self.config.timeout, call).await {
            Err(_) => Err(Broken::Timeout(self.config.timeout)),
            // How tokio-modbus says that the stream ended.
            Ok(Err(tokio_modbus::Error::Transport(error))) if error.raw_os_error() == Some(0) => Err(Broken::Closed),
            Ok(answer) => Ok(answer?),
        }
    }

    fn alive(&mut self, device: &str) {
        self.failures = 0;
        self.faults.over(device, "connection");
    }
}

fn said_no(what: &str, table: Table, address: u16, exception: ExceptionCode) -> String {
    format!("the device does not {what} {table:?} {address}: {exception}")
}

fn bits(bits: Vec<bool>) -> Vec<u8> {
    bits.into_iter().map(u8::from).collect()
}

fn words(words: Vec<u16>) -> Vec<u8> {
    words.into_iter().flat_map(u16::to_be_bytes).collect()
}

/// What is published of the bytes that a device answered.
fn payload(read: &Read, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let now = now_ms();
    let mut records = read.decoder.decode(bytes, now).map_err(|error| error.to_string())?;
    for record in &mut records {
        record.reading.time_ms.get_or_insert(now);
    }
    read.encoder.encode(&records).map_err(|error| error.to_string())
}

/// What a message commands: a number or a state as text, or as `value` of a JSON object.
fn command(write: &Write, payload: &[u8]) -> Result<Command, String> {
    let text = std::str::from_utf8(payload).map_err(|_| "the payload is not text".to_owned())?.trim();
    let number = if text.starts_with('{') {
        let records = write.json.decode(payload, now_ms()).map_err(|error| error.to_string())?;
        match records.into_iter().next().map(|record| record.reading.value) {
            Some(Value::Number(number)) => number,
            Some(Value::Bool(state)) => Decimal::from(u64::from(state)),
            Some(Value::Text(text)) => number(&text)?,
            _ => return Err("the member `value` is no number or state".into()),
        }
    } else {
        number(text)?
    };
    if write.min.is_some_and(|min| number < min) {
        return Err(format!("{number} is below min ({})", write.min.unwrap_or(number)));
    }
    if write.max.is_some_and(|max| number > max) {
        return Err(format!("{number} is above max ({})", write.max.unwrap_or(number)));
    }
    if write.kind == FieldType::Bit {
        return match number.to_integer() {
            Some(0) => Ok(Command::Coil(false)),
            Some(1) => Ok(Command::Coil(true)),
            _ => Err(format!("{number} is no state of a coil: 1 or 0, true or false, on or off")),
        };
    }
    let raw = raw(number, write.scale, write.offset).ok_or_else(|| format!("{number} has too many digits"))?;
    let mut bytes = match write.kind {
        FieldType::U16 => u16::try_from(raw).map(|raw| raw.to_be_bytes().to_vec()),
        FieldType::I16 => i16::try_from(raw).map(|raw| raw.to_be_bytes().to_vec()),
        FieldType::U32 => u32::try_from(raw).map(|raw| raw.to_be_bytes().to_vec()),
        _ => i32::try_from(raw).map(|raw| raw.to_be_bytes().to_vec()),
    }
    .map_err(|_| format!("{number} does not fit the register's type: it would be {raw}"))?;
    if matches!(write.endian, Endian::Little | Endian::BigSwapped) {
        bytes.reverse();
    }
    if matches!(write.endian, Endian::BigSwapped | Endian::LittleSwapped) {
        bytes.chunks_exact_mut(2).for_each(<[u8]>::reverse);
    }
    Ok(Command::Registers(bytes.as_chunks::<2>().0.iter().map(|word| u16::from_be_bytes(*word)).collect()))
}

fn number(text: &str) -> Result<Decimal, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" => Ok(Decimal::from(1u64)),
        "false" | "off" => Ok(Decimal::ZERO),
        _ => Decimal::parse(text).map_err(|error| error.to_string()),
    }
}

/// `(value - offset) / scale`, to the nearest whole number, half to even.
fn raw(value: Decimal, scale: Decimal, offset: Decimal) -> Option<i128> {
    let (moved, scale) = (value.checked_sub(offset)?.normalize(), scale.normalize());
    let power = |decimals: u8| 10i128.checked_pow(u32::from(decimals));
    let mut numerator = moved.mantissa().checked_mul(power(scale.decimals())?)?;
    let mut denominator = scale.mantissa().checked_mul(power(moved.decimals())?)?;
    if denominator < 0 {
        (numerator, denominator) = (numerator.checked_neg()?, denominator.checked_neg()?);
    }
    let (quotient, rest) = (numerator.checked_div_euclid(denominator)?, numerator.checked_rem_euclid(denominator)?);
    Some(match rest.cmp(&(denominator - rest)) {
        std::cmp::Ordering::Less => quotient,
        std::cmp::Ordering::Greater => quotient + 1,
        std::cmp::Ordering::Equal => quotient + quotient.rem_euclid(2),
    })
}

#[cfg(test)]
mod tests {
    use anyhow::{Result, anyhow};

    use super::{
        super::settings::{self, ModbusFile},
        *,
    };

    fn device(text: &str) -> Result<Modbus> {
        let file: ModbusFile = toml::from_str(&format!("device = '127.0.0.1:502'\n{text}"))?;
        settings::modbus(vec![file])?.pop().ok_or_else(|| anyhow!("no device"))
    }

    #[test]
    fn registers_become_payloads_with_their_digits() -> Result<()> {
        let check = |text: &str, bytes: &[u8], expected: &str| {
            let device = device(&format!("[[read]]\ntopic = 't'\naddress = 0\n{text}"))?;
            let read = device.reads.first().ok_or_else(|| anyhow!("no read"))?;
            let text = payload(read, bytes).map(String::from_utf8);
            assert_eq!(text, Ok(Ok(expected.to_owned())), "{bytes:?}");
            anyhow::Ok(())
        };
        check("table = 'holding'", &[1, 0], "256")?;
        check("table = 'input'\ntype = 'i16'\nscale = 0.1", &[0xff, 0xfe], "-0.2")?;
        check("table = 'input'\nscale = '0.10'\noffset = -40", &[0x02, 0x67], "21.50")?;
        check("table = 'holding'\ntype = 'u32'\nendian = 'big_swapped'", &[0, 2, 0, 1], "65538")?;
        check("table = 'holding'\ntype = 'f32'", &[0x41, 0xac, 0, 0], "21.5")?;
        check("table = 'coil'", &[1], "1")?;
        check("table = 'input'\nunit = 'K'\nconvert_to = 'Cel'\nscale = 0.01", &[0x73, 0x8f], "22.68")
    }

    #[test]
    fn messages_become_registers() -> Result<()> {
        let check = |text: &str, payload: &str, expected: Result<Command, &str>| {
            let device = device(&format!("[[write]]\ntopic = 't'\naddress = 0\n{text}"))?;
            let write = device.writes.first().ok_or_else(|| anyhow!("no write"))?;
            match (command(write, payload.as_bytes()), expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{payload}"),
                (Err(got), Err(part)) => assert!(got.contains(part), "{payload}: {got}"),
                (got, expected) => assert!(got.is_ok() == expected.is_ok(), "{payload}: {got:?}, not {expected:?}"),
            }
            anyhow::Ok(())
        };
        let coil = "table = 'coil'";
        check(coil, " ON\n", Ok(Command::Coil(true)))?;
        check(coil, "0", Ok(Command::Coil(false)))?;
        check(coil, r#"{"value": true, "by": "x"}"#, Ok(Command::Coil(true)))?;
        check(coil, "2", Err("no state of a coil"))?;
        check(coil, "open", Err("not a number"))?;
        check(coil, r#"{"valve": true}"#, Err("value"))?;
        let holding = "table = 'holding'";
        check(holding, "65535", Ok(Command::Registers(vec![65535])))?;
        check(holding, "65536", Err("does not fit"))?;
        check(holding, "-1", Err("does not fit"))?;
        let scaled = "table = 'holding'\ntype = 'i16'\nscale = 0.1\noffset = -40\nmin = -40\nmax = 60";
        check(scaled, "21.5", Ok(Command::Registers(vec![615])))?;
        check(scaled, "21.55", Ok(Command::Registers(vec![616])))?;
        check(scaled, "21.65", Ok(Command::Registers(vec![616])))?;
        check(scaled, "60.1", Err("above max (60)"))?;
        check(scaled, "-41", Err("below min (-40)"))?;
        let wide = |endian: &str| format!("table = 'holding'\ntype = 'u32'\nendian = '{endian}'");
        check(&wide("big"), "16909060", Ok(Command::Registers(vec![0x0102, 0x0304])))?;
        check(&wide("little"), "16909060", Ok(Command::Registers(vec![0x0403, 0x0201])))?;
        check(&wide("big_swapped"), "16909060", Ok(Command::Registers(vec![0x0304, 0x0102])))?;
        check(&wide("little_swapped"), "16909060", Ok(Command::Registers(vec![0x0201, 0x0403])))
    }

    #[test]
    fn what_no_device_can_do_is_refused_by_name() {
        for (text, part) in [
            ("", "nothing to do"),
            ("period_ms = 1\n[[read]]\ntopic='t'\ntable='coil'\naddress=0", "period_ms"),
            ("[[read]]\ntopic='t/#'\ntable='coil'\naddress=0", "topic"),
            ("[[read]]\ntopic='t'\ntable='coil'\naddress=0\ntype='u16'", "bits"),
            ("[[read]]\ntopic='t'\ntable='input'\naddress=65535\ntype='u32'", "65535"),
            ("[[read]]\ntopic='t'\ntable='input'\naddress=0\ntype='u8'", "type"),
            ("[[read]]\ntopic='t'\ntable='input'\naddress=0\nformat='senml_json'", "name"),
            ("[[write]]\ntopic='t'\ntable='input'\naddress=0", "coil and holding"),
            ("[[write]]\ntopic='t'\ntable='holding'\naddress=0\nscale=0", "scale"),
            ("[[write]]\ntopic='t'\ntable='coil'\naddress=0\n[[write]]\ntopic='u'\ntable='coil'\naddress=0", "twice"),
            ("[[write]]\ntopic='t'\ntable='coil'\naddress=0\nadress=0", "adress"),
        ] {
            let error = device(text).map_or_else(|error| format!("{error:#}"), |_| "accepted".into());
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
