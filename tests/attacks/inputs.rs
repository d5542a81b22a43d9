//! What hostile peers send, drawn at random.

use fastrand::Rng;

fn one<'a>(rng: &mut Rng, of: &[&'a [u8]]) -> &'a [u8] {
    of[rng.usize(..of.len())]
}

const VERBS: &[&[u8]] = &[
    b"PORT",
    b"EPRT",
    b"PASV",
    b"EPSV",
    b"LPRT",
    b"LPSV",
    b"SPSV",
    b"CPSV",
    b"SSCN",
    b"DELE",
    b"SITE CHMOD",
    b"SITE CPFR",
    b"SITE",
    b"STAT",
    b"XSTAT",
    b"LIST",
    b"RETR",
    b"STOR",
    b"SIZE",
    b"CWD",
    b"NOOP",
    b"ABOR",
    b"ALLO",
    b"MDTM",
    b"USER",
    b"HOST",
    b"AUTH TLS",
    b"OPTS UTF8 ON",
    b"RNFR",
    b"MLSD",
    b"TYPE I",
    b"SPAS",
    b"SPOR",
    b"MODE B",
    b"ERET P 0 9",
];

const ADDRESSES: &[&[u8]] = &[
    b"10,0,2,1,78,32",
    b"127,0,0,2,4,1",
    b"127,0,0,1,0,25",
    b"192,0,2,7,200,10",
    b"127,0,0,2,195,80",
    b"|1|127.0.0.1|25|",
    b"|1|10.0.2.1|20000|",
    b"|2|::1|20000|",
    b"|1|127.0.0.2|50000|",
    b"4,4,10,0,0,1,2,4,1",
    b"ALL",
    b"1",
    b"2",
    b"127,0,0,2,4,1\0",
    b"0127,0,0,2,4,1",
    b"127.0.0.2,4,1",
    b"127,0,0,2,260,1",
    b"127,0,0,2,-4,1",
    b"0,0,0,0,78,32",
];

/// What stands around and between words, and what servers drop.
const GLUE: &[&[u8]] = &[
    b" ",
    b"\t",
    b"  ",
    b"\"",
    b"'",
    b"\xff\xf4",
    b"\xff\xf2",
    b"\xff\xff",
    b"\xff\xfd\x06",
    b"\xff\xfa",
    b"\xff\xf0",
    b"\xff",
    b"\x0b",
    b"\x0c",
    b"\xa0",
    b"\r",
    b"\0",
    b"\x7f",
    b"\\",
    b"{",
    b"-",
    b"\xf4",
    b"\x1b[",
];

const ENDS: &[&[u8]] = &[b"\r\n", b"\n", b"\r\n", b"\r\n", b"\n\r", b"\r\r\n", b"\r\0\n"];

/// A verb with glue anywhere in it, in any case of letters.
fn verb(rng: &mut Rng) -> Vec<u8> {
    let mut verb = one(rng, VERBS).to_vec();
    if rng.u8(..3) == 0 {
        verb.make_ascii_lowercase();
    }
    for _ in 0..rng.usize(..3) {
        let at = rng.usize(..=verb.len());
        let glue = one(rng, GLUE);
        verb.splice(at..at, glue.iter().copied());
    }
    if rng.u8(..4) == 0 {
        verb = [b"\"", verb.as_slice(), b"\""].concat();
    }
    verb
}

fn argument(rng: &mut Rng) -> Vec<u8> {
    match rng.u8(..5) {
        0 => Vec::new(),
        1 => [b"a".repeat(rng.usize(..1100)), verb(rng), b" ".to_vec(), one(rng, ADDRESSES).to_vec()].concat(),
        2 => b"701 file".to_vec(),
        _ => one(rng, ADDRESSES).to_vec(),
    }
}

fn line(rng: &mut Rng) -> Vec<u8> {
    let blank = if rng.u8(..8) == 0 { one(rng, GLUE) } else { b" " };
    [verb(rng), blank.to_vec(), argument(rng), one(rng, ENDS).to_vec()].concat()
}

/// Some lines, behind a login or not.
pub fn stream(rng: &mut Rng) -> Vec<u8> {
    let login: &[u8] = if rng.bool() { b"USER x\r\nPASS y\r\n" } else { b"" };
    let mut bytes = login.to_vec();
    (0..rng.usize(1..6)).for_each(|_| bytes.extend(line(rng)));
    bytes
}

/// PORT, EPRT, EPSV and their like with an address in any form.
pub fn negotiation(rng: &mut Rng) -> Vec<u8> {
    let verb = one(rng, &VERBS[..9]);
    let mut address = one(rng, ADDRESSES).to_vec();
    for _ in 0..rng.usize(..3) {
        let at = rng.usize(..address.len().max(1));
        match rng.u8(..3) {
            0 => drop(address.splice(at..at, one(rng, GLUE).iter().copied())),
            1 => drop(address.get_mut(at).map(|byte| *byte = rng.u8(..))),
            _ => address.truncate(at),
        }
    }
    [verb, b" ", &address, b"\r\nLIST\r\n"].concat()
}

/// What a client of an explicit listener names.
pub fn destination(rng: &mut Rng) -> Vec<u8> {
    const HOSTS: &[&[u8]] = &[
        b"127.0.0.1",
        b"localhost",
        b"0",
        b"127.1",
        b"2130706433",
        b"0x7f.1",
        b"[::1]",
        b"::ffff:127.0.0.1",
        b"[64:ff9b::7f00:1]",
        b"64:ff9b:1::7f00:1",
        b"2002:7f00:1::",
        b"::127.0.0.1",
        b"::ffff:0:127.0.0.1",
        b"169.254.169.254",
        b"224.0.0.1",
        b"255.255.255.255",
        b"0.0.0.0",
        b"[::]",
        b"fe80::1",
        b"192.0.2.1",
        b"a..b",
        b"-",
        b"2001:0:7f00:1::80ff:fffe",
    ];
    const PORTS: &[&[u8]] = &[b"", b":21", b":25", b":0", b":65536", b":6379", b":+21", b":2 1"];
    let form = one(rng, &[b"USER x@", b"OPEN ", b"SITE ", b"USER a@b@", b"user \"x\"@"]);
    [form, one(rng, HOSTS), one(rng, PORTS), one(rng, ENDS), b"NOOP\r\n"].concat()
}

/// What a server says, whether it was asked or not.
pub fn reply(rng: &mut Rng) -> Vec<u8> {
    const REPLIES: &[&[u8]] = &[
        b"227 Entering Passive Mode (127,0,0,1,0,25)",
        b"227 Entering Passive Mode (10,0,2,2,200,10)",
        b"229 (|||25|)",
        b"229 (|||50010|)",
        b"227(10,0,2,2,200,10)",
        b"227-(10,0,2,2,200,10)",
        b"226-227 (10,0,2,2,200,10)",
        b"213 x\r227 (10,0,2,2,200,10)",
        b"150 Here",
        b"226 Done",
        b"226",
        b"22",
        b"",
        b"200 Fine",
        b"200-",
        b" 227 (10,0,2,2,200,10)",
        b"500 What?",
        b"\xff\xf4\0",
        b"SSH-2.0-x",
        b"530 Not now",
        b"331 Password",
        b"230 In",
        b"257 \"/\"",
        b"999 x",
    ];
    let mut bytes = Vec::new();
    for _ in 0..rng.usize(..5) {
        bytes.extend_from_slice(one(rng, REPLIES));
        if rng.u8(..16) == 0 {
            bytes.extend(b"x".repeat(rng.usize(..12_000)));
        }
        bytes.extend_from_slice(one(rng, ENDS));
    }
    bytes
}
