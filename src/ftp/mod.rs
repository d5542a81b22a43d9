//! FTP on the wire, without IO: lines, commands, replies, and the four notations of an address and port.

pub mod buffer;
pub mod command;
pub mod effect;
pub mod host_port;
pub mod line;
pub mod redact;
pub mod reply;
pub mod telnet;
