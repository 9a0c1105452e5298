//! What a node's XDP program tags tunnel packets with, read from the maps of the running program: with that and a
//! recorded packet of the flow more of its packets can be made than the node could send.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use libbpf_rs::query::{ProgInfoIter, ProgInfoQueryOptions};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use samepath_tests::netns::Namespace;

use crate::rig::Interface;

/// Addresses and ports of an IPv4 packet, as they stand in it.
pub type InnerFlow = [u8; 12];

/// Keys of one node's tunnel packets to one other.
#[derive(Debug)]
pub struct ForwarderKeys {
    /// The half that all flows have in common.
    pub key_half: u64,
    /// Each flow's half.
    pub secrets: BTreeMap<InnerFlow, u64>,
}

impl ForwarderKeys {
    /// Of the node in `namespace` that receives by `interface`. All flows it has published must have one Owner.
    pub fn of(namespace: &Namespace, interface: &str) -> Result<Self> {
        let ifindex = Interface::new(namespace, interface).index()?;
        let program = namespace.enter(|| Ok(samepath_bpf::attached_program(ifindex)?))?;
        let program = program.with_context(|| format!("{interface} has no XDP program"))?.id;
        let (forwards, peers) = (map(program, "forwards")?, map(program, "forward_peers")?);
        let (mut secrets, mut owner) = (BTreeMap::new(), None);
        for index in 0..samepath_bpf::FORWARDS {
            let element = element(&forwards, index)?;
            let Some(entry) = Entry::read(&element) else { continue };
            ensure!(owner.is_none_or(|owner| owner == entry.peer), "flows of several Owners are published");
            owner = Some(entry.peer);
            secrets.insert(entry.flow, entry.secret);
        }
        let owner = owner.context("no flow is published")?;
        let owner = element(&peers, owner.into())?;
        ensure!(number(&owner, 0) as u32 != 0, "the XDP program redirects nothing: the node's log says why");
        let key_half = number(&owner, KEY_HALF);
        Ok(Self { key_half, secrets })
    }
}

/// Where the half of the key stands in `struct sp_forward_peer`.
const KEY_HALF: usize = 8;

/// The map of a program with this name.
fn map(program: u32, name: &str) -> Result<MapHandle> {
    let wanted = ProgInfoQueryOptions::default().include_map_ids(true);
    let found = ProgInfoIter::with_query_opts(wanted).find(|one| one.id == program);
    for id in found.with_context(|| format!("XDP program {program} has ended"))?.map_ids {
        let map = MapHandle::from_map_id(id)?;
        if map.name() == name {
            return Ok(map);
        }
    }
    bail!("XDP program {program} has no map {name}")
}

fn element(map: &MapHandle, index: u32) -> Result<Vec<u8>> {
    map.lookup(&index.to_ne_bytes(), MapFlags::ANY)?.with_context(|| format!("no element {index}"))
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(std::array::from_fn(|byte| bytes[at + byte]))
}

/// What an element of `forwards` says if it is the entry of an IPv4 flow (`struct sp_forward`).
struct Entry {
    peer: u8,
    flow: InnerFlow,
    secret: u64,
}

impl Entry {
    fn read(element: &[u8]) -> Option<Self> {
        let address = |at: usize| element[at..at + 16].strip_prefix(&V4_MAPPED);
        let port = |at: usize| u16::from_ne_bytes([element[at], element[at + 1]]).to_be_bytes();
        let mut flow = [0; 12];
        flow[..4].copy_from_slice(address(32)?);
        flow[4..8].copy_from_slice(address(48)?);
        flow[8..10].copy_from_slice(&port(24));
        flow[10..].copy_from_slice(&port(26));
        // The first word is 0 where an entry was withdrawn.
        (number(element, 0) != 0).then(|| Self { peer: element[12], flow, secret: number(element, 16) })
    }
}

/// How an IPv4 address begins in the maps.
const V4_MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_an_ipv4_flow_is_read_and_hints_and_withdrawn_ones_are_not() {
        let mut element = vec![0; 64];
        element[0] = 3;
        element[12] = 1;
        element[16..24].copy_from_slice(&77_u64.to_ne_bytes());
        element[24..26].copy_from_slice(&4000_u16.to_ne_bytes());
        element[26..28].copy_from_slice(&80_u16.to_ne_bytes());
        assert!(Entry::read(&element).is_none(), "no addresses: hints");
        for (at, last) in [(32, 10), (48, 20)] {
            element[at..at + 12].copy_from_slice(&V4_MAPPED);
            element[at + 12..at + 16].copy_from_slice(&[10, 1, 0, last]);
        }
        let entry = Entry::read(&element).unwrap();
        assert_eq!((entry.peer, entry.secret), (1, 77));
        assert_eq!(entry.flow, [10, 1, 0, 10, 10, 1, 0, 20, 0x0f, 0xa0, 0, 80]);
        element[0] = 0;
        assert!(Entry::read(&element).is_none(), "withdrawn");
    }
}
