//! Netlink messages as bytes (RFC 3549 section 2): a header, netfilter's own header, and attributes, nested at will.

use super::number::{ACK, REQUEST};

const HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;
/// Says of an attribute that it holds attributes.
const NESTED: u16 = 0x8000;
/// The two highest bits of an attribute's type are flags.
const TYPE: u16 = 0x3fff;

/// What stands before a message's attributes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// The subsystem and what is asked of it.
    pub(crate) kind: u16,
    /// `REQUEST` is added.
    pub(crate) flags: u16,
    /// Comes back in the answer.
    pub(crate) sequence: u32,
    /// The address family that it is about.
    pub(crate) family: u8,
    /// The subsystem of a batch; else 0.
    pub(crate) resource: u16,
}

/// Writes messages one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
    /// Where the last message begins, and its flags.
    last: (usize, u16),
}

impl Writer {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Writes one message to netfilter; `fill` writes its attributes.
    pub(crate) fn message(&mut self, head: Head, fill: impl FnOnce(&mut Self)) {
        let [high, low] = head.resource.to_be_bytes();
        let own = [head.family, 0, high, low];
        self.message_with(head.kind, head.flags, head.sequence, &own, fill);
    }

    /// Writes one message to any subsystem, with the header that it has there (of a multiple of four bytes).
    pub(crate) fn message_with(
        &mut self,
        kind: u16,
        flags: u16,
        sequence: u32,
        header: &[u8],
        fill: impl FnOnce(&mut Self),
    ) {
        let start = self.bytes.len();
        self.last = (start, flags | REQUEST);
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(header);
        fill(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.patch(start, &length.to_ne_bytes());
    }

    /// Has the kernel answer the last message even where nothing is wrong.
    pub(crate) fn ask_for_answer(&mut self) {
        const FLAGS_AT: usize = 6;
        let (start, flags) = self.last;
        self.last = (start, flags | ACK);
        self.patch(start + FLAGS_AT, &(flags | ACK).to_ne_bytes());
    }

    /// An attribute of attributes.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        fill(self);
        self.patch_length(start);
    }

    /// An attribute of plain bytes.
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.patch_length(start);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// A number in network order, as all but a few of netfilter's are.
    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A number in network order.
    pub(crate) fn u64(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A name, which ends with a zero.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes);
    }

    fn patch_length(&mut self, start: usize) {
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.patch(start, &length.to_ne_bytes());
    }

    fn patch(&mut self, at: usize, value: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + value.len()) {
            place.copy_from_slice(value);
        }
    }
}

/// A message that the kernel sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    /// The subsystem and what it tells.
    pub(crate) kind: u16,
    /// The sequence number of what it answers.
    pub(crate) sequence: u32,
    /// All behind the netlink header.
    pub(crate) body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The address family of a message of netfilter.
    pub(crate) fn family(&self) -> u8 {
        self.body.first().copied().unwrap_or_default()
    }

    /// The error number of an error message, 0 for an acknowledgement.
    pub(crate) fn error(&self) -> i32 {
        self.body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code).saturating_neg())
    }
}

/// The messages of one datagram; what is cut off at its end is left out.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let head: &[u8; HEADER] = bytes.first_chunk()?;
        let [l0, l1, l2, l3, k0, k1, _, _, s0, s1, s2, s3, ..] = *head;
        let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?;
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        let kind = u16::from_ne_bytes([k0, k1]);
        Some(Message { kind, sequence: u32::from_ne_bytes([s0, s1, s2, s3]), body })
    })
}

/// Attributes, each with its type.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [l0, l1, k0, k1] = *bytes.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = bytes.get(ATTRIBUTE_HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & TYPE, value))
    })
}

/// The attribute that a path of types leads to.
pub(crate) fn find<'a>(bytes: &'a [u8], path: &[u16]) -> Option<&'a [u8]> {
    path.iter().try_fold(bytes, |bytes, kind| Some(attributes(bytes).find(|(found, _)| found == kind)?.1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(sequence: u32) -> Head {
        Head { kind: 0x0a0c, flags: 4, sequence, family: 1, resource: 10 }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::default();
        for sequence in [7, 8] {
            writer.message(head(sequence), |w| {
                w.text(1, "gate");
                w.nest(3, |w| w.nest(1, |w| w.bytes(2, &[1, 2, 3, 4, 5])));
                w.u32(9, 0x0102_0304);
            });
        }
        let read: Vec<Message<'_>> = messages(writer.as_bytes()).collect();
        assert_eq!(read.iter().map(|message| message.sequence).collect::<Vec<_>>(), [7, 8]);
        let message = read.last().unwrap();
        assert_eq!((message.kind, message.family()), (0x0a0c, 1));
        let values: Vec<_> = attributes(&message.body[4..]).collect();
        assert_eq!(values.len(), 3);
        assert_eq!(values[0], (1, b"gate\0".as_slice()));
        assert_eq!(find(&message.body[4..], &[3, 1, 2]), Some([1, 2, 3, 4, 5].as_slice()));
        assert_eq!(values[2], (9, [1, 2, 3, 4].as_slice()));
        assert_eq!(find(&message.body[4..], &[3, 2]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(bytes: Vec<u8>) {
            for message in messages(&bytes) {
                for (_, value) in attributes(&message.body[4..]) {
                    prop_assert!(attributes(value).count() <= value.len());
                }
            }
        }
    }
}
