//! Owns the socket of a [`Line`], and does what it says.
//!
//! tokio-modbus puts requests and answers on the wire. A request whose answer is lost, late, wrong or too short ends the
//! connection, so that nothing which still comes on it can be taken for the answer to another request.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context as Waker, Poll, ready},
    time::Duration,
};

use sealcast_node::{now_ms, tls::HostPort};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::mpsc,
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until, timeout},
};
use tokio_modbus::{
    Error, ProtocolError, Request as Pdu, Response,
    client::{Client as _, Context, tcp},
    slave::{Slave, SlaveContext as _},
};

use super::{
    faults::Lost,
    line::{Answer, Ask, Line, Notice, Output, ReadId, Reply, Request, WriteId},
    plan::Span,
    settings::Table,
    value::Command,
};

/// What a line has for the rest of the agent.
#[derive(Debug)]
pub enum News {
    /// A reading.
    Reading(ReadId, Vec<u8>),
    /// Something for the log.
    Notice(Notice),
}

/// Polls and writes, as `line` says, for ever: as long as somebody keeps the sender of `commands`.
pub async fn run(
    mut line: Line,
    device: HostPort,
    mut commands: mpsc::Receiver<(WriteId, Command)>,
    mut tell: impl FnMut(&Line, News),
) {
    let mut connection: Option<Connection> = None;
    // At most one. A task, so that a panic in it ends a request and not this loop.
    let mut job: JoinSet<Done> = JoinSet::new();
    let mut connecting = false;
    loop {
        while let Some(output) = line.poll_output(Instant::now().into_std()) {
            match output {
                Output::Connect(patience) => {
                    connecting = true;
                    connection = None;
                    job.spawn(connect(device.clone(), patience));
                }
                Output::Send(request) => match connection.take() {
                    Some(connection) => {
                        job.spawn(connection.ask(request));
                    }
                    None => line.handle_answer(Err(Lost::Closed), Instant::now().into_std(), now_ms()),
                },
                Output::Publish(id, payload) => tell(&line, News::Reading(id, payload)),
                Output::Say(notice) => tell(&line, News::Notice(notice)),
            }
        }
        let wake = line.poll_timeout().map(Instant::from_std);
        tokio::select! {
            // A connection that has ended is not used for a command that came meanwhile.
            biased;
            Some(done) = job.join_next() => {
                let now = Instant::now().into_std();
                match done.unwrap_or_else(|error| Done::gone(&error, connecting)) {
                    Done::Connected(new) => {
                        connection = Some(new);
                        line.handle_connected();
                    }
                    Done::NotConnected(reason) => line.handle_not_connected(&reason, now),
                    Done::Asked(kept, answer) => {
                        connection = kept;
                        line.handle_answer(answer, now, now_ms());
                    }
                }
                connecting = false;
            }
            lost = ended(&mut connection), if job.is_empty() => {
                connection = None;
                line.handle_idle_end(&lost, Instant::now().into_std());
            }
            command = commands.recv() => {
                let Some((id, command)) = command else { return };
                line.handle_command(id, command, Instant::now().into_std());
            }
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
        }
    }
}

/// What became of a job.
enum Done {
    Connected(Connection),
    NotConnected(String),
    Asked(Option<Connection>, Result<Answer, Lost>),
}

impl Done {
    /// A job that panicked.
    fn gone(error: &JoinError, connecting: bool) -> Self {
        if connecting {
            return Self::NotConnected(error.to_string());
        }
        Self::Asked(None, Err(Lost::Lied("its answer cannot be decoded".into())))
    }
}

async fn connect(device: HostPort, patience: Duration) -> Done {
    match timeout(patience, TcpStream::connect((device.host.as_str(), device.port))).await {
        Err(_) => Done::NotConnected(format!("nothing came back within {} ms", patience.as_millis())),
        Ok(Err(error)) => Done::NotConnected(error.to_string()),
        Ok(Ok(stream)) => {
            // Requests are small and wait for nothing.
            let _ = stream.set_nodelay(true);
            Done::Connected(Connection::new(stream))
        }
    }
}

/// The end of an idle connection.
async fn ended(connection: &mut Option<Connection>) -> Lost {
    match connection {
        Some(connection) => connection.ended().await,
        None => std::future::pending().await,
    }
}

/// A stream that its owner and tokio-modbus both see.
#[derive(Debug, Clone)]
struct Wire(Arc<Mutex<Stream>>);

#[derive(Debug)]
struct Stream {
    tcp: TcpStream,
    /// The device has sent the end of its stream.
    ended: bool,
}

impl Wire {
    fn lock(&self) -> MutexGuard<'_, Stream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, waker: &mut Waker<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let mut stream = self.lock();
        ready!(Pin::new(&mut stream.tcp).poll_read(waker, buffer))?;
        stream.ended |= buffer.filled().len() == before;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, waker: &mut Waker<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.lock().tcp).poll_write(waker, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, waker: &mut Waker<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().tcp).poll_flush(waker)
    }

    fn poll_shutdown(self: Pin<&mut Self>, waker: &mut Waker<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().tcp).poll_shutdown(waker)
    }
}

struct Connection {
    context: Context,
    wire: Wire,
}

impl Connection {
    fn new(tcp: TcpStream) -> Self {
        let wire = Wire(Arc::new(Mutex::new(Stream { tcp, ended: false })));
        Self { context: tcp::attach(wire.clone()), wire }
    }

    /// Comes back when the device closes the connection, or says something though nothing was asked.
    async fn ended(&mut self) -> Lost {
        let mut byte = [0];
        let mut byte = ReadBuf::new(&mut byte);
        let wire = &self.wire;
        match std::future::poll_fn(|waker| wire.lock().tcp.poll_peek(waker, &mut byte)).await {
            Ok(0) => Lost::Closed,
            Ok(_) => Lost::Lied("it sent an answer without a request".into()),
            Err(error) => self.lost(error),
        }
    }

    /// Sends a request. The connection comes back only with an answer to it.
    async fn ask(mut self, request: Request) -> Done {
        self.context.set_slave(Slave(request.unit));
        let outcome = match timeout(request.timeout, self.context.call(pdu(&request.ask))).await {
            Err(_) => Err(Lost::Timeout(request.timeout)),
            Ok(Err(Error::Transport(error))) => Err(self.lost(error)),
            Ok(Err(Error::Protocol(error))) => Err(Lost::Lied(unasked(&error).into())),
            Ok(Ok(answer)) => match answer.map(|response| check(&request.ask, response)) {
                Ok(Some(reply)) => Ok(Ok(reply)),
                Ok(None) => Err(Lost::Lied("its answer is shorter or longer than the request allows".into())),
                Err(code) => Ok(Err(code)),
            },
        };
        match outcome {
            Ok(answer) => Done::Asked(Some(self), Ok(answer)),
            Err(lost) => Done::Asked(None, Err(lost)),
        }
    }

    fn lost(&self, error: io::Error) -> Lost {
        // tokio-modbus reports the end of the stream as whatever error the system had last.
        if self.wire.lock().ended {
            return Lost::Closed;
        }
        match error.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => Lost::Closed,
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                Lost::Lied("its answer cannot be decoded".into())
            }
            _ => Lost::Broken(error.to_string()),
        }
    }
}

/// Without the numbers, which are others each time: a fault that stays is said once.
fn unasked(error: &ProtocolError) -> &'static str {
    match error {
        ProtocolError::HeaderMismatch { .. } => "its answer has the transaction or unit identifier of another request",
        ProtocolError::FunctionCodeMismatch { .. } => "its answer has the function code of another request",
    }
}

fn pdu(ask: &Ask) -> Pdu<'_> {
    match ask {
        Ask::Read(Span { table, address, count }) => match table {
            Table::Coil => Pdu::ReadCoils(*address, *count),
            Table::Discrete => Pdu::ReadDiscreteInputs(*address, *count),
            Table::Input => Pdu::ReadInputRegisters(*address, *count),
            Table::Holding => Pdu::ReadHoldingRegisters(*address, *count),
        },
        Ask::Write(address, Command::Coil(state)) => Pdu::WriteSingleCoil(*address, *state),
        Ask::Write(address, Command::Registers(words)) => match words.as_slice() {
            [word] => Pdu::WriteSingleRegister(*address, *word),
            words => Pdu::WriteMultipleRegisters(*address, words.into()),
        },
    }
}

/// What an answer says, if it is one to what was asked. (tokio-modbus asserts this in debug builds, and elsewhere not at
/// all.)
fn check(ask: &Ask, response: Response) -> Option<Reply> {
    let written = |as_asked: bool| Some(if as_asked { Reply::Written } else { Reply::WrittenOtherwise });
    match (ask, response) {
        (Ask::Read(span), Response::ReadCoils(bits) | Response::ReadDiscreteInputs(bits)) => {
            // It came in whole bytes.
            let count = usize::from(span.count);
            let bytes = || bits.iter().take(count).copied().map(u8::from).collect();
            (bits.len() >= count).then(|| Reply::Read(bytes()))
        }
        (Ask::Read(span), Response::ReadInputRegisters(words) | Response::ReadHoldingRegisters(words)) => {
            let bytes = || words.iter().copied().flat_map(u16::to_be_bytes).collect();
            (words.len() == usize::from(span.count)).then(|| Reply::Read(bytes()))
        }
        (Ask::Write(address, Command::Coil(state)), Response::WriteSingleCoil(at, wrote)) => {
            written((at, wrote) == (*address, *state))
        }
        (Ask::Write(address, Command::Registers(words)), Response::WriteSingleRegister(at, wrote)) => {
            written(at == *address && *words == [wrote])
        }
        (Ask::Write(address, Command::Registers(words)), Response::WriteMultipleRegisters(at, count)) => {
            written(at == *address && words.len() == usize::from(count))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
