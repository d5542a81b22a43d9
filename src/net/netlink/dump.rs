//! Everything that the kernel has of a kind.

use std::io;

use super::{Head, Message, Socket, Writer, messages, number};

const BUFFER: usize = 64 * 1024;

/// A name, without the zero behind it.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

/// Asks netfilter for all of a kind.
pub(crate) fn dump(
    socket: &Socket,
    kind: u16,
    family: u8,
    fill: impl FnOnce(&mut Writer),
    heard: impl FnMut(&Message<'_>),
) -> io::Result<()> {
    let mut writer = Writer::default();
    writer.message(Head { kind, flags: number::DUMP, sequence: 1, family, resource: 0 }, fill);
    ask(socket, &writer, heard)
}

/// Sends a question, and hears the answers until the last.
pub(crate) fn ask(socket: &Socket, question: &Writer, mut heard: impl FnMut(&Message<'_>)) -> io::Result<()> {
    socket.send(question.as_bytes())?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let answers = socket.receive(&mut buffer)?;
        for answer in messages(answers) {
            match answer.kind {
                number::ERROR if answer.error() != 0 => return Err(io::Error::from_raw_os_error(answer.error())),
                number::ERROR | number::DONE => return Ok(()),
                _ => heard(&answer),
            }
        }
    }
}
