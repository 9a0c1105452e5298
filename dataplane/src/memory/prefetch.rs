//! Asks for a cache line ahead of its use.

/// Asks for the cache line in which `place` begins. A hint: nothing is read, nothing can fail.
#[inline(always)]
pub fn prefetch<T>(place: &T) {
    ask_for(place);
}

/// [`prefetch`] of a place that need not exist.
#[inline(always)]
pub(super) fn ask_for<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: SSE is part of x86-64, and the instruction does not fault, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}
