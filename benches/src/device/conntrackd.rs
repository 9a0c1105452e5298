//! What Linux has for backups of sessions: conntrackd in FTFW mode between the device and a second namespace.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use samepath_tests::bed::Service;
use samepath_tests::netns::Namespace;
use samepath_tests::{program, wait};

use crate::rig::{self, DEVICE_CORE, GENERATOR_CORE, Rig};

/// The dedicated link between the two: ends at the device and at the backup.
const LINK: (&str, &str) = ("sbsync0", "sbsync1");
const ADDRESSES: (&str, &str) = ("10.14.0.1", "10.14.0.2");

/// How long a commit may take.
const COMMIT: Duration = Duration::from_secs(60);

/// Two running conntrackd.
#[derive(Debug)]
pub struct Conntrackd {
    backup: Namespace,
    sender: Service,
    receiver: Service,
    configuration: [String; 2],
}

/// Buffers as large as conntrackd's documentation recommends for busy firewalls, everything kept in memory,
/// nothing logged.
pub(crate) fn configuration(folder: &str, me: &str, other: &str, interface: &str) -> String {
    format!(
        "Sync {{
    Mode FTFW {{
        ResendQueueSize 1048576
        CommitTimeout 180
        PurgeTimeout 3600
        ACKWindowSize 300
        DisableExternalCache Off
    }}
    UDP {{
        IPv4_address {me}
        IPv4_Destination_Address {other}
        Port 3780
        Interface {interface}
        SndSocketBuffer 67108864
        RcvSocketBuffer 67108864
        Checksum on
    }}
}}
General {{
    HashSize 524288
    HashLimit 4194304
    LogFile {folder}/conntrackd.log
    Syslog off
    LockFile {folder}/conntrackd.lock
    UNIX {{
        Path {folder}/conntrackd.ctl
    }}
    NetlinkBufferSize 67108864
    NetlinkBufferSizeMaxGrowth 134217728
    NetlinkOverrunResync On
    NetlinkEventsReliable Off
    EventIterationLimit 1000
    Filter From Kernelspace {{
        Protocol Accept {{
            TCP
            UDP
        }}
    }}
}}
"
    )
}

impl Conntrackd {
    /// Starts both: the sender on the device's core, the receiver on the other.
    pub fn start(rig: &Rig) -> Result<Self> {
        let backup = rig.add_namespace("backup")?;
        backup.ip(&format!(
            "link add {1} type veth peer name {0} netns {2}\nlink set {1} up\naddr add {3}/24 dev {1}\n",
            LINK.0,
            LINK.1,
            rig.device.name(),
            ADDRESSES.1
        ))?;
        rig.device.ip(&format!("link set {0} up\naddr add {1}/24 dev {0}\n", LINK.0, ADDRESSES.0))?;
        rig::take_beside_generator(&backup, LINK.1)?;
        let start = |name: &str, namespace: &Namespace, core: usize, text: String| -> Result<_> {
            let folder = rig.runtime().join(name);
            fs::create_dir_all(&folder)?;
            let file = folder.join("conntrackd.conf").display().to_string();
            fs::write(&file, text)?;
            let mut command = namespace.command("taskset");
            command.args(["-c", &core.to_string(), "conntrackd", "-C", &file]);
            Ok((Service::start(rig.prefix(), rig.logs(), name, &mut command)?, file))
        };
        let folder = |name: &str| rig.runtime().join(name).display().to_string();
        let (receiver, receives) = start(
            "conntrackd-backup",
            &backup,
            GENERATOR_CORE,
            configuration(&folder("conntrackd-backup"), ADDRESSES.1, ADDRESSES.0, LINK.1),
        )?;
        let (sender, sends) = start(
            "conntrackd-device",
            &rig.device,
            DEVICE_CORE,
            configuration(&folder("conntrackd-device"), ADDRESSES.0, ADDRESSES.1, LINK.0),
        )?;
        let both = Self { backup, sender, receiver, configuration: [sends, receives] };
        wait::until_true("conntrackd answers", Duration::from_secs(5), || {
            both.external_sessions().map(|_| true)
        })
        .map_err(|error| error.context(both.sender.log_tail()))?;
        Ok(both)
    }

    fn ask(&self, namespace: &Namespace, which: usize, what: &str) -> Result<String> {
        let mut command = namespace.command("conntrackd");
        program::run(command.args(["-C", &self.configuration[which], what]))
    }

    /// Sessions the receiver has been told of.
    pub fn external_sessions(&self) -> Result<u64> {
        let text = self.ask(&self.backup, 1, "-s")?;
        let external = text.split("cache external:").nth(1).context("no external cache in the answer")?;
        let number =
            external.split("current active connections:").nth(1).context("no number in the answer")?;
        number.split_whitespace().next().context("no number")?.parse().context("not a number")
    }

    /// CPU time of sender and receiver, ns.
    pub fn cpu_ns(&self) -> Result<(u64, u64)> {
        let of = |service: &Service| -> Result<u64> {
            Ok(rig::of_process(service.pid())?.iter().map(rig::Thread::cpu_ns).sum())
        };
        Ok((of(&self.sender)?, of(&self.receiver)?))
    }

    /// The receiver puts what it knows into its kernel, as it must when the sender has died; how long that
    /// takes for `sessions` sessions.
    pub fn commit(&self, sessions: u64) -> Result<Duration> {
        let began = Instant::now();
        self.ask(&self.backup, 1, "-c")?;
        wait::until_true("all sessions are committed", COMMIT, || {
            let path = "/proc/sys/net/netfilter/nf_conntrack_count";
            let count: u64 = self.backup.enter(|| Ok(fs::read_to_string(path)?))?.trim().parse()?;
            ensure!(count >= sessions * 999 / 1000, "{count} sessions");
            Ok(true)
        })?;
        Ok(began.elapsed())
    }

    /// Ends both and removes the second namespace.
    pub fn stop(self) -> Result<()> {
        drop((self.sender, self.receiver));
        program::run(Command::new("ip").args(["netns", "delete", self.backup.name()])).map(drop)
    }
}
