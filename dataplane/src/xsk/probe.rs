//! The self-test of zero-copy: a driver may accept a socket without copying and then move nothing. Before
//! packets flow, one frame per ring is sent and must come back as completed.

use std::time::{Duration, Instant};

use super::{Io, XskIo};

/// How long a frame may take from the transmit ring to its completion.
pub const PROBE_FOR: Duration = Duration::from_secs(1);

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// EtherType for local experiments (IEEE 802, 0x88b5): no host takes it for anything.
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];

/// The shortest Ethernet frame without its checksum.
const LENGTH: usize = 60;

/// Sends one frame out of every ring of `io` whose interface `ports` names with its link address, from and
/// to that address (no switch carries it further), and waits at most `within` for the completions.
///
/// Returns the interfaces of rings that did not complete, each once, ascending.
pub fn probe(io: &mut XskIo, ports: &[(u8, [u8; 6])], within: Duration) -> Vec<u8> {
    let rings: Vec<u8> = io.in_transmit().map(|(port, _)| port).collect();
    let probed = |port: u8| ports.iter().find(|(one, _)| *one == port).map(|(_, mac)| *mac);
    for (index, &port) in rings.iter().enumerate() {
        let Some(mac) = probed(port) else { continue };
        // No frame left for one of 60 bytes: the ring stays unproven, and traffic will show.
        let Some(mut frame) = io.allocate(LENGTH) else { continue };
        let bytes = io.bytes_mut(&mut frame);
        bytes[..6].copy_from_slice(&mac);
        bytes[6..12].copy_from_slice(&mac);
        bytes[12..14].copy_from_slice(&ETHERTYPE);
        io.send_on(index, frame);
    }
    let deadline = Instant::now() + within;
    while io.flush() && Instant::now() < deadline {
        std::thread::sleep(LOOK_EVERY);
    }
    let mut silent: Vec<u8> = io
        .in_transmit()
        .filter(|&(port, count)| count > 0 && probed(port).is_some())
        .map(|(port, _)| port)
        .collect();
    silent.sort_unstable();
    silent.dedup();
    silent
}
