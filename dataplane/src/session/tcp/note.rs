//! The one segment a connection remembers, in the spare bits of [`TcpTracking`].
//!
//! ```text
//!  note of ends[0]: | known | bits 0..=14 |     note of ends[1]: | known | bits 15..=29 |
//!  bits:  0-1 which of the four   2 sent by the higher end
//!         SYN        3 has scale, 4-7 scale, 8 SACK, 9-29 low bits of its end
//!         challenge  3-29 low bits of its acknowledgement number
//!         segment    3-4 repeats, 5 window closed, 6-29 fingerprint
//! ```
//!
//! Low bits suffice: what is compared with them has to come from the other end, who knows the whole
//! number, and the number itself is then taken from that answer.

use crate::flow::Direction;
use crate::session::tcp::{MAX_REPEATS, TcpTracking};
use crate::wire::plain::Step;
use crate::wire::tcp::TcpSegment;

/// Bits of a note in each end.
const HALF: u32 = 15;
/// The bit of an end's note that says whether its sequence numbers mean anything.
pub(super) const KNOWN: u16 = 1 << HALF;
/// Bits kept of a noted SYN's end.
const END_BITS: u32 = 21;
/// Bits kept of a challenge's acknowledgement number.
const ACK_BITS: u32 = 27;
/// Bits kept of a segment's fingerprint.
const FINGERPRINT_BITS: u32 = 24;

/// The segment that was seen last, as far as a later one can refer to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Note {
    /// None, or one nobody will refer to.
    Nothing,
    /// A SYN that does not fit the connection known here; its SYN-ACK would bring both in step.
    Syn {
        /// Who sent it.
        from: Direction,
        /// [`low_bits`] of the sequence number behind it.
        end: u32,
        /// Its window scale option.
        scale: Option<u8>,
        /// It permits SACK.
        sack: bool,
    },
    /// An ACK that answers a SYN: the responder still holds an older connection. The originator's reset
    /// will carry this acknowledgement number as its sequence number.
    Challenge {
        /// Who sent it.
        from: Direction,
        /// Low bits of its acknowledgement number.
        ack: u32,
    },
    /// An ordinary segment.
    Segment {
        /// Who sent it.
        from: Direction,
        /// See [`fingerprint`].
        fingerprint: u32,
        /// How often it was repeated, at most 3.
        repeats: u8,
        /// It offered no window.
        window_closed: bool,
    },
}

/// The bits of a SYN's end that are kept.
pub fn low_bits(number: u32) -> u32 {
    number & mask(END_BITS)
}

/// The same for the same numbers, and hardly ever for others.
pub fn fingerprint(segment: &TcpSegment) -> u32 {
    mix(segment.seq, segment.ack, segment.payload, segment.window) >> (32 - FINGERPRINT_BITS)
}

#[inline(always)]
fn mix(seq: u32, ack: u32, payload: u32, window: u16) -> u32 {
    let numbers = u64::from(seq) << 32 | u64::from(ack);
    let rest = u64::from(payload) << 16 | u64::from(window);
    // Digits of the golden ratio and of pi; the second has bits where `rest` has none, so it is never 0.
    let product = u128::from(numbers ^ 0x9e37_79b9_7f4a_7c15) * u128::from(rest ^ 0x243f_6a88_85a3_08d3);
    ((product >> 96) as u64 ^ (product as u64 >> 32)) as u32
}

fn mask(bits: u32) -> u32 {
    (1 << bits) - 1
}

impl Note {
    /// A challenge with this acknowledgement number.
    pub fn challenge(from: Direction, ack: u32) -> Self {
        Self::Challenge { from, ack: ack & mask(ACK_BITS) }
    }

    /// True if this is a SYN of the other end and `ack` acknowledges exactly it.
    pub fn is_syn_answered_by(&self, direction: Direction, number: u32) -> bool {
        matches!(self, Self::Syn { from, end, .. }
            if *from != direction && *end == low_bits(number))
    }

    /// True if this is a challenge of the other end and a reset with sequence number `seq` answers it.
    pub fn is_challenge_answered_by(&self, direction: Direction, seq: u32) -> bool {
        matches!(self, Self::Challenge { from, ack }
            if *from != direction && *ack == seq & mask(ACK_BITS))
    }

    fn to_bits(self) -> u32 {
        match self {
            Self::Nothing => 0,
            Self::Syn { from, end, scale, sack } => {
                let scale = scale.map_or(0, |scale| 1 << 3 | u32::from(scale & 15) << 4);
                1 | from_bit(from) | scale | u32::from(sack) << 8 | end << 9
            }
            Self::Challenge { from, ack } => 2 | from_bit(from) | ack << 3,
            Self::Segment { from, fingerprint, repeats, window_closed } => {
                let closed = u32::from(window_closed) << 5;
                3 | from_bit(from) | u32::from(repeats & 3) << 3 | closed | fingerprint << 6
            }
        }
    }

    fn from_bits(bits: u32) -> Self {
        let from = if bits & 4 == 0 { Direction::LoToHi } else { Direction::HiToLo };
        match bits & 3 {
            0 => Self::Nothing,
            1 => Self::Syn {
                from,
                end: bits >> 9,
                scale: (bits & 8 != 0).then_some((bits >> 4 & 15) as u8),
                sack: bits & 0x100 != 0,
            },
            2 => Self::Challenge { from, ack: bits >> 3 },
            _ => Self::Segment {
                from,
                fingerprint: bits >> 6,
                repeats: (bits >> 3 & 3) as u8,
                window_closed: bits & 0x20 != 0,
            },
        }
    }
}

fn from_bit(from: Direction) -> u32 {
    (from as u32) << 2
}

impl TcpTracking {
    /// The remembered segment.
    pub fn note(&self) -> Note {
        let [low, high] = self.ends.map(|end| u32::from(end.note & !KNOWN));
        Note::from_bits(low | high << HALF)
    }

    /// Remembers an ACK as [`Note::Segment`], of a connection whose two ends are known; gives how often it was
    /// repeated.
    #[inline(always)]
    pub(super) fn note_ack(&mut self, from: Direction, step: &Step) -> u8 {
        const REPEATS: u16 = 3 << 3;
        const CLOSED: u16 = 1 << 5;
        let [low, high] = &mut self.ends;
        let mixed = mix(step.seq, step.ack, step.payload, step.window);
        let bits = 3 | from_bit(from) | mixed >> (32 - FINGERPRINT_BITS) << 6;
        let (this_low, this_high) = (KNOWN | bits as u16, KNOWN | (bits >> HALF) as u16);
        // All bits there are but these tell whether it is the same segment.
        let same = (low.note ^ this_low) & !(REPEATS | CLOSED) | (high.note ^ this_high) == 0;
        let repeats = if same { (((low.note & REPEATS) >> 3) + 1).min(MAX_REPEATS.into()) } else { 0 };
        low.note = this_low | repeats << 3 | u16::from(step.window == 0) << 5;
        high.note = this_high;
        repeats as u8
    }

    /// Remembers a segment instead of the last one.
    pub fn set_note(&mut self, note: Note) {
        let bits = note.to_bits();
        let [low, high] = &mut self.ends;
        low.note = low.note & KNOWN | (bits & mask(HALF)) as u16;
        high.note = high.note & KNOWN | (bits >> HALF & mask(HALF)) as u16;
    }
}

impl super::TcpEnd {
    /// True once `end` and `max_end` come from a segment; false in a fresh replica.
    pub fn is_known(&self) -> bool {
        self.note & KNOWN != 0
    }

    pub(in crate::session) fn set_known(&mut self) {
        self.note |= KNOWN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_come_back_as_they_were() {
        for from in [Direction::LoToHi, Direction::HiToLo] {
            let notes = [
                Note::Nothing,
                Note::Syn { from, end: low_bits(u32::MAX), scale: Some(14), sack: true },
                Note::Syn { from, end: low_bits(0x1234_5678), scale: None, sack: false },
                Note::Syn { from, end: 0, scale: Some(0), sack: false },
                Note::challenge(from, u32::MAX),
                Note::challenge(from, 0x1234_5678),
                Note::Segment { from, fingerprint: 0xff_ffff, repeats: 3, window_closed: true },
                Note::Segment { from, fingerprint: 0x12_3456, repeats: 1, window_closed: false },
            ];
            for note in notes {
                let mut tcp = TcpTracking::default();
                tcp.ends[1].set_known();
                tcp.set_note(Note::challenge(from, u32::MAX));
                tcp.set_note(note);
                assert_eq!(tcp.note(), note);
                assert_eq!(tcp.ends.map(|end| end.is_known()), [false, true]);
            }
        }
    }

    #[test]
    fn answers_come_from_the_other_end_and_match() {
        let syn = Note::Syn { from: Direction::LoToHi, end: low_bits(5001), scale: None, sack: false };
        assert!(syn.is_syn_answered_by(Direction::HiToLo, 5001));
        assert!(!syn.is_syn_answered_by(Direction::LoToHi, 5001));
        assert!(!syn.is_syn_answered_by(Direction::HiToLo, 5002));
        let challenge = Note::challenge(Direction::HiToLo, 9);
        assert!(challenge.is_challenge_answered_by(Direction::LoToHi, 9));
        assert!(!challenge.is_challenge_answered_by(Direction::HiToLo, 9));
        assert!(!challenge.is_challenge_answered_by(Direction::LoToHi, 10));
        assert!(!syn.is_challenge_answered_by(Direction::HiToLo, 5001));
    }

    #[test]
    fn fingerprints_tell_segments_apart() {
        let segment = TcpSegment { seq: 1000, ack: 2000, window: 500, payload: 10, ..Default::default() };
        let same = segment;
        assert_eq!(fingerprint(&segment), fingerprint(&same));
        let others = [
            TcpSegment { seq: 1001, ..segment },
            TcpSegment { ack: 2001, ..segment },
            TcpSegment { window: 501, ..segment },
            TcpSegment { payload: 11, ..segment },
        ];
        for other in others {
            assert_ne!(fingerprint(&segment), fingerprint(&other), "{other:?}");
        }
    }

    #[test]
    fn tracking_is_32_bytes() {
        assert_eq!(size_of::<TcpTracking>(), 32);
    }
}
