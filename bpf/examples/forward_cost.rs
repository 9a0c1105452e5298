//! What the XDP program's own part costs per frame: steering with the forwarder closed, open without an entry for
//! the flow, and redirecting; and of passing a frame that is not IP, nearly all of which is the kernel's reading the
//! clock twice. Single runs, the cases in turn, so caches are rather cold: look at differences. As root: `cargo run --release -p samepath-bpf --example forward_cost`.

use std::time::Duration;

use samepath_bpf::{ForwardPeer, PortConfig, PortRole, Steering, SteeringConfig};
use samepath_dataplane::flow::{FlowKey, Generation, key_bytes, proto};
use samepath_dataplane::forwards::{Forward, Forwards, SharedWords};
use samepath_dataplane::wire::flow_hash::FlowHasher;

const SEED: u64 = 7;
const FLOWS: u16 = 1000;
const ROUNDS: usize = 20;

/// TCP with ACK from 198.51.100.7 to 203.0.113.9 port 80, 60 bytes.
fn frame(port: u16) -> Vec<u8> {
    let ip = [0x45, 0, 0, 40, 0, 7, 0x40, 0, 64, 6, 0, 0, 198, 51, 100, 7, 203, 0, 113, 9];
    let tcp = [0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0];
    let ethernet = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    [&ethernet[..], &ip, &port.to_be_bytes(), &tcp, &[0; 6]].concat()
}

fn forward(port: u16) -> Forward {
    let end = |address: &str, port| (key_bytes(address.parse().expect("an address")), port);
    let (source, destination) = (end("198.51.100.7", port), end("203.0.113.9", 80));
    let (key, direction) = FlowKey::new(source, destination, proto::TCP, (0, 0));
    Forward { epoch: 1, peer: 0, zone: 1, port: 0, generation: Generation(1), key, direction, secret: 1 }
}

/// One round of one case; adds the times to `times`.
fn round(
    steering: &Steering,
    outcome: &str,
    frames: impl Iterator<Item = Vec<u8>>,
    times: &mut Vec<Duration>,
) -> Result<(), Box<dyn std::error::Error>> {
    for frame in frames {
        let run = steering.test_run(&frame, 1)?;
        if run.outcome != outcome {
            return Err(format!("a frame was {} and not {outcome}", run.outcome).into());
        }
        times.push(run.duration);
    }
    Ok(())
}

fn arp() -> Vec<u8> {
    let mut arp = frame(1);
    arp[13] = 6;
    arp
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut steering = Steering::load(&SteeringConfig { seed: SEED, forwarder: true, ..Default::default() })?;
    let mac = [2, 0, 0, 0, 0, 1];
    let port = PortConfig { index: 0, ifname: "lo".into(), ifindex: 1, mac, role: PortRole::Data };
    steering.set_port(&port)?;
    steering.set_forward_link(1)?;
    // SAFETY: a plain system call.
    let socket = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW, 0) };
    steering.register_socket(0, 0, socket)?;
    let mut forwards = Forwards::new(SharedWords::new(steering.forwards()), FlowHasher::new(SEED), 0, 1);
    for port in 1..=FLOWS {
        forwards.offer(&forward(port), Some(0));
    }
    let peer = [Some(ForwardPeer { headers: vec![0; 90], largest: 1500, key_half: 7 })];
    let mut times: [Vec<Duration>; 4] = Default::default();
    for _ in 0..ROUNDS {
        let [pass, closed, no_entry, redirected] = &mut times;
        round(&steering, "pass_not_ip", (0..FLOWS).map(|_| arp()), pass)?;
        steering.close_forwarder();
        round(&steering, "steered", (1..=FLOWS).map(frame), closed)?;
        steering.open_forwarder(1, &peer)?;
        round(&steering, "steered", (1 + FLOWS..=2 * FLOWS).map(frame), no_entry)?;
        round(&steering, "redirected", (1..=FLOWS).map(frame), redirected)?;
    }
    println!("case                  10 %     median");
    for (case, mut times) in
        ["not IP, passed", "steered, closed", "steered, no entry", "redirected"].iter().zip(times)
    {
        times.sort_unstable();
        println!("{case:<20} {:?} {:?}", times[times.len() / 10], times[times.len() / 2]);
    }
    Ok(())
}
