//! Cutting the control connections between nodes, or all of a node's cluster link, and mending them.

use anyhow::Result;

use super::Bed;
use super::plan::{CONTROL_PORT, NODES};

impl Bed {
    /// From now on every node drops all control traffic (QUIC), in and out. Hello messages travel in the
    /// tunnel, so the members stay live; only replication stands still.
    pub fn cut_replication(&self) -> Result<()> {
        for number in 1..=NODES {
            self.node_namespace(number).nft(&format!(
                "table inet cut {{
                    chain in {{
                        type filter hook input priority 0;
                        udp dport {CONTROL_PORT} counter drop
                        udp sport {CONTROL_PORT} counter drop
                    }}
                    chain out {{
                        type filter hook output priority 0;
                        udp dport {CONTROL_PORT} counter drop
                        udp sport {CONTROL_PORT} counter drop
                    }}
                }}"
            ))?;
        }
        Ok(())
    }

    /// Lets control traffic pass again.
    pub fn mend_replication(&self) -> Result<()> {
        for number in 1..=NODES {
            self.node_namespace(number).nft("delete table inet cut")?;
        }
        Ok(())
    }

    /// From now on nothing reaches node `number` by the cluster link (`towards`), nothing it sends there reaches
    /// anybody (`from`), or both: tunnel and control connections alike. The links themselves stay up.
    pub fn cut_cluster_link(&self, number: u8, towards: bool, from: bool) -> Result<()> {
        let port = format!("n{number}");
        let chain = |name: &str, field: &str, hook: &str, cut: bool| {
            let rule = if cut { format!("{field} {port} counter drop") } else { String::new() };
            format!("chain {name} {{ type filter hook {hook} priority 0; {rule}; }}\n")
        };
        let rules =
            chain("from_it", "iifname", "forward", from) + &chain("to_it", "oifname", "forward", towards);
        self.switch().nft(&format!("table bridge cut {{\n{rules}}}"))
    }

    /// Lets everything pass again.
    pub fn mend_cluster_link(&self) -> Result<()> {
        self.switch().nft("delete table bridge cut")
    }
}
