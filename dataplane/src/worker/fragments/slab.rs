//! Things in the order they came, in memory of fixed size: any of them can be taken out at once.

/// No slot.
const NONE: u16 = u16::MAX;

/// At most `u16::MAX - 1` things.
#[derive(Debug)]
pub(super) struct Slab<T> {
    slots: Vec<Slot<T>>,
    eldest: u16,
    youngest: u16,
    /// First of the free slots, which `next` links.
    free: u16,
    length: usize,
}

#[derive(Debug)]
struct Slot<T> {
    value: Option<T>,
    before: u16,
    next: u16,
}

impl<T> Slab<T> {
    pub(super) fn new(capacity: usize) -> Self {
        let next = |at: usize| if at + 1 < capacity { at as u16 + 1 } else { NONE };
        let slots = (0..capacity).map(|at| Slot { value: None, before: NONE, next: next(at) }).collect();
        Self { slots, eldest: NONE, youngest: NONE, free: 0, length: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn is_full(&self) -> bool {
        self.free == NONE
    }

    /// The one that came first of those that are there.
    pub(super) fn eldest(&self) -> Option<u16> {
        (self.eldest != NONE).then_some(self.eldest)
    }

    pub(super) fn get(&self, at: u16) -> Option<&T> {
        self.slots.get(usize::from(at))?.value.as_ref()
    }

    pub(super) fn get_mut(&mut self, at: u16) -> Option<&mut T> {
        self.slots.get_mut(usize::from(at))?.value.as_mut()
    }

    /// Adds the youngest; gives it back if there is no room.
    pub(super) fn push(&mut self, value: T) -> Result<u16, T> {
        let at = self.free;
        let Some(slot) = self.slots.get_mut(usize::from(at)) else { return Err(value) };
        self.free = slot.next;
        *slot = Slot { value: Some(value), before: self.youngest, next: NONE };
        match self.slots.get_mut(usize::from(self.youngest)) {
            Some(youngest) => youngest.next = at,
            None => self.eldest = at,
        }
        self.youngest = at;
        self.length += 1;
        Ok(at)
    }

    pub(super) fn remove(&mut self, at: u16) -> Option<T> {
        let slot = self.slots.get_mut(usize::from(at))?;
        let value = slot.value.take()?;
        let (before, next) = (slot.before, slot.next);
        slot.next = self.free;
        self.free = at;
        self.length -= 1;
        match self.slots.get_mut(usize::from(before)) {
            Some(before) => before.next = next,
            None => self.eldest = next,
        }
        match self.slots.get_mut(usize::from(next)) {
            Some(next) => next.before = before,
            None => self.youngest = before,
        }
        Some(value)
    }
}
