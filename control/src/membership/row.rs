//! What a node says of itself to all: who it is since when, whom it hears in the tunnel, its epoch.
//!
//! ```text
//! 0 version 1 | 1 kind 2 | 2 node u16 | 4 started u64 | 12 renewals u16 | 14 count u32
//! 18 epoch u32 | 22 number u8 | 23 nodes heard, u16 each, ascending | policy version u32
//! takes flows u8, 0 or 1
//! ```
//! Big endian. The policy version may be missing, and what follows it. Bytes behind are skipped, rows of another version too.

use samepath_dataplane::flow::NodeId;
use samepath_dataplane::limits::MAX_NODES;

/// Version of the datagrams.
pub const VERSION: u8 = 1;

/// Kind of a datagram that carries a row.
pub const ROW: u8 = 2;

const FIXED: usize = 23;

/// A node as it calls itself; a later one of the same node replaces an earlier one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
pub struct Identity {
    /// Its number.
    pub node: u16,
    /// When its process started, ms of its own wall clock: orders the starts of one node and is compared
    /// with nothing else.
    pub started: u64,
    /// How often it came back after being declared dead.
    pub renewals: u16,
}

/// See the file's first lines.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Who says so.
    pub identity: Identity,
    /// Counts the rows of this identity's process; the higher one is newer.
    pub count: u32,
    /// The highest epoch it knows.
    pub epoch: u32,
    /// Peers whose Hello is fresh there, ascending.
    pub hears: Vec<NodeId>,
    /// Version of its policy, 0 without one; not all releases tell it.
    pub policy: Option<u32>,
    /// Whether it takes flows; not all releases tell it. A Hello says so too, and may come sooner or later than the row:
    /// whom a node hears is to be read with this one.
    pub serves: Option<bool>,
}

impl Row {
    /// Orders the rows of one node.
    pub fn age(&self) -> (u64, u32) {
        (self.identity.started, self.count)
    }

    /// Whether it hears a node.
    pub fn hears(&self, node: NodeId) -> bool {
        self.hears.contains(&node)
    }

    /// The datagram.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED + 2 * self.hears.len());
        out.extend_from_slice(&[VERSION, ROW]);
        out.extend_from_slice(&self.identity.node.to_be_bytes());
        out.extend_from_slice(&self.identity.started.to_be_bytes());
        out.extend_from_slice(&self.identity.renewals.to_be_bytes());
        out.extend_from_slice(&self.count.to_be_bytes());
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out.push(self.hears.len() as u8);
        for node in &self.hears {
            out.extend_from_slice(&node.0.to_be_bytes());
        }
        let policy = self.policy.or(self.serves.map(|_| 0));
        out.extend(policy.map(u32::to_be_bytes).into_iter().flatten());
        out.extend(self.serves.map(u8::from));
        out
    }

    /// Reads a datagram; `None` if it is none, or says what no node can say.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        if take::<2>(&mut rest)? != [VERSION, ROW] {
            return None;
        }
        let identity = Identity {
            node: u16::from_be_bytes(take(&mut rest)?),
            started: u64::from_be_bytes(take(&mut rest)?),
            renewals: u16::from_be_bytes(take(&mut rest)?),
        };
        let count = u32::from_be_bytes(take(&mut rest)?);
        let epoch = u32::from_be_bytes(take(&mut rest)?);
        let [number] = take(&mut rest)?;
        if identity.node == 0 || usize::from(number) >= MAX_NODES {
            return None;
        }
        let hears: Option<Vec<NodeId>> =
            (0..number).map(|_| take(&mut rest).map(u16::from_be_bytes).map(NodeId)).collect();
        let hears = hears.filter(|hears| hears.is_sorted_by(|a, b| a < b))?;
        let policy = take(&mut rest).map(u32::from_be_bytes);
        let serves = policy.and_then(|_| take(&mut rest)).map(|[serves]| serves != 0);
        Some(Self { identity, count, epoch, hears, policy, serves })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (field, left) = rest.split_first_chunk::<N>()?;
    *rest = left;
    Some(*field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let identity = Identity { node: 3, started: 0x0102_0304_0506_0708, renewals: 9 };
        Row {
            identity,
            count: 0x0a0b_0c0d,
            epoch: 17,
            hears: vec![NodeId(1), NodeId(258)],
            policy: Some(0x1112_1314),
            serves: Some(true),
        }
    }

    #[test]
    fn on_the_wire() {
        let bytes =
            [1, 2, 0, 3, 1, 2, 3, 4, 5, 6, 7, 8, 0, 9, 0x0a, 0x0b, 0x0c, 0x0d, 0, 0, 0, 17, 2, 0, 1, 1, 2];
        let untold = Row { policy: None, serves: None, ..row() };
        assert_eq!(
            (untold.encode(), Row::decode(&bytes)),
            (bytes.to_vec(), Some(untold)),
            "an older release"
        );
        let cut = Row { policy: None, serves: None, ..row() };
        assert_eq!(Row::decode(&[&bytes[..], &[1, 1]].concat()), Some(cut), "half a policy version is none");
        let bytes = [&bytes[..], &[0x11, 0x12, 0x13, 0x14]].concat();
        assert_eq!(Row::decode(&bytes), Some(Row { serves: None, ..row() }), "a release between");
        let bytes = [&bytes[..], &[1]].concat();
        assert_eq!(row().encode(), bytes);
        assert_eq!(Row::decode(&bytes), Some(row()));
        assert_eq!(Row::decode(&[&bytes[..], &[7, 7]].concat()), Some(row()), "what is behind is skipped");
    }

    #[test]
    fn what_no_node_can_say_is_no_row() {
        let good = row().encode();
        for cut in 0..good.len() - 5 {
            assert_eq!(Row::decode(&good[..cut]), None, "cut at {cut}");
        }
        for (at, value) in [(0, 9), (1, 1), (3, 0), (22, 64), (24, 9)] {
            let mut bad = good.clone();
            bad[at] = value;
            if at == 24 {
                // Not ascending: the first node heard is above the second.
                bad[23] = 9;
            }
            assert_eq!(Row::decode(&bad), None, "byte {at} = {value}");
        }
    }
}
