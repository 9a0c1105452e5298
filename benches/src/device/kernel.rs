//! The kernel as the device under test: routing, conntrack, VXLAN.

use anyhow::{Context, Result};
use samepath_tests::program;

use crate::rig::{CLUSTER, EGRESS, NEXT_HOP_MAC, Rig, cluster_address, mac_text};

/// What a firewall administrator would write for "established or allowed".
const STATEFUL: &str = "
table ip bench {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        ct state new accept
    }
}";

/// The tunnel's own packets need no state.
const TUNNEL_UNTRACKED: &str = "
table ip bench {
    chain output { type filter hook output priority raw; udp dport 4789 notrack; }
}";

const VXLAN: &str = "sbvxlan";

/// Sessions end only when we say so.
const TIMEOUTS: [(&str, &str); 2] =
    [("netfilter/nf_conntrack_udp_timeout", "900"), ("netfilter/nf_conntrack_udp_timeout_stream", "900")];

/// What the kernel was told for this device.
#[derive(Debug)]
pub(super) struct Ruleset {
    stateful: bool,
    tunnel: bool,
}

impl Ruleset {
    /// Routing alone.
    pub(super) fn none() -> Self {
        Self { stateful: false, tunnel: false }
    }

    /// Routing and connection tracking.
    pub(super) fn stateful(rig: &Rig) -> Result<Self> {
        rig.device.nft(STATEFUL)?;
        rig.device.sysctl(&TIMEOUTS)?;
        Ok(Self { stateful: true, tunnel: false })
    }

    /// Routing and connection tracking, and every packet leaves in a VXLAN tunnel by the cluster link.
    pub(super) fn stateful_and_tunnel(rig: &Rig) -> Result<Self> {
        Self::stateful(rig)?;
        rig.device.nft(TUNNEL_UNTRACKED)?;
        let next_hop = mac_text(NEXT_HOP_MAC);
        rig.device.ip(&format!(
            "link add {VXLAN} type vxlan id 7001 local {} remote {} dstport 4789 dev {CLUSTER} noudpcsum\n\
             link set {VXLAN} txqueuelen 0 up\n\
             addr add 10.13.0.1/24 dev {VXLAN}\n\
             neigh add 10.13.0.2 lladdr {next_hop} dev {VXLAN} nud permanent\n\
             route replace 10.1.0.0/16 via 10.13.0.2 dev {VXLAN}\n\
             route replace 10.2.0.0/16 via 10.13.0.2 dev {VXLAN}\n",
            cluster_address(1),
            cluster_address(2)
        ))?;
        Ok(Self { stateful: true, tunnel: true })
    }

    /// Takes everything back.
    pub(super) fn remove(self, rig: &Rig) -> Result<()> {
        if self.tunnel {
            rig.device.ip(&format!(
                "route replace 10.1.0.0/16 via 10.12.0.2 dev {EGRESS}\n\
                 route replace 10.2.0.0/16 via 10.12.0.2 dev {EGRESS}\n\
                 link del {VXLAN}\n"
            ))?;
        }
        if self.stateful {
            rig.device.nft("delete table ip bench")?;
            program::run(rig.device.command("conntrack").arg("-F"))?;
        }
        Ok(())
    }
}

/// Entries in the namespace's connection tracking table.
pub(super) fn sessions(rig: &Rig) -> Result<u64> {
    let text =
        rig.device.enter(|| Ok(std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count")?))?;
    text.trim().parse().with_context(|| format!("nf_conntrack_count {text:?}"))
}
