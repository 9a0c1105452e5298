//! Eight tags compared at once.

/// Tags compared at once: a 128-bit register of 16-bit lanes.
pub const LANES: usize = 8;

/// Which of `tags` equal `tag`: bit n of the result for `tags[n]`.
#[inline(always)]
pub fn matches(tags: &[u16; LANES], tag: u16) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{
            _mm_cmpeq_epi16, _mm_loadu_si128, _mm_movemask_epi8, _mm_packs_epi16, _mm_set1_epi16,
            _mm_setzero_si128,
        };
        // SAFETY: SSE2 is part of x86-64; the one load reads the 16 bytes of `tags` and needs no alignment.
        unsafe {
            let tags = _mm_loadu_si128(tags.as_ptr().cast());
            let equal = _mm_cmpeq_epi16(tags, _mm_set1_epi16(tag as i16));
            _mm_movemask_epi8(_mm_packs_epi16(equal, _mm_setzero_si128())) as u32
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    matches_plainly(tags, tag)
}

/// The same, in plain Rust.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn matches_plainly(tags: &[u16; LANES], tag: u16) -> u32 {
    tags.iter().enumerate().fold(0, |mask, (lane, &other)| mask | u32::from(other == tag) << lane)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn both_ways_agree(tags in any::<[u16; LANES]>(), lane in 0..LANES, other in any::<u16>()) {
            prop_assert_eq!(matches(&tags, tags[lane]), matches_plainly(&tags, tags[lane]));
            prop_assert_eq!(matches(&tags, other), matches_plainly(&tags, other));
            let few = tags.map(|tag| tag & 1 | 0x8000);
            prop_assert_eq!(matches(&few, 0x8001), matches_plainly(&few, 0x8001));
        }
    }
}
