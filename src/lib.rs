//! ftpgate: an FTP-aware firewall and NAT proxy.

pub mod addr;
pub mod cli;
pub mod net;
pub mod pinhole;
pub mod policy;
pub mod session;
