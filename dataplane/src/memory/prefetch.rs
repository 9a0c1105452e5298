//! Asks for a cache line ahead of its use.

/// Asks for the cache line in which a value of an array begins. A hint: nothing is read, nothing can fail, also
/// if the array has no such value.
#[inline(always)]
pub fn prefetch_in<T>(array: &[T], index: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let place = array.as_ptr().wrapping_add(index);
        // SAFETY: SSE is part of x86-64, and the instruction neither reads nor faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (array, index);
}
