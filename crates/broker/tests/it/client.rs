//! A client that sends exactly the bytes that a test wants, and hides nothing of what comes back.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::PATIENCE;

pub struct Client<S = TcpStream> {
    stream: S,
    pub v5: bool,
}

#[derive(Clone, Default)]
pub struct Connect<'a> {
    pub id: &'a str,
    pub v5: bool,
    pub clean: bool,
    /// MQTT 5 only.
    pub expiry_s: u32,
    pub user: Option<&'a str>,
    /// Topic, payload, QoS, retain, delay (MQTT 5).
    pub will: Option<(&'a str, &'a [u8], u8, bool, u32)>,
    pub keep_alive_s: u16,
    /// The bit of the protocol level by which mosquitto's bridges say that they are one.
    pub bridge: bool,
    pub receive_max: Option<u16>,
    /// MQTT 5: no reason strings and user properties on acknowledgements.
    pub terse: bool,
}

#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub dup: bool,
    pub retain: bool,
    pub id: u16,
}

fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u16).to_be_bytes());
    out.extend(bytes);
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let byte = (value & 127) as u8;
        value >>= 7;
        out.push(if value > 0 { byte | 128 } else { byte });
        if value == 0 {
            return out;
        }
    }
}

impl Client {
    /// A connection on which nothing was sent yet.
    pub fn open(addr: SocketAddr, v5: bool) -> io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, v5 })
    }

    /// `(client, session present, reason code)`.
    pub fn try_connect(addr: SocketAddr, options: &Connect<'_>) -> io::Result<(Self, bool, u8)> {
        Self::open(addr, options.v5)?.greet(options)
    }

    pub fn connect(addr: SocketAddr, options: &Connect<'_>) -> (Self, bool) {
        let (client, present, code) = Self::try_connect(addr, options).unwrap();
        assert_eq!(code, 0);
        (client, present)
    }

    /// Another handle on the same connection, to write while this one reads.
    pub fn another(&self) -> io::Result<Self> {
        Ok(Self { stream: self.stream.try_clone()?, v5: self.v5 })
    }
}

impl<S: Read + Write> Client<S> {
    /// Over a stream of the test's own.
    pub fn over(stream: S, v5: bool) -> Self {
        Self { stream, v5 }
    }

    /// Sends CONNECT; as [`Client::try_connect`].
    pub fn greet(self, options: &Connect<'_>) -> io::Result<(Self, bool, u8)> {
        let mut client = self;
        let mut body = Vec::new();
        text(&mut body, b"MQTT");
        body.push(if options.v5 { 5 } else { 4 } | if options.bridge { 0x80 } else { 0 });
        let mut flags = u8::from(options.clean) << 1;
        if let Some((_, _, qos, retain, _)) = options.will {
            flags |= 4 | (qos << 3) | (u8::from(retain) << 5);
        }
        flags |= u8::from(options.user.is_some()) << 7;
        body.push(flags);
        body.extend(options.keep_alive_s.to_be_bytes());
        if options.v5 {
            let mut properties = vec![0x11];
            properties.extend(options.expiry_s.to_be_bytes());
            if let Some(max) = options.receive_max {
                properties.push(0x21);
                properties.extend(max.to_be_bytes());
            }
            if options.terse {
                properties.extend([0x17, 0]);
            }
            body.push(properties.len() as u8);
            body.extend(properties);
        }
        text(&mut body, options.id.as_bytes());
        if let Some((topic, payload, _, _, delay)) = options.will {
            if options.v5 {
                body.extend([5, 0x18]);
                body.extend(delay.to_be_bytes());
            }
            text(&mut body, topic.as_bytes());
            text(&mut body, payload);
        }
        if let Some(user) = options.user {
            text(&mut body, user.as_bytes());
        }
        client.send(0x10, &body)?;
        let (first, body) = client.read()?;
        assert_eq!(first, 0x20);
        Ok((client, body[0] == 1, body[1]))
    }

    /// Bytes as they are.
    pub fn send_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub fn send(&mut self, first: u8, body: &[u8]) -> io::Result<()> {
        let mut frame = vec![first];
        frame.extend(varint(body.len()));
        frame.extend(body);
        self.send_all(&frame)
    }

    pub fn read(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte)?;
        let first = byte[0];
        let (mut length, mut shift) = (0, 0);
        loop {
            self.stream.read_exact(&mut byte)?;
            length |= usize::from(byte[0] & 127) << shift;
            shift += 7;
            if byte[0] < 128 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok((first, body))
    }

    pub fn publish(&mut self, topic: &str, payload: &[u8], flags: u8, id: u16) -> io::Result<()> {
        let mut body = Vec::new();
        text(&mut body, topic.as_bytes());
        if flags & 6 != 0 {
            body.extend(id.to_be_bytes());
        }
        if self.v5 {
            body.push(0);
        }
        body.extend(payload);
        self.send(0x30 | flags, &body)
    }

    /// QoS 1, and its PUBACK; the reason code.
    pub fn publish_acked(&mut self, topic: &str, payload: &[u8], flags: u8, id: u16) -> u8 {
        self.publish(topic, payload, flags | 2, id).unwrap();
        let (first, body) = self.read().unwrap();
        assert_eq!((first, &body[..2]), (0x40, &id.to_be_bytes()[..]));
        body.get(2).copied().unwrap_or(0)
    }

    /// The reason code.
    pub fn subscribe(&mut self, filter: &str, options: u8) -> u8 {
        let mut body = vec![0, 1];
        if self.v5 {
            body.push(0);
        }
        text(&mut body, filter.as_bytes());
        body.push(options);
        self.send(0x82, &body).unwrap();
        let (first, body) = self.read().unwrap();
        assert_eq!(first, 0x90);
        *body.last().unwrap()
    }

    pub fn ack(&mut self, first: u8, id: u16) -> io::Result<()> {
        self.send(first, &id.to_be_bytes())
    }

    pub fn parse(&self, first: u8, body: &[u8]) -> Message {
        assert_eq!(first >> 4, 3, "{first:x} {body:?}");
        let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let mut at = 2 + length;
        let qos = (first >> 1) & 3;
        let mut id = 0;
        if qos > 0 {
            id = u16::from_be_bytes([body[at], body[at + 1]]);
            at += 2;
        }
        if self.v5 {
            at += 1 + usize::from(body[at]);
        }
        Message {
            topic: String::from_utf8(body[2..2 + length].to_vec()).unwrap(),
            payload: body[at..].to_vec(),
            qos,
            dup: first & 8 != 0,
            retain: first & 1 != 0,
            id,
        }
    }

    pub fn message(&mut self) -> Message {
        let (first, body) = self.read().unwrap();
        self.parse(first, &body)
    }

    /// Nothing but the answer to a PINGREQ is under way.
    pub fn nothing_more(&mut self) {
        self.send(0xC0, &[]).unwrap();
        assert_eq!(self.read().unwrap(), (0xD0, vec![]));
    }

    /// Sends DISCONNECT and reads until the other side has closed too.
    pub fn disconnect(mut self) {
        self.send(0xE0, &[]).unwrap();
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest);
    }

    /// The broker closes; any DISCONNECT reason.
    pub fn closed(mut self) -> Option<u8> {
        let mut reason = None;
        loop {
            match self.read() {
                Ok((0xE0, body)) => reason = body.first().copied(),
                Ok(_) => {}
                Err(error) => {
                    assert!(
                        matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset),
                        "{error}"
                    );
                    return reason;
                }
            }
        }
    }
}
