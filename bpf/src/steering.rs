//! The loaded program and what it knows: sockets, own addresses, peers, pass list.

use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::os::fd::{AsFd, RawFd};
use std::sync::atomic::{Ordering, compiler_fence};
use std::sync::{Arc, Mutex};

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, MapMut};

use crate::attach::Attachment;
use crate::error::SteeringError;
use crate::forwards::Forwards;
use crate::layout::{
    FORWARDS, MAX_OWN_ADDRESSES, MAX_PASS_LIST, MAX_PEERS, MAX_PORTS, MAX_QUEUES, NO_FORWARDS, OWN_FILTER,
    address_key, own_bit, pass_key, port_value, socket_key,
};
use crate::libbpf_print;
use crate::mode::OnCrash;
use crate::skeleton::{SteerSkel, SteerSkelBuilder, types};

/// What is fixed before the program is loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SteeringConfig {
    /// Seed of the flow hash, random per start; the data plane must use the same.
    pub seed: u64,
    /// What becomes of frames that samepath should have got while no socket is there.
    pub on_crash: OnCrash,
    /// Whether there is room for entries by which the program tunnels by itself ([`Forwards`]): 4 MiB.
    pub forwarder: bool,
}

/// What an interface is to samepath.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortRole {
    /// Users' packets arrive here.
    Data,
    /// Nodes tunnel to each other here; nothing else is steered.
    ClusterLink,
    /// A service of this node is behind it; steered as on a data interface.
    Service,
}

/// One interface of the node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortConfig {
    /// Its number, 0..[`MAX_PORTS`]; ends up in the metadata.
    pub index: u8,
    /// Its name, for messages.
    pub ifname: String,
    /// Its number in the kernel.
    pub ifindex: u32,
    /// Its link address; frames for any other unicast address pass by.
    pub mac: [u8; 6],
    /// What it is to samepath.
    pub role: PortRole,
}

/// The loaded XDP program with its maps, and the interfaces it is attached to.
///
/// Dropping it detaches everything, pins included; only a process that dies (or panics) under
/// `--on-crash closed` leaves its program in place. Several may exist on one machine.
pub struct Steering {
    // Before the skeleton: the links go first.
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) skeleton: SteerSkel<'static>,
    pub(crate) on_crash: OnCrash,
    pub(crate) forwards: Arc<Forwards>,
    pub(crate) forward_peers: usize,
    pub(crate) one_test_run: Mutex<()>,
    ports: Vec<PortConfig>,
    sockets: BTreeSet<[u8; 4]>,
    own_addresses: BTreeSet<[u8; 16]>,
    peers: BTreeSet<[u8; 16]>,
    pass_list: BTreeSet<[u8; 4]>,
}

impl Steering {
    /// Loads the program into the kernel; nothing is attached yet.
    pub fn load(config: &SteeringConfig) -> Result<Self, SteeringError> {
        libbpf_print::capture();
        // The skeleton borrows this one pointer for as long as it lives; leaking its 8 bytes per load spares a
        // struct that points into itself.
        let storage = Box::leak(Box::new(MaybeUninit::uninit()));
        let mut open = SteerSkelBuilder::default().open(storage).map_err(load_error)?;
        if let Some(constants) = open.maps.rodata_data.as_mut() {
            constants.seed = config.seed;
            constants.on_crash = config.on_crash.action();
        }
        let elements = if config.forwarder { FORWARDS } else { NO_FORWARDS };
        open.maps.forwards.set_max_entries(elements).map_err(load_error)?;
        let skeleton = open.load().map_err(load_error)?;
        let forwards = Forwards::map(skeleton.maps.forwards.as_fd(), elements)?;
        Ok(Self {
            attachments: Vec::new(),
            skeleton,
            forwards: Arc::new(forwards),
            forward_peers: 0,
            on_crash: config.on_crash,
            one_test_run: Mutex::new(()),
            ports: Vec::new(),
            sockets: BTreeSet::new(),
            own_addresses: BTreeSet::new(),
            peers: BTreeSet::new(),
            pass_list: BTreeSet::new(),
        })
    }

    /// Makes an interface known to the program, or changes its link address or role, without attaching.
    pub fn set_port(&mut self, port: &PortConfig) -> Result<(), SteeringError> {
        let refused =
            |rule| Err(SteeringError::Port { interface: port.ifname.clone(), index: port.index, rule });
        if usize::from(port.index) >= MAX_PORTS {
            return refused("a node has at most 16 interfaces");
        }
        let same = |known: &&PortConfig| (known.index == port.index) != (known.ifindex == port.ifindex);
        if self.ports.iter().find(same).is_some() {
            return refused("this number or this interface is in use already: name every interface once");
        }
        self.ports.retain(|known| known.ifindex != port.ifindex);
        if let Some(shared) = self.skeleton.maps.bss_data.as_mut() {
            let slot = &mut shared.ports[usize::from(port.index)];
            // Frames may arrive meanwhile: the number by which they find a new slot comes last. A half-written
            // link address is another host's, which the kernel sees the same way.
            *slot = types::sp_port { ifindex: slot.ifindex, ..port_value(port) };
            compiler_fence(Ordering::SeqCst);
            slot.ifindex = port.ifindex;
        }
        self.ports.push(port.clone());
        Ok(())
    }

    /// Makes the program forget an interface: its frames then count as `pass_unknown_interface`.
    pub(crate) fn forget_port(&mut self, ifindex: u32) {
        self.ports.retain(|known| known.ifindex != ifindex);
        let Some(shared) = self.skeleton.maps.bss_data.as_mut() else { return };
        for slot in shared.ports.iter_mut().filter(|slot| slot.ifindex == ifindex) {
            slot.ifindex = 0;
            compiler_fence(Ordering::SeqCst);
        }
    }

    /// From now on `fd`, a bound AF_XDP socket, gets what queue `queue` of port `port` receives.
    /// The kernel drops frames whose socket is bound to another interface or queue.
    pub fn register_socket(&mut self, port: u8, queue: u32, fd: RawFd) -> Result<(), SteeringError> {
        if usize::from(port) >= MAX_PORTS || queue >= MAX_QUEUES {
            return Err(SteeringError::Queue { port, queue });
        }
        let key = socket_key(port, queue);
        self.skeleton
            .maps
            .sockets
            .update(&key, &fd.to_ne_bytes(), MapFlags::ANY)
            .map_err(|source| SteeringError::Map { map: "sockets", source })?;
        self.sockets.insert(key);
        Ok(())
    }

    /// From now on no frame reaches a socket; they count as `no_socket`.
    pub fn unregister_all_sockets(&mut self) -> Result<(), SteeringError> {
        let none = BTreeSet::new();
        make_equal(&self.skeleton.maps.sockets, "sockets", &mut self.sockets, none, &[])
    }

    /// Replaces the node's own addresses; addresses in both sets are never missing in between.
    pub fn set_own_addresses(&mut self, addresses: &[IpAddr]) -> Result<(), SteeringError> {
        let wanted: BTreeSet<_> = addresses.iter().map(address_key).collect();
        within(wanted.len(), MAX_OWN_ADDRESSES, "own addresses")?;
        // The bits of those that stay are set all the time.
        self.set_own_filter(self.own_addresses.union(&wanted).copied().collect());
        let map = &self.skeleton.maps.own_addresses;
        let result = make_equal(map, "own_addresses", &mut self.own_addresses, wanted, &[1]);
        self.set_own_filter(self.own_addresses.clone());
        result
    }

    fn set_own_filter(&mut self, addresses: BTreeSet<[u8; 16]>) {
        let mut filter = [0; OWN_FILTER];
        for (word, bit) in addresses.iter().map(own_bit) {
            filter[word] |= bit;
        }
        if let Some(shared) = self.skeleton.maps.bss_data.as_mut() {
            shared.own_filter = filter;
        }
    }

    /// Replaces the cluster addresses from which tunnel packets are taken.
    pub fn set_peers(&mut self, addresses: &[IpAddr]) -> Result<(), SteeringError> {
        let wanted: BTreeSet<_> = addresses.iter().map(address_key).collect();
        within(wanted.len(), MAX_PEERS, "peers")?;
        make_equal(&self.skeleton.maps.peers, "peers", &mut self.peers, wanted, &[1])
    }

    /// Replaces the pass list: (IP protocol, destination port), port 0 for any. Unfragmented packets and
    /// first fragments that match go to the kernel.
    pub fn set_pass_list(&mut self, list: &[(u8, u16)]) -> Result<(), SteeringError> {
        let wanted: BTreeSet<_> = list.iter().map(|(proto, port)| pass_key(*proto, *port)).collect();
        within(wanted.len(), MAX_PASS_LIST, "pass list entries")?;
        let length = wanted.len() as u32;
        make_equal(&self.skeleton.maps.pass_list, "pass_list", &mut self.pass_list, wanted, &[1])?;
        if let Some(shared) = self.skeleton.maps.bss_data.as_mut() {
            shared.pass_list_length = length;
        }
        Ok(())
    }
}

/// The verifier says EACCES too, so only what failed before it was asked is a lack of privileges.
fn load_error(source: libbpf_rs::Error) -> SteeringError {
    let said = libbpf_print::said();
    if source.kind() == libbpf_rs::ErrorKind::PermissionDenied && said.verifier.is_none() {
        return SteeringError::NotPermitted { step: "load" };
    }
    let reason = said.verifier.or(said.first).unwrap_or_else(|| source.to_string());
    SteeringError::Load { reason }
}

fn within(wanted: usize, limit: usize, what: &'static str) -> Result<(), SteeringError> {
    if wanted <= limit { Ok(()) } else { Err(SteeringError::TooMany { what, wanted, limit }) }
}

/// Removes from `map` what is not in `wanted` and adds what is missing; `present` follows each step.
fn make_equal<const N: usize>(
    map: &MapMut<'_>,
    name: &'static str,
    present: &mut BTreeSet<[u8; N]>,
    wanted: BTreeSet<[u8; N]>,
    value: &[u8],
) -> Result<(), SteeringError> {
    let failed = |source| SteeringError::Map { map: name, source };
    let gone: Vec<_> = present.difference(&wanted).copied().collect();
    for key in gone {
        match map.delete(&key) {
            // A socket leaves the map by itself when it is closed.
            Err(source) if source.kind() != libbpf_rs::ErrorKind::NotFound => {
                return Err(failed(source));
            }
            _ => present.remove(&key),
        };
    }
    let missing: Vec<_> = wanted.difference(present).copied().collect();
    for key in missing {
        map.update(&key, value, MapFlags::ANY).map_err(failed)?;
        present.insert(key);
    }
    Ok(())
}

/// Control may load on one thread and register sockets on another.
const _: () = {
    const fn crosses_threads<T: Send + Sync>() {}
    crosses_threads::<Steering>();
};
