use super::*;
use crate::flow::proto;

fn memory() -> Arc<Vec<AtomicU64>> {
    Arc::new((0..WORDS).map(|_| AtomicU64::new(0)).collect())
}

const HASHER: FlowHasher = FlowHasher::new(7);

fn forward(port: u16) -> Forward {
    let end = |address: &str, port| (key_bytes(address.parse().unwrap()), port);
    let (key, direction) = FlowKey::new(end("10.0.0.1", port), end("192.0.2.9", 80), proto::TCP, (0, 0));
    Forward { epoch: 3, peer: 1, zone: 2, port: 0, generation: Generation(1), key, direction, secret: 77 }
}

/// Entries of the memory that are not empty.
fn taken(words: &[AtomicU64]) -> Vec<[u64; 8]> {
    words[FIRST * WORDS_PER_ELEMENT..]
        .chunks(WORDS_PER_ELEMENT)
        .map(|entry| std::array::from_fn(|at| entry[at].load(Relaxed)))
        .filter(|entry: &[u64; 8]| entry[0] != 0)
        .collect()
}

/// The buckets of a flow.
fn buckets(forward: &Forward) -> (u32, u32) {
    let hash = HASHER.hash(&forward.key);
    (hash >> 17, hash >> 17 ^ (1 + (hash & 3)))
}

/// Flows of the same two buckets, found by trying ports.
fn same_buckets(count: usize) -> Vec<Forward> {
    let first = buckets(&forward(1));
    let mut found: Vec<Forward> = Vec::new();
    for third in 0..=255u8 {
        for port in 1..=u16::MAX {
            let mut candidate = forward(port);
            candidate.key.lo[14] = third;
            if buckets(&candidate) == first {
                found.push(candidate);
            }
            if found.len() == count {
                return found;
            }
        }
    }
    panic!("no {count} flows share their buckets");
}

#[test]
fn an_entry_has_the_bytes_of_its_picture() {
    let memory = memory();
    let mut forwards = Forwards::new(SharedWords::new(memory.clone()), HASHER, 0, 1);
    let wanted = forward(4000);
    assert_eq!(forwards.offer(&wanted, None), Offered::Published);
    let entry = taken(&memory)[0].map(u64::to_ne_bytes).concat();
    let mut expected = Vec::new();
    expected.extend(3u32.to_ne_bytes());
    expected.extend(HASHER.hash(&wanted.key).to_ne_bytes());
    expected.extend(1u32.to_ne_bytes());
    expected.extend([1, 2, 0, 1]);
    expected.extend(77u64.to_ne_bytes());
    expected.extend(4000u16.to_ne_bytes());
    expected.extend(80u16.to_ne_bytes());
    expected.extend((6u32 << 24).to_ne_bytes());
    expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1]);
    expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 9]);
    assert_eq!(entry, expected);
    assert_eq!(memory[0].load(Relaxed), 0, "the gate is control's");
    assert_eq!(memory[1].load(Relaxed), 3, "there is something to look for in epoch 3");
}

#[test]
fn what_is_known_is_not_written_again_and_what_changed_is() {
    let memory = memory();
    let mut forwards = Forwards::new(SharedWords::new(memory.clone()), HASHER, 0, 1);
    assert_eq!(forwards.offer(&forward(1), None), Offered::Published);
    let before = taken(&memory);
    assert_eq!(forwards.offer(&forward(1), None), Offered::Known);
    assert_eq!(taken(&memory), before);
    for changed in [
        Forward { generation: Generation(2), ..forward(1) },
        Forward { peer: 0, ..forward(1) },
        Forward { epoch: 4, ..forward(1) },
    ] {
        assert_eq!(forwards.offer(&changed, None), Offered::Published);
        assert_eq!(taken(&memory).len(), 1, "it took the old one's place");
    }
    let back = Forward { epoch: 4, direction: forward(1).direction.reversed(), ..forward(1) };
    assert_eq!(forwards.offer(&back, None), Offered::Published);
    assert_eq!(taken(&memory).len(), 2, "the other direction has an entry of its own");
}

#[test]
fn withdrawing_takes_both_directions_and_no_other_flow() {
    let memory = memory();
    let mut forwards = Forwards::new(SharedWords::new(memory.clone()), HASHER, 0, 1);
    let (mine, other) = (forward(1), forward(2));
    let back = Forward { direction: mine.direction.reversed(), ..mine };
    for entry in [mine, back, other] {
        assert_eq!(forwards.offer(&entry, None), Offered::Published);
    }
    forwards.withdraw(&mine.key);
    assert_eq!(forwards.withdrawn, 2);
    let left = taken(&memory);
    assert_eq!((left.len(), left[0][0]), (1, first_word(3, HASHER.hash(&other.key))));
    forwards.withdraw(&mine.key);
    assert_eq!(forwards.withdrawn, 2);
}

#[test]
fn full_buckets_refuse_until_told_whom_to_displace() {
    let memory = memory();
    let mut forwards = Forwards::new(SharedWords::new(memory.clone()), HASHER, 0, 1);
    let flows = same_buckets(5);
    for flow in &flows[..4] {
        assert_eq!(forwards.offer(flow, None), Offered::Published);
    }
    assert_eq!(forwards.offer(&flows[4], None), Offered::Refused);
    assert_eq!(forwards.offer(&flows[4], Some(5)), Offered::Published, "in the second place of four");
    for (flow, there) in flows.iter().zip([true, false, true, true, true]) {
        let expected = if there { Offered::Known } else { Offered::Refused };
        assert_eq!(forwards.offer(flow, None), expected, "{flow:?}");
    }
    let later = Forward { epoch: 4, ..flows[1] };
    assert_eq!(forwards.offer(&later, None), Offered::Published, "entries of other epochs are free");
    for flow in &flows {
        forwards.withdraw(&flow.key);
    }
    assert!(taken(&memory).is_empty(), "wherever they are");
}

#[test]
fn nearly_all_of_ten_thousand_flows_find_a_place() {
    let mut forwards = Forwards::new(SharedWords::new(memory()), HASHER, 0, 1);
    let refused =
        (1..=10_000).filter(|&port| forwards.offer(&forward(port), None) == Offered::Refused).count();
    assert!(refused < 10, "{refused} of 10,000");
}

#[test]
fn every_entry_has_one_writer() {
    let workers = 3;
    let memory = memory();
    let mut all: Vec<Forwards> = (0..workers)
        .map(|worker| Forwards::new(SharedWords::new(memory.clone()), HASHER, worker, workers))
        .collect();
    let mut refused = 0;
    for port in 1..=20_000 {
        let wanted = forward(port);
        let owner = core_of(HASHER.hash(&wanted.key), workers);
        refused += u32::from(all[owner].offer(&wanted, Some(0)) == Offered::Refused);
        for (worker, forwards) in all.iter_mut().enumerate().filter(|(worker, _)| *worker != owner) {
            assert_eq!(
                forwards.offer(&wanted, Some(0)),
                Offered::Refused,
                "worker {worker} of {owner}'s flow"
            );
        }
    }
    assert!(refused < 20, "{refused} flows in buckets of two workers");
}

#[test]
fn the_published_epoch_never_falls_back() {
    let memory = memory();
    let mut forwards = Forwards::new(SharedWords::new(memory.clone()), HASHER, 0, 1);
    for (epoch, published) in [(3, 3), (5, 5), (4, 5)] {
        assert_eq!(forwards.offer(&Forward { epoch, ..forward(epoch as u16) }, None), Offered::Published);
        assert_eq!(memory[PUBLISHED].load(Relaxed), published);
    }
}

#[test]
fn without_memory_nothing_happens() {
    let mut forwards = Forwards::default();
    assert_eq!(forwards.offer(&forward(1), None), Offered::Refused);
    forwards.withdraw(&forward(1).key);
    assert!(!forwards.is_on());
}
