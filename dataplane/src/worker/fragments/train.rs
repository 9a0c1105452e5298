//! Trains: the packets whose fragments are under way, which of them this core has seen, and those that wait.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::coverage::{Coverage, Part};
use super::slab::Slab;
use crate::clock::NowMs;
use crate::flow::{Direction, FlowKey};
use crate::limits::{
    FRAGMENT_ECHO_MS, FRAGMENT_MS, FRAGMENT_TRAINS, FRAGMENT_WAIT_MS, FRAGMENTS_WAITING,
    FRAGMENTS_WAITING_PER_SOURCE,
};
use crate::verdict::DropReason;
use crate::wire::packet::{Fragment, Packet};

/// Flow without ports, direction, identification.
type TrainKey = (FlowKey, Direction, u32);

/// Source and destination port.
type Ports = (u16, u16);

/// What a node has to do with the fragments of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Duty {
    /// All of them come here: look at what each adds.
    Meet,
    /// They have met elsewhere, or need not meet: only their flow is asked for.
    Follow,
    /// They meet elsewhere: those whose flow is not known go there.
    Pass,
}

/// What becomes of a fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Its flow has these ports.
    Go(Ports),
    /// Its flow is not known here and need not be.
    Ask,
    /// It waits in this train.
    Wait(u16),
    /// It is dropped.
    End(DropReason),
}

/// What becomes of one that waited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Exit {
    /// Its flow has these ports.
    Go(Ports),
    /// It is dropped.
    End(DropReason),
}

/// How far a train is.
#[derive(Clone, Copy, Debug)]
enum Progress {
    Coming,
    /// All has come, at that time.
    Whole(NowMs),
    /// What still comes is dropped.
    Lost(DropReason),
}

#[derive(Debug)]
struct Train {
    key: TrainKey,
    ports: Option<Ports>,
    until: NowMs,
    progress: Progress,
    coverage: Coverage,
    /// Those that wait, eldest and youngest.
    waiting: Option<(u16, u16)>,
}

impl Train {
    fn new(key: TrainKey, now: NowMs) -> Self {
        Self {
            key,
            ports: None,
            until: now.plus(FRAGMENT_MS),
            progress: Progress::Coming,
            coverage: Coverage::default(),
            waiting: None,
        }
    }

    /// The fragment is of another packet that has the same id.
    fn is_over(&self, fragment: Fragment, duty: Duty, now: NowMs) -> bool {
        let later = match self.progress {
            Progress::Whole(at) => fragment.first || now.since(at) > FRAGMENT_ECHO_MS,
            Progress::Coming | Progress::Lost(_) => false,
        };
        self.until < now || later && duty == Duty::Meet
    }

    /// Notes what a fragment adds.
    fn meet(&mut self, fragment: Fragment, now: NowMs) -> Result<(), DropReason> {
        match self.progress {
            Progress::Coming => {}
            Progress::Whole(_) => return Err(DropReason::FragmentDuplicate),
            Progress::Lost(reason) => return Err(reason),
        }
        match self.coverage.add(fragment) {
            Part::New => Ok(()),
            Part::Last => {
                self.progress = Progress::Whole(now);
                Ok(())
            }
            Part::Copy => Err(DropReason::FragmentDuplicate),
            Part::Overlap => Err(DropReason::FragmentOverlap),
            Part::Scattered => Err(DropReason::FragmentScattered),
        }
    }
}

#[derive(Debug)]
struct Waiting<J> {
    job: J,
    train: u16,
    /// The next one of its train.
    next: Option<u16>,
    until: NowMs,
    source: [u8; 16],
}

/// Trains this core knows, and the fragments that wait.
#[derive(Debug)]
pub(crate) struct Trains<J> {
    by_key: HashMap<TrainKey, u16, ahash::RandomState>,
    trains: Slab<Train>,
    waiting: Slab<Waiting<J>>,
    /// How many wait of each source.
    sources: HashMap<[u8; 16], u16, ahash::RandomState>,
    leaving: VecDeque<(J, Exit)>,
}

impl<J> Default for Trains<J> {
    fn default() -> Self {
        let hash = ahash::RandomState::new;
        Self {
            by_key: HashMap::with_capacity_and_hasher(FRAGMENT_TRAINS * 2, hash()),
            trains: Slab::new(FRAGMENT_TRAINS),
            waiting: Slab::new(FRAGMENTS_WAITING),
            sources: HashMap::with_capacity_and_hasher(FRAGMENTS_WAITING * 2, hash()),
            leaving: VecDeque::with_capacity(FRAGMENTS_WAITING + 1),
        }
    }
}

impl<J> Trains<J> {
    /// How many fragments wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len() + self.leaving.len()
    }

    /// The next one that waits no longer.
    pub(super) fn leaving(&mut self) -> Option<(J, Exit)> {
        self.leaving.pop_front()
    }

    /// What becomes of a fragment. After it others may be leaving.
    pub(super) fn follow(&mut self, packet: &Packet, fragment: Fragment, duty: Duty, now: NowMs) -> Step {
        let key = (packet.key, packet.direction, fragment.id);
        let known = self.known(&key, fragment, duty, now);
        let Some(at) = known.or_else(|| (duty != Duty::Pass || fragment.first).then(|| self.begin(key, now)))
        else {
            return Step::Ask;
        };
        let Some(train) = self.trains.get_mut(at) else { return Step::Ask };
        if duty == Duty::Meet
            && let Err(reason) = train.meet(fragment, now)
        {
            if reason != DropReason::FragmentDuplicate {
                self.lose(at, reason);
            }
            return Step::End(reason);
        }
        if duty == Duty::Follow {
            match train.progress {
                // The room it took then may be free now.
                Progress::Lost(_) if fragment.first => train.progress = Progress::Coming,
                Progress::Lost(reason) => return Step::End(reason),
                Progress::Coming | Progress::Whole(_) => {}
            }
        }
        if fragment.first {
            let ports = packet.ports.unwrap_or_default();
            train.ports = Some(ports);
            self.release(at, Exit::Go(ports));
            return Step::Go(ports);
        }
        match train.ports {
            Some(ports) => Step::Go(ports),
            None if duty == Duty::Pass => Step::Ask,
            None => Step::Wait(at),
        }
    }

    /// Lets a fragment of a train wait; others may be leaving for it, or it at once.
    pub(super) fn wait(&mut self, train: u16, job: J, now: NowMs) {
        let Some(source) = self.trains.get(train).map(|train| train.key.0.ends(train.key.1).0.0) else {
            return self.leaving.push_back((job, Exit::End(DropReason::FragmentWithoutFirst)));
        };
        if self.sources.get(&source).is_some_and(|&count| count >= FRAGMENTS_WAITING_PER_SOURCE) {
            self.lose(train, DropReason::FragmentSourceFull);
            return self.leaving.push_back((job, Exit::End(DropReason::FragmentSourceFull)));
        }
        if self.waiting.is_full()
            && let Some(eldest) = self.eldest_train()
        {
            self.lose(eldest, DropReason::FragmentBufferFull);
            if eldest == train {
                return self.leaving.push_back((job, Exit::End(DropReason::FragmentBufferFull)));
            }
        }
        let until = now.plus(FRAGMENT_WAIT_MS);
        match self.waiting.push(Waiting { job, train, next: None, until, source }) {
            Ok(at) => {
                *self.sources.entry(source).or_default() += 1;
                self.join(train, at);
            }
            Err(waiting) => {
                self.leaving.push_back((waiting.job, Exit::End(DropReason::FragmentBufferFull)));
            }
        }
    }

    /// Trains whose first did not come in time are forgotten.
    pub(super) fn expire(&mut self, now: NowMs) {
        while let Some(eldest) = self.waiting.eldest().and_then(|at| self.waiting.get(at))
            && eldest.until <= now
        {
            self.forget(eldest.train, DropReason::FragmentWithoutFirst);
        }
    }

    /// Takes out one that waits, whichever.
    pub(super) fn give_up(&mut self) -> Option<J> {
        if let Some((job, _)) = self.leaving.pop_front() {
            return Some(job);
        }
        let train = self.eldest_train()?;
        self.forget(train, DropReason::Stopping);
        self.leaving.pop_front().map(|(job, _)| job)
    }

    fn eldest_train(&self) -> Option<u16> {
        self.waiting.eldest().and_then(|at| self.waiting.get(at)).map(|waiting| waiting.train)
    }

    /// The train of a key, unless it is over.
    fn known(&mut self, key: &TrainKey, fragment: Fragment, duty: Duty, now: NowMs) -> Option<u16> {
        let at = *self.by_key.get(key)?;
        if !self.trains.get(at)?.is_over(fragment, duty, now) {
            return Some(at);
        }
        self.forget(at, DropReason::FragmentWithoutFirst);
        None
    }

    /// A new train; the eldest makes room.
    fn begin(&mut self, key: TrainKey, now: NowMs) -> u16 {
        if self.trains.is_full()
            && let Some(eldest) = self.trains.eldest()
        {
            self.forget(eldest, DropReason::FragmentTrainsFull);
        }
        match self.trains.push(Train::new(key, now)) {
            Ok(at) => {
                self.by_key.insert(key, at);
                at
            }
            Err(_) => unreachable!("the eldest made room"),
        }
    }

    fn join(&mut self, train: u16, at: u16) {
        let Some(train) = self.trains.get_mut(train) else { return };
        let (eldest, youngest) = train.waiting.unwrap_or((at, at));
        train.waiting = Some((eldest, at));
        if youngest != at
            && let Some(before) = self.waiting.get_mut(youngest)
        {
            before.next = Some(at);
        }
    }

    /// What waits in a train leaves, in the order it came.
    fn release(&mut self, train: u16, exit: Exit) {
        let waiting = self.trains.get_mut(train).and_then(|train| train.waiting.take());
        let mut next = waiting.map(|(eldest, _)| eldest);
        while let Some(waiting) = next.and_then(|at| self.waiting.remove(at)) {
            next = waiting.next;
            if let Some(count) = self.sources.get_mut(&waiting.source) {
                *count -= 1;
                if *count == 0 {
                    self.sources.remove(&waiting.source);
                }
            }
            self.leaving.push_back((waiting.job, exit));
        }
    }

    /// Nothing of the packet goes on any more.
    fn lose(&mut self, train: u16, reason: DropReason) {
        self.release(train, Exit::End(reason));
        if let Some(train) = self.trains.get_mut(train) {
            train.progress = Progress::Lost(reason);
        }
    }

    fn forget(&mut self, train: u16, reason: DropReason) {
        self.release(train, Exit::End(reason));
        if let Some(train) = self.trains.remove(train) {
            self.by_key.remove(&train.key);
        }
    }
}
