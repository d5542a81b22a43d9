//! The mark that conntrack keeps for each connection of a pinhole: whose it is, and what came of it.

/// The mark of a connection that moves. None of our marks is that of a packet which `intercept` hands to this machine:
/// some firewalls copy marks of connections to packets.
pub const OURS: u32 = 0x2140;
/// With this mask each of our marks is [`OURS`]: what an operator's firewall has to accept.
pub const MASK: u32 = 0xffff_ffe0;

/// What came of a connection, in the bits that [`MASK`] leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark(pub(super) u32);

impl Mark {
    /// Who came to the pinhole has reset the connection.
    pub(super) const RESET_BY_ORIGINAL: u32 = 0x01;
    /// The peer that the pinhole leads to has.
    pub(super) const RESET_BY_REPLY: u32 = 0x02;
    /// The first packet was forwarded, and nobody has shown yet that it came from the peer. Not of a connection that is
    /// cut: then the same bit is [`Mark::TOLD_REPLY`], for nobody needs to be told whose handshake is not over.
    pub(super) const HALF_OPEN: u32 = 0x04;
    /// Of a half-open connection: its first packet came more than once. Else the bit is [`Mark::TOLD_ORIGINAL`].
    pub(super) const REPEATED: u32 = 0x08;
    /// The peer that the pinhole leads to was told of the cut.
    pub(super) const TOLD_REPLY: u32 = 0x04;
    /// Who came to the pinhole was.
    pub(super) const TOLD_ORIGINAL: u32 = 0x08;
    /// We end it.
    pub(super) const CUT: u32 = 0x10;

    pub(super) const fn is_half_open(self) -> bool {
        self.0 & (Self::CUT | Self::HALF_OPEN) == Self::HALF_OPEN
    }

    pub(super) const fn has(self, bit: u32) -> bool {
        self.0 & bit != 0
    }
}
