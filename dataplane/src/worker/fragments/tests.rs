//! What comes of fragments in every order.

use super::coverage::{Coverage, Part};
use super::slab::Slab;
use super::*;

/// What is tried, fragments (offset, length, whether more follow), what the last one adds.
type Row<'a> = (&'a str, &'a [(u16, u16, bool)], Part);

fn fragment(offset: u16, length: u16, more: bool) -> Fragment {
    Fragment { id: 1, first: offset == 0, more, offset, length }
}

/// What the last of them adds.
fn adds(fragments: &[(u16, u16, bool)]) -> Part {
    let mut coverage = Coverage::default();
    let add = |&(offset, length, more)| coverage.add(fragment(offset, length, more));
    fragments.iter().map(add).last().unwrap()
}

#[test]
fn what_a_fragment_adds() {
    let rows: [Row; 16] = [
        ("the first", &[(0, 80, true)], Part::New),
        ("the last ends it", &[(0, 80, true), (80, 5, false)], Part::Last),
        ("in the other order too", &[(80, 5, false), (0, 80, true)], Part::Last),
        ("the one between ends it", &[(160, 8, false), (0, 80, true), (80, 80, true)], Part::Last),
        ("a hole is no end", &[(0, 80, true), (160, 8, false)], Part::New),
        ("the same again", &[(0, 80, true), (0, 80, true)], Part::Copy),
        ("a part of what came", &[(0, 80, true), (8, 48, true)], Part::Copy),
        ("a part of two that touch", &[(0, 80, true), (80, 80, true), (40, 80, true)], Part::Copy),
        ("over the end of another", &[(0, 80, true), (72, 80, true)], Part::Overlap),
        ("over the beginning of another", &[(80, 80, true), (0, 88, true)], Part::Overlap),
        ("around another", &[(80, 80, true), (0, 800, true)], Part::Overlap),
        ("from one into the next", &[(0, 80, true), (160, 80, true), (72, 96, true)], Part::Overlap),
        ("two ends", &[(80, 8, false), (160, 8, false)], Part::Overlap),
        ("beyond the end", &[(80, 8, false), (160, 80, true)], Part::Overlap),
        ("an end before others", &[(160, 80, true), (80, 8, false)], Part::Overlap),
        ("the longest packet", &[(0, 65_528, true), (65_528, 7, false)], Part::Last),
    ];
    for (line, fragments, expected) in rows {
        assert_eq!(adds(fragments), expected, "{line}");
    }
}

#[test]
fn only_so_many_holes_are_remembered() {
    let every_second: Vec<_> = (0..33).map(|at| (at * 160, 80, true)).collect();
    assert_eq!(adds(&every_second[..32]), Part::New);
    assert_eq!(adds(&every_second), Part::Scattered);
    let mut closed = every_second[..32].to_vec();
    closed.extend([(80, 80, true), (32 * 160, 80, true)]);
    assert_eq!(adds(&closed), Part::New, "one that closes a hole makes room");
}

/// Compared with a list of bytes.
#[test]
fn any_order_covers_the_same() {
    let mut state = 7_u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for _ in 0..2_000 {
        let parts = 2 + random(40) as u16;
        let mut order: Vec<u16> = (0..parts).collect();
        for at in (1..order.len()).rev() {
            order.swap(at, random(at as u64 + 1) as usize);
        }
        let (mut coverage, mut came) = (Coverage::default(), 0);
        for &at in &order {
            let part = coverage.add(fragment(at * 96, 96, at + 1 < parts));
            came += 1;
            assert_eq!(part, if came == parts { Part::Last } else { Part::New }, "{order:?}");
            let again = order[random(came.into()) as usize];
            assert_eq!(coverage.add(fragment(again * 96, 96, again + 1 < parts)), Part::Copy);
        }
    }
}

#[test]
fn what_can_be_said_of_one_alone() {
    let rows = [
        ((0, 1480, true), Duty::Meet, Ok(())),
        ((1480, 1, false), Duty::Meet, Ok(())),
        ((1480, 47, false), Duty::Meet, Ok(())),
        ((1480, 0, false), Duty::Meet, Err(DropReason::Malformed)),
        ((1480, 1475, true), Duty::Meet, Err(DropReason::Malformed)),
        ((65_528, 8, false), Duty::Meet, Err(DropReason::Malformed)),
        ((0, 40, true), Duty::Meet, Err(DropReason::FragmentTiny)),
        ((0, 48, true), Duty::Meet, Ok(())),
        ((0, 8, true), Duty::Follow, Ok(())),
        ((0, 8, true), Duty::Pass, Ok(())),
    ];
    for ((offset, length, more), duty, expected) in rows {
        assert_eq!(sound(fragment(offset, length, more), duty), expected, "{offset} {length} {more}");
    }
}

#[test]
fn a_slab_keeps_the_order_and_reuses_its_room() {
    let mut slab = Slab::new(3);
    let places: Vec<u16> = (0..3).map(|value| slab.push(value).unwrap()).collect();
    assert_eq!((slab.push(9), slab.len(), slab.is_full()), (Err(9), 3, true));
    assert_eq!(slab.remove(places[1]), Some(1));
    assert_eq!(slab.remove(places[1]), None);
    slab.push(3).unwrap();
    let drained: Vec<i32> = std::iter::from_fn(|| slab.eldest().and_then(|at| slab.remove(at))).collect();
    assert_eq!((drained, slab.len()), (vec![0, 2, 3], 0));
    assert_eq!(slab.eldest(), None);
    slab.push(4).unwrap();
    assert_eq!(slab.eldest().and_then(|at| slab.get(at)), Some(&4));
}
