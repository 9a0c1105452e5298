//! Compares what samepath and etherparse say of one frame.

use samepath_dataplane::flow::proto::{SCTP, UDP};
use samepath_dataplane::verdict::DropReason;
use samepath_dataplane::wire::flow_hash::FlowHasher;
use samepath_dataplane::wire::layout::{
    FLAG_FRAGMENT_FIRST, FLAG_FRAGMENT_LATER, FLAG_ICMP_ERROR, FLAG_TUNNEL,
};
use samepath_dataplane::wire::{L4, Layout, NotSteered, Packet};

use crate::oracle::{self, Oracle};

macro_rules! differences {
    ($($variant:ident: $reason:literal,)+) => {
        /// Where the two differ with a reason. Everything else fails the test.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Difference { $($variant),+ }

        impl Difference {
            /// Why this is right.
            pub fn reason(self) -> &'static str {
                match self { $(Self::$variant => $reason),+ }
            }
        }
    };
}

differences! {
    BehindManyTags: "etherparse goes on behind a third VLAN tag and behind MACsec; such frames are the kernel's",
    VersionNibble: "etherparse goes by the version nibble alone; a frame whose EtherType says otherwise is malformed",
    EmptyIpv6: "IPv6 payload length 0 means a jumbogram or 'until the end' to etherparse; such packets are not forwarded",
    BeyondOffsets: "a frame of more than 65,535 bytes, as no interface receives it, does not fit the metadata's offsets",
    TooManyExtensions: "etherparse walks any number of IPv6 extension headers; a packet with more than eight is dropped, a quote names no flow",
    Ipv6FragmentBits: "etherparse takes offset and 'more' of an IPv6 fragment from the wrong bits (RFC 8200 section 4.5); compared with the right ones",
    UnreadTransport: "etherparse reads neither SCTP nor ICMP in a first fragment, nor a TCP header that is cut there; all else was compared",
    UdpLength: "a UDP length field that does not fit the packet: etherparse is lax, the worker drops it",
}

type Outcome = Result<Option<Difference>, String>;

macro_rules! same {
    ($ours:expr, $theirs:expr, $what:literal) => {
        let (ours, theirs) = ($ours, $theirs);
        if ours != theirs {
            return Err(format!("{}: ours {ours:?}, etherparse's {theirs:?}", $what));
        }
    };
}

/// Compares one frame; `Err` says where they disagree without a listed reason.
pub fn compare(frame: &[u8], hasher: &FlowHasher) -> Outcome {
    // The rules for inner frames read what the data rules leave to the kernel, so more is compared.
    let everything = Layout::parse_inner(frame, 0, 0, hasher);
    let data = Layout::parse(frame, 0, hasher);
    match (data, everything) {
        (Err(NotSteered::Multicast), _) => check_multicast(frame)?,
        (Err(NotSteered::Neighbour), _) => check_neighbour(frame)?,
        (Ok(data), Ok(everything)) => {
            same!(data.flags, everything.flags & !FLAG_TUNNEL, "flags by either rules");
            same!(Layout { flags: everything.flags, ..data }, everything, "either rules");
        }
        (Err(data), Err(everything)) => {
            same!(data, everything, "refused by either rules");
        }
        (Err(NotSteered::NotIp), Ok(everything)) if everything.is_hello() => {}
        (data, everything) => return Err(format!("data {data:?}, inner {everything:?}")),
    }
    match everything {
        Ok(layout) if layout.is_hello() => Ok(None),
        Ok(layout) => compare_steered(frame, layout),
        Err(reason) => compare_refused(frame, reason),
    }
}

fn check_multicast(frame: &[u8]) -> Result<(), String> {
    let group = frame[0] & 1 != 0;
    let to_many = || Oracle::of_frame(frame).is_some_and(|oracle| oracle.is_to_many());
    if group || to_many() { Ok(()) } else { Err("not multicast to etherparse".into()) }
}

fn check_neighbour(frame: &[u8]) -> Result<(), String> {
    let oracle = Oracle::of_frame(frame).ok_or("no IP to etherparse")?;
    // etherparse does not look into a first fragment, nor behind a second hop-by-hop header.
    let kind = oracle.icmp_type().or(oracle.payload.first().copied());
    match kind {
        Some(133..=137) => Ok(()),
        kind => Err(format!("neighbour discovery, ICMPv6 type {kind:?} to etherparse")),
    }
}

fn compare_refused(frame: &[u8], reason: NotSteered) -> Outcome {
    let oracle = Oracle::of_frame(frame);
    let difference = match (reason, &oracle) {
        (NotSteered::NotIp, None) => None,
        (NotSteered::NotIp, Some(_)) if oracle::goes_deeper_than_two_tags(frame) => {
            Some(Difference::BehindManyTags)
        }
        (NotSteered::ExtensionHeaders, Some(oracle)) if oracle.extensions > 8 => {
            Some(Difference::TooManyExtensions)
        }
        (NotSteered::Malformed, Some(oracle)) if claims_other_version(frame, oracle.ipv6) => {
            Some(Difference::VersionNibble)
        }
        (NotSteered::Malformed, _) if oracle::refuses(frame) => None,
        (NotSteered::Malformed, Some(oracle)) if oracle.is_empty_ipv6() => Some(Difference::EmptyIpv6),
        (NotSteered::Malformed, _) if frame.len() > usize::from(u16::MAX) => Some(Difference::BeyondOffsets),
        (NotSteered::Malformed, Some(oracle)) if oracle.first || oracle.proto == SCTP => {
            Some(Difference::UnreadTransport)
        }
        (reason, oracle) => {
            return Err(format!("{reason:?} to us, to etherparse IP: {}", oracle.is_some()));
        }
    };
    Ok(difference)
}

/// True if the EtherType in front of the IP header names the version that its first nibble does not.
fn claims_other_version(frame: &[u8], ipv6: bool) -> bool {
    let ethertypes = [12, 16, 20].map(|at| frame.get(at..at + 2));
    let claimed = ethertypes.iter().flatten().find_map(|ethertype| match *ethertype {
        [0x08, 0x00] => Some(false),
        [0x86, 0xdd] => Some(true),
        _ => None,
    });
    claimed.is_some_and(|claimed| claimed != ipv6)
}

fn compare_steered(frame: &[u8], layout: Layout) -> Outcome {
    let oracle = Oracle::of_frame(frame).ok_or("IP to us, not to etherparse")?;
    same!(layout.is_ipv6(), oracle.ipv6, "version");
    same!(layout.flags & FLAG_FRAGMENT_LATER != 0, oracle.later, "later fragment");
    same!(layout.flags & FLAG_FRAGMENT_FIRST != 0, oracle.first, "first fragment");
    same!(layout.proto, oracle.proto, "final protocol");
    if layout.l4_off != 0 {
        let at = oracle.payload.as_ptr() as usize - frame.as_ptr() as usize;
        same!(usize::from(layout.l4_off), at, "start of layer 4");
        same!(usize::from(layout.l3_end), at + oracle.payload.len(), "end of the packet");
    }
    let quote = oracle.quote();
    let error = layout.flags & FLAG_ICMP_ERROR != 0;
    // etherparse does not look into a first fragment.
    same!(error && !oracle.first, quote.is_some(), "ICMP error");
    let behind = match Packet::read(frame, layout) {
        Ok(_) if oracle.has_wrong_checksum() => return Err("a wrong header checksum is none to us".into()),
        Ok(packet) => match quote {
            Some(quote) => compare_quote(&packet, quote, oracle.ipv6),
            None => compare_flow(&packet, &oracle),
        },
        Err(reason) => compare_dropped(reason, &oracle),
    };
    Ok(behind?.or(oracle.wrong_fragment_bits.then_some(Difference::Ipv6FragmentBits)))
}

/// Compares addresses and ports of a packet that quotes nothing.
fn compare_flow(packet: &Packet, oracle: &Oracle) -> Outcome {
    let (key, direction) = packet.key_with_ports();
    let (source, destination) = (key.source(direction), key.destination(direction));
    if packet.l4 == L4::IcmpError {
        // In a first fragment, where etherparse does not look.
        return Ok(Some(Difference::UnreadTransport));
    }
    same!((source.0, destination.0), (oracle.source, oracle.destination), "addresses");
    if oracle.later || packet.layout.l4_off == 0 {
        same!((source.1, destination.1), (0, 0), "ports where there is no layer 4");
        return Ok(None);
    }
    match oracle.ports() {
        Some(ports) => {
            same!((source.1, destination.1), ports, "ports");
            Ok(None)
        }
        None if oracle.first || oracle.proto == SCTP => Ok(Some(Difference::UnreadTransport)),
        None => Err(format!("protocol {} without ports to etherparse", oracle.proto)),
    }
}

/// The worker drops what steering let through: etherparse must see the reason too.
fn compare_dropped(reason: DropReason, oracle: &Oracle) -> Outcome {
    let quote = oracle.quote().and_then(Oracle::of_ip);
    match (reason, oracle.proto) {
        (DropReason::Martian, _) if oracle.is_martian() => Ok(None),
        (DropReason::Martian, _) if quote.is_some_and(|quote| quote.is_martian()) => Ok(None),
        (DropReason::IpChecksum, _) if oracle.has_wrong_checksum() => Ok(None),
        (DropReason::Malformed, UDP) => {
            let length = oracle.payload.get(4..6).map(|field| [field[0], field[1]]);
            let length = length.map(u16::from_be_bytes).map_or(0, usize::from);
            let wrong = length < 8 || length > oracle.payload.len();
            wrong.then_some(Some(Difference::UdpLength)).ok_or("UDP length is right".into())
        }
        (reason, proto) => Err(format!("dropped: {reason:?}, protocol {proto}")),
    }
}

/// Compares the flow of an ICMP error with the packet it quotes.
fn compare_quote(packet: &Packet, quote: &[u8], ipv6: bool) -> Outcome {
    let Some(quoted) = Oracle::of_ip(quote).filter(|quoted| quoted.ipv6 == ipv6) else {
        same!(packet.layout.quoted_l3_off, 0, "a quote that names no flow");
        return Ok(None);
    };
    if packet.layout.quoted_l3_off == 0 && quoted.extensions > 8 {
        return Ok(Some(Difference::TooManyExtensions));
    }
    same!(packet.layout.quoted_proto, quoted.proto, "quoted protocol");
    // The error goes against the packet it quotes.
    let direction = packet.direction.reversed();
    let (source, destination) = (packet.key.source(direction), packet.key.destination(direction));
    same!((source.0, destination.0), (quoted.source, quoted.destination), "quoted addresses");
    let ours = (source.1, destination.1);
    if packet.layout.quoted_l4_off == 0 {
        same!(quoted.later || quoted.payload.len() < 8, true, "quote without layer 4");
        same!(ours, (0, 0), "ports of a quote without layer 4");
        return Ok(None);
    }
    match quoted.ports().or(quoted.first_four_bytes()) {
        Some(ports) => {
            same!(ours, ports, "quoted ports");
            Ok(None)
        }
        None if quoted.first => Ok(Some(Difference::UnreadTransport)),
        None => Err(format!("quoted protocol {} without ports to etherparse", quoted.proto)),
    }
}
