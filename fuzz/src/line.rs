//! Bytes to lines.

use ftpgate::ftp::line::{Line, LineFault, LineReader, MAX_COMMAND, MAX_REPLY};

type Read = Result<Line, LineFault>;

/// What is read does not depend on segments, has no end of a line in it, and is bounded, as is what is held.
///
/// The first byte says how long the segments are, and whose lines they make.
pub fn line(data: &[u8]) {
    let Some((&first, bytes)) = data.split_first() else { return };
    let (make, limit): (fn() -> LineReader, usize) =
        if first & 1 == 0 { (LineReader::commands, MAX_COMMAND) } else { (LineReader::replies, MAX_REPLY) };
    let mut whole = make();
    let at_once = read(&mut whole, bytes, limit);
    let mut split = make();
    let by_and_by: Vec<Read> =
        bytes.chunks(usize::from(first >> 1) + 1).flat_map(|segment| read(&mut split, segment, limit)).collect();
    // A byte is shown as three digits at most, with two characters between it and the next.
    assert!(format!("{split:?}").len() <= 5 * (limit + 2) + 600, "more is held than a line can be");
    // How much is skipped after a fault depends on when it was found, and of several interrupts in one segment only
    // the last is remembered.
    let sound =
        |read: &[Read]| -> Vec<Vec<u8>> { read.iter().map_while(|line| Some(line.clone().ok()?.bytes)).collect() };
    let (at_once, by_and_by) = (sound(&at_once), sound(&by_and_by));
    let common = at_once.len().min(by_and_by.len());
    assert_eq!(at_once[..common], by_and_by[..common], "segments mean something");
    let plain = first & 1 == 1 || !bytes.windows(2).any(|two| two == b"\x16\x03");
    if plain && bytes.len() <= limit {
        assert_eq!(at_once.len(), by_and_by.len(), "a line is lost or made by segments");
    }
}

fn read(reader: &mut LineReader, bytes: &[u8], limit: usize) -> Vec<Read> {
    reader.push(bytes);
    let mut lines = Vec::new();
    while let Some(line) = reader.next_line() {
        if let Ok(Line { bytes, .. }) = &line {
            assert!(bytes.len() <= limit, "{} bytes in a line", bytes.len());
            assert!(!bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n')), "a line within a line");
            assert!(limit == MAX_REPLY || !bytes.contains(&0), "NUL in a command");
        }
        lines.push(line);
        assert!(lines.len() <= bytes.len() + 1, "more lines than bytes");
    }
    let refusals = reader.take_refusals();
    assert!(refusals.len() <= 48 && refusals.chunks(3).all(|one| matches!(one, [255, 252 | 254, _])), "{refusals:?}");
    lines
}
