//! What arrives at the control port, counted: every QUIC packet is taken, or discarded for one reason.

use std::fs::File;
use std::io::{Read, Seek};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why a QUIC packet (RFC 9000) on the control port is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Discard {
    /// From an address that is no peer's.
    Stranger,
    /// Its header is cut short or contradicts itself, or it is of another version than QUIC 1.
    Malformed,
    /// For a connection this node has not given out the name of.
    Connection,
    /// Its sender does not hold the connection's key, or it was changed on its way.
    Tag,
    /// Received before, or too far behind.
    Replay,
    /// Begins a connection while too many others have not ended.
    Crowded,
}

impl Discard {
    /// All of them, in the order of [`ArrivalStats::discarded`].
    pub const ALL: [Self; 6] =
        [Self::Stranger, Self::Malformed, Self::Connection, Self::Tag, Self::Replay, Self::Crowded];

    /// As in statistics and docs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stranger => "stranger",
            Self::Malformed => "malformed",
            Self::Connection => "connection",
            Self::Tag => "tag",
            Self::Replay => "replay",
            Self::Crowded => "crowded",
        }
    }
}

/// The counters: written by the port and by connections, read by anybody.
#[derive(Debug, Default)]
pub struct Arrivals {
    packets: AtomicU64,
    taken: AtomicU64,
    discarded: [AtomicU64; Discard::ALL.len()],
    failed: AtomicU64,
}

/// What [`Arrivals`] held at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ArrivalStats {
    /// QUIC packets that arrived; a datagram may hold several.
    pub packets: u64,
    /// Those that were authentic and new.
    pub taken: u64,
    /// Those that were not, by [`Discard::ALL`].
    pub discarded: [u64; Discard::ALL.len()],
    /// The rest: QUIC has no key for them (any more), or has not come to them yet.
    pub keyless: u64,
    /// Connections accepted that came to no agreement: handshake, certificate, Hello.
    pub failed: u64,
    /// Datagrams the kernel had no room for; none of the packets above.
    pub overrun: u64,
}

impl Arrivals {
    /// A packet arrived.
    pub(super) fn arrived(&self) {
        self.packets.fetch_add(1, Relaxed);
    }

    /// A packet was authentic and new.
    pub(super) fn took(&self) {
        self.taken.fetch_add(1, Relaxed);
    }

    /// A packet was discarded.
    pub(super) fn discard(&self, why: Discard) {
        self.discarded[why as usize].fetch_add(1, Relaxed);
    }

    /// An accepted connection came to no agreement.
    pub(super) fn fail(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    /// All counters.
    pub fn stats(&self) -> ArrivalStats {
        let taken = self.taken.load(Relaxed);
        let discarded = self.discarded.each_ref().map(|count| count.load(Relaxed));
        let failed = self.failed.load(Relaxed);
        // Last: a packet is counted here before it is counted anywhere else.
        let packets = self.packets.load(Relaxed);
        let keyless = packets.saturating_sub(taken + discarded.iter().sum::<u64>());
        ArrivalStats { packets, taken, discarded, keyless, failed, overrun: 0 }
    }
}

/// Datagrams that a socket had no room for: the last column of /proc/net/udp and udp6 (proc_net_udp(5)). Both stay open,
/// because a running node may open nothing.
#[derive(Debug)]
pub(super) struct Overruns {
    inode: u64,
    tables: Vec<File>,
}

impl Overruns {
    /// Of the socket with this inode.
    pub(super) fn of(inode: u64) -> Self {
        let tables = ["/proc/self/net/udp", "/proc/self/net/udp6"];
        Self { inode, tables: tables.into_iter().flat_map(File::open).collect() }
    }

    /// How many so far.
    pub(super) fn count(&self) -> u64 {
        let tables = self.tables.iter().filter_map(read_again);
        tables.filter_map(|table| drops_of(&table, self.inode)).next().unwrap_or(0)
    }
}

fn read_again(mut table: &File) -> Option<String> {
    let mut text = String::new();
    table.rewind().ok()?;
    table.read_to_string(&mut text).ok()?;
    Some(text)
}

fn drops_of(table: &str, inode: u64) -> Option<u64> {
    let inode = inode.to_string();
    let mut rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    rows.find(|row| row.get(9) == Some(&inode.as_str()))?.last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_read_as_the_kernel_writes_them() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
            \x20 117: 0100090A:17C2 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 16291 2 00000000a1b2c3d4 0\n\
            \x20 118: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 16292 2 0000000000000000 73\n";
        assert_eq!(drops_of(table, 16292), Some(73));
        assert_eq!(drops_of(table, 16291), Some(0));
        assert_eq!(drops_of(table, 1), None);
    }

    #[test]
    fn what_a_full_socket_drops_is_seen_without_opening_anything_again() {
        let [deaf, loud] = [(); 2].map(|()| std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
        let overruns = Overruns::of(rustix::fs::fstat(&deaf).unwrap().st_ino);
        assert_eq!(overruns.count(), 0);
        socket2::SockRef::from(&deaf).set_recv_buffer_size(1).unwrap();
        for _ in 0..100 {
            loud.send_to(&[0; 1000], deaf.local_addr().unwrap()).unwrap();
        }
        assert!((50..100).contains(&overruns.count()), "{}", overruns.count());
    }
}
