//! What Linux has for firewalls that take over: two kernels with a stateful nft ruleset, conntrackd in FTFW mode
//! between them, keepalived (VRRP) for the addresses both routers send to. In the bed of the end-to-end tests, in the
//! places of nodes 1 and 2; the cluster link is conntrackd's own.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use samepath_tests::bed::plan::{CLIENTS, Family, SERVERS};
use samepath_tests::bed::{Bed, Service};
use samepath_tests::netns::Namespace;
use samepath_tests::{program, wait};

use crate::device::conntrackd_configuration;

/// The two firewalls: places of nodes.
const FIREWALLS: [u8; 2] = [1, 2];

/// How long VRRP may take to give both addresses to whom they belong.
const ELECTED: Duration = Duration::from_secs(20);

/// How long sessions may take to be known to both.
const SYNCED: Duration = Duration::from_secs(30);

/// New flows from inside, everything of known ones; what is in the middle of an unknown connection is dropped.
const RULES: &str = "table inet firewall {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state invalid drop
        ct state established,related accept
        iifname \"inside\" ct state new accept
    }
}
";

/// Which of the two serves what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Paths {
    /// The first serves both directions and the second stands by, as conntrackd's manual wants it.
    Symmetric,
    /// The first serves packets to the server, the second those to the client, and each puts what it is told into its
    /// kernel at once (`DisableExternalCache On`): against the manual's advice.
    Asymmetric,
}

/// Both firewalls.
#[derive(Debug)]
pub struct FirewallPair {
    paths: Paths,
    conntrackd: Vec<Service>,
    keepalived: Vec<Service>,
    configurations: Vec<String>,
}

impl FirewallPair {
    /// Starts both in a bed without nodes; returns when the addresses are where they belong. `advert` is VRRP's
    /// interval in seconds: a firewall is dead after three and a little.
    pub fn start(bed: &Bed, paths: Paths, advert: f64) -> Result<Self> {
        lay_out(bed)?;
        let mut pair =
            Self { paths, conntrackd: Vec::new(), keepalived: Vec::new(), configurations: Vec::new() };
        for number in FIREWALLS {
            let folder = bed.runtime().join(format!("firewall{number}"));
            fs::create_dir_all(&folder)?;
            pair.start_conntrackd(bed, number, &folder)?;
            pair.start_keepalived(bed, number, &folder, advert)?;
        }
        let (inside, outside) = (1, if paths == Paths::Symmetric { 1 } else { 2 });
        wait::until_true("both addresses are where they belong", ELECTED, || {
            pair.all_run()?;
            Ok(has(bed.node_namespace(inside), "inside", "10.11.9.254")?
                && has(bed.node_namespace(outside), "outside", "10.12.9.254")?)
        })?;
        Ok(pair)
    }

    fn start_conntrackd(&mut self, bed: &Bed, number: u8, folder: &Path) -> Result<()> {
        let (me, other) = (format!("10.9.0.{number}"), format!("10.9.0.{}", 3 - number));
        let mut text = conntrackd_configuration(&folder.display().to_string(), &me, &other, "cluster");
        if self.paths == Paths::Asymmetric {
            text = text.replace("DisableExternalCache Off", "DisableExternalCache On");
        }
        let file = folder.join("conntrackd.conf").display().to_string();
        fs::write(&file, text)?;
        let mut command = bed.node_namespace(number).command("conntrackd");
        let service = bed.start_service(&format!("conntrackd{number}"), command.args(["-C", &file]))?;
        let namespace = bed.node_namespace(number);
        self.conntrackd.push(service);
        self.configurations.push(file.clone());
        wait::until_true("conntrackd answers", Duration::from_secs(5), || {
            program::run(namespace.command("conntrackd").args(["-C", &file, "-s"])).map(|_| true)
        })
    }

    fn start_keepalived(&mut self, bed: &Bed, number: u8, folder: &Path, advert: f64) -> Result<()> {
        let script = folder.join("takeover.sh");
        let conntrackd = format!("conntrackd -C {}", self.configurations[usize::from(number) - 1]);
        fs::write(&script, takeover(&conntrackd))?;
        let file = folder.join("keepalived.conf");
        fs::write(
            &file,
            keepalived_configuration(number, self.paths, advert, &script.display().to_string()),
        )?;
        let mut command = bed.node_namespace(number).command("keepalived");
        command.args(["--vrrp", "--dont-fork", "--log-console", "--no-syslog", "--use-file"]).arg(&file);
        command.arg("--pid").arg(folder.join("keepalived.pid"));
        command.arg("--vrrp_pid").arg(folder.join("vrrp.pid"));
        self.keepalived.push(bed.start_service(&format!("keepalived{number}"), &mut command)?);
        Ok(())
    }

    fn all_run(&mut self) -> Result<()> {
        for service in self.conntrackd.iter_mut().chain(&mut self.keepalived) {
            let ended = service.ended()?;
            ensure!(ended.is_none(), "{service:?} ended: {}\n{}", service.log_tail(), service.output());
        }
        Ok(())
    }

    /// Waits until the second firewall knows `sessions`, or as many as it will. How many it knows.
    pub fn wait_synced(&self, bed: &Bed, sessions: u64) -> Result<u64> {
        let mut known = 0;
        let waited = wait::until_true("all sessions are known to both", SYNCED, || {
            known = self.known(bed)?;
            Ok(known >= sessions)
        });
        if let Err(error) = waited {
            println!("conntrackd: {error:#}: {known} of {sessions}");
        }
        Ok(known)
    }

    fn known(&self, bed: &Bed) -> Result<u64> {
        let second = bed.node_namespace(2);
        if self.paths == Paths::Asymmetric {
            let path = "/proc/sys/net/netfilter/nf_conntrack_count";
            return Ok(second.enter(|| Ok(fs::read_to_string(path)?))?.trim().parse()?);
        }
        let text = program::run(second.command("conntrackd").args(["-C", &self.configurations[1], "-s"]))?;
        let external = text.split("cache external:").nth(1).context("no external cache in the answer")?;
        let number =
            external.split("current active connections:").nth(1).context("no number in the answer")?;
        number.split_whitespace().next().context("no number")?.parse().context("not a number")
    }

    /// The first machine dies: its processes by SIGKILL, its links go down.
    pub fn lose_first(&mut self, bed: &Bed) -> Result<()> {
        self.keepalived[0].kill()?;
        self.conntrackd[0].kill()?;
        bed.node_namespace(1).ip("link set inside down\nlink set outside down\nlink set cluster down\n")
    }

    /// Where the addresses are now, for a reader who wonders.
    pub fn has_taken_over(&self, bed: &Bed) -> Result<bool> {
        let second = bed.node_namespace(2);
        Ok(has(second, "inside", "10.11.9.254")? && has(second, "outside", "10.12.9.254")?)
    }
}

fn has(namespace: &Namespace, interface: &str, address: &str) -> Result<bool> {
    Ok(namespace.ip_output(&["-4", "address", "show", "dev", interface])?.contains(&format!("{address}/")))
}

/// One subnet on either side, as VRRP needs it, and kernels that forward.
fn lay_out(bed: &Bed) -> Result<()> {
    for (router, net) in [(bed.router_a(), 11), (bed.router_b(), 12)] {
        router.ip(&format!(
            "link add lan type bridge mcast_snooping 0\naddress flush dev n1\naddress flush dev n2\n\
             link set n1 master lan\nlink set n2 master lan\nlink set lan up\naddress add 10.{net}.9.1/24 dev lan\n"
        ))?;
    }
    bed.router_a().ip(&format!("route replace {} via 10.11.9.254\n", SERVERS.network(Family::V4)))?;
    bed.router_b().ip(&format!("route replace {} via 10.12.9.254\n", CLIENTS.network(Family::V4)))?;
    for number in FIREWALLS {
        let namespace = bed.node_namespace(number);
        namespace.sysctl(&[
            ("ipv4/ip_forward", "1"),
            ("ipv4/conf/all/send_redirects", "0"),
            ("ipv4/conf/default/send_redirects", "0"),
        ])?;
        let host = 10 + number;
        namespace.ip(&format!(
            "address flush dev inside\naddress flush dev outside\n\
             address add 10.11.9.{host}/24 dev inside\naddress add 10.12.9.{host}/24 dev outside\n\
             route replace {} via 10.11.9.1\nroute replace {} via 10.12.9.1\n",
            CLIENTS.network(Family::V4),
            SERVERS.network(Family::V4)
        ))?;
        namespace.nft(RULES)?;
        // As conntrackd's manual asks for: a firewall that picks up connections it does not know hides what was lost.
        namespace.sysctl(&[("netfilter/nf_conntrack_tcp_loose", "0")])?;
    }
    Ok(())
}

/// What a new master does, and what one that stands by does, after the example of conntrackd's documentation.
fn takeover(conntrackd: &str) -> String {
    format!(
        "#!/bin/sh
case \"$1\" in
    master) {conntrackd} -c; {conntrackd} -f; {conntrackd} -R; {conntrackd} -B ;;
    backup) {conntrackd} -t; {conntrackd} -n ;;
    fault) {conntrackd} -t ;;
esac
"
    )
}

fn keepalived_configuration(number: u8, paths: Paths, advert: f64, script: &str) -> String {
    let first = if number == 1 { 150 } else { 100 };
    let second = if number == 1 { 100 } else { 150 };
    let outside = if paths == Paths::Symmetric { first } else { second };
    let instance = |name: &str, id: u8, priority: u8, address: &str| {
        format!(
            "vrrp_instance {name} {{
    state BACKUP
    interface {name}
    virtual_router_id {id}
    priority {priority}
    advert_int {advert}
    virtual_ipaddress {{
        {address}/24 dev {name}
    }}
}}
"
        )
    };
    let group = format!(
        "vrrp_sync_group both {{
    group {{
        inside
        outside
    }}
    notify_master \"/bin/sh {script} master\"
    notify_backup \"/bin/sh {script} backup\"
    notify_fault \"/bin/sh {script} fault\"
}}
"
    );
    format!(
        "global_defs {{
    vrrp_version 3
    script_user root
    vrrp_garp_master_delay 1
    vrrp_garp_master_refresh 1
}}
{}{}{}",
        if paths == Paths::Symmetric { group } else { String::new() },
        instance("inside", 61, first, "10.11.9.254"),
        instance("outside", 62, outside, "10.12.9.254")
    )
}
