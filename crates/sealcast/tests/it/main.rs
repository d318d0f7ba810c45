//! End to end: the real binary as separate processes, real MQTT clients, on loopback ports that the system chooses.
#![allow(clippy::unwrap_used, missing_docs)]

mod harness;
mod node;
mod python;
/// The broker's tests and these need the same bytes.
#[path = "../../../broker/tests/it/client.rs"]
#[allow(dead_code, reason = "each of the two uses a part of it")]
mod raw;

mod access;
mod archive;
mod at_rest;
mod audit;
mod bench;
mod brokers;
mod case_04;
mod case_10;
mod certificates;
mod cli;
mod conformance;
mod console;
mod console_page;
mod copies;
mod demo;
mod disk;
mod doctor;
mod doors;
mod endpoints;
mod envelope;
mod est;
mod examples;
mod faults;
mod foreign;
mod hostile;
mod hub;
mod keys;
mod kill;
mod ledger_rpc;
mod listeners;
mod log;
mod moving;
mod mqtt;
mod networks;
mod nonce;
mod notes;
mod outside;
mod paho;
mod parted;
mod quality;
mod quotas;
mod readings;
mod readme;
mod reasons;
mod recording;
mod retired;
mod rogue;
mod systemd;
mod token;
mod tour;
mod upstream;
mod values;
mod watch;
mod wireshark;
mod withheld;

use harness::PATIENCE;
