//! stub
#![allow(missing_docs)]
use std::net::*;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    UnknownFamily,
    Missing,
}
impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("x")
    }
}
pub enum EpsvArgument {
    None,
    Family(Family),
    All,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}
pub struct ExtendedPort {
    pub port: u16,
    pub address: Option<IpAddr>,
}
pub fn parse_port(_: &[u8]) -> Result<SocketAddrV4, Malformed> {
    Err(Malformed::Missing)
}
pub fn parse_eprt(_: &[u8]) -> Result<SocketAddr, Malformed> {
    Err(Malformed::Missing)
}
pub fn parse_227(_: &[&[u8]]) -> Result<SocketAddrV4, Malformed> {
    Err(Malformed::Missing)
}
pub fn parse_229(_: &[&[u8]]) -> Result<ExtendedPort, Malformed> {
    Err(Malformed::Missing)
}
pub fn parse_epsv_argument(_: &[u8]) -> Result<EpsvArgument, Malformed> {
    Err(Malformed::Missing)
}
pub fn write_port(_: SocketAddrV4) -> String {
    String::new()
}
pub fn write_227(_: SocketAddrV4) -> String {
    String::new()
}
pub fn write_eprt(_: SocketAddr) -> String {
    String::new()
}
pub fn write_229(_: u16) -> String {
    String::new()
}
