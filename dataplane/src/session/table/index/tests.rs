//! The index against a map, with few buckets and few hashes, so that it is crowded all the time.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

impl Index {
    fn used(&self) -> usize {
        self.buckets.iter().map(|bucket| LANES - matches(&bucket.tags, 0).count_ones() as usize).sum()
    }

    /// Every flow is in its home or its other bucket, and every bucket knows how many of its own are away.
    fn check(&self, model: &BTreeMap<u32, Hash>) -> Result<(), TestCaseError> {
        let mut away = vec![0; self.buckets.len()];
        for (at, bucket) in self.buckets.iter().enumerate() {
            for place in (0..LANES).filter(|&place| bucket.tags[place] != 0) {
                let hash = model.get(&bucket.slots[place]).copied();
                let hash = hash.ok_or_else(|| TestCaseError::fail("a slot that was never added"))?;
                prop_assert_eq!(bucket.tags[place], hash.tag());
                let guest = bucket.guests >> place & 1 != 0;
                let home = self.home(hash);
                prop_assert_eq!(at, if guest { self.other(home, hash.tag()) } else { home });
                away[home] += u16::from(guest);
                prop_assert!(!guest || self.buckets[home].seeks(hash.tag()));
            }
        }
        let known: Vec<u16> = self.buckets.iter().map(|bucket| bucket.away).collect();
        prop_assert_eq!(&known, &away);
        for (bucket, away) in self.buckets.iter().zip(away) {
            prop_assert_eq!(bucket.sought == 0, away == 0);
        }
        prop_assert_eq!(self.used(), model.len());
        Ok(())
    }
}

proptest! {
    #[test]
    fn a_crowded_index_agrees_with_a_map(
        capacity in 0..60_usize,
        deeds in proptest::collection::vec((any::<bool>(), 0..90_u32, any::<u64>()), 0..400),
        tags in prop_oneof![Just(0x3_u64), Just(0xff), Just(0xffff)],
    ) {
        let mut index = Index::new(capacity);
        let mut model = BTreeMap::new();
        for (insert, slot, bits) in deeds {
            let hash = Hash(bits & (tags << 16 | 0xffff_ffff_0000_0000));
            match model.get(&slot).copied() {
                None if insert => match index.insert(hash, slot) {
                    Ok(_) => { model.insert(slot, hash); }
                    Err(NoPlace) => {
                        // Only if both buckets are full.
                        let home = index.home(hash);
                        for bucket in [home, index.other(home, hash.tag())] {
                            prop_assert_eq!(index.buckets[bucket].empty_place(), None);
                        }
                        prop_assert!(model.len() >= 2 * LANES);
                    }
                },
                Some(hash) if !insert => {
                    index.remove(hash, slot);
                    model.remove(&slot);
                }
                _ => {}
            }
            index.check(&model)?;
            for slot in 0..90 {
                let expected = model.get(&slot).map(|_| slot);
                let hash = model.get(&slot).copied().unwrap_or(hash);
                prop_assert_eq!(index.find(hash, |found| found == slot), expected);
                match index.glance(index.prefetch(hash), hash) {
                    Glance::Nowhere => prop_assert_eq!(expected, None),
                    Glance::Perhaps(_) => {}
                    Glance::Away(other) if expected.is_some() => {
                        prop_assert!(index.glance_away(other, hash).is_some());
                    }
                    Glance::Away(_) => {}
                }
            }
        }
    }

    #[test]
    fn the_other_bucket_of_the_other_bucket_is_home(
        capacity in 0..100_000_usize, bits in any::<u64>(),
    ) {
        let index = Index::new(capacity);
        let hash = Hash(bits);
        let home = index.home(hash);
        let other = index.other(home, hash.tag());
        prop_assert!(home < index.buckets.len() && other < index.buckets.len());
        prop_assert_ne!(home, other);
        prop_assert_eq!(index.other(other, hash.tag()), home);
    }
}

#[test]
fn it_takes_what_it_promises_and_much_more() {
    // 55 % are promised; chains of moves reach far beyond.
    let mut index = Index::new(55_000);
    let places = index.buckets.len() * LANES;
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut step = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    let refused = (0..places as u32).position(|slot| index.insert(Hash(step()), slot).is_err());
    let taken = refused.unwrap_or(places);
    assert!(taken * 100 > places * 96, "{taken} of {places} places");
}
