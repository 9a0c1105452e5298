//! The demo's scenes, in the order of the story.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use samepath_tests::bed::plan::{self, Family};
use samepath_tests::bed::{Bed, SETTLE_SOON, Service, Shape};
use samepath_tests::traffic::Tally;
use samepath_tests::web::{LARGE, Web};
use samepath_tests::{artifacts, program, wait};

use crate::proof::{Proof, watch, watch_moving};
use crate::report::{Report, Shown};

/// Port of the UDP server.
const UDP_PORT: u16 = 7000;

/// Small requests, and UDP exchanges, per IP version.
const REQUESTS: usize = 200;

/// Echo requests per IP version.
const PINGS: u32 = 20;

/// How long replication may take to catch up after it was cut (QUIC backs off meanwhile).
const CATCH_UP: Duration = Duration::from_secs(20);

/// A client and a server address whose Director is node 2.
#[derive(Clone, Copy)]
struct Pair {
    family: Family,
    client: IpAddr,
    server: IpAddr,
}

impl Pair {
    fn ends(&self) -> (IpAddr, IpAddr) {
        (self.client, self.server)
    }

    fn ip(&self) -> &'static str {
        match self.family {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }
}

/// The bed with everything running.
pub struct Demo {
    bed: Bed,
    web: Web,
    traffic: Service,
    pairs: Vec<Pair>,
}

impl Demo {
    /// Bed, three nodes with aggregation off, nginx and the UDP server.
    pub fn set_up(report: &mut Report) -> Result<Self> {
        report.screen().heading("Setting up");
        let mut made = None;
        report.step("test bed: client, 2 routers, 3 nodes, cluster switch, server", |_| {
            made = Some(Bed::new("demo", Shape::default())?);
            Ok(Shown::told(
                "towards the server packets pass node 1, towards the client node 3 (tests/README.md)",
            ))
        })?;
        let mut bed = made.context("no bed")?;
        report.step("three nodes of samepath start, aggregation off", |_| {
            bed.start_nodes(&[&SETTLE_SOON[..], &["--aggregation", "off"]].concat())?;
            Ok(Shown::told("each is ready and sees all three members"))
        })?;
        report.step(
            "Directors settle: after duty moved they ask the former ones, here for half a second",
            |_| {
                bed.wait_settled()?;
                Ok(Shown::told("now each decides alone"))
            },
        )?;
        let pairs = choose_pairs(report, &bed)?;
        let mut made = None;
        report.step("nginx and a UDP server start", |_| {
            made = Some((bed.start_web()?, start_traffic(&bed, &pairs)?));
            Ok(Shown::told(format!("a file of {LARGE} bytes and a small one")))
        })?;
        let (web, traffic) = made.context("no servers")?;
        Ok(Self { bed, web, traffic, pairs })
    }

    /// The story.
    pub fn play(&mut self, report: &mut Report) -> Result<()> {
        report.screen().heading("Aggregation off: today's firewalls");
        for pair in self.pairs.clone() {
            self.split_flow_fails(report, pair)?;
        }
        report.screen().heading("Aggregation on");
        report.step("aggregation is switched on, at run time", |_| {
            self.bed.set_aggregation(true)?;
            for node in self.bed.running() {
                ensure!(self.bed.status(node)?["aggregation"] == true, "node {node} has it off");
            }
            Ok(Shown::told("`samepath aggregation on` on all nodes"))
        })?;
        for pair in self.pairs.clone() {
            self.first_connection(report, pair)?;
        }
        for pair in self.pairs.clone() {
            self.everyday_traffic(report, pair)?;
        }
        report.screen().heading("Where the network is symmetric");
        self.symmetric_costs_nothing(report)
    }

    /// The books balance, every node stops cleanly, everything goes.
    pub fn tear_down(self, report: &mut Report) -> Result<()> {
        report.screen().heading("Cleaning up");
        report.step("every packet and frame is accounted for on every node", |_| {
            self.bed.conservation_everywhere()?;
            Ok(Shown::told("received = sent + dropped by reason; frames in kernel + in hand + free = total"))
        })?;
        report.step("nodes stop, nothing stays attached, the bed goes", |_| {
            drop((self.web, self.traffic));
            self.bed.finish()?;
            Ok(Shown::told("`bpftool net` is empty in every node's namespace"))
        })
    }

    fn split_flow_fails(&self, report: &mut Report, pair: Pair) -> Result<()> {
        let title = format!("{}: a request and a ping fail", pair.ip());
        report.step(&title, |screen| {
            let (_, proof) = watch_moving(&self.bed, &[(3, "drops.no_session")], || {
                screen.progress("waiting for curl to give up");
                if self.bed.fetch_small(pair.ends(), 1).is_ok() {
                    bail!("the request was answered, although the flow is split");
                }
                if ping(&self.bed, pair, 1).is_ok() {
                    bail!("the ping was answered, although the flow is split");
                }
                Ok(())
            })?;
            Ok(Shown { what: "the replies die on node 3, reason no_session".into(), proof })
        })
    }

    /// One request with replication held back, so that every step of the mechanism is seen; then
    /// replication catches up.
    fn first_connection(&self, report: &mut Report, pair: Pair) -> Result<()> {
        let ip = pair.ip();
        let watched = [
            (1, "tunnel.query_tx"),
            (2, "tunnel.query_rx"),
            (2, "sessions.claims_granted"),
            (2, "tunnel.first_packet_tx"),
            (1, "tunnel.first_packet_rx"),
            (1, "sessions.created"),
            (1, "verdicts.forward"),
            (3, "tunnel.query_tx"),
            (2, "tunnel.redirect_tx"),
            (1, "tunnel.redirect_rx"),
        ];
        let mut proof = Vec::new();
        let title = format!("{ip}: one request, replication held back (nft drops UDP 6082)");
        report.step(&title, |_| {
            self.bed.cut_replication()?;
            (_, proof) = watch_moving(&self.bed, &watched, || self.bed.fetch_small(pair.ends(), 1))?;
            Ok(Shown::told(format!("{} got its answer from {}", pair.client, pair.server)))
        })?;
        for (what, range) in [
            ("step 1: node 1 has no session and asks Director node 2 (Query)", 0..2),
            ("step 2: node 2 records the claim, then returns the packet (FirstPacket)", 2..4),
            ("step 3: node 1 makes the session, is Owner, forwards to the server", 4..7),
            ("step 4: the reply meets node 3, goes by Director node 2 to Owner node 1 (Redirect)", 7..10),
        ] {
            let proof = proof[range].to_vec();
            report.step(&format!("{ip}: {what}"), |_| Ok(Shown { what: String::new(), proof }))?;
        }
        self.backups_arrive(report, pair)
    }

    fn backups_arrive(&self, report: &mut Report, pair: Pair) -> Result<()> {
        let title = format!("{}: replication is let through: nodes 2 and 3 back the session up", pair.ip());
        report.step(&title, |_| {
            let port = self.answered_from(pair)?;
            let watched = [(1, "replication.2.acked"), (1, "replication.3.acked")];
            let (_, proof) = watch_moving(&self.bed, &watched, || {
                self.bed.mend_replication()?;
                [2, 3].into_iter().try_for_each(|node| self.wait_backup(node, (pair.client, port)))?;
                wait::until_true("everything is acknowledged", CATCH_UP, || {
                    Ok(self.bed.stats(1)?.replication.values().all(|peer| peer.lag_records == 0))
                })
            })?;
            let what = format!(
                "`samepath sessions` of both shows {} port {port}: role backup, owner 1",
                pair.client
            );
            Ok(Shown { what, proof })
        })
    }

    /// The client's port of the connection that was just answered, as its Owner lists it.
    fn answered_from(&self, pair: Pair) -> Result<u16> {
        let rows = self.bed.sessions(1)?;
        let answered = rows.iter().filter(|row| {
            let ours = row.proto == "tcp" && (row.src, row.dst) == pair.ends();
            ours && row.role == "owner" && !matches!(row.state.as_str(), "SYN_SENT" | "CLOSE")
        });
        let newest = answered.min_by_key(|row| row.age_s).context("node 1 owns no such session")?;
        Ok(newest.sport)
    }

    fn wait_backup(&self, node: u8, client: (IpAddr, u16)) -> Result<()> {
        let what = format!("node {node} has the backup of {} port {}", client.0, client.1);
        wait::until_true(&what, CATCH_UP, || {
            Ok(self
                .bed
                .sessions(node)?
                .iter()
                .any(|row| (row.src, row.sport) == client && (row.role.as_str(), row.owner) == ("backup", 1)))
        })
    }

    fn everyday_traffic(&self, report: &mut Report, pair: Pair) -> Result<()> {
        let ip = pair.ip();
        report.step(&format!("{ip}: nginx to curl, 100 MB"), |screen| {
            let watched = [(3, "tunnel.redirect_tx"), (1, "tunnel.redirect_rx")];
            let (fetched, proof) = watch_moving(&self.bed, &watched, || {
                self.bed.fetch_large(&self.web, pair.ends(), |bytes| {
                    screen.progress(&format!("{ip}: {} of 100 MB", bytes / 1_000_000));
                })
            })?;
            let rate = fetched.bytes as f64 / fetched.seconds / 1e6;
            let what = format!(
                "{:.1} s, {rate:.0} MB/s, equal byte for byte; with the backup node 3 goes straight to Owner node 1",
                fetched.seconds
            );
            Ok(Shown { what, proof })
        })?;
        report.step(&format!("{ip}: {REQUESTS} small requests, a connection each"), |_| {
            let watched = [(2, "tunnel.first_packet_tx"), (1, "sessions.created")];
            let (fetched, proof) =
                watch_moving(&self.bed, &watched, || self.bed.fetch_small(pair.ends(), REQUESTS))?;
            Ok(Shown { what: format!("{} answered, 0 failed", fetched.len()), proof })
        })?;
        report.step(&format!("{ip}: {REQUESTS} UDP exchanges, a socket each"), |_| {
            let watched = [(2, "tunnel.query_rx"), (1, "sessions.created")];
            let (tally, proof) = watch_moving(&self.bed, &watched, || udp_exchanges(&self.bed, pair))?;
            Ok(Shown { what: format!("{} answered, {} failed", tally.ok, tally.failed), proof })
        })?;
        report.step(&format!("{ip}: {PINGS} pings"), |_| {
            let watched = [(3, "tunnel.redirect_tx"), (1, "tunnel.redirect_rx")];
            let (_, proof) = watch_moving(&self.bed, &watched, || ping(&self.bed, pair, PINGS))?;
            Ok(Shown { what: "all answered".into(), proof })
        })
    }

    fn symmetric_costs_nothing(&self, report: &mut Report) -> Result<()> {
        let title = "step 5: replies return through node 1, aggregation is switched off";
        report.step(title, |_| {
            self.bed.return_via(1)?;
            self.bed.set_aggregation(false)?;
            let mut watched = vec![(1, "verdicts.forward")];
            for node in 1..=plan::NODES {
                watched.extend([(node, "tunnel.query_tx"), (node, "tunnel.redirect_tx")]);
            }
            let (_, proof) = watch(&self.bed, &watched, || {
                self.pairs.iter().try_for_each(|pair| {
                    self.bed.fetch_small(pair.ends(), 10)?;
                    ping(&self.bed, *pair, 5)
                })
            })?;
            ensure!(proof[0].moved() > 0, "nothing went through node 1: {}", proof[0]);
            let crossed: u64 = proof[1..].iter().map(Proof::moved).sum();
            ensure!(crossed == 0, "{crossed} packets crossed the cluster link");
            let what = "requests and pings are answered and nothing crosses the cluster link";
            Ok(Shown { what: what.into(), proof })
        })
    }
}

fn choose_pairs(report: &mut Report, bed: &Bed) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    report.step("addresses whose Director is node 2", |_| {
        for family in Family::BOTH {
            let (client, server) = bed.director_on(2, family)?;
            pairs.push(Pair { family, client, server });
        }
        let chosen: Vec<String> =
            pairs.iter().map(|pair| format!("{} and {}", pair.client, pair.server)).collect();
        Ok(Shown::told(format!("`samepath director` says so for {}", chosen.join(", "))))
    })?;
    Ok(pairs)
}

fn start_traffic(bed: &Bed, pairs: &[Pair]) -> Result<Service> {
    let mut serve = bed.server().command(artifacts::sibling("samepath-traffic")?);
    serve.args(["serve", "--port", &UDP_PORT.to_string()]);
    for pair in pairs {
        serve.args(["--address", &pair.server.to_string()]);
    }
    let service = bed.start_service("udp-server", &mut serve)?;
    wait::until_true("the UDP server is ready", Duration::from_secs(5), || {
        Ok(service.output().contains("ready"))
    })?;
    Ok(service)
}

fn udp_exchanges(bed: &Bed, pair: Pair) -> Result<Tally> {
    let mut ask = bed.client().command(artifacts::sibling("samepath-traffic")?);
    ask.args(["udp", "--count", &REQUESTS.to_string(), "--at-once", "4", "--patience", "5"]);
    ask.args(["--to", &SocketAddr::new(pair.server, UDP_PORT).to_string()]);
    ask.args(["--from", &pair.client.to_string()]);
    let tally: Tally = serde_json::from_str(&program::run(&mut ask)?)?;
    ensure!(tally.failed == 0 && tally.ok == REQUESTS as u64, "UDP exchanges failed: {tally:?}");
    Ok(tally)
}

/// All of `count` echo requests must be answered.
fn ping(bed: &Bed, pair: Pair, count: u32) -> Result<()> {
    let mut ping = bed.client().command("ping");
    ping.args(["-q", "-i", "0.05", "-W", "1", "-c", &count.to_string()]);
    ping.args(["-I", &pair.client.to_string(), &pair.server.to_string()]);
    let said = program::run(&mut ping)?;
    ensure!(said.contains(" 0% packet loss"), "ping lost some: {said}");
    Ok(())
}
