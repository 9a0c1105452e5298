//! Cutting the control connections between nodes, and mending them. The tunnel is never touched.

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
}
