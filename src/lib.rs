//! ftpgate: an FTP-aware firewall and NAT proxy.
//!
//! It stands at the network edge in front of FTP servers. It relays the control connection, reads it as FTP, rewrites
//! PORT, EPRT, 227 and 229 so that the addresses hold on both sides, and opens a pinhole for each negotiated data
//! connection: for one peer, one port, one connection, a few seconds, inside the ports that a rule allows.
//!
//! A session is told as facts and answers with imperatives: [`session::Session`] is pure, and [`driver`] does what it
//! says. To follow one PASV through the code: `net` accepts the client, [`driver`] finds its server and asks
//! [`policy`], [`ftp::line`] makes lines of bytes, [`session`] forwards PASV and, at the server's 227, asks for a
//! pinhole; [`pinhole`] listens; the session then lets the rewritten 227 go.
//!
//! A module uses only modules above it in this list; a test checks that. Those down to [`trial`] are pure: no
//! socket, no clock, no runtime.

pub mod addr;
pub mod ftp;
pub mod policy;
pub mod limits;
pub mod rules;
pub mod session;
pub mod trial;
pub mod report;
pub mod net;
pub mod pinhole;
pub mod interception;
pub mod driver;
pub mod server;
pub mod cli;
