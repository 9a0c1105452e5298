//! Arrays of fixed length in memory of their own, on huge pages where there are any.
//!
//! A random access to gigabytes on 4-KiB pages costs a walk of the page tables on top of the cache miss.

use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Size and alignment of a huge page, bytes.
const HUGE: usize = 2 << 20;

/// Smallest array that is put on huge pages, bytes: a quarter of one. Lower: more memory is wasted; higher:
/// more arrays need a page table entry per 4 KiB.
const SMALLEST: usize = HUGE / 4;

/// What kind of pages an array got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pages {
    /// From the pool the operator reserved (`vm.nr_hugepages`).
    Reserved,
    /// The kernel was asked for transparent huge pages and gives what it has.
    Advised,
    /// Ordinary pages: the array is small, or the kernel refused.
    Ordinary,
}

/// `len` values of `T` that stay where they are; freed when dropped.
#[derive(Debug)]
pub struct HugeArray<T: Copy> {
    first: NonNull<T>,
    len: usize,
    mapping: Option<Mapping>,
}

// SAFETY: the array owns its memory alone, like a boxed slice, and `T: Send` values may change threads.
unsafe impl<T: Copy + Send> Send for HugeArray<T> {}
// SAFETY: shared access is by `&[T]` only.
unsafe impl<T: Copy + Sync> Sync for HugeArray<T> {}

impl<T: Copy> HugeArray<T> {
    /// An array full of `value`. All its memory is touched here, so it belongs to this core's NUMA node
    /// and no page fault comes later.
    pub fn new(len: usize, value: T) -> Self {
        let array = Self::map(len);
        for index in 0..len {
            // SAFETY: the mapping has room for `len` values and is aligned for them; nothing is read.
            unsafe { array.first.add(index).write(value) };
        }
        array
    }

    /// Memory for `len` values, not written yet: to be filled before it is given out, unless zero bytes
    /// are a value of `T` (a fresh mapping is zero).
    fn map(len: usize) -> Self {
        assert!(align_of::<T>() <= 4096, "a page's alignment is all there is");
        let bytes = len.checked_mul(size_of::<T>()).expect("an array is smaller than the address space");
        if bytes == 0 {
            return Self { first: NonNull::dangling(), len, mapping: None };
        }
        let mapping = Mapping::new(bytes).unwrap_or_else(|error| {
            panic!("{bytes} bytes of memory for sessions: {error}; lower --sessions-max")
        });
        Self { first: mapping.usable.cast(), len, mapping: Some(mapping) }
    }

    /// Asks for the cache line in which an element begins. A hint: nothing is read, and an index beyond the end
    /// asks for what is not needed.
    #[inline(always)]
    pub fn prefetch(&self, index: usize) {
        super::prefetch::ask_for(self.first.as_ptr().wrapping_add(index));
    }

    /// What kind of pages it is on.
    pub fn pages(&self) -> Pages {
        self.mapping.as_ref().map_or(Pages::Ordinary, |mapping| mapping.pages)
    }
}

impl<const N: usize> HugeArray<[u64; N]> {
    /// An array of zeroes whose pages are taken when they are first written: what is never used costs
    /// nothing but address space.
    pub fn untouched(len: usize) -> Self {
        // Zero bytes are the number 0.
        Self::map(len)
    }
}

impl<T: Copy> Deref for HugeArray<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: `first` leads to `len` initialised values (written by `new`, or zero where zero is a
        // value) that live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}

impl<T: Copy> DerefMut for HugeArray<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and `&mut self` is the only access.
        unsafe { std::slice::from_raw_parts_mut(self.first.as_ptr(), self.len) }
    }
}

/// One anonymous private mapping; unmapped when dropped.
#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
    /// Where the array begins: `base`, or the first huge page's border in it.
    usable: NonNull<u8>,
    pages: Pages,
}

impl Mapping {
    fn new(bytes: usize) -> io::Result<Self> {
        if bytes < SMALLEST {
            let base = map(bytes, 0)?;
            return Ok(Self { base, bytes, usable: base, pages: Pages::Ordinary });
        }
        let whole = bytes.next_multiple_of(HUGE);
        // Refused unless the pool has all of it.
        if let Ok(base) = map(whole, libc::MAP_HUGETLB) {
            return Ok(Self { base, bytes: whole, usable: base, pages: Pages::Reserved });
        }
        let base = map(whole + HUGE, 0)?;
        let skip = base.align_offset(HUGE);
        // SAFETY: `skip` is less than HUGE, and the mapping is HUGE larger than needed.
        let usable = unsafe { base.add(skip) };
        // SAFETY: the range lies in the mapping just made; the advice changes no content.
        let advised = unsafe { libc::madvise(usable.as_ptr().cast(), whole, libc::MADV_HUGEPAGE) };
        let pages = if advised == 0 { Pages::Advised } else { Pages::Ordinary };
        Ok(Self { base, bytes: whole + HUGE, usable, pages })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what `map` gave, once; the array that used it is gone.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

fn map(bytes: usize, flags: libc::c_int) -> io::Result<NonNull<u8>> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags;
    // SAFETY: a new anonymous mapping where the kernel likes; no existing memory is concerned.
    let address =
        unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(address.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_of_all_sizes_hold_what_is_put_in() {
        #[derive(Clone, Copy, PartialEq, Debug)]
        #[repr(align(64))]
        struct Line(u64);
        for len in [0, 1, 63, SMALLEST / 64 - 1, SMALLEST / 64, HUGE / 64 * 3 + 1] {
            let mut array = HugeArray::new(len, Line(7));
            assert_eq!(array.len(), len);
            assert!(array.iter().all(|&line| line == Line(7)));
            for (number, line) in array.iter_mut().enumerate() {
                *line = Line(number as u64);
            }
            assert!(array.iter().enumerate().all(|(number, line)| line.0 == number as u64));
            assert_eq!(array.as_ptr().align_offset(64), 0);
            let large = len * 64 >= SMALLEST;
            assert!(large || array.pages() == Pages::Ordinary, "{len} lines need no huge page");
            assert!(
                !large || array.as_ptr().align_offset(HUGE) == 0,
                "huge pages begin where the array does"
            );
        }
    }

    #[test]
    fn untouched_arrays_are_zero() {
        let mut array = HugeArray::<[u64; 4]>::untouched(1 << 18);
        assert!(array.iter().all(|words| *words == [0; 4]));
        array[1 << 17] = [1, 2, 3, 4];
        assert_eq!(array[1 << 17], [1, 2, 3, 4]);
    }
}
