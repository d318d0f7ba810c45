//! stub
use super::{
    bus::Bus,
    settings::{Door, Token},
};
/// stub
pub async fn serve(
    _: tokio::net::UdpSocket,
    _: Door,
    _: Option<Token>,
    _: Bus,
    _: tokio_util::sync::CancellationToken,
) {
}
