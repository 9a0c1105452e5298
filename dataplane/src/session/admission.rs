//! What a session keeps of the policy that let it in.

/// Zone numbers are below this.
pub const ZONES: u8 = 16;

/// Under which policy a session was judged, and what is needed to judge it again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Admission {
    /// Number of the policy, of this process; 0: not judged here (a backup, a session just taken over).
    pub policy: u16,
    /// Which idle times it has, 0 for the node's. An Owner's business.
    pub terms: u8,
    /// Number of the zone in which the flow began; 0: not known.
    pub zone: u8,
    /// It was the other way than that of the first packet seen here that was allowed.
    pub reversed: bool,
    /// It stays at this node: peers do not hear of it. An Owner's business.
    pub local: bool,
    /// Number of the service it goes through at its Owner, 0 for none; below 16.
    pub service: u8,
}

impl Admission {
    const REVERSED: u8 = 0x10;
    const LOCAL: u8 = 0x20;

    /// Zone and direction in a byte, as records have them.
    pub fn origin(&self) -> u8 {
        (self.zone % ZONES) | if self.reversed { Self::REVERSED } else { 0 }
    }

    /// From a record's byte; bits that are not known are passed over.
    pub fn of_origin(origin: u8) -> Self {
        Self { zone: origin % ZONES, reversed: origin & Self::REVERSED != 0, ..Self::default() }
    }

    /// All that does not change with the role, in six bits.
    pub(super) fn bits(&self) -> u8 {
        self.origin() | if self.local { Self::LOCAL } else { 0 }
    }

    /// The opposite of [`Admission::bits`].
    pub(super) fn of_bits(bits: u8) -> Self {
        Self { local: bits & Self::LOCAL != 0, ..Self::of_origin(bits) }
    }
}
