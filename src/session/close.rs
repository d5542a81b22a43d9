//! Why sessions end, and what the client is told then.

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client said QUIT, or the server 221 or 421, and the connection was closed in order.
    Ended,
    /// The client closed or reset its connection.
    ClientGone,
    /// The server closed or reset its connection.
    ServerGone,
    /// The server's first line is no greeting.
    NotFtp,
    /// The server did not greet in time.
    NoGreeting,
    /// The server left PASV or PORT without an answer.
    ServerSilent,
    /// The client speaks HTTP.
    HttpClient,
    /// The client speaks TLS from the first byte.
    TlsClient,
    /// The client sent a PROXY header, which nobody asked for.
    ProxyHeader,
    /// The client sent too much that is no FTP.
    BadClient,
    /// The server sent too much that is no FTP.
    BadServer,
    /// The rules that hold now deny the session.
    Denied,
    /// The gate shuts down.
    Shutdown,
}

impl CloseReason {
    /// The name that logs use and the README explains.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::ClientGone => "client_gone",
            Self::ServerGone => "server_gone",
            Self::NotFtp => "server_not_ftp",
            Self::NoGreeting => "no_greeting",
            Self::ServerSilent => "server_silent",
            Self::HttpClient => "http_client",
            Self::TlsClient => "tls_client",
            Self::ProxyHeader => "proxy_header",
            Self::BadClient => "bad_client",
            Self::BadServer => "bad_server",
            Self::Denied => "denied",
            Self::Shutdown => "shutdown",
        }
    }

    /// What the client is told, without the line's end.
    #[must_use]
    pub const fn reply(self) -> &'static str {
        match self {
            Self::Ended | Self::ClientGone => "421 The session is over.",
            Self::ServerGone => "421 The server closed the connection.",
            Self::NotFtp => "421 The server does not speak FTP.",
            Self::NoGreeting | Self::ServerSilent => "421 The server did not answer in time.",
            Self::HttpClient | Self::TlsClient => "421 This is an FTP service without TLS.",
            Self::ProxyHeader => "421 A PROXY header does not belong here.",
            Self::BadClient => "421 Too many lines that are not FTP.",
            Self::BadServer => "421 The server sends lines that are not FTP.",
            Self::Denied => "421 The rules no longer allow this session.",
            Self::Shutdown => "421 The gate shuts down.",
        }
    }
}
