//! The search for the rate at which a device's core is full.
//!
//! The offered rate is raised until 3 to 13 % of the packets are refused at the ingress ring. Far above
//! that the generator's own drops fight the device for the page pool's lock, and every device looks slower
//! than it is; below it the core is not full.

use std::collections::BTreeMap;

use anyhow::Result;

use super::window::{Load, Window, measure};
use crate::device::Device;
use crate::generator::Stream;
use crate::rig::{Entrance, Rig};

/// Share of packets refused at which the core counts as full but not flooded.
const REFUSED: std::ops::Range<f64> = 0.03..0.13;

/// A core this busy is full.
const FULL: f64 = 0.96;

/// More than one core cannot generate on this kind of machine.
const GENERATOR_LIMIT: f64 = 9e6;

/// Final windows until one is neither spoiled nor off the mark.
const WINDOWS: u32 = 5;

/// Where the first search begins, packets per second.
const FIRST_RATE: f64 = 1.2e6;

/// Highest forwarding rate of a full core.
pub type Peak = Window;

/// Searches, and remembers per device where the last search ended.
#[derive(Debug)]
pub struct Search {
    window: f64,
    found: BTreeMap<String, f64>,
}

impl Search {
    /// Final windows take `window` seconds.
    pub fn new(window: f64) -> Self {
        Self { window, found: BTreeMap::new() }
    }

    /// The peak of `device` under `stream`; `key` names the pair.
    pub fn peak(&mut self, rig: &Rig, device: &Device, key: &str, stream: &Stream) -> Result<Peak> {
        let mut rate = self.found.get(key).copied().unwrap_or(FIRST_RATE);
        let load = |rate, warm_up, window| Load {
            stream: stream.clone(),
            entrance: Entrance::Both,
            rate,
            warm_up,
            window,
        };
        for _ in 0..14 {
            let seen = measure(rig, device, &load(rate, 0.25, 0.5))?;
            match next_rate(&seen, rate) {
                Some(next) => rate = next,
                None => break,
            }
        }
        self.found.insert(key.to_owned(), rate);
        let mut best: Option<Window> = None;
        for _ in 0..WINDOWS {
            let seen = measure(rig, device, &load(rate, 0.4, self.window))?;
            if best.as_ref().is_none_or(|best| best.is_spoiled() || seen.forwarded > best.forwarded)
                && (!seen.is_spoiled() || best.is_none())
            {
                best = Some(seen.clone());
            }
            if !seen.is_spoiled() && is_full(&seen, 0.6) {
                break;
            }
            rate = next_rate(&seen, rate).unwrap_or(rate);
        }
        Ok(best.expect("at least one window was measured"))
    }
}

/// The device's core is full and not flooded.
fn is_full(seen: &Window, slack: f64) -> bool {
    (REFUSED.start * slack..REFUSED.end / slack).contains(&seen.lost) && seen.device_core > FULL - 0.01
}

/// The next rate to try, or none if this one is right.
fn next_rate(seen: &Window, rate: f64) -> Option<f64> {
    if seen.is_stalled() {
        return Some(rate);
    }
    if seen.lost > REFUSED.end {
        let above = if seen.lost > 0.3 { 1.12 } else { 1.07 };
        return Some((seen.forwarded * above).max(50_000.0));
    }
    let core_is_idle = seen.device_core < FULL && rate < GENERATOR_LIMIT;
    if seen.lost < REFUSED.start || core_is_idle {
        let far = seen.device_core < 0.9 && seen.lost < 0.015;
        // A generator at its limit offers less than it was told to.
        let saturated = seen.offered < rate * 0.9;
        return (!saturated).then_some(rate * if far { 1.25 } else { 1.10 });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(offered: f64, lost: f64, device_core: f64) -> Window {
        Window {
            seconds: 1.0,
            offered,
            forwarded: offered * (1.0 - lost),
            lost,
            device_core,
            ns_per_packet: 0.0,
            foreign: 0.0,
            stolen: 0.0,
            threads: Vec::new(),
        }
    }

    #[test]
    fn the_rate_rises_until_the_core_is_full_and_falls_when_flooded() {
        assert_eq!(next_rate(&seen(1e6, 0.0, 0.5), 1e6), Some(1.25e6));
        assert_eq!(next_rate(&seen(1e6, 0.02, 0.97), 1e6), Some(1.1e6));
        assert_eq!(next_rate(&seen(1e6, 0.05, 0.99), 1e6), None);
        let flooded = next_rate(&seen(2e6, 0.5, 1.0), 2e6).unwrap();
        assert!((flooded - 1.12e6).abs() < 1.0);
        // The hypervisor ran somebody else: the same again.
        assert_eq!(next_rate(&seen(1e6, 0.5, 0.5), 1e6), Some(1e6));
        // The generator cannot do more.
        assert_eq!(next_rate(&seen(4e6, 0.0, 0.5), 6e6), None);
    }
}
