//! Active and passive mode, on each leg of a data connection.

/// Passive: the peer is connected to, or active: it connects, seen from the server of the leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The client connects to the server.
    Passive,
    /// The server connects to the client.
    Active,
}

/// The mode of each leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes {
    /// Of the leg between the client and us, as the client sees it.
    pub client: Mode,
    /// Of the leg between us and the server, as the server sees it.
    pub server: Mode,
}
