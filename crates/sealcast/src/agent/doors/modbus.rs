//! stub
use super::{bus::Bus, settings::Modbus};
/// stub
pub async fn serve(_: Modbus, _: Bus, _: tokio_util::sync::CancellationToken) {}
