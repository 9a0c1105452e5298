//! What the daemon may do with files once it runs (Landlock). Whatever only a start needs has been opened by then. From
//! its first thread on it may read again what a reload reads, take away its own socket and pins, and nothing else.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ::landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use samepath_bpf::PIN_FOLDER;

use crate::config::{Config, OnCrash};
use crate::keys::{CA_CERTIFICATE, SECRET, certificate_path, key_path};

/// The newest version whose rights are refused here; a kernel that knows fewer refuses those it knows.
const NEWEST: ABI = ABI::V7;

/// Where the kernel says how many cores there may be: libbpf asks when counters per core are read first.
const CORES: &str = "/sys/devices/system/cpu/possible";

/// Where the C library looks when it looks up a name: its settings, and libraries it loads for them.
const LOOKUP: [&str; 5] = ["/etc", "/lib", "/lib64", "/usr/lib", "/usr/lib64"];

/// DNS, where an answer does not fit a datagram.
const DNS: u16 = 53;

/// What is left to a process.
#[derive(Debug)]
struct Allowed {
    /// Folders with all below them, or files: those a reload reads.
    read: Vec<PathBuf>,
    /// Others, each with what may be done there.
    others: Vec<(PathBuf, BitFlags<AccessFs>)>,
    /// TCP ports it may connect to.
    ports: Vec<u16>,
    /// Where the kernel keeps it to itself.
    scope: BitFlags<Scope>,
}

impl Allowed {
    fn by(config: &Config) -> Self {
        let mut others = vec![
            (folder_of(&config.control_socket), AccessFs::RemoveFile.into()),
            (CORES.into(), AccessFs::ReadFile.into()),
        ];
        if config.on_crash == OnCrash::Closed {
            others.push((PIN_FOLDER.into(), AccessFs::RemoveFile | AccessFs::RemoveDir));
        }
        let mut ports: Vec<u16> = config.etcd.iter().filter_map(|one| port_of(one)).collect();
        if config.etcd.iter().any(|one| has_name(one)) {
            let told = fs::canonicalize("/etc/resolv.conf").map(|file| folder_of(&file));
            let places = LOOKUP.into_iter().map(PathBuf::from).chain(told.ok());
            others.extend(places.map(|place| (place, AccessFs::ReadFile.into())));
            ports.push(DNS);
        }
        let notify = std::env::var("NOTIFY_SOCKET").unwrap_or_default();
        Self { read: read_again(config), others, ports, scope: scope(&notify) }
    }

    /// Leaves the calling thread, and those it starts, nothing else; of what is refused up to `newest` as much as
    /// the kernel knows.
    fn enforce(&self, newest: ABI) -> Result<RestrictionStatus, RulesetError> {
        let mut ruleset = Ruleset::default().handle_access(AccessFs::from_all(newest))?;
        if newest >= ABI::V4 {
            ruleset = ruleset.handle_access(AccessNet::from_all(newest))?;
        }
        if newest >= ABI::V6 {
            ruleset = ruleset.scope(self.scope)?;
        }
        let read = self.read.iter().map(|path| (path, AccessFs::ReadFile.into()));
        let others = self.others.iter().map(|(path, access)| (path, *access));
        let mut created = ruleset.create()?;
        for (path, access) in read.chain(others) {
            // What is not there cannot be used.
            if let Ok(place) = PathFd::new(path) {
                created = created.add_rule(PathBeneath::new(place, access))?;
            }
        }
        if newest >= ABI::V4 {
            let connect = |&port: &u16| Ok::<_, RulesetError>(NetPort::new(port, AccessNet::ConnectTcp));
            created = created.add_rules(self.ports.iter().map(connect))?;
        }
        created.restrict_self()
    }
}

/// Signals stay in the process, and abstract sockets of others out of reach, unless systemd listens on one.
fn scope(notify_socket: &str) -> BitFlags<Scope> {
    match notify_socket.starts_with('@') {
        true => Scope::Signal.into(),
        false => Scope::Signal | Scope::AbstractUnixSocket,
    }
}

/// Folders of what a reload reads: an editor puts a new file in the place of the old one. A link's own folder counts for
/// the policy, as does that of the file it leads to; of keys only where they are.
fn read_again(config: &Config) -> Vec<PathBuf> {
    let Config { keys, node, policy, .. } = config;
    let own =
        [keys.join(CA_CERTIFICATE), keys.join(SECRET), certificate_path(keys, *node), key_path(keys, *node)];
    let files = own.iter().chain(policy);
    let led_to = files.filter_map(|file| fs::canonicalize(file).ok()).map(|file| folder_of(&file));
    let mut folders: Vec<PathBuf> =
        led_to.chain([keys.clone()]).chain(policy.as_deref().map(folder_of)).collect();
    for folder in &mut folders {
        *folder = fs::canonicalize(&*folder).unwrap_or_else(|_| folder.clone());
    }
    // One that is below another one is allowed with it.
    folders.sort_unstable();
    folders.dedup_by(|folder, before| folder.starts_with(before));
    folders
}

fn folder_of(file: &Path) -> PathBuf {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new(".")).into()
}

fn port_of(endpoint: &str) -> Option<u16> {
    endpoint.rsplit_once(':')?.1.parse().ok()
}

/// Whether an endpoint's host must be looked up.
fn has_name(endpoint: &str) -> bool {
    let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host);
    host.trim_matches(['[', ']']).parse::<IpAddr>().is_err()
}

/// How far the process is confined.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Extent {
    /// The operator does not want it.
    Off,
    /// The kernel does not do it.
    Absent,
    /// By this version of Landlock.
    Version(ABI),
}

/// How the running process is confined.
#[derive(Debug)]
pub struct Confinement {
    extent: Extent,
    /// What a reload may read.
    read: Vec<PathBuf>,
    /// The same folders as the kernel knows them: one that is made anew is another.
    known: Vec<(u64, u64)>,
}

impl Confinement {
    /// Confines the calling thread, and every one it starts from now on, for good. Where the kernel does not do it that is
    /// said once.
    pub fn enter(config: &Config) -> Self {
        let allowed = Allowed::by(config);
        let extent = match config.landlock {
            true => enter(&allowed),
            false => Extent::Off,
        };
        let known = allowed.read.iter().filter_map(|folder| identity(folder)).collect();
        Self { extent, read: allowed.read, known }
    }

    /// As `samepath status` has it.
    pub fn name(&self) -> String {
        match self.extent {
            Extent::Off => "off".into(),
            Extent::Absent => "absent".into(),
            Extent::Version(version) => format!("ABI {version}"),
        }
    }

    /// If `file` cannot be read because it is not where a reload may read: a sentence that says so, with the remedy.
    pub fn outside(&self, file: &Path) -> Option<String> {
        let refused = || File::open(file).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
        if !matches!(self.extent, Extent::Version(_)) || !refused() {
            return None;
        }
        let place = fs::canonicalize(file).ok()?;
        if place.ancestors().filter_map(identity).any(|one| self.known.contains(&one)) {
            return None;
        }
        let folders: Vec<String> = self.read.iter().map(|folder| folder.display().to_string()).collect();
        Some(format!(
            "{} cannot be read: it is {} now, and --landlock leaves this process only what is below {}, as these folders were at its start; put it there, or restart samepath, which allows the new place, or start it with --landlock off",
            file.display(),
            place.display(),
            folders.join(" and ")
        ))
    }
}

fn enter(allowed: &Allowed) -> Extent {
    let why = match allowed.enforce(NEWEST) {
        Ok(RestrictionStatus { ruleset, landlock: LandlockStatus::Available { effective_abi, .. }, .. })
            if ruleset != RulesetStatus::NotEnforced =>
        {
            return Extent::Version(effective_abi);
        }
        Ok(RestrictionStatus { landlock: LandlockStatus::NotEnabled, .. }) => {
            "the kernel was started without Landlock; add it to the kernel's parameter lsm=".into()
        }
        Ok(_) => {
            "the kernel has no Landlock (CONFIG_SECURITY_LANDLOCK), or a filter of system calls hides it; see docs/security.md"
                .into()
        }
        Err(error) => format!("the kernel refused it ({error}); see docs/security.md"),
    };
    tracing::warn!("files are not confined: {why}, or say --landlock off");
    Extent::Absent
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests;
