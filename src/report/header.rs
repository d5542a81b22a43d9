//! How a bad PROXY header is shown.

use crate::ftp::redact;

/// Version 2 as far as its addresses.
const FIXED: usize = 16;
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// As much of version 2 as has two IPv4 addresses with their ports.
const SHOWN_V2: usize = 28;

/// A TLS handshake, whose record begins with so many bytes.
const TLS: &[u8] = b"\x16\x03";
const TLS_RECORD: usize = 5;

/// The first bytes of a connection, escaped: no more than a header or a line of them, for a client's password may follow.
pub(super) fn shown(bytes: &[u8]) -> String {
    if bytes.starts_with(V2) {
        let length = bytes.get(14..FIXED).and_then(|length| <[u8; 2]>::try_from(length).ok());
        let end = FIXED + length.map_or(0, |length| usize::from(u16::from_be_bytes(length)));
        return bytes.get(..end.min(SHOWN_V2)).unwrap_or(bytes).escape_ascii().to_string();
    }
    if bytes.starts_with(TLS) {
        return bytes.get(..TLS_RECORD).unwrap_or(bytes).escape_ascii().to_string();
    }
    let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or(bytes);
    if line.starts_with(b"PROXY") { line.escape_ascii().to_string() } else { redact::loggable(line) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_shown_and_what_follows_is_not() {
        let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x04\x7f\0\0\x01PASS secret\r\n";
        for (bytes, text) in [
            (&b""[..], ""),
            (b"PROXY TCP4 127.0.0.3 127.0.0.1 1 65536\r\nPASS secret", "PROXY TCP4 127.0.0.3 127.0.0.1 1 65536"),
            (b"PROXY \x1b[31m\xff", "PROXY \\x1b[31m\\xff"),
            (v2, "\\r\\n\\r\\n\\x00\\r\\nQUIT\\n!\\x12\\x00\\x04\\x7f\\x00\\x00\\x01"),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x12", "\\r\\n\\r\\n\\x00\\r\\nQUIT\\n!\\x12"),
            (b"USER anna\r\nPASS secret\r\n", "USER anna"),
            (b"PASS secret\r\n", "PASS ****"),
            (b"\x16\x03\x01\x02\0\x01\0", "\\x16\\x03\\x01\\x02\\x00"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0-OpenSSH_9.2"),
            (b"\r\nQUIT\r\n", ""),
        ] {
            assert_eq!(shown(bytes), text, "{}", bytes.escape_ascii());
        }
    }
}
