//! Devices on loopback that answer as devices do, and as they should not.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, anyhow};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc::UnboundedReceiver,
    task::JoinHandle,
};

use super::{
    super::settings::{self, ModbusFile},
    *,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// What a device does with a request.
enum Act {
    Send(Vec<u8>),
    SendAndClose(Vec<u8>),
    Close,
    Nothing,
}

/// A device that serves one connection after the other.
struct Device {
    address: HostPort,
    connections: Arc<AtomicUsize>,
    /// More than one request was on its way.
    hurried: Arc<AtomicUsize>,
    task: JoinHandle<io::Result<()>>,
}

impl Drop for Device {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Device {
    /// `act` gets the number of the request, from 0, and the request.
    async fn start(mut act: impl FnMut(usize, &[u8]) -> Act + Send + 'static) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string().parse()?;
        let (connections, hurried) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counted, seen) = (connections.clone(), hurried.clone());
        let task = tokio::spawn(async move {
            let mut requests = 0;
            loop {
                let (mut stream, _) = listener.accept().await?;
                counted.fetch_add(1, Ordering::Relaxed);
                loop {
                    let mut frame = vec![0; 6];
                    if stream.read_exact(&mut frame).await.is_err() {
                        break;
                    }
                    let length = u16::from_be_bytes([frame[4], frame[5]]);
                    frame.resize(6 + usize::from(length), 0);
                    if stream.read_exact(&mut frame[6..]).await.is_err() {
                        break;
                    }
                    if stream.try_read(&mut [0]).is_ok_and(|count| count > 0) {
                        seen.fetch_add(1, Ordering::Relaxed);
                    }
                    let act = act(requests, &frame);
                    requests += 1;
                    let closes = matches!(act, Act::SendAndClose(_) | Act::Close);
                    if let Act::Send(bytes) | Act::SendAndClose(bytes) = act {
                        stream.write_all(&bytes).await?;
                    }
                    if closes {
                        break;
                    }
                }
            }
        });
        Ok(Self { address, connections, hurried, task })
    }
}

/// `request`'s header before this answer.
fn answer(request: &[u8], pdu: &[u8]) -> Vec<u8> {
    let length = u16::try_from(pdu.len() + 1).unwrap_or_default().to_be_bytes();
    [&request[..4], &length, &request[6..7], pdu].concat()
}

/// All registers hold `value`; what is to be written is written.
fn good(request: &[u8], value: u16) -> Vec<u8> {
    match request[7] {
        3 | 4 => {
            let words = usize::from(request[11]);
            let bytes = u8::try_from(2 * words).unwrap_or_default();
            answer(request, &[&[request[7], bytes], value.to_be_bytes().repeat(words).as_slice()].concat())
        }
        _ => answer(request, &request[7..]),
    }
}

struct Running {
    news: UnboundedReceiver<(String, News)>,
    commands: mpsc::Sender<(WriteId, Command)>,
    writes: Vec<WriteId>,
    task: JoinHandle<()>,
    notices: Vec<Notice>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
    fn start(device: &Device, tables: &[&str]) -> Result<Self> {
        let files = tables.iter().map(|text| toml::from_str(&format!("device = '{}'\n{text}", device.address)));
        let files = files.collect::<std::result::Result<Vec<ModbusFile>, _>>()?;
        let config = settings::devices(files)?.pop().ok_or_else(|| anyhow!("no device"))?;
        let line = Line::new(config, std::time::Instant::now());
        let writes = line.writes().map(|(id, _)| id).collect();
        let (sender, news) = mpsc::unbounded_channel();
        let (commands, pending) = mpsc::channel(8);
        let tell = move |line: &Line, news| {
            let topic = match &news {
                News::Reading(id, _) => line.read(*id).map(|read| read.topic.to_string()).unwrap_or_default(),
                News::Notice(_) => String::new(),
            };
            let _ = sender.send((topic, news));
        };
        let task = tokio::spawn(run(line, device.address.clone(), pending, tell));
        Ok(Self { news, commands, writes, task, notices: Vec::new() })
    }

    /// The next reading: its topic and payload.
    async fn reading(&mut self) -> Result<(String, String)> {
        loop {
            match timeout(PATIENCE, self.news.recv()).await?.ok_or_else(|| anyhow!("the driver has ended"))? {
                (topic, News::Reading(_, payload)) => return Ok((topic, String::from_utf8(payload)?)),
                (_, News::Notice(notice)) => self.notices.push(notice),
            }
        }
    }

    async fn said(&mut self, part: &str) -> Result<()> {
        while !self.notices.iter().any(|notice| notice.text.contains(part)) {
            match timeout(PATIENCE, self.news.recv()).await?.ok_or_else(|| anyhow!("the driver has ended"))? {
                (_, News::Notice(notice)) => self.notices.push(notice),
                (_, News::Reading(..)) => {}
            }
        }
        Ok(())
    }
}

const READ: &str = "period_ms = 20\ntimeout_ms = 200\n[[read]]\ntopic = 't'\ntable = 'holding'\naddress = 2\n";
const WRITE: &str = "[[write]]\ntopic = 'w'\ntable = 'holding'\naddress = 5\n";

fn number(request: usize) -> u16 {
    u16::try_from(request).unwrap_or(u16::MAX)
}

#[tokio::test]
async fn a_device_that_closes_after_every_answer_is_read_and_written() -> Result<()> {
    let device = Device::start(|index, request| Act::SendAndClose(good(request, number(index)))).await?;
    let mut running = Running::start(&device, &[&format!("{READ}{WRITE}")])?;
    for expected in 0..20 {
        assert_eq!(running.reading().await?, ("t".into(), expected.to_string()), "no reading is lost");
    }
    running.commands.send((running.writes[0], Command::Registers(vec![7]))).await?;
    running.said("written").await?;
    assert!(device.connections.load(Ordering::Relaxed) >= 21);
    assert_eq!(running.notices.len(), 2, "the cut once, the write: {:?}", running.notices);
    assert!(running.notices[0].text.contains("the device closed the connection"), "{:?}", running.notices);
    Ok(())
}

#[tokio::test]
async fn a_connection_that_is_cut_at_a_request_is_made_again_at_once() -> Result<()> {
    // Every third request, whatever it is, finds the connection closed.
    let device = Device::start(|index, request| match index % 3 {
        2 => Act::Close,
        _ => Act::Send(good(request, number(index))),
    })
    .await?;
    let mut running = Running::start(&device, &[READ])?;
    let begun = Instant::now();
    for _ in 0..30 {
        running.reading().await?;
    }
    let warnings: Vec<&Notice> = running.notices.iter().filter(|notice| notice.warn).collect();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(running.notices.len(), 1, "{:?}", running.notices);
    // Not that long, with a pause of 250 ms at each cut: 2.5 s more than the 600 ms that the schedule takes.
    assert!(begun.elapsed() < PATIENCE);
    Ok(())
}

#[tokio::test]
async fn units_of_a_gateway_share_a_connection_with_one_request_at_a_time() -> Result<()> {
    let device = Device::start(|_, request| Act::Send(good(request, u16::from(request[6])))).await?;
    let tables: Vec<String> =
        (1..=4).map(|unit| format!("unit = {unit}\n{}", READ.replace("'t'", &format!("'t{unit}'")))).collect();
    let mut running = Running::start(&device, &tables.iter().map(String::as_str).collect::<Vec<_>>())?;
    for _ in 0..80 {
        let (topic, payload) = running.reading().await?;
        assert_eq!(topic, format!("t{payload}"), "each unit's own value");
    }
    assert_eq!(device.connections.load(Ordering::Relaxed), 1);
    assert_eq!(device.hurried.load(Ordering::Relaxed), 0);
    Ok(())
}

#[tokio::test]
async fn what_was_not_asked_is_never_taken_for_an_answer() -> Result<()> {
    const POISON: u16 = 9999;
    let mut last = Vec::new();
    let device = Device::start(move |index, request| {
        let right = good(request, 1);
        let before = std::mem::replace(&mut last, request.to_vec());
        if index == 0 {
            return Act::Send(right);
        }
        let late = good(&before, POISON);
        match index % 5 {
            // Answered twice: the second one is there before the next request.
            1 => Act::Send([right, good(request, POISON)].concat()),
            // Late: the answer to the request before.
            2 => Act::Send(late),
            // Too late: the answer never comes, or comes when the agent has given up.
            3 => Act::Nothing,
            // Half of a late answer before the right one.
            4 => Act::Send([&late[..5], &right].concat()),
            _ => Act::Send(right),
        }
    })
    .await?;
    let mut running = Running::start(&device, &[READ])?;
    for _ in 0..8 {
        assert_eq!(running.reading().await?, ("t".into(), "1".into()));
    }
    running.said("transaction or unit identifier").await?;
    running.said("no answer within 200 ms").await
}

/// Answers that are none.
fn lies(request: &[u8]) -> Vec<Vec<u8>> {
    let with = |at: usize, byte: u8| {
        let mut bytes = good(request, 1);
        if let Some(old) = bytes.get_mut(at) {
            *old = byte;
        }
        bytes
    };
    let mut lies = vec![
        // Transaction, protocol, length (none at all, more than comes), unit, function.
        with(1, 77),
        with(2, 1),
        with(5, 0),
        with(4, 255),
        with(6, 9),
        with(7, 4),
        with(7, 1),
        with(7, 6),
        with(7, 0x2b),
        // One register where two were asked for, three, none, half of one; a count that is not the length.
        answer(request, &[3, 2, 0, 1]),
        answer(request, &[3, 6, 0, 1, 0, 1, 0, 1]),
        answer(request, &[3, 0]),
        answer(request, &[3, 3, 0, 1, 0]),
        answer(request, &[3, 4, 0]),
        answer(request, &[3, 255]),
        answer(request, &[3]),
        answer(request, &[]),
        // Exceptions of another function, without a code.
        answer(request, &[0x84, 2]),
        answer(request, &[0x83]),
        answer(request, &[0xff, 0xff]),
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
    ];
    // And bytes of a generator that is the same each time.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    for _ in 0..200 {
        let pdu: Vec<u8> = (0..next() % 12).map(|_| next()).collect();
        // Never the right answer by chance.
        if pdu.first() != Some(&3) && pdu.first() != Some(&0x83) {
            lies.push(answer(request, &pdu));
        }
    }
    lies
}

#[tokio::test]
async fn no_lie_of_a_device_is_more_than_a_lost_connection() -> Result<()> {
    let device = Device::start(|index, request| match lies(request).into_iter().nth(index) {
        Some(lie) => Act::SendAndClose(lie),
        None => Act::Send(good(request, 1)),
    })
    .await?;
    let ask = Ask::Read(Span { table: Table::Holding, address: 2, count: 2 });
    let request = Request { unit: 1, timeout: PATIENCE, ask };
    let count = lies(&[0; 12]).len();
    for index in 0..=count {
        let Done::Connected(connection) = connect(device.address.clone(), PATIENCE).await else {
            return Err(anyhow!("no connection"));
        };
        // A task of its own, as in the driver, so that a panic is seen.
        match tokio::spawn(connection.ask(request.clone())).await {
            Ok(Done::Asked(None, Err(Lost::Lied(_) | Lost::Closed))) if index < count => {}
            Ok(Done::Asked(Some(_), Ok(Ok(Reply::Read(bytes))))) if index == count => assert_eq!(bytes, [0, 1, 0, 1]),
            Ok(Done::Asked(kept, outcome)) => panic!("{index}: {outcome:?}, kept: {}", kept.is_some()),
            Ok(_) => panic!("{index}: not asked"),
            Err(error) => panic!("{index}: {error}"),
        }
    }
    Ok(())
}

#[tokio::test]
async fn polling_goes_on_after_lies() -> Result<()> {
    let device = Device::start(|index, request| match index {
        1 => Act::Send(answer(request, &[3, 4, 0, 1, 0, 1])),
        3 => Act::Send(answer(request, &[3, 0])),
        5 => Act::Send(answer(request, &[])),
        _ => Act::Send(good(request, number(index))),
    })
    .await?;
    let mut running = Running::start(&device, &[READ])?;
    for expected in ["0", "2", "4", "6", "7"] {
        assert_eq!(running.reading().await?, ("t".into(), expected.into()));
    }
    running.said("breaks the Modbus standard").await
}

#[tokio::test]
async fn what_was_written_otherwise_is_said() -> Result<()> {
    let device = Device::start(|_, request| Act::Send(answer(request, &[request[7], 0, 5, 0, 9]))).await?;
    let mut running = Running::start(&device, &[WRITE])?;
    running.commands.send((running.writes[0], Command::Registers(vec![7]))).await?;
    running.said("answered with another address or value").await
}
