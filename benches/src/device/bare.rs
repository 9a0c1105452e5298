//! Bare AF_XDP forwarding: the dataplane's own rings and the same loop, the logic taken out. What is left
//! is what every AF_XDP forwarder on this machine must spend.

use std::mem::MaybeUninit;
use std::time::Duration;

use anyhow::{Context, Result};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags};
use samepath_dataplane::limits::BURST;
use samepath_dataplane::tuning::HugePages;
use samepath_dataplane::xsk::{self, Io, PortPlan, SocketOptions, SocketsPlan, Waker, XskIo};
use samepath_tests::bed::Service;
use samepath_tests::wait;

use super::redirect::skeleton;
use crate::rig::{DEVICE_CORE, EGRESS, INGRESS, NEXT_HOP_MAC, Rig};

/// Name of the forwarding thread.
pub(super) const THREAD: &str = "sb-bare";

/// First argument of this program when it is to be the forwarder.
pub const COMMAND: &str = "forward-bare";

const READY: &str = "ready";

/// As the daemon's.
const RING_SIZE: u32 = 2048;
const FRAME_SIZE: u32 = 2048;
const SLEEP_MS: u32 = 10;

/// Starts it in the device's namespace.
pub(super) fn start(rig: &Rig) -> Result<Service> {
    let mut command = rig.device.command(std::env::current_exe()?);
    command.arg(COMMAND);
    let service = Service::start(rig.prefix(), rig.logs(), "bare", &mut command)?;
    wait::until_true("the bare forwarder is ready", Duration::from_secs(5), || {
        Ok(service.output().contains(READY))
    })
    .map_err(|error| error.context(service.log_tail()))?;
    Ok(service)
}

/// Forwards until the process is ended.
pub fn forward() -> Result<()> {
    let plan = SocketsPlan {
        ports: [INGRESS, EGRESS]
            .into_iter()
            .zip(0..)
            .map(|(interface, port)| PortPlan {
                port,
                interface: interface.into(),
                queues: 1,
                copy_only: false,
            })
            .collect(),
        workers: 1,
        ring_size: RING_SIZE,
        frames: 2 * RING_SIZE * 5 / 2,
        frame_size: FRAME_SIZE,
        zero_copy_only: false,
        huge_pages: HugePages::Auto,
        // The daemon's defaults.
        options: SocketOptions {
            need_wakeup: true,
            tx_batch: SocketOptions::TX_BATCH,
            busy_poll_usecs: 0,
            busy_poll_budget: 0,
        },
    };
    let mut opened = xsk::open(&plan)?;
    let mut io = opened.workers.pop().context("no rings")?;
    let mut storage = MaybeUninit::uninit();
    let program = skeleton::ForwardSkelBuilder::default().open(&mut storage)?.load()?;
    let socket = opened.registrations.iter().find(|socket| socket.port == 0).context("no socket")?;
    program.maps.sockets.update(&0u32.to_ne_bytes(), &socket.fd.to_ne_bytes(), MapFlags::ANY)?;
    let index = index_of(INGRESS)?;
    let _attached = program.progs.to_socket.attach_xdp(index)?;
    let worker = std::thread::Builder::new().name(THREAD.into()).spawn(move || {
        core_affinity::set_for_current(core_affinity::CoreId { id: DEVICE_CORE });
        let waker = Waker::new()?;
        println!("{READY}");
        run(&mut io, &waker)
    })?;
    worker.join().map_err(|_| anyhow::anyhow!("the forwarder panicked"))?
}

/// [`samepath_dataplane::worker::Worker::run`] without what it does to packets.
fn run(io: &mut XskIo, waker: &Waker) -> Result<()> {
    let mut burst = Vec::with_capacity(2 * BURST);
    let mut idle_turns = 0u32;
    loop {
        io.receive(BURST, &mut burst);
        idle_turns = if burst.is_empty() { idle_turns + 1 } else { 0 };
        for mut frame in burst.drain(..) {
            rewrite(io.bytes_mut(&mut frame));
            if let Err(frame) = io.send(1, frame) {
                io.recycle(frame);
            }
        }
        io.flush();
        if idle_turns > 1 {
            io.wait(waker, SLEEP_MS);
        }
    }
}

/// What no router can do without: link addresses, one hop less, the checksum.
fn rewrite(frame: &mut [u8]) {
    const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x98];
    let Some(frame) = frame.first_chunk_mut::<34>() else { return };
    frame[..6].copy_from_slice(&NEXT_HOP_MAC);
    frame[6..12].copy_from_slice(&OWN_MAC);
    frame[22] = frame[22].saturating_sub(1);
    let sum = u32::from(u16::from_be_bytes([frame[24], frame[25]])) + 0x0100;
    let sum = (sum & 0xffff) + (sum >> 16);
    frame[24..26].copy_from_slice(&(sum as u16).to_be_bytes());
}

fn index_of(interface: &str) -> Result<i32> {
    let any = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    Ok(rustix::net::netdevice::name_to_index(any, interface)? as i32)
}
