//! Commands that ask a running daemon.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use ipnet::IpNet;

use samepath_dataplane::flow::proto;
use samepath_dataplane::session::State;

use crate::config::values;
use crate::operator::api::{Request, Role};
use crate::operator::capture::CaptureOrder;
use crate::operator::drain::DrainOrder;
use crate::operator::events::EventsOrder;
use crate::operator::filter::{self, Filter};
use crate::operator::symmetry::PictureOrder;
use crate::operator::top::TopOrder;
use crate::operator::trace::TraceOrder;
use crate::operator::watch::{PacketFilter, SLOTS, SLOTS_MOST, SNAP_LEAST, SNAP_MOST};
use crate::operator::why::Flow;

/// A question to a running daemon.
#[derive(Subcommand, Debug)]
pub enum ClientCommand {
    /// Is this node ready, who are the members, which interfaces (exit code 0 ready, 5 not ready)
    Status(Target),
    /// All nodes of the cluster as this one sees them
    Members(Target),
    /// Sessions this node knows, as Owner, backup or claim
    Sessions {
        /// List the sessions, count them, or tell of them as they begin, change and end
        #[arg(value_enum, default_value_t)]
        what: SessionsVerb,
        /// Which ones.
        #[command(flatten)]
        filter: FilterArgs,
        /// Of `events`: end after this time [default: with Ctrl-C]
        #[arg(long = "for", value_name = "SECONDS", value_parser = interval)]
        time: Option<Duration>,
        /// Whom to ask.
        #[command(flatten)]
        target: Target,
    },
    /// Counters since the start
    Stats(Target),
    /// What this node does now: packets, verdicts, drops, workers, peers, again and again until Ctrl-C
    Top {
        /// Seconds between two looks, 0.1 to 3600
        #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
        interval: Duration,
        /// One frame, then end
        #[arg(long)]
        once: bool,
        /// Whom to ask.
        #[command(flatten)]
        target: Target,
    },
    /// Who is Director of the flows between two addresses, and why
    Director {
        /// One end
        src: IpAddr,
        /// The other end
        dst: IpAddr,
        /// Protocol (matters for --director-hash five-tuple, as do the ports)
        #[arg(long, value_parser = protocol, default_value = "tcp")]
        proto: u8,
        /// Port at SRC
        #[arg(long, value_name = "PORT", default_value_t = 0)]
        sport: u16,
        /// Port at DST
        #[arg(long, value_name = "PORT", default_value_t = 0)]
        dport: u16,
        /// Whom to ask.
        #[command(flatten)]
        target: Target,
    },
    /// What happens to a packet of a flow, and why: Director, Owner, backups, policy, next hop, as all nodes say
    /// (exit code 0 all answered and agree, 5 not)
    Why {
        /// Protocol: tcp, udp, icmp, icmpv6, sctp, … or a number
        #[arg(value_parser = protocol)]
        proto: u8,
        /// Where the packet comes from: 10.0.0.1:4000, `[2001:db8::1]:4000`, or the address alone; of a ping the identifier
        #[arg(value_name = "SRC[:PORT]", value_parser = end)]
        src: (IpAddr, u16),
        /// Where it goes
        #[arg(value_name = "DST[:PORT]", value_parser = end)]
        dst: (IpAddr, u16),
        /// Outer VLAN id, 0 for untagged
        #[arg(long, value_name = "ID", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=4094))]
        vlan: u16,
        /// Inner VLAN id, 0 for none
        #[arg(long, value_name = "ID", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=4094))]
        inner_vlan: u16,
        /// Zone it arrives in [default: that of the interface by which this node reaches SRC]
        #[arg(long, value_name = "ZONE")]
        zone: Option<String>,
        /// Node it arrives at [default: the node that is asked]
        #[arg(long, value_name = "N")]
        ingress: Option<u16>,
        /// Ask this node alone
        #[arg(long)]
        here: bool,
        /// Whom to ask.
        #[command(flatten)]
        target: Target,
    },
    /// Pairs of prefixes whose packets arrive at another node than their Owner, what they cost on the cluster link, and
    /// what routing would save it (exit code 0 all nodes answered, 5 not)
    Symmetry {
        /// At most this many pairs
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
        /// Draw them too: an SVG picture
        #[arg(long, value_name = "FILE")]
        picture: Option<PathBuf>,
        /// Whom to ask.
        #[command(flatten)]
        target: Target,
    },
    /// The next packets that match, step by step on all nodes, as one story (exit code 0 all nodes told everything, 5 not)
    Trace {
        /// Which packets.
        #[command(flatten)]
        filter: PacketFilterArgs,
        /// So many packets
        #[arg(short = 'n', long = "count", value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        count: u32,
        /// End after this time too
        #[arg(long, value_name = "SECONDS", value_parser = interval)]
        timeout: Option<Duration>,
        /// On this node alone
        #[arg(long)]
        here: bool,
        /// Whom to ask.
        #[command(flatten)]
        target: Target,
    },
    /// Packets of this node that match, as pcapng: interface, queue, direction, and verdict and reason as comment
    Capture {
        /// Which packets.
        #[command(flatten)]
        filter: PacketFilterArgs,
        /// The file; - is the standard output
        #[arg(short = 'w', long = "write", value_name = "FILE")]
        file: PathBuf,
        /// At most so many packets
        #[arg(short = 'c', long = "count", value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
        count: u64,
        /// Bytes of each frame, 288 to 4096
        #[arg(short = 's', long, value_name = "BYTES", default_value_t = SNAP_MOST, value_parser = clap::value_parser!(u16).range(i64::from(SNAP_LEAST)..=i64::from(SNAP_MOST)))]
        snaplen: u16,
        /// Packets that may wait between each worker and this program, 1 to 16384
        #[arg(long, value_name = "N", default_value_t = SLOTS, value_parser = clap::value_parser!(u32).range(1..=i64::from(SLOTS_MOST)))]
        slots: u32,
        /// End after this time too
        #[arg(long, value_name = "SECONDS", value_parser = interval)]
        timeout: Option<Duration>,
        /// Socket of the daemon [default: the only one in /run/samepath]
        #[arg(long, value_name = "PATH", env = "SAMEPATH_CONTROL_SOCKET", hide_env_values = true)]
        control_socket: Option<PathBuf>,
    },
    /// Take no new flows, hand all sessions to the peers and wait until they own them (exit code 0)
    Drain {
        /// How long to wait
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        timeout: u64,
        /// Whom to ask.
        #[command(flatten)]
        target: Target,
    },
    /// Take flows again after a drain
    Undrain(Target),
    /// Drain, then stop the daemon; nothing is stopped if the drain is not done in time
    Leave {
        /// How long the drain may take
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        timeout: u64,
        /// Whom to ask.
        #[command(flatten)]
        target: Target,
    },
    /// The policy: check a file, show what is in force, read the file again
    Policy {
        /// What to do.
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// What the daemon logs now; with FILTER it logs that from now on, until it is told otherwise or ends
    Log {
        /// off, error, warn, info, debug, trace, or a filter like info,samepath=debug
        #[arg(value_parser = log_filter)]
        filter: Option<String>,
        /// Whom to ask.
        #[command(flatten)]
        target: Target,
    },
    /// Bring flows to their Owner (on), or process each packet where it arrives (off)
    Aggregation {
        /// On or off
        #[arg(value_enum)]
        state: Switch,
        /// Whom to ask.
        #[command(flatten)]
        target: Target,
    },
}

/// What to do with a policy.
#[derive(Subcommand, Debug)]
pub enum PolicyCommand {
    /// Check a file without a daemon (exit code 0: it can be used, 2: it cannot)
    Check {
        /// The policy
        file: PathBuf,
        /// Zones the rules may name, separated by commas [default: any]
        #[arg(long, value_name = "ZONES", value_delimiter = ',')]
        zones: Option<Vec<String>>,
        /// Services the rules may name, separated by commas [default: any]
        #[arg(long, value_name = "SERVICES", value_delimiter = ',')]
        services: Option<Vec<String>>,
    },
    /// The rules in force and what each was the answer for
    Show(Target),
    /// Read the file again: it takes the old policy's place as a whole, or nothing changes (exit code 1)
    Reload(Target),
}

/// Whom to ask and how to print the answer.
#[derive(Args, Clone, Debug)]
pub struct Target {
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
    /// Socket of the daemon [default: the only one in /run/samepath]
    #[arg(long, value_name = "PATH", env = "SAMEPATH_CONTROL_SOCKET", hide_env_values = true)]
    pub control_socket: Option<PathBuf>,
}

/// What to do with the sessions found.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum SessionsVerb {
    /// One line per session, in the shape of `conntrack -L`
    #[default]
    List,
    /// How many there are
    Count,
    /// Those that begin, change their role, Owner or state, and end, as it happens, like `conntrack -E` (exit code 5: not
    /// all were told)
    Events,
}

/// On or off.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Switch {
    /// On
    On,
    /// Off
    Off,
}

/// Conditions on sessions, all of which must hold.
#[derive(Args, Clone, Debug)]
pub struct FilterArgs {
    /// tcp, udp, icmp, icmpv6, sctp, … or a number
    #[arg(long, value_name = "PROTO", value_parser = protocol)]
    proto: Option<u8>,
    /// The originator's address or prefix
    #[arg(long, value_name = "IP[/LEN]", value_parser = filter::prefix)]
    src: Option<IpNet>,
    /// The responder's address or prefix
    #[arg(long, value_name = "IP[/LEN]", value_parser = filter::prefix)]
    dst: Option<IpNet>,
    /// The originator's port
    #[arg(long, value_name = "PORT")]
    sport: Option<u16>,
    /// The responder's port
    #[arg(long, value_name = "PORT")]
    dport: Option<u16>,
    /// State, as the list shows it (any case)
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<String>,
    /// What this node is to the flow
    #[arg(long, value_name = "ROLE", value_parser = role)]
    role: Option<Role>,
    /// The node that processes the flow
    #[arg(long, value_name = "N")]
    owner: Option<u16>,
    /// Outer VLAN id, 0 for untagged
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u16).range(0..=4095))]
    vlan: Option<u16>,
    /// At most this many
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<usize>,
}

/// Conditions on packets, all of which must hold.
#[derive(Args, Clone, Debug)]
pub struct PacketFilterArgs {
    /// tcp, udp, icmp, icmpv6, sctp, … or a number
    #[arg(long, value_name = "PROTO", value_parser = protocol)]
    proto: Option<u8>,
    /// Address or prefix of one end
    #[arg(long, value_name = "IP[/LEN]", value_parser = filter::prefix)]
    src: Option<IpNet>,
    /// Address or prefix of the other end
    #[arg(long, value_name = "IP[/LEN]", value_parser = filter::prefix)]
    dst: Option<IpNet>,
    /// Port at SRC
    #[arg(long, value_name = "PORT")]
    sport: Option<u16>,
    /// Port at DST
    #[arg(long, value_name = "PORT")]
    dport: Option<u16>,
    /// Outer VLAN id, 0 for untagged
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u16).range(0..=4094))]
    vlan: Option<u16>,
    /// The zone they arrived in
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// Not those from DST to SRC
    #[arg(long)]
    one_way: bool,
}

impl From<&PacketFilterArgs> for PacketFilter {
    fn from(args: &PacketFilterArgs) -> Self {
        let PacketFilterArgs { proto, src, dst, sport, dport, vlan, zone, one_way } = args.clone();
        Self { proto, src, dst, sport, dport, vlan, zone, one_way }
    }
}

impl From<&FilterArgs> for Filter {
    fn from(args: &FilterArgs) -> Self {
        Self {
            proto: args.proto,
            src: args.src,
            dst: args.dst,
            sport: args.sport,
            dport: args.dport,
            state: args.state.clone(),
            role: args.role,
            owner: args.owner,
            vlan: args.vlan,
            limit: args.limit,
        }
    }
}

impl ClientCommand {
    /// The request that goes to the daemon.
    pub fn request(&self) -> Request {
        match self {
            // These ask more than once, and see to it by themselves.
            Self::Status(_) | Self::Top { .. } | Self::Trace { .. } | Self::Capture { .. } => Request::Status,
            Self::Members(_) => Request::Members,
            Self::Stats(_) => Request::Stats,
            Self::Sessions { what, filter, .. } => match what {
                // Events are asked for again and again.
                SessionsVerb::List | SessionsVerb::Events => Request::Sessions { filter: filter.into() },
                SessionsVerb::Count => Request::SessionsCount { filter: filter.into() },
            },
            &Self::Director { src, dst, proto, sport, dport, .. } => {
                Request::Director { src, dst, proto, sport, dport }
            }
            Self::Why { proto, src, dst, vlan, inner_vlan, zone, ingress, here, .. } => {
                // Of an ICMP query the identifier is in both ports.
                let query = matches!(*proto, proto::ICMP | proto::ICMPV6);
                let id = if query { src.1.max(dst.1) } else { 0 };
                let flow = Flow {
                    proto: *proto,
                    src: src.0,
                    sport: src.1.max(id),
                    dst: dst.0,
                    dport: dst.1.max(id),
                    vlan: *vlan,
                    inner_vlan: *inner_vlan,
                    zone: zone.clone(),
                    ingress: *ingress,
                };
                Request::Why { flow, here: *here }
            }
            &Self::Symmetry { limit, .. } => Request::Symmetry { limit, here: false },
            Self::Drain { .. } | Self::Leave { .. } => Request::Drain,
            Self::Policy { command: PolicyCommand::Reload(_) } => Request::PolicyReload,
            Self::Policy { .. } => Request::Policy,
            Self::Undrain(_) => Request::Undrain,
            Self::Log { filter, .. } => Request::Log { filter: filter.clone() },
            Self::Aggregation { state, .. } => Request::Aggregation { on: *state == Switch::On },
        }
    }

    /// What to follow, if that is asked for.
    pub fn events(&self) -> Option<EventsOrder> {
        match self {
            Self::Sessions { what: SessionsVerb::Events, filter, time, .. } => {
                Some(EventsOrder { filter: filter.into(), time: *time })
            }
            _ => None,
        }
    }

    /// What to draw, if that is asked for.
    pub fn picture(&self) -> Option<PictureOrder> {
        match self {
            Self::Symmetry { limit, picture: Some(file), .. } => {
                Some(PictureOrder { limit: *limit, file: file.clone() })
            }
            _ => None,
        }
    }

    /// What two arguments do not say together.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        match self {
            Self::Sessions { what, time: Some(_), .. } if *what != SessionsVerb::Events => {
                Some("--for is how long `samepath sessions events` follows: write events, or leave --for out")
            }
            _ => None,
        }
    }

    /// The order, if the node is to be drained.
    pub fn drain(&self) -> Option<DrainOrder> {
        let (timeout, leave) = match *self {
            Self::Drain { timeout, .. } => (timeout, false),
            Self::Leave { timeout, .. } => (timeout, true),
            _ => return None,
        };
        Some(DrainOrder { timeout: Duration::from_secs(timeout), leave })
    }

    /// How to show what the node does, if that is asked for.
    pub fn top(&self) -> Option<TopOrder> {
        match *self {
            Self::Top { interval, once, .. } => Some(TopOrder { interval, once }),
            _ => None,
        }
    }

    /// What to trace, if that is asked for.
    pub fn trace(&self) -> Option<TraceOrder> {
        match self {
            Self::Trace { filter, count, timeout, here, .. } => Some(TraceOrder {
                filter: filter.into(),
                count: *count as usize,
                timeout: *timeout,
                here: *here,
            }),
            _ => None,
        }
    }

    /// What to capture, if that is asked for.
    pub fn capture(&self) -> Option<CaptureOrder> {
        match self {
            Self::Capture { filter, file, count, snaplen, slots, timeout, .. } => Some(CaptureOrder {
                filter: filter.into(),
                file: file.clone(),
                count: *count,
                snap: *snaplen,
                slots: *slots,
                timeout: *timeout,
            }),
            _ => None,
        }
    }

    /// The file to be checked, and the zones and the services it may name, if no daemon is to be asked.
    pub fn policy_to_check(&self) -> Option<(&Path, [Option<&[String]>; 2])> {
        match self {
            Self::Policy { command: PolicyCommand::Check { file, zones, services } } => {
                Some((file, [zones.as_deref(), services.as_deref()]))
            }
            _ => None,
        }
    }

    /// Prints JSON instead of a table.
    pub fn json(&self) -> bool {
        self.target().is_some_and(|target| target.json)
    }

    /// The socket that was named; an empty variable names none.
    pub fn control_socket(&self) -> Option<&Path> {
        let named = match self {
            Self::Capture { control_socket, .. } => control_socket.as_deref(),
            _ => self.target()?.control_socket.as_deref(),
        };
        named.filter(|path| !path.as_os_str().is_empty())
    }

    fn target(&self) -> Option<&Target> {
        match self {
            Self::Status(target) | Self::Members(target) | Self::Stats(target) | Self::Undrain(target) => {
                Some(target)
            }
            Self::Policy { command: PolicyCommand::Show(target) | PolicyCommand::Reload(target) } => {
                Some(target)
            }
            Self::Policy { command: PolicyCommand::Check { .. } } | Self::Capture { .. } => None,
            Self::Sessions { target, .. }
            | Self::Director { target, .. }
            | Self::Why { target, .. }
            | Self::Top { target, .. }
            | Self::Symmetry { target, .. }
            | Self::Trace { target, .. }
            | Self::Drain { target, .. }
            | Self::Leave { target, .. }
            | Self::Log { target, .. }
            | Self::Aggregation { target, .. } => Some(target),
        }
    }
}

fn protocol(text: &str) -> Result<u8, String> {
    values::protocol(text).map_err(|rule| rule.0)
}

fn log_filter(text: &str) -> Result<String, String> {
    values::log(text).map_err(|rule| rule.0)
}

fn interval(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("an interval is a number of seconds from 0.1 to 3600; write one like 0.5".into()),
    }
}

/// An address with or without a port.
fn end(text: &str) -> Result<(IpAddr, u16), String> {
    let with_port = text.parse::<SocketAddr>().map(|end| (end.ip(), end.port())).ok();
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    with_port.or_else(|| bare.parse().ok().map(|address| (address, 0))).ok_or_else(|| {
        "this is neither an address nor an address with a port; write one like 10.0.0.1:4000 or [2001:db8::1]:4000".into()
    })
}

fn role(text: &str) -> Result<Role, String> {
    values::word(text, &[("owner", Role::Owner), ("backup", Role::Backup), ("claim", Role::Claim)])
        .map_err(|rule| rule.0)
}

fn state(text: &str) -> Result<String, String> {
    let names = || State::ALL.iter().map(|state| state.name());
    match names().find(|name| name.eq_ignore_ascii_case(text)) {
        Some(name) => Ok(name.into()),
        None => Err(format!("states are {}", names().collect::<Vec<_>>().join(", "))),
    }
}
