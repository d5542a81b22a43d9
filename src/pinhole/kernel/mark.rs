//! The mark that conntrack keeps for each connection of a pinhole: whose it is, and what came of it.

/// What each gate's marks are with [`MASK`]: what an operator's firewall has to accept. None is that of a packet which
/// `intercept` hands to this machine: some firewalls copy marks of connections to packets.
pub const OURS: u32 = 0x2140;
/// The mark of packets that the interception hands to this machine: of packets, and not of connections.
pub const INTERCEPTED: u32 = 0x2121;
/// Leaves out the number of the gate and the state of the connection.
pub const MASK: u32 = 0x0000_ffe0;
/// Leaves out the state of the connection: with this mask a gate's marks are [`Own::mark`], and no other gate's are.
pub(super) const OWN_MASK: u32 = 0xffff_ffe0;

/// One of the gates on this machine. The first has 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Own(u16);

impl Own {
    /// The `n`-th gate, from 0 on.
    pub(super) const fn nth(n: u16) -> Self {
        Self(n)
    }

    /// The mark of a connection of its that moves.
    pub(super) const fn mark(self) -> u32 {
        OURS | (self.0 as u32) << 16
    }

    /// Whether a connection with this mark is its.
    pub(super) const fn has(self, mark: u32) -> bool {
        mark & OWN_MASK == self.mark()
    }
}

/// What came of a connection, in the bits that [`OWN_MASK`] leaves.
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
