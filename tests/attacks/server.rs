//! A server that writes down what it hears, and answers a client named `odd` with anything.

use std::io::Write as _;
use std::net::TcpListener;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use fastrand::Rng;

use crate::inputs::reply;
use crate::support::Talk;

#[derive(Default)]
struct Shared {
    heard: Mutex<Vec<Vec<u8>>>,
    over: AtomicBool,
    sessions: AtomicU64,
}

pub struct Server(Arc<Shared>);

impl Server {
    pub fn start(listener: TcpListener) -> Self {
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            while !accepting.over.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        stream.set_nonblocking(false).unwrap();
                        let shared = Arc::clone(&accepting);
                        thread::spawn(move || serve(Talk::new(stream), &shared));
                    }
                    Err(_) => thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        Self(shared)
    }

    /// Every line that came so far, without its end.
    pub fn heard(&self) -> Vec<Vec<u8>> {
        self.0.heard.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

fn serve(mut control: Talk, shared: &Shared) {
    let mut rng = Rng::with_seed(shared.sessions.fetch_add(1, Ordering::Relaxed));
    let mut odd = false;
    if control.try_send(b"220 Ready\r\n").is_err() {
        return;
    }
    while let Ok(line) = control.try_line() {
        let Some(line) = line.strip_suffix(b"\n") else { return };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        shared.heard.lock().unwrap().push(line.to_vec());
        odd |= line == b"USER odd";
        let answer = match line.get(..4).unwrap_or_default() {
            _ if odd => reply(&mut rng),
            b"USER" => b"331 Password?\r\n".to_vec(),
            b"PASS" => b"230 In\r\n".to_vec(),
            b"PASV" => b"227 Entering Passive Mode (127,0,0,1,200,10)\r\n".to_vec(),
            b"EPSV" => b"229 Extended (|||51210|)\r\n".to_vec(),
            b"QUIT" => b"221 Bye\r\n".to_vec(),
            _ => b"200 Fine\r\n".to_vec(),
        };
        if control.stream.write_all(&answer).is_err() || line == b"QUIT" {
            return;
        }
    }
}

/// Why the server must not have heard this: what the laxest of servers would do.
pub fn forbidden(line: &[u8], gate_ports: &RangeInclusive<u16>) -> Option<String> {
    readings(line).into_iter().find_map(|reading| {
        let text = String::from_utf8_lossy(&reading).to_ascii_uppercase();
        let mut words = text.split_ascii_whitespace();
        let (verb, argument) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let is_bad = match verb {
            "PORT" => !is_ours(argument, gate_ports),
            "EPRT" => !is_ours_extended(argument, gate_ports),
            "LPRT" | "LPSV" | "SPSV" | "CPSV" | "APSV" | "SSCN" | "SPAS" | "SPOR" | "AUTH" | "DELE" => true,
            "MODE" => argument.starts_with('B'),
            "PASV" => line != b"PASV",
            "EPSV" => line != b"EPSV" && line != b"EPSV ALL",
            "SITE" => ["CHMOD", "CPFR"].contains(&argument),
            _ => false,
        };
        is_bad.then(|| format!("{} is read as {text}", line.escape_ascii()))
    })
}

fn is_ours(argument: &str, gate_ports: &RangeInclusive<u16>) -> bool {
    let numbers: Option<Vec<u8>> = argument.split(',').map(|number| number.parse().ok()).collect();
    matches!(numbers.as_deref(), Some(&[127, 0, 0, 1, high, low]) if gate_ports.contains(&u16::from_be_bytes([high, low])))
}

fn is_ours_extended(argument: &str, gate_ports: &RangeInclusive<u16>) -> bool {
    let port = argument.strip_prefix("|1|127.0.0.1|").and_then(|rest| rest.strip_suffix('|'));
    port.and_then(|port| port.parse().ok()).is_some_and(|port| gate_ports.contains(&port))
}

/// A line as servers of all kinds read it: without quotation marks, without Telnet, cut at short buffers and at what
/// some take for the end of a line.
fn readings(line: &[u8]) -> Vec<Vec<u8>> {
    let unquoted: Vec<u8> = line.iter().copied().filter(|byte| *byte != b'"').collect();
    // A quoted word ends with its quotation mark.
    let parted: Vec<u8> = line.iter().map(|byte| if *byte == b'"' { b' ' } else { *byte }).collect();
    let mut all = Vec::new();
    for text in [line.to_vec(), without_telnet(line), unquoted.clone(), without_telnet(&unquoted), parted] {
        all.extend(text.split(|byte| matches!(byte, b'\r' | 0)).map(<[u8]>::to_vec));
        all.extend([255, 256, 511, 512, 1023, 1024].into_iter().filter_map(|at| text.get(at..)).map(<[u8]>::to_vec));
        // Bytes that are no letters in front.
        let letters = text.iter().position(u8::is_ascii_alphabetic).unwrap_or(text.len());
        all.push(text[letters..].to_vec());
    }
    all
}

fn without_telnet(bytes: &[u8]) -> Vec<u8> {
    let mut rest = bytes.iter().copied().peekable();
    let mut plain = Vec::new();
    while let Some(byte) = rest.next() {
        match byte {
            0xff => match rest.next() {
                Some(0xff) => plain.push(0xff),
                Some(0xfb..=0xfe) => drop(rest.next()),
                _ => {}
            },
            _ => plain.push(byte),
        }
    }
    plain
}
