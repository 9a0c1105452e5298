//! Compares what the XDP program and `Layout::parse` make of one frame.

use std::collections::BTreeMap;

use anyhow::Result;
use samepath_bpf::{Action, OnCrash, PortConfig, PortRole, Steering, SteeringConfig};
use samepath_dataplane::wire::flow_hash::FlowHasher;
use samepath_dataplane::wire::{Layout, NotSteered};

/// The interface frames are said to arrive on: the loopback exists everywhere.
const IFINDEX: u32 = 1;
const PORT: u8 = 5;
const MAC: [u8; 6] = [0x02, 0x53, 0x50, 0, 0, 0x05];
const SEED: u64 = 0x0123_4567_89ab_cdef;

/// Shortest and longest frame the kernel's test-run takes: it wants an Ethernet header, and one page
/// has to hold the frame between its own head and tail room.
const LENGTHS: std::ops::RangeInclusive<usize> = 14..=3400;

/// The program in the kernel beside its twin.
pub struct Twins {
    steering: Steering,
    hasher: FlowHasher,
    /// Frames by the program's outcome.
    pub outcomes: BTreeMap<&'static str, usize>,
    /// Frames the kernel's test-run does not take because of their length.
    pub untestable: usize,
}

impl Twins {
    /// Loads the program; it is attached nowhere.
    pub fn load() -> Result<Self> {
        let mut steering = Steering::load(&SteeringConfig { seed: SEED, on_crash: OnCrash::Closed })?;
        steering.set_port(&PortConfig {
            index: PORT,
            ifname: "lo".into(),
            ifindex: IFINDEX,
            mac: MAC,
            role: PortRole::Data,
        })?;
        let hasher = FlowHasher::new(SEED);
        Ok(Self { steering, hasher, outcomes: BTreeMap::new(), untestable: 0 })
    }

    /// Shows one frame to both; `Err` says where they disagree. A frame for one host is readdressed to
    /// the port, which otherwise would let it pass by.
    pub fn compare(&mut self, frame: &[u8]) -> Result<(), String> {
        if !LENGTHS.contains(&frame.len()) {
            self.untestable += 1;
            return Ok(());
        }
        let mut frame = frame.to_vec();
        if frame[0] & 1 == 0 {
            frame[..6].copy_from_slice(&MAC);
        }
        let run = self.steering.test_run(&frame, IFINDEX).map_err(|error| error.to_string())?;
        *self.outcomes.entry(run.outcome).or_default() += 1;
        let parsed = Layout::parse(&frame, PORT, &self.hasher);
        // No socket is registered: what would be steered is counted so, and dropped.
        let expected = match parsed {
            Ok(_) => ("no_socket", Action::Drop),
            Err(NotSteered::Malformed) => ("drop_malformed", Action::Drop),
            Err(NotSteered::ExtensionHeaders) => ("drop_extension_headers", Action::Drop),
            Err(NotSteered::NotIp) => ("pass_not_ip", Action::Pass),
            Err(NotSteered::Multicast) => ("pass_multicast", Action::Pass),
            Err(NotSteered::Neighbour) => ("pass_neighbour", Action::Pass),
        };
        if (run.outcome, run.action) != expected {
            return Err(format!("program: {} {:?}, twin: {parsed:?}", run.outcome, run.action));
        }
        let theirs = run.metadata.map(|metadata| Layout::from_metadata(&metadata));
        if theirs != parsed.ok() {
            return Err(format!("program: {theirs:?}, twin: {parsed:?}"));
        }
        Ok(())
    }
}
