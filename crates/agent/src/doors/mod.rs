//! The agent's doors beside MQTT, for devices that speak HTTP, CoAP or Modbus TCP.
//!
//! All of them publish and listen through one MQTT client inside the process ([`bus`]), so that what comes in here is
//! routed, checked, sealed and opened as if an MQTT client had sent it.

pub mod bus;
mod coap;
mod http;
pub mod modbus;
mod rate;
pub mod settings;
mod topic;

use std::{net::SocketAddr, path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use sealcast_node::Tasks;
use tokio::net::{TcpListener, UdpSocket};
use tracing::info;

use self::bus::Bus;
use super::client::Shared;

/// Where the doors are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Addresses {
    /// HTTP (TCP).
    pub http: Option<SocketAddr>,
    /// CoAP (UDP).
    pub coap: Option<SocketAddr>,
}

/// Opens the doors that the configuration names. They end with the agent.
pub async fn open(dir: &Path, shared: &Arc<Shared>, tasks: &Tasks) -> Result<Addresses> {
    let config = &shared.config;
    let mut addresses = Addresses::default();
    if config.http.is_none() && config.coap.is_none() && config.modbus.is_empty() {
        return Ok(addresses);
    }
    let bus = Bus::open(shared.clone(), tasks);
    if let Some(door) = &config.http {
        let token = door.token(dir).context("http.token_file")?;
        let listener = TcpListener::bind(door.listen)
            .await
            .with_context(|| format!("http.listen: cannot listen on {}", door.listen))?;
        let address = listener.local_addr()?;
        info!(%address, "HTTP door is open");
        addresses.http = Some(address);
        tasks.keep("the HTTP door", http::serve(listener, door.clone(), token, bus.clone(), shared.stop.clone()));
    }
    if let Some(door) = &config.coap {
        let token = door.token(dir).context("coap.token_file")?;
        let socket = UdpSocket::bind(door.listen)
            .await
            .with_context(|| format!("coap.listen: cannot listen on {}", door.listen))?;
        let address = socket.local_addr()?;
        info!(%address, "CoAP door is open");
        addresses.coap = Some(address);
        tasks.keep("the CoAP door", coap::serve(socket, door.clone(), token, bus.clone(), shared.stop.clone()));
    }
    for device in &config.modbus {
        let units: Vec<u8> = device.units.iter().map(|unit| unit.unit).collect();
        info!(device = %device.device, ?units, "Modbus device is polled");
        tasks.keep("the Modbus door", modbus::serve(device.clone(), bus.clone(), shared.stop.clone()));
    }
    Ok(addresses)
}
