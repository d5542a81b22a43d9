//! Telnet on the control connection (RFC 854): where it has a meaning, and how servers may read it where it has none.
//!
//! A client sends Telnet commands ahead of a command (RFC 959 section 4.1.3). They are decoded up to the end of the verb,
//! and only the verb goes on. In an argument 0xFF is a byte like any other: a letter in CP1251, KOI8-R and Latin-1.
//! Arguments pass as they came, and the rules judge them in each of the [`readings`] too.

use memchr::memchr;

/// The lowest Telnet command.
pub(super) const SE: u8 = 240;
const DATA_MARK: u8 = 242;
const INTERRUPT_PROCESS: u8 = 244;
const SB: u8 = 250;
const WILL: u8 = 251;
const WONT: u8 = 252;
const DO: u8 = 253;
const DONT: u8 = 254;
/// What every Telnet command begins with.
pub const IAC: u8 = 255;

/// How many bytes of Telnet refusals may wait to be sent; requests beyond that are ignored.
const MAX_REFUSALS: usize = 48;

/// Where the decoder stands in a Telnet command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Data,
    Iac,
    Option(u8),
    Sub,
    SubIac,
}

/// Where the next byte stands in its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Ahead of the verb: blanks and what is left of Telnet commands.
    Start,
    Verb,
    Argument,
}

impl Place {
    const fn behind(self, byte: u8) -> Self {
        match (self, byte) {
            (_, b'\n') => Self::Start,
            (Self::Argument, _) | (Self::Verb, b' ' | b'\t') => Self::Argument,
            (Self::Start, b' ' | b'\t' | SE..) => Self::Start,
            (Self::Start | Self::Verb, _) => Self::Verb,
        }
    }
}

/// Takes Telnet commands out of what a client sends, where they have a meaning.
#[derive(Debug)]
pub(super) struct Decoder {
    state: State,
    place: Place,
}

/// Where decoding puts its results.
#[derive(Debug)]
pub(super) struct Decoded<'a> {
    /// Takes what is no Telnet command.
    pub(super) plain: &'a mut Vec<u8>,
    /// Takes answers to option requests: each is refused (RFC 1123 section 4.1.2.12).
    pub(super) refusals: &'a mut Vec<u8>,
}

impl Decoder {
    pub(super) const fn new() -> Self {
        Self { state: State::Data, place: Place::Start }
    }

    /// Decodes bytes; tells where in what is no Telnet command the last interrupt (IP, DM) stood, if one came.
    pub(super) fn decode(&mut self, mut bytes: &[u8], into: &mut Decoded<'_>) -> Option<usize> {
        let mut interrupt = None;
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.state == State::Data && self.place == Place::Argument {
                let end = memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
                let (argument, behind) = bytes.split_at(end);
                into.plain.extend_from_slice(argument);
                if argument.ends_with(b"\n") {
                    self.place = Place::Start;
                }
                bytes = behind;
                continue;
            }
            if self.decode_byte(byte, into) {
                interrupt = Some(into.plain.len());
            }
            bytes = rest;
        }
        interrupt
    }

    /// Takes one byte; whether an interrupt ends with it.
    fn decode_byte(&mut self, byte: u8, into: &mut Decoded<'_>) -> bool {
        let mut push = |byte: u8| {
            into.plain.push(byte);
            self.place = self.place.behind(byte);
        };
        let state = match (self.state, byte) {
            (State::Data, IAC) => State::Iac,
            (State::Data, byte) => {
                push(byte);
                State::Data
            }
            (State::Iac, INTERRUPT_PROCESS | DATA_MARK) => {
                self.state = State::Data;
                return true;
            }
            (State::Iac, WILL..=DONT) => State::Option(byte),
            (State::Iac, SB) => State::Sub,
            (State::Iac, SE..=249) => State::Data,
            // A doubled IAC is a byte of its own, and one before any other byte no Telnet: no verb has either.
            (State::Iac, byte) => {
                push(IAC);
                push(byte);
                State::Data
            }
            (State::Option(request), option) => {
                refuse(request, option, into.refusals);
                State::Data
            }
            (State::Sub, IAC) => State::SubIac,
            // The end of a line ends a negotiation that was never closed: no command may vanish in it.
            (State::Sub | State::SubIac, b'\n') => {
                push(byte);
                State::Data
            }
            (State::SubIac, SE) => State::Data,
            (State::Sub | State::SubIac, _) => State::Sub,
        };
        self.state = state;
        false
    }
}

fn refuse(request: u8, option: u8, refusals: &mut Vec<u8>) {
    let refusal = match request {
        WILL => DONT,
        DO => WONT,
        _ => return,
    };
    if refusals.len() < MAX_REFUSALS {
        refusals.extend_from_slice(&[IAC, refusal, option]);
    }
}

/// How a server may read IAC in an argument, if not as a byte like others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// Two bytes each: IAC, and the one behind it.
    Pairs,
    /// The BSD family: three bytes where the second asks for an option.
    Options,
    /// All of RFC 854: a subnegotiation up to its end as well.
    Telnet,
    /// ProFTPD: IP, DM and requests for options alone; any other IAC stays.
    Known,
    /// The same before it took a doubled IAC for one byte.
    KnownUndoubled,
    /// Nothing but that a doubled IAC is one byte (RFC 2640 section 3.1).
    Doubled,
}

/// What other servers than those that take a byte for a byte read: each text once, none where there is no IAC.
#[must_use]
pub fn readings(bytes: &[u8]) -> Vec<Vec<u8>> {
    const ALL: [Reading; 6] =
        [Reading::Pairs, Reading::Options, Reading::Telnet, Reading::Known, Reading::KnownUndoubled, Reading::Doubled];
    let mut all: Vec<Vec<u8>> = Vec::new();
    if memchr(IAC, bytes).is_none() {
        return all;
    }
    for reading in ALL {
        let text = read_as(bytes, reading);
        if text != bytes && !all.contains(&text) {
            all.push(text);
        }
    }
    all
}

fn read_as(bytes: &[u8], reading: Reading) -> Vec<u8> {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != IAC {
            plain.push(byte);
            continue;
        }
        let kept = match (reading, behind.first()) {
            (Reading::KnownUndoubled, Some(&IAC)) => 2,
            (_, Some(&IAC)) => {
                plain.push(IAC);
                0
            }
            (Reading::Known | Reading::KnownUndoubled, Some(&(DATA_MARK | INTERRUPT_PROCESS | WILL..=DONT))) => 0,
            (Reading::Known | Reading::KnownUndoubled | Reading::Doubled, Some(_)) => 2,
            (Reading::Known | Reading::KnownUndoubled | Reading::Doubled, None) => 1,
            (Reading::Pairs | Reading::Options | Reading::Telnet, _) => 0,
        };
        let length = match (reading, behind.first()) {
            (Reading::Pairs | Reading::Doubled, _) | (_, None) => 1,
            (Reading::Telnet, Some(&SB)) => {
                let end = behind.windows(2).position(|two| two == [IAC, SE]);
                end.map_or(behind.len(), |at| at + 2)
            }
            (_, Some(WILL..=DONT)) => 2,
            (_, Some(_)) => 1,
        };
        plain.extend(std::iter::once(&byte).chain(behind).take(kept));
        rest = behind.get(length..).unwrap_or_default();
    }
    plain
}

/// A server's line without the Telnet commands ahead of its code: it may answer what it takes for a request in a name.
///
/// `None` where there is no code behind them: names in a listing may begin with any byte.
pub(super) fn behind_commands(line: &[u8]) -> Option<&[u8]> {
    let mut rest = line;
    while let Some((&IAC, behind)) = rest.split_first() {
        rest = match behind.first()? {
            WILL..=DONT => behind.get(2..)?,
            SE..=249 => behind.get(1..)?,
            _ => return None,
        };
    }
    let is_code = rest.get(..3)?.iter().all(u8::is_ascii_digit);
    (is_code && rest.get(3).is_none_or(|byte| matches!(byte, b' ' | b'-'))).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8]) -> (Vec<u8>, bool) {
        let (mut plain, mut refusals) = (Vec::new(), Vec::new());
        let into = &mut Decoded { plain: &mut plain, refusals: &mut refusals };
        let interrupt = Decoder::new().decode(bytes, into).is_some();
        (plain, interrupt)
    }

    #[test]
    fn an_argument_passes_byte_for_byte() {
        let every: Vec<u8> = (0x80..=0xff).collect();
        let twice: Vec<u8> = (0x80..=0xff).flat_map(|byte| [0xff, byte]).collect();
        for name in [every, twice, b"\xcf\xf0\xe8\xff\xf2\xed\xee.txt".to_vec()] {
            for verb in [&b"STOR "[..], b" pass\t", b"\xff\xf4\xff\xf2SIZE ", b"\xf4\xffABOR  "] {
                let (plain, _) = decoded(&[verb, &name, b"\r\n"].concat());
                assert!(plain.ends_with(&[&name[..], b"\r\n"].concat()), "{}", plain.escape_ascii());
            }
        }
    }

    #[test]
    fn telnet_is_known_again_at_the_start_of_the_next_line() {
        let (plain, interrupt) = decoded(b"SIZE \xff\xf4\r\n\xff\xf4\xff\xf2ABOR\r\n");
        assert_eq!((plain.as_slice(), interrupt), (&b"SIZE \xff\xf4\r\nABOR\r\n"[..], true));
        assert!(!decoded(b"SIZE \xff\xf4\r\n").1, "a name is no interrupt");
    }

    #[test]
    fn what_iac_may_hide_is_read_too() {
        let read = |text: &[u8], reading| read_as(text, reading).escape_ascii().to_string();
        let text = b"EX\xffZEC \xff\xff\xff\xfd\x06a\xff\xfab\xff\xf0\xff\xf2c\xff";
        assert_eq!(read(text, Reading::Pairs), "EXEC \\xff\\x06abc");
        assert_eq!(read(text, Reading::Options), "EXEC \\xffabc");
        assert_eq!(read(text, Reading::Telnet), "EXEC \\xffac");
        assert_eq!(read(text, Reading::Known), "EX\\xffZEC \\xffa\\xff\\xfab\\xff\\xf0c\\xff");
        assert_eq!(read(text, Reading::KnownUndoubled), "EX\\xffZEC \\xff\\xffa\\xff\\xfab\\xff\\xf0c\\xff");
        assert_eq!(
            read(text, Reading::Doubled),
            "EX\\xffZEC \\xff\\xff\\xfd\\x06a\\xff\\xfab\\xff\\xf0\\xff\\xf2c\\xff"
        );
        assert_eq!(readings(b"a\xff\xf0"), [b"a".to_vec()]);
        assert!(readings(b"SITE \xe9").is_empty());
    }

    #[test]
    fn a_reply_behind_telnet_commands_is_found() {
        for (line, reply) in [
            (&b"\xff\xfc\x06226 ok"[..], Some(&b"226 ok"[..])),
            (b"\xff\xfe\r\xff\xf1226-ok", Some(b"226-ok")),
            (b"\xff\xfc\x06226", Some(b"226")),
            (b"\xff\xff226 ok", None),
            (b"\xff\xf2.txt", None),
            (b"\xff\xf2226.txt", None),
            (b"\xff\xfc", None),
            (b"\xff", None),
        ] {
            assert_eq!(behind_commands(line), reply, "{}", line.escape_ascii());
        }
    }
}
