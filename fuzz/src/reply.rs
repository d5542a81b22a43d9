//! Lines to replies.

use ftpgate::ftp::reply::{Part, ReplyReader, text};

/// Only its own code ends a reply, and what lies within is nothing else than its text.
pub fn reply(data: &[u8]) {
    let mut reader = ReplyReader::default();
    for line in data.split(|byte| *byte == b'\n') {
        let inside = reader.inside();
        let part = reader.next_part(line);
        let begins = matches!(line, [b'1'..=b'6', b'0'..=b'9', b'0'..=b'9'])
            || matches!(line, [b'1'..=b'6', b'0'..=b'9', b'0'..=b'9', b' ' | b'-' | b'\t', ..]);
        match (inside, part) {
            (Some(inside), Part::Middle(code)) => assert_eq!(code, inside),
            (Some(inside), Part::Last(code)) => {
                assert_eq!(code, inside);
                assert!(begins && line.get(3) != Some(&b'-'));
            }
            (None, Part::First(_)) => assert_eq!(line.get(3), Some(&b'-')),
            (None, Part::Only(_)) => assert!(begins && line.get(3) != Some(&b'-')),
            (None, Part::Stray) => assert!(!begins),
            (inside, part) => panic!("{part:?} within {inside:?}"),
        }
        assert_eq!(reader.is_inside(), matches!(part, Part::First(_) | Part::Middle(_)));
        if let Part::First(code) | Part::Middle(code) | Part::Last(code) | Part::Only(code) = part {
            assert!((100..700).contains(&code.number()));
            assert!(line.ends_with(text(line, code)));
        }
        if let Part::First(code) | Part::Last(code) | Part::Only(code) = part {
            assert!(line.starts_with(code.number().to_string().as_bytes()));
        }
    }
}
