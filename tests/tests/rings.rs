//! AF_XDP rings by themselves, on a veth pair: what one flush sends, and the probe of zero-copy (here in
//! copy mode; no network card without copies was at hand).

use std::time::Duration;

use anyhow::{Result, ensure};
use samepath_dataplane::tuning::HugePages;
use samepath_dataplane::xsk::{self, Io, Opened, PortPlan, SocketOptions, SocketsPlan};
use samepath_tests::netns::Namespace;
use samepath_tests::{ledger, link};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// A namespace with a veth pair `near` and `far`, two queues each; removed when dropped.
struct Pair {
    prefix: String,
    namespace: Namespace,
}

impl Pair {
    fn new(name: &str) -> Result<Self> {
        let prefix = format!("springs{}-{name}", std::process::id());
        ledger::open(&prefix)?;
        let namespace = Namespace::add(&prefix, "pair")?;
        // The kernel sends nothing of its own here: link counters count the rings' packets alone.
        namespace.sysctl(&[("ipv6/conf/all/disable_ipv6", "1"), ("ipv6/conf/default/disable_ipv6", "1")])?;
        let pair = Self { prefix, namespace };
        pair.namespace.ip(
            "link add near numrxqueues 2 numtxqueues 2 type veth peer name far numrxqueues 2 numtxqueues 2\n\
             link set near up\nlink set far up",
        )?;
        Ok(pair)
    }

    fn open(&self, options: SocketOptions) -> Result<Opened> {
        let port = PortPlan { port: 0, interface: "near".into(), queues: 2, copy_only: false };
        let plan = SocketsPlan {
            ports: vec![port],
            workers: 1,
            ring_size: 512,
            frames: 2560,
            frame_size: 2048,
            zero_copy_only: false,
            huge_pages: HugePages::Off,
            options,
        };
        self.namespace.enter(|| Ok(xsk::open(&plan)?))
    }

    fn sent(&self) -> Result<u64> {
        Ok(link::counters(&self.namespace, "near")?.tx_packets)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if let Err(error) = ledger::undo(&self.prefix) {
            eprintln!("{error:#}");
        }
    }
}

#[test]
fn a_flush_sends_everything_however_little_a_wakeup_sends() -> Result<()> {
    for tx_batch in [32, 100, 256] {
        let pair = Pair::new(&format!("batch{tx_batch}"))?;
        let mut opened = pair.open(SocketOptions { tx_batch, ..SocketOptions::default() })?;
        let io = &mut opened.workers[0];
        for _ in 0..300 {
            let frame = io.allocate(60).expect("a free frame");
            ensure!(io.send(0, frame).is_ok(), "the ring has room for 512");
        }
        let before = pair.sent()?;
        io.flush();
        let sent = pair.sent()? - before;
        ensure!(sent == 300, "--tx-batch {tx_batch}: one flush sent {sent} of 300");
    }
    Ok(())
}

#[test]
fn the_probe_finds_rings_that_send_and_rings_that_do_not() -> Result<()> {
    let pair = Pair::new("probe")?;
    let mut opened = pair.open(SocketOptions::default())?;
    let ports = [(0, MAC)];
    let before = pair.sent()?;
    let silent = xsk::probe(&mut opened.workers[0], &ports, xsk::PROBE_FOR);
    ensure!(silent.is_empty(), "{silent:?}");
    ensure!(pair.sent()? - before == 2, "a frame per ring");
    ensure!(opened.workers[0].frames().free + opened.workers[0].frames().kernel == 2560, "no frame is lost");

    // A device that takes the frame and does nothing with it.
    pair.namespace.ip("link set near down")?;
    let silent = xsk::probe(&mut opened.workers[0], &ports, Duration::from_millis(50));
    ensure!(silent == [0], "{silent:?}");
    // Interfaces that were not named are not tried.
    ensure!(xsk::probe(&mut opened.workers[0], &[], Duration::from_millis(50)).is_empty(), "not asked for");
    Ok(())
}
