//! What the experiment saw on the wire: a hex view for people and a capture file for Wireshark.

use std::{fmt::Write as _, path::Path};

use anyhow::Result;
use sealcast_node::files;

/// `bytes` as people know it from packet analysers: offset, 16 bytes in hex, the same as text.
pub fn hex_view(bytes: &[u8]) -> String {
    let mut view = String::new();
    for (row, chunk) in bytes.chunks(16).enumerate() {
        let hex: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String = chunk
            .iter()
            .map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' })
            .collect();
        let _ = writeln!(view, "{:04x}  {:<47}  {text}", row * 16, hex.join(" "));
    }
    view
}

/// A direction of the captured connection.
#[derive(Clone, Copy)]
pub enum Direction {
    /// The subscriber speaks.
    ToBroker,
    /// The broker speaks.
    ToClient,
}

/// A capture in the pcap format, of one TCP connection to a broker on port 1883.
///
/// The experiment's connections are TLS; the bytes are taken where TLS ends, and given plain TCP segments around them, so
/// that Wireshark shows the MQTT that the broker sees.
pub struct Capture {
    bytes: Vec<u8>,
    sequence: [u32; 2],
}

impl Capture {
    /// An empty capture: the file header (version 2.4, microseconds, link type raw IPv4).
    pub fn new() -> Self {
        let mut bytes = Vec::new();
        bytes.extend(0xa1b2_c3d4_u32.to_le_bytes());
        bytes.extend(2_u16.to_le_bytes());
        bytes.extend(4_u16.to_le_bytes());
        bytes.extend([0; 8]);
        bytes.extend(262_144_u32.to_le_bytes());
        bytes.extend(101_u32.to_le_bytes());
        Self { bytes, sequence: [1, 1] }
    }

    /// Adds what was said in one direction at `time_us` (Unix microseconds).
    pub fn add(&mut self, direction: Direction, time_us: u64, data: &[u8]) {
        for segment in data.chunks(1_400) {
            self.add_segment(direction, time_us, segment);
        }
    }

    fn add_segment(&mut self, direction: Direction, time_us: u64, segment: &[u8]) {
        const BROKER: ([u8; 4], u16) = ([127, 0, 0, 1], 1883);
        const CLIENT: ([u8; 4], u16) = ([127, 0, 0, 1], 50_000);
        let (from, to, own) = match direction {
            Direction::ToBroker => (CLIENT, BROKER, 0),
            Direction::ToClient => (BROKER, CLIENT, 1),
        };
        let mut tcp = Vec::with_capacity(20 + segment.len());
        tcp.extend(from.1.to_be_bytes());
        tcp.extend(to.1.to_be_bytes());
        tcp.extend(self.sequence[own].to_be_bytes());
        tcp.extend(self.sequence[1 - own].to_be_bytes());
        tcp.extend([5 << 4, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend(segment);
        let mut pseudo = Vec::with_capacity(12 + tcp.len());
        pseudo.extend(from.0);
        pseudo.extend(to.0);
        pseudo.extend([0, 6]);
        pseudo.extend((tcp.len() as u16).to_be_bytes());
        pseudo.extend(&tcp);
        let sum = checksum(&pseudo);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());

        let mut ip = vec![0x45, 0];
        ip.extend((20 + tcp.len() as u16).to_be_bytes());
        ip.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        ip.extend(from.0);
        ip.extend(to.0);
        let sum = checksum(&ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());

        let length = (ip.len() + tcp.len()) as u32;
        self.bytes.extend(((time_us / 1_000_000) as u32).to_le_bytes());
        self.bytes.extend(((time_us % 1_000_000) as u32).to_le_bytes());
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend(ip);
        self.bytes.extend(tcp);
        self.sequence[own] = self.sequence[own].wrapping_add(segment.len() as u32);
    }

    /// Writes the file.
    pub fn save(&self, path: &Path) -> Result<()> {
        files::write(path, &self.bytes, files::Mode::Public)
    }
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hex_view_lines_up() {
        let view = hex_view(b"temperature 27.0");
        assert_eq!(view, "0000  74 65 6d 70 65 72 61 74 75 72 65 20 32 37 2e 30  temperature 27.0\n");
        assert!(hex_view(&[0xfe]).starts_with("0000  fe   "));
    }

    #[test]
    fn checksums_verify_to_zero() {
        let mut header = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1];
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(checksum(&header), 0);
    }
}
