//! Two applications, each behind its agent, that publish and read all the time, whatever is killed meanwhile. They keep to MQTT
//! to the letter, so that what comes twice or never is the doing of what is between them.

use std::{
    collections::VecDeque,
    io,
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{JoinHandle, sleep, spawn},
    time::Duration,
};

use super::{
    PATIENCE,
    books::{Books, message},
};
use crate::raw::{Client, Connect};

/// Messages that are under way at a time: with more than one, some share a signature.
const WINDOW: usize = 4;
/// From an acknowledgement to the next message: a machine that does other things keeps up.
const PACE: Duration = Duration::from_millis(10);
/// From one connection to the next one.
const AGAIN: Duration = Duration::from_millis(50);
const QOS_1: u8 = 2;
const DUP: u8 = 8;

/// Both of them. They end with the test.
pub struct Traffic {
    pub books: Arc<Books>,
    applications: [Arc<Application>; 2],
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// One publishes at the agent at `writer`, the other one reads all below `room` at `reader`, with a session that is kept.
    pub fn start(writer: SocketAddr, reader: SocketAddr) -> Self {
        let books = Arc::new(Books::default());
        let applications = [Application::new("writer", writer), Application::new("reader", reader)];
        let mut traffic = Self { books: books.clone(), applications: applications.clone(), threads: Vec::new() };
        let [writer, reader] = applications;
        let (reads, mut connection) = (books.clone(), 0);
        traffic.threads.push(spawn(move || {
            reader.live(|client| {
                connection += 1;
                read(client, &reads, connection)
            });
        }));
        // What is published before anybody subscribes is for nobody.
        traffic.books.until_subscribed(0, PATIENCE).unwrap();
        let mut unacknowledged = Window::default();
        traffic.threads.push(spawn(move || writer.live(|client| unacknowledged.publish(client, &books))));
        traffic
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        for application in &self.applications {
            application.end();
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// One that connects again and again.
struct Application {
    name: &'static str,
    agent: SocketAddr,
    ended: AtomicBool,
    /// The present connection.
    stream: Mutex<Option<TcpStream>>,
}

impl Application {
    fn new(name: &'static str, agent: SocketAddr) -> Arc<Self> {
        Arc::new(Self { name, agent, ended: AtomicBool::new(false), stream: Mutex::default() })
    }

    /// Until it is ended. `on` uses a connection as long as it lasts.
    fn live(&self, mut on: impl FnMut(Client) -> io::Result<()>) {
        while !self.ended.load(Ordering::SeqCst) {
            // However a connection ends, there is another one.
            let _ = self.connect().and_then(&mut on);
            sleep(AGAIN);
        }
    }

    fn connect(&self) -> io::Result<Client> {
        let stream = TcpStream::connect(self.agent)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        *self.stream.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream.try_clone()?);
        if self.ended.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let options = Connect { id: self.name, ..Connect::default() };
        match Client::over(stream, false).greet(&options)? {
            (client, _, 0) => Ok(client),
            (_, _, code) => Err(io::Error::other(format!("CONNACK {code}"))),
        }
    }

    fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        if let Some(stream) = &*self.stream.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Messages without their PUBACK, the oldest first, each with its packet identifier.
#[derive(Default)]
struct Window {
    under_way: VecDeque<(u16, u32)>,
    last_id: u16,
}

impl Window {
    fn publish(&mut self, mut client: Client, books: &Books) -> io::Result<()> {
        for (id, number) in &self.under_way {
            books.again(*number);
            send(&mut client, *number, QOS_1 | DUP, *id)?;
        }
        loop {
            while self.under_way.len() < WINDOW {
                let number = books.first();
                self.last_id = self.last_id % u16::MAX + 1;
                self.under_way.push_back((self.last_id, number));
                send(&mut client, number, QOS_1, self.last_id)?;
            }
            let (0x40, body) = client.read()? else { continue };
            let at = self.under_way.iter().position(|(id, _)| body.starts_with(&id.to_be_bytes()));
            let Some((_, number)) = at.and_then(|at| self.under_way.remove(at)) else {
                return Err(io::Error::other("PUBACK of nothing"));
            };
            books.acknowledged(number);
            sleep(PACE);
        }
    }
}

fn send(client: &mut Client, number: u32, flags: u8, id: u16) -> io::Result<()> {
    let (topic, payload) = message(number);
    client.publish(&topic, payload.as_bytes(), flags, id)
}

/// Acknowledges what comes. A PINGREQ behind the acknowledgements is answered once the agent has read them.
fn read(mut client: Client, books: &Books, connection: u32) -> io::Result<()> {
    client.send(0x82, b"\0\x01\0\x06room/#\x01")?;
    let (mut acknowledged, mut pinged) = (Vec::new(), Vec::new());
    loop {
        match client.read()? {
            (0x90, body) if body.last() == Some(&1) => books.subscribed(),
            (0x90, body) => return Err(io::Error::other(format!("SUBACK {body:?}"))),
            (0xD0, _) => {
                for number in pinged.drain(..) {
                    books.settled(number, connection);
                }
            }
            (first, body) => {
                let came = client.parse(first, &body);
                let number = books.received(&came.topic, &came.payload, came.dup, connection);
                if came.qos > 0 {
                    acknowledged.extend(number);
                    client.ack(0x40, came.id)?;
                }
            }
        }
        if pinged.is_empty() && !acknowledged.is_empty() {
            client.send(0xC0, &[])?;
            std::mem::swap(&mut pinged, &mut acknowledged);
        }
    }
}
