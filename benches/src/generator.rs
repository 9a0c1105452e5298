//! The generator: `bpf/generator.bpf.c`, run on a thread of its own.

use std::mem::MaybeUninit;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, ProgramInput};
use rustix::time::{ClockId, clock_gettime};

use crate::rig::{GENERATOR_CORE, Interface, Policy, Rig, Thread};

/// Generated from `generator.bpf.c` by libbpf-cargo.
#[allow(missing_docs, unused_imports, dead_code, unsafe_code, clippy::all)]
mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/generator.skel.rs"));
}

/// `BPF_F_TEST_XDP_LIVE_FRAMES`: what the program says is done with the frame.
const LIVE_FRAMES: u32 = 2;

/// Frames per look at the clock (`BATCH` in the program).
const BATCH: u64 = 64;

/// Time between two bursts of a gentle generator, in which others on its core run.
const PERIOD: Duration = Duration::from_millis(1);

/// Packets in such a burst, paced like the rest of the stream. The end of each run of the program waits for all
/// processors (tens of milliseconds), so many short ones would take minutes to open a million flows.
const MOST_IN_BURST: u32 = 1024;

/// Frame length: the shortest there is, without its checksum.
const FRAME: usize = 60;

/// Longest recorded frame (`REPLAYED` in the program).
const REPLAYED: usize = 160;

/// What the packets are; numbers as in the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// UDP datagrams.
    Udp = 0,
    /// First segments of TCP connections.
    TcpSyn = 1,
    /// Their answers.
    TcpSynAck = 2,
    /// Segments within an open connection.
    TcpAck = 3,
}

/// How a generator shares its core with other nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// Not at all: it spins until the next packets are due.
    Spinning,
    /// It sleeps between short bursts. Some ten thousand packets per second at most.
    Bursts,
    /// It spins while nobody else wants the core. What it could not send then it does not send later.
    Idling,
}

/// Packets to be sent.
#[derive(Clone, Debug)]
pub struct Stream {
    /// What they are.
    pub kind: Kind,
    /// From the server to the client.
    pub reverse: bool,
    /// Each flow once, one after the other; otherwise all flows in turn, spread, until the time is over.
    pub once: bool,
    /// Number of the first flow.
    pub first_flow: u64,
    /// How many flows.
    pub flows: u64,
    /// Packets per second.
    pub rate: f64,
    /// How long, seconds.
    pub seconds: f64,
    /// How it shares its core.
    pub pace: Pace,
    /// Recorded frames among the packets.
    pub recording: Option<Recording>,
    /// Which way the packets go.
    pub way: Way,
}

/// Tunnel packets of a node, all of one length, to be sent again; each time with a number and a tag of its own, as that
/// node's XDP program would send one more packet of the flow.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The frames.
    pub frames: Vec<Recorded>,
    /// The half of the tags' key that all flows have in common.
    pub key_half: u64,
    /// 1: nothing else is sent; 2: every second packet is one of them.
    pub every: u32,
    /// Which way they go.
    pub way: Way,
}

/// A tunnel packet as it was seen.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// All of it.
    pub bytes: Vec<u8>,
    /// The flow's half of its tag's key.
    pub secret: u64,
}

/// Which way packets leave the generator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Way {
    /// Interface in the generator's namespace.
    pub from: String,
    /// Link address at the other end.
    pub to: [u8; 6],
}

impl Stream {
    /// Packets of `kind` of `flows` flows; rate and duration are set by whoever measures.
    pub fn steady(kind: Kind, flows: u64, way: &Way) -> Self {
        Self {
            kind,
            reverse: false,
            once: false,
            first_flow: 0,
            flows,
            rate: 1.0,
            seconds: 1.0,
            pace: Pace::Spinning,
            recording: None,
            way: way.clone(),
        }
    }

    /// One packet of `kind` for each of `flows` flows, from the server to the client if `reverse`.
    pub fn once(kind: Kind, reverse: bool, flows: u64, rate: f64, way: &Way) -> Self {
        // The time is only a guard.
        let seconds = flows as f64 / rate * 10.0 + 5.0;
        Self { reverse, once: true, rate, seconds, ..Self::steady(kind, flows, way) }
    }

    /// One packet of `kind` for each flow, from number `first_flow` on, until the time is over.
    pub fn fresh(kind: Kind, first_flow: u64, way: &Way) -> Self {
        Self { once: true, first_flow, ..Self::steady(kind, u64::from(u32::MAX), way) }
    }

    /// The same with pauses, see [`Pace::Bursts`].
    pub fn gently(self) -> Self {
        Self { pace: Pace::Bursts, ..self }
    }

    /// The same for flows from number `first_flow` on.
    pub fn from_flow(self, first_flow: u64) -> Self {
        Self { first_flow, ..self }
    }

    fn repetitions(&self) -> u32 {
        let in_time = self.rate * self.seconds * 1.05;
        let packets = if self.once { in_time.min(self.flows as f64) } else { in_time };
        packets.clamp(1.0, f64::from(i32::MAX)) as u32
    }

    fn frame_length(&self) -> usize {
        self.recording
            .as_ref()
            .and_then(|recording| recording.frames.first())
            .map_or(FRAME, |frame| frame.bytes.len())
    }
}

/// A running generator.
#[derive(Debug)]
pub struct Generator(JoinHandle<Result<u64>>);

impl Generator {
    /// Starts sending; returns when the program is loaded and the first packet is about to leave.
    pub fn start(rig: &Rig, stream: Stream) -> Result<Self> {
        let source = Interface::new(&rig.generator, &stream.way.from);
        let source_mac = source.mac()?;
        let mut devices = vec![source.index()?];
        if let Some(recording) = &stream.recording {
            devices.push(Interface::new(&rig.generator, &recording.way.from).index()?);
        }
        let namespace = rig.generator.clone();
        let (loaded, is_loaded) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("sb-generator".into()).spawn(move || {
            core_affinity::set_for_current(core_affinity::CoreId { id: GENERATOR_CORE });
            namespace.enter(|| send(&stream, &devices, source_mac, &loaded))
        })?;
        match is_loaded.recv() {
            Ok(()) => Ok(Self(thread)),
            Err(_) => Err(join(thread).err().unwrap_or_else(|| anyhow!("the generator ended at once"))),
        }
    }

    /// Sends a whole stream; how many packets were handed to the interface.
    pub fn send(rig: &Rig, stream: Stream) -> Result<u64> {
        Self::start(rig, stream)?.finish()
    }

    /// Waits for its end; how many packets it handed to the interface.
    pub fn finish(self) -> Result<u64> {
        join(self.0)
    }
}

fn join(thread: JoinHandle<Result<u64>>) -> Result<u64> {
    thread.join().map_err(|_| anyhow!("the generator panicked"))?
}

fn send(
    stream: &Stream,
    devices: &[u32],
    source_mac: [u8; 6],
    loaded: &std::sync::mpsc::Sender<()>,
) -> Result<u64> {
    let mut storage = MaybeUninit::uninit();
    let mut open = skeleton::GeneratorSkelBuilder::default().open(&mut storage)?;
    let length = stream.frame_length();
    let recorded: &[Recorded] = stream.recording.as_ref().map_or(&[], |recording| &recording.frames);
    open.maps.recording.set_max_entries(recorded.len().max(1) as u32)?;
    let fixed = open.maps.rodata_data.as_deref_mut().context("the generator has no settings")?;
    fixed.destination_mac = stream.way.to;
    fixed.source_mac = source_mac;
    fixed.kind = stream.kind as u32;
    fixed.reverse = u32::from(stream.reverse);
    fixed.replay_every = stream.recording.as_ref().map_or(0, |recording| recording.every);
    // Time goes on faster than packets: every run counts on from the one before.
    fixed.last_counter = now_ns();
    fixed.key_half = stream.recording.as_ref().map_or(0, |recording| recording.key_half);
    fixed.in_order = u32::from(stream.once);
    fixed.first_flow = stream.first_flow;
    fixed.flows = stream.flows;
    fixed.interval_ns = (BATCH as f64 * 1e9 / stream.rate) as u64;
    fixed.end_ns = now_ns() + (stream.seconds * 1e9) as u64;
    let program = open.load().context("the generator's program cannot be loaded: run as root")?;
    for (number, device) in devices.iter().enumerate() {
        program.maps.device.update(&(number as u32).to_ne_bytes(), &device.to_ne_bytes(), MapFlags::ANY)?;
    }
    for (number, frame) in recorded.iter().enumerate() {
        let mut bytes = [0; REPLAYED + 8];
        bytes[..frame.bytes.len()].copy_from_slice(&frame.bytes);
        bytes[REPLAYED..].copy_from_slice(&frame.secret.to_ne_bytes());
        program.maps.recording.update(&(number as u32).to_ne_bytes(), &bytes, MapFlags::ANY)?;
    }
    loaded.send(()).context("nobody waits for the generator")?;
    let frame = vec![0u8; length];
    let run = |repeat: u32| {
        let input = ProgramInput { data_in: Some(&frame), flags: LIVE_FRAMES, repeat, ..Default::default() };
        program.progs.generate.test_run(input).map(drop)
    };
    if stream.pace == Pace::Idling {
        Thread::this()?.schedule(Policy::Idle)?;
    }
    match stream.pace {
        Pace::Bursts => in_bursts(stream, run)?,
        Pace::Spinning | Pace::Idling => run(stream.repetitions())?,
    }
    Ok(program.maps.bss_data.as_deref().context("the generator counts nothing")?.sent)
}

/// As many packets as are due, [`MOST_IN_BURST`] at most, then a pause, until the stream is sent. Whoever could not run
/// for a while does not make up for it at once: the device's ring would overflow.
fn in_bursts(stream: &Stream, run: impl Fn(u32) -> libbpf_rs::Result<()>) -> Result<()> {
    let began = Instant::now();
    let pause = PERIOD.min(Duration::from_secs_f64(f64::from(MOST_IN_BURST) / stream.rate / 2.0));
    let mut sent = 0;
    while sent < stream.repetitions() && began.elapsed().as_secs_f64() < stream.seconds {
        let due = (began.elapsed() + pause).as_secs_f64() * stream.rate;
        let count = (due as u32).min(stream.repetitions()).saturating_sub(sent).min(MOST_IN_BURST);
        if count > 0 {
            run(count)?;
            sent += count;
        }
        std::thread::sleep(pause);
    }
    Ok(())
}

/// CLOCK_MONOTONIC, which `bpf_ktime_get_ns` reads.
fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
