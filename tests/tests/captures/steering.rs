//! Compares what the XDP program and `Layout` make of one frame, on a data interface and in the tunnel.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use samepath_bpf::{Action, PortConfig, PortRole, Steering, SteeringConfig, TestRun};
use samepath_dataplane::flow::{Direction, FlowKey, Generation, NodeId};
use samepath_dataplane::wire::flow_hash::FlowHasher;
use samepath_dataplane::wire::tunnel::{self, Seal, TunnelEnds, TunnelKey, TunnelKind, TunnelOption};
use samepath_dataplane::wire::{Layout, NotSteered};

/// The interface frames are said to arrive on: the loopback exists everywhere.
const IFINDEX: u32 = 1;
const PORT: u8 = 5;
const MAC: [u8; 6] = [0x02, 0x53, 0x50, 0, 0, 0x05];
const SEED: u64 = 0x0123_4567_89ab_cdef;

/// Shortest and longest frame the kernel's test-run takes: it wants an Ethernet header, and one page
/// has to hold the frame between its own head and tail room.
const LENGTHS: std::ops::RangeInclusive<usize> = 14..=3400;

/// Cluster addresses of both IP versions: the peer's, this node's.
const ENDS: [(IpAddr, IpAddr); 2] = [
    (IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1)), IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2))),
    (
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)),
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2)),
    ),
];

/// The program in the kernel beside its twin.
pub struct Twins {
    data: Steering,
    cluster_link: Steering,
    hasher: FlowHasher,
    /// Frames by the program's outcome.
    pub outcomes: BTreeMap<&'static str, usize>,
    /// Frames the kernel's test-run does not take because of their length.
    pub untestable: usize,
}

impl Twins {
    /// Loads the program once for each role; it is attached nowhere.
    pub fn load() -> Result<Self> {
        let mut cluster_link = load(PortRole::ClusterLink)?;
        let (peers, own): (Vec<IpAddr>, Vec<IpAddr>) = ENDS.into_iter().unzip();
        cluster_link.set_peers(&peers)?;
        cluster_link.set_own_addresses(&own)?;
        Ok(Self {
            data: load(PortRole::Data)?,
            cluster_link,
            hasher: FlowHasher::new(SEED),
            outcomes: BTreeMap::new(),
            untestable: 0,
        })
    }

    /// Shows one frame to both as received on a data interface; `Err` says where they disagree. A frame
    /// for one host is readdressed to the port, which otherwise would let it pass by.
    pub fn compare(&mut self, frame: &[u8]) -> Result<(), String> {
        let mut frame = frame.to_vec();
        if frame.first().is_some_and(|first| first & 1 == 0) && frame.len() >= MAC.len() {
            frame[..6].copy_from_slice(&MAC);
        }
        if !LENGTHS.contains(&frame.len()) {
            self.untestable += 1;
            return Ok(());
        }
        let parsed = Layout::parse(&frame, PORT, &self.hasher);
        let expected = match parsed {
            Ok(_) => ("no_socket", Action::Drop),
            Err(NotSteered::Malformed) => ("drop_malformed", Action::Drop),
            Err(NotSteered::ExtensionHeaders) => ("drop_extension_headers", Action::Drop),
            Err(NotSteered::NotIp) => ("pass_not_ip", Action::Pass),
            Err(NotSteered::Multicast) => ("pass_multicast", Action::Pass),
            Err(NotSteered::Neighbour) => ("pass_neighbour", Action::Pass),
        };
        let run = self.data.test_run(&frame, IFINDEX).map_err(|error| error.to_string())?;
        self.check(run, expected, parsed)
    }

    /// Puts the frame into the tunnel from a peer and shows it to both as received on the cluster link.
    pub fn compare_tunnelled(&mut self, inner: &[u8]) -> Result<(), String> {
        let (source, destination) = ENDS[inner.len() % ENDS.len()];
        let ends =
            TunnelEnds { source_mac: [0x02, 0, 0, 0, 0, 1], destination_mac: MAC, source, destination };
        let inner_off = tunnel::overhead(&destination);
        if !LENGTHS.contains(&(inner_off + inner.len())) {
            self.untestable += 1;
            return Ok(());
        }
        let mut frame = vec![0; inner_off];
        emit(&mut frame, inner.len(), &ends);
        frame.extend_from_slice(inner);
        let received = tunnel::parse(&frame, inner_off).map_err(|reason| format!("{reason:?}"))?;
        if received.option != OPTION {
            return Err(format!("tunnel option came back as {:?}", received.option));
        }
        let parsed = Layout::parse_inner(inner, inner_off as u16, PORT, &self.hasher);
        let expected = match parsed {
            Ok(_) => ("no_socket", Action::Drop),
            Err(_) => ("drop_tunnel_malformed", Action::Drop),
        };
        let run = self.cluster_link.test_run(&frame, IFINDEX).map_err(|error| error.to_string())?;
        self.check(run, expected, parsed)
    }

    /// No socket is registered: what would be steered is counted as such, and dropped.
    fn check(
        &mut self,
        run: TestRun,
        expected: (&str, Action),
        parsed: Result<Layout, NotSteered>,
    ) -> Result<(), String> {
        *self.outcomes.entry(run.outcome).or_default() += 1;
        let metadata = run.metadata.map(|metadata| Layout::from_metadata(&metadata));
        if (run.outcome, run.action) != expected || metadata != parsed.ok() {
            let (outcome, action) = (run.outcome, run.action);
            return Err(format!("program: {outcome} {action:?} {metadata:?}, twin: {parsed:?}"));
        }
        Ok(())
    }
}

fn load(role: PortRole) -> Result<Steering> {
    let mut steering = Steering::load(&SteeringConfig { seed: SEED, ..Default::default() })?;
    let ifname = "lo".into();
    steering.set_port(&PortConfig { index: PORT, ifname, ifindex: IFINDEX, mac: MAC, role })?;
    Ok(steering)
}

const OPTION: TunnelOption = TunnelOption {
    kind: TunnelKind::Query,
    hops: 1,
    zone: 0,
    ingress: NodeId(1),
    owner: NodeId(0),
    generation: Generation(0),
    epoch: 1,
    sender: NodeId(1),
};

/// The program does not look at the tag, so any flow will do.
fn emit(outer: &mut [u8], inner_len: usize, ends: &TunnelEnds) {
    let (key, flow) = (TunnelKey::new([0; 16]), FlowKey::default());
    let seal = Seal { key: 0, stream: 0, counter: 1 };
    tunnel::emit(outer, inner_len, ends, 7, &OPTION, &seal, &key, &flow, Direction::LoToHi, 0);
}
