//! One window: a paced stream into a device, its counters and its CPU time before and after.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::device::Device;
use crate::generator::{Generator, Stream};
use crate::rig::{Counters, DEVICE_CORE, Entrance, GENERATOR_CORE, Rig, core_times};

/// Ticks of /proc/stat per second.
const TICKS: f64 = 100.0;

/// More than this share of the device's core used by others spoils a window.
const FOREIGN: f64 = 0.06;

/// More than this share of the device's core charged to its threads, but not seen as busy by the core, was
/// taken by the hypervisor without saying so.
const MISSING: f64 = 0.10;

/// More than this share of both cores taken by the hypervisor spoils a window.
const STOLEN: f64 = 0.05;

/// More loss than this at a core less busy than [`STALL_CORE`] is the hypervisor's doing: the device was not
/// run for longer than its ring can bridge.
const STALL_LOSS: f64 = 0.03;
const STALL_CORE: f64 = 0.88;

/// What to send and for how long to look.
#[derive(Clone, Debug)]
pub struct Load {
    /// The packets; rate and duration are set by [`measure`].
    pub stream: Stream,
    /// Where they enter.
    pub entrance: Entrance,
    /// Packets per second.
    pub rate: f64,
    /// Before the window opens, seconds.
    pub warm_up: f64,
    /// Length of the window, seconds.
    pub window: f64,
}

/// What was seen in a window.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Window {
    /// Length, seconds.
    pub seconds: f64,
    /// Packets per second at the device's ingress ring.
    pub offered: f64,
    /// Packets per second it forwarded.
    pub forwarded: f64,
    /// Share of the offered packets that was not forwarded.
    pub lost: f64,
    /// Share of a core that the device used.
    pub device_core: f64,
    /// CPU time of the device per forwarded packet, ns.
    pub ns_per_packet: f64,
    /// Share of the device's core that others used.
    pub foreign: f64,
    /// Share of both cores that the hypervisor took.
    pub stolen: f64,
    /// Share of a core per thread of the device.
    pub threads: Vec<(String, f64)>,
}

impl Window {
    /// Others disturbed the measurement.
    pub fn is_spoiled(&self) -> bool {
        self.is_disturbed() || self.is_stalled()
    }

    /// Others took part of the device's core, or of both.
    pub fn is_disturbed(&self) -> bool {
        self.foreign > FOREIGN || self.foreign < -MISSING || self.stolen > STOLEN
    }

    /// Packets were lost although the core had time: it was not there when the ring ran full.
    pub fn is_stalled(&self) -> bool {
        self.lost > STALL_LOSS && self.device_core < STALL_CORE
    }

    /// What each thread used, for people.
    pub fn thread_shares(&self) -> String {
        let busy = self.threads.iter().filter(|(_, share)| *share > 0.01);
        let texts: Vec<String> = busy.map(|(name, share)| format!("{name} {:.0} %", share * 100.0)).collect();
        texts.join(", ")
    }
}

/// Everything that is read at one moment.
struct Moment {
    at: Instant,
    counters: Counters,
    threads: Vec<(String, u64)>,
    busy: u64,
    stolen: u64,
}

impl Moment {
    fn now(rig: &Rig, device: &Device) -> Result<Self> {
        let cores = core_times()?;
        let stolen = [GENERATOR_CORE, DEVICE_CORE].iter().map(|&core| cores[core].stolen).sum();
        Ok(Self {
            at: Instant::now(),
            counters: rig.counters()?,
            threads: device.cpu_by_thread(),
            busy: cores[DEVICE_CORE].busy,
            stolen,
        })
    }
}

/// Sends and looks.
pub fn measure(rig: &Rig, device: &Device, load: &Load) -> Result<Window> {
    let seconds = load.warm_up + load.window + 0.3;
    let stream = Stream { rate: load.rate, seconds, ..load.stream.clone() };
    let generator = Generator::start(rig, stream)?;
    sleep(Duration::from_secs_f64(load.warm_up));
    let before = Moment::now(rig, device)?;
    sleep(Duration::from_secs_f64(load.window));
    let after = Moment::now(rig, device)?;
    generator.finish()?;
    Ok(between(device, load.entrance, &before, &after))
}

fn between(device: &Device, entrance: Entrance, before: &Moment, after: &Moment) -> Window {
    let seconds = (after.at - before.at).as_secs_f64();
    let taken = after.counters.taken(entrance) - before.counters.taken(entrance);
    let refused = after.counters.refused(entrance) - before.counters.refused(entrance);
    let forwarded = device.forwarded(&after.counters) - device.forwarded(&before.counters);
    let offered = taken + refused;
    let threads: Vec<(String, f64)> = after
        .threads
        .iter()
        .zip(&before.threads)
        .map(|((name, after), (_, before))| {
            (name.clone(), after.saturating_sub(*before) as f64 / 1e9 / seconds)
        })
        .collect();
    let device_core: f64 = threads.iter().map(|(_, share)| share).sum();
    Window {
        seconds,
        offered: offered as f64 / seconds,
        forwarded: forwarded as f64 / seconds,
        lost: 1.0 - forwarded as f64 / offered.max(1) as f64,
        device_core,
        ns_per_packet: device_core * seconds * 1e9 / forwarded.max(1) as f64,
        foreign: (after.busy - before.busy) as f64 / TICKS / seconds - device_core,
        stolen: (after.stolen - before.stolen) as f64 / TICKS / seconds,
        threads,
    }
}
