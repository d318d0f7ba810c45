//! End to end: the real binary as separate processes, real MQTT clients, on loopback ports that the system chooses.
#![allow(clippy::unwrap_used, missing_docs)]

mod harness;
mod python;

mod bench;
mod case_04;
mod demo;
mod disk;
mod doors;
mod est;
mod hostile;
mod kill;
mod nonce;
mod paho;
mod quality;
mod readings;
mod recording;
mod tour;
mod values;
