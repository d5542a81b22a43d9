//! Replies: where one begins and ends, over several lines or one.

/// The code of a reply: three digits, the first of them 1 to 6 (RFC 959 section 4.2, RFC 2228 section 3 for 6yz).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code([u8; 3]);

impl Code {
    /// The code as a number.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'))
    }

    /// More replies follow to the same command (1yz).
    #[must_use]
    pub const fn is_preliminary(self) -> bool {
        self.0[0] == b'1'
    }

    /// The command did what was asked (2yz).
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.0[0] == b'2'
    }

    fn of(line: &[u8]) -> Option<Self> {
        let &[a @ b'1'..=b'6', b @ b'0'..=b'9', c @ b'0'..=b'9', ..] = line else { return None };
        Some(Self([a, b, c]))
    }
}

/// What a line is within its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The first of several lines.
    First(Code),
    /// A line between the first and the last: its text means nothing, whatever it looks like.
    Middle(Code),
    /// The last of several lines.
    Last(Code),
    /// A reply of one line.
    Only(Code),
    /// No line of a reply.
    Stray,
}

impl Part {
    /// The code of the reply, where its last line is here.
    #[must_use]
    pub const fn ends(self) -> Option<Code> {
        match self {
            Self::Last(code) | Self::Only(code) => Some(code),
            Self::First(_) | Self::Middle(_) | Self::Stray => None,
        }
    }
}

/// Finds the beginning and the end of each reply in a server's lines.
#[derive(Debug, Default)]
pub struct ReplyReader {
    inside: Option<Code>,
}

impl ReplyReader {
    /// Says what the next line is.
    pub fn next_part(&mut self, line: &[u8]) -> Part {
        let code = Code::of(line);
        let separator = line.get(3).copied();
        match (self.inside, code, separator) {
            (Some(inside), Some(code), None | Some(b' ' | b'\t')) if inside == code => {
                self.inside = None;
                Part::Last(code)
            }
            (Some(inside), _, _) => Part::Middle(inside),
            (None, Some(code), Some(b'-')) => {
                self.inside = Some(code);
                Part::First(code)
            }
            (None, Some(code), None | Some(b' ' | b'\t')) => Part::Only(code),
            (None, _, _) => Part::Stray,
        }
    }

    /// The code of a line in the middle that would be a whole reply, or the last line of one, outside of this.
    #[must_use]
    pub fn other_end(&self, line: &[u8]) -> Option<Code> {
        let is_end = matches!(line.get(3), None | Some(b' ' | b'\t'));
        Code::of(line).filter(|code| is_end && self.inside.is_some_and(|inside| inside != *code))
    }

    /// The reply that has begun has ended after all.
    pub const fn end(&mut self) {
        self.inside = None;
    }

    /// The code of the reply that has begun and not ended.
    #[must_use]
    pub const fn inside(&self) -> Option<Code> {
        self.inside
    }

    /// Whether a reply has begun and not ended.
    #[must_use]
    pub const fn is_inside(&self) -> bool {
        self.inside.is_some()
    }
}

/// The code of a line that has its text right behind it, as some servers write a reply (`226Transfer complete`): whether it
/// is one, only what is waited for can tell.
#[must_use]
pub fn without_blank(line: &[u8]) -> Option<Code> {
    let is_text = |byte: &u8| byte.is_ascii_alphabetic() || matches!(byte, b'(' | b'"' | b':' | b'.' | b',');
    Code::of(line).filter(|_| line.get(3).is_some_and(is_text))
}

/// The text of a reply's line: what follows the code and its separator, or all of a line that has none.
#[must_use]
pub fn text(line: &[u8], code: Code) -> &[u8] {
    if Code::of(line) != Some(code) {
        return line;
    }
    match line.get(3) {
        None => b"",
        Some(b' ' | b'-' | b'\t') => line.get(4..).unwrap_or_default(),
        Some(_) if without_blank(line).is_some() => line.get(3..).unwrap_or_default(),
        Some(_) => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(lines: &[&[u8]]) -> Vec<Part> {
        let mut reader = ReplyReader::default();
        lines.iter().map(|line| reader.next_part(line)).collect()
    }

    fn code(text: &[u8]) -> Code {
        Code::of(text).unwrap()
    }

    #[test]
    fn only_the_same_code_ends_a_reply() {
        let c = code(b"230");
        assert_eq!(
            parts(&[b"230-hello", b"227 Entering (1,2,3,4,5,6)", b"230-more", b"2", b"", b"230 done", b"200 ok"]),
            [
                Part::First(c),
                Part::Middle(c),
                Part::Middle(c),
                Part::Middle(c),
                Part::Middle(c),
                Part::Last(c),
                Part::Only(code(b"200"))
            ]
        );
    }

    #[test]
    fn a_reply_may_end_by_another_code() {
        let mut reader = ReplyReader::default();
        assert_eq!(reader.other_end(b"150 go"), None);
        assert_eq!(reader.next_part(b"553-a"), Part::First(code(b"553")));
        assert_eq!(reader.other_end(b"150 go"), Some(code(b"150")));
        for line in [&b"150-go"[..], b" 150 go", b"553 b", b"150go", b""] {
            assert_eq!(reader.other_end(line), None, "{}", line.escape_ascii());
        }
        reader.end();
        assert_eq!(reader.next_part(b"226 done"), Part::Only(code(b"226")));
    }

    #[test]
    fn a_code_alone_is_a_reply() {
        assert_eq!(
            parts(&[b"220", b"220-", b"220"]),
            [Part::Only(code(b"220")), Part::First(code(b"220")), Part::Last(code(b"220"))]
        );
    }

    #[test]
    fn what_is_no_reply_is_stray() {
        assert_eq!(parts(&[b"SSH-2.0-x", b"", b"22", b"0aa", b"2200 x", b"720 x"]), [Part::Stray; 6]);
    }

    #[test]
    fn text_leaves_the_code_away() {
        assert_eq!(text(b"227-a", code(b"227")), b"a");
        assert_eq!(text(b"227", code(b"227")), b"");
        assert_eq!(text(b" 1,2", code(b"227")), b" 1,2");
        assert_eq!(text(b"227(1,2", code(b"227")), b"(1,2");
    }

    #[test]
    fn a_code_may_have_its_text_right_behind_it() {
        assert_eq!(without_blank(b"226Transfer complete"), Some(code(b"226")));
        assert_eq!(without_blank(b"227(1,2,3,4,5,6)"), Some(code(b"227")));
        for line in [&b"226 x"[..], b"226", b"226-x", b"2261", b"22x", b"726Transfer"] {
            assert_eq!(without_blank(line), None, "{}", line.escape_ascii());
        }
    }
}
