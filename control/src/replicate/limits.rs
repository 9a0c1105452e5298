//! Every bound of replication, each with its reason.

/// Records in one frame. Fills the 64 kB below with IPv4 records; more would only delay the first one.
pub const FRAME_RECORDS: usize = 1024;

/// Bytes of records in one frame: what one read of the stream takes in without starving other peers.
pub const FRAME_BYTES: usize = 64 * 1024;

/// Longest frame accepted, its length field excluded: the records and any header. A longer one ends
/// the connection, so that a peer cannot make this node allocate.
pub const FRAME_MAX: usize = FRAME_BYTES + 64;

/// Longest record in bytes: its own length field is one byte.
pub const RECORD_MAX: usize = 257;

/// Records kept for peers that have not acknowledged them. At 100,000 changes a second a peer may be
/// away ten seconds before it needs a bulk sync; about 80 MB when full, nothing while all acknowledge.
pub const LOG_RECORDS: usize = 1 << 20;

/// Pages of a bulk sync on their way and not acknowledged: half a megabyte, several round trips of a
/// fast link. More is only memory.
pub const PAGE_WINDOW: u32 = 8;

/// How long an acknowledgement may wait for company, ms. It is what `lag_ms` shows of an idle link.
pub const ACK_DELAY_MS: u64 = 20;

/// Records after which an acknowledgement does not wait.
pub const ACK_RECORDS: u64 = 1024;

/// Highest sequence number a peer may begin at: a billion changes a second reach it after 292 years, and what is counted
/// on from it overflows nothing.
pub const SEQUENCE_MAX: u64 = 1 << 63;

/// Claim messages waiting for one peer. They are best effort: the Director asks again.
pub const CLAIMS: usize = 16_384;

/// Sessions waiting to be handed over to one peer. What does not fit is offered again half a second later.
pub const HANDED_OVER: usize = 65_536;

/// Claims in one frame, 44 bytes each.
pub const FRAME_CLAIMS: usize = 1024;

/// Longest question or answer of an operator, bytes: what one node says of a flow is below 4 kB.
pub const TEXT_MAX: usize = 32 * 1024;

/// Questions and answers waiting for one peer, all of which are small or rare. More are dropped: who asked is told which
/// nodes did not answer.
pub const TEXTS: usize = 256;

/// Events waiting for the consumer, up to a frame of records each (some 10 MB). When it is full the
/// streams are not read and QUIC holds the peers back.
pub const EVENTS: usize = 64;

/// Events about refused strangers waiting for the consumer; beyond it further ones are not reported.
pub const REFUSALS: usize = 64;

/// How often a connection from an address no peer is configured at is reported, ms.
pub const STRANGER_MS: u64 = 10_000;

/// How long a new connection may take for its handshake, and again for its Hello, ms. Generous:
/// each is a round trip.
pub const HELLO_MS: u64 = 2_000;

/// First and longest pause between attempts to connect, ms.
pub const BACKOFF_MS: (u64, u64) = (100, 1_000);

/// How long closing waits for acknowledgements, ms.
pub const FLUSH_MS: u64 = 1_000;

/// How long closing waits for the last packets to leave, ms.
pub const LINGER_MS: u64 = 300;

/// Bytes one stream may have in flight: a 10 Gbit/s link at 1 ms holds 1.25 MB.
pub const STREAM_WINDOW: u32 = 2 * 1024 * 1024;

/// Bytes asked of the kernel for the socket's buffers; it grants what `net.core.rmem_max` allows.
pub const SOCKET_BUFFER: usize = 4 * 1024 * 1024;

/// First guess of the round trip, ms: nodes of one cluster are near each other, and a guess of
/// 333 ms (RFC 9002) would make a lost first packet cost a second.
pub const INITIAL_RTT_MS: u64 = 50;

/// Bytes of membership datagrams that may wait; when there are more the oldest go, which newer ones make up for.
pub const DATAGRAMS: usize = 64 * 1024;

/// Time between keep-alive packets, ms: ten fit into the idle timeout.
pub const KEEP_ALIVE_MS: u64 = 200;
