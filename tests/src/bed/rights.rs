//! What a node may do: what its systemd unit allows it, and nothing that root may.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::netns::Namespace;
use crate::{artifacts, ledger, program};

/// User and group of every node. No account has the number: Debian reserves 30000 to 59999.
pub const USER: u32 = 59_777;

/// Where samepath keeps pins.
const BPFFS: &str = "/sys/fs/bpf";

/// `BPF_FS_MAGIC` (linux/magic.h).
const BPFFS_MAGIC: i64 = 0xcafe_4a11;

/// What systemd does besides changing the user: a folder of bpffs in place of the machine's, and the unit's
/// umask. The arguments: that folder, that umask, then the program.
const ENTER: &str = "mount --bind \"$1\" /sys/fs/bpf && umask \"$2\" && shift 2 && exec \"$@\"";

/// The daemon's rights in one bed.
#[derive(Debug)]
pub(super) struct Rights {
    unit: Unit,
    /// The bed's place in bpffs. A node sees it as /sys/fs/bpf, so a samepath of the machine is left alone.
    bpffs: PathBuf,
    /// The program, where [`USER`] may run it.
    program: PathBuf,
}

impl Rights {
    /// Reads them from the unit, and makes what it makes before it starts: folders that are the user's.
    pub fn prepare(prefix: &str, runtime: &Path) -> Result<Self> {
        let bpffs = Path::new(BPFFS).join(format!("samepath-bed-{prefix}"));
        ensure_bpffs()?;
        ledger::note_folder(prefix, &bpffs)?;
        let pins = bpffs.join("samepath");
        fs::create_dir(&bpffs).with_context(|| format!("cannot make {}", bpffs.display()))?;
        fs::DirBuilder::new().mode(0o700).create(&pins)?;
        give(&pins)?;
        give(runtime)?;
        Ok(Self { unit: Unit::read()?, bpffs, program: program_for_all(runtime)? })
    }

    /// A command that runs the program after it (as arguments) inside, as the unit would.
    pub fn command(&self, namespace: &Namespace) -> Result<Command> {
        let mut command = namespace.command("unshare");
        command
            .args(["--mount", "--", "sh", "-c", ENTER, "sh"])
            .arg(&self.bpffs)
            .arg(self.unit.one("UMask")?);
        command.arg("setpriv").args([format!("--reuid={USER}"), format!("--regid={USER}")]);
        command.args(["--clear-groups", "--no-new-privs"]);
        let (ambient, bounding) =
            (self.unit.list("AmbientCapabilities")?, self.unit.list("CapabilityBoundingSet")?);
        command.arg(format!("--inh-caps={}", exactly(&ambient)));
        command.arg(format!("--ambient-caps={}", exactly(&ambient)));
        command.arg(format!("--bounding-set={}", exactly(&bounding))).arg("--");
        Ok(command)
    }

    /// The daemon's program.
    pub fn program(&self) -> &Path {
        &self.program
    }
}

/// The packaged systemd unit.
#[derive(Debug)]
pub struct Unit(String);

impl Unit {
    /// Reads it.
    pub fn read() -> Result<Self> {
        let file = artifacts::workspace().join("control/packaging/samepath@.service");
        Ok(Self(fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?))
    }

    /// The words of a setting.
    pub fn list(&self, setting: &str) -> Result<Vec<&str>> {
        Ok(self.one(setting)?.split_whitespace().collect())
    }

    fn one(&self, setting: &str) -> Result<&str> {
        let value = self.0.lines().find_map(|line| line.strip_prefix(setting)?.strip_prefix('='));
        value.with_context(|| format!("the unit has no {setting}"))
    }
}

/// These capabilities and no others, as setpriv writes it.
fn exactly(names: &[&str]) -> String {
    let name = |name: &&str| format!(",+{}", name.trim_start_matches("CAP_").to_lowercase());
    names.iter().map(name).fold(String::from("-all"), |list, one| list + &one)
}

/// Gives a folder and what is in it to the nodes' user.
pub(super) fn give(path: &Path) -> Result<()> {
    chown(path, Some(USER), Some(USER)).with_context(|| format!("cannot give {} away", path.display()))?;
    if path.is_dir() {
        fs::read_dir(path)?.try_for_each(|entry| give(&entry?.path()))?;
    }
    Ok(())
}

/// The program, in `folder` if it is in a place that is closed to others, as people's own folders are.
pub fn program_for_all(folder: &Path) -> Result<PathBuf> {
    let built = artifacts::samepath()?;
    let open = |path: &Path| fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o001 != 0);
    if built.ancestors().all(open) {
        return Ok(built);
    }
    let copy = folder.join("samepath");
    fs::copy(&built, &copy)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    Ok(copy)
}

/// Small systems do not mount it.
fn ensure_bpffs() -> Result<()> {
    if rustix::fs::statfs(BPFFS).is_ok_and(|found| found.f_type == BPFFS_MAGIC) {
        return Ok(());
    }
    program::run(Command::new("mount").args(["-t", "bpf", "-o", "mode=0700", "bpf", BPFFS])).map(drop)
}
