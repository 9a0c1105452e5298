//! The packet parser: any frame, with the metadata the XDP program would leave and with any other.

use samepath_dataplane::flow::FlowKey;
use samepath_dataplane::wire::flow_hash::FlowHasher;
use samepath_dataplane::wire::layout::{FLAG_IPV6, FLAG_TUNNEL};
use samepath_dataplane::wire::plain::{Layer4, Plain};
use samepath_dataplane::wire::{L4, Layout, Packet};

use super::Bytes;

/// The first byte says whose metadata come with the frame: the parser's own by the data rules or the tunnel's, or
/// the next 24 bytes.
pub fn packet(input: &[u8]) {
    let mut bytes = Bytes(input);
    let hasher = FlowHasher::new(7);
    match bytes.byte() % 3 {
        0 => with(bytes.0, Layout::parse(bytes.0, 0, &hasher).ok()),
        1 => with(bytes.0, Layout::parse_inner(bytes.0, 0, 0, &hasher).ok()),
        _ => {
            let mut metadata = [0; Layout::SIZE];
            let given = bytes.take(Layout::SIZE);
            metadata[..given.len()].copy_from_slice(given);
            // Whatever they say of whatever frame: an answer, not a panic.
            let _ = Packet::read(bytes.0, Layout::from_metadata(&metadata));
            let _ = Plain::default().read(bytes.0, &metadata);
        }
    }
}

fn with(frame: &[u8], layout: Option<Layout>) {
    let Some(layout) = layout else { return };
    assert_eq!(
        Layout::from_metadata(&layout.to_metadata()),
        layout,
        "metadata are read as they were written"
    );
    if layout.is_hello() {
        return;
    }
    assert!(usize::from(layout.l3_end) <= frame.len(), "the packet ends inside its frame");
    let packet = Packet::read(frame, layout);
    let mut plain = Plain::default();
    // Fragments and errors have flags; the fast path does not look at them.
    let common = layout.flags & !(FLAG_IPV6 | FLAG_TUNNEL) == 0;
    let is_plain = plain.read(frame, &layout.to_metadata()).is_some() && common;
    let Ok(packet) = packet else { return };
    assert!((packet.key.lo, packet.key.lo_port) <= (packet.key.hi, packet.key.hi_port), "ends are in order");
    if is_plain {
        agree(&plain, &packet);
    }
}

/// What the fast path reads, the long way reads alike.
fn agree(plain: &Plain, packet: &Packet) {
    assert_eq!(plain.ends, ends(&packet.key));
    assert_eq!(plain.ipv6, !packet.key.is_ipv4());
    let (from, to) = (packet.layout.l3_off, packet.layout.l3_end);
    assert_eq!((plain.l3_off, plain.l3_off + plain.l3_length), (from, to));
    let ports = u64::from(packet.key.lo_port) | u64::from(packet.key.hi_port) << 16;
    assert_eq!(plain.rest, ports | u64::from(packet.key.proto_vlans) << 32);
    assert_eq!(plain.direction, packet.direction);
    assert!(packet.fragment.is_none() && packet.ttl > 1, "a plain packet is whole and may be forwarded");
    match packet.l4 {
        L4::Tcp(segment) => {
            let step = plain.step;
            assert_eq!(plain.layer4, Layer4::Tcp);
            assert_eq!(
                (step.seq, step.ack, step.window, step.payload),
                (segment.seq, segment.ack, segment.window, segment.payload)
            );
        }
        other => assert_eq!((plain.layer4, other), (Layer4::Udp, L4::Udp)),
    }
}

/// The flow's addresses as [`Plain::ends`] has them.
fn ends(key: &FlowKey) -> [u64; 4] {
    let word = |bytes: &[u8]| u64::from_ne_bytes(*bytes.first_chunk().expect("eight bytes"));
    if key.is_ipv4() {
        return [word(&[&key.lo[12..], &key.hi[12..]].concat()).to_be(), 0, 0, 0];
    }
    [word(&key.lo[..8]), word(&key.lo[8..]), word(&key.hi[..8]), word(&key.hi[8..])]
}
