//! A node's files: what its threads may open, what a reload may read, and what is said of it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use samepath_tests::bed::{Bed, Shape};
use samepath_tests::stopped::Stopped;
use samepath_tests::{artifacts, program, wait};

const SOON: Duration = Duration::from_secs(10);

/// What `status` says of Landlock on node 1, and whether that is confinement. A kernel that has none is said to.
fn confined(bed: &Bed) -> Result<bool> {
    let status = bed.status(1)?;
    let landlock = status["landlock"].as_str().context("status says nothing of Landlock")?.to_owned();
    if landlock == "absent" {
        println!("skipped: this kernel has no Landlock");
    }
    ensure!(["absent", "off"].contains(&landlock.as_str()) || landlock.starts_with("ABI "), "{landlock}");
    Ok(landlock.starts_with("ABI "))
}

/// Numbers and names of node 1's threads.
fn threads(bed: &mut Bed) -> Result<Vec<(i32, String)>> {
    let tasks = fs::read_dir(format!("/proc/{}/task", bed.process(1)?))?;
    let thread = |task: std::io::Result<fs::DirEntry>| {
        let task = task?;
        let name = fs::read_to_string(task.path().join("comm"))?.trim().to_owned();
        Ok((task.file_name().to_string_lossy().parse()?, name))
    };
    tasks.map(thread).collect()
}

/// What the kernel says when a thread is made to open a file: 0, or an error number.
fn opened_by(thread: i32, file: &Path) -> Result<i32> {
    let mut outcome = None;
    wait::until_true("the thread is in a system call", SOON, || {
        outcome = Stopped::numbered(thread)?.open(file)?;
        Ok(outcome.is_some())
    })?;
    outcome.context("no outcome")
}

#[test]
fn no_thread_opens_what_the_node_does_not_need() -> Result<()> {
    let mut bed = Bed::new("landlock", Shape { queues: 2, workers: 2, ..Shape::default() })?;
    bed.make_keys()?;
    let other = bed.runtime().join("other.txt");
    fs::write(&other, "of somebody else")?;
    bed.give_to_nodes(&other)?;
    let own = bed.keys().join("ca.crt");
    for (landlock, refused) in [("on", libc::EACCES), ("off", 0)] {
        // Workers open nothing anyway; here they are to be refused for one reason only.
        bed.start_node(1, &["--join-grace-ms", "0", "--seccomp", "off", "--landlock", landlock])?;
        let is_confined = confined(&bed)?;
        ensure!(landlock == "on" || !is_confined, "{}", bed.status(1)?);
        let threads = threads(&mut bed)?;
        ensure!(
            threads.iter().filter(|(_, name)| name.starts_with("sp-worker-")).count() == 2,
            "{threads:?}"
        );
        for (thread, name) in threads {
            let outcome = (opened_by(thread, &own)?, opened_by(thread, &other)?);
            let expected = (0, if is_confined { refused } else { 0 });
            ensure!(outcome == expected, "--landlock {landlock}, {name}: {outcome:?}, not {expected:?}");
        }
        ensure!(bed.status(1)?["ready"] == true, "{}", bed.status(1)?);
        bed.finish_nodes()?;
    }
    bed.remove()
}

/// A node with its policy in one folder, and another folder beside it.
struct Beside {
    bed: Bed,
    policy: PathBuf,
    elsewhere: PathBuf,
}

fn beside(name: &str) -> Result<Beside> {
    let bed = Bed::new(name, Shape::default())?;
    bed.make_keys()?;
    let [folder, elsewhere] = ["policy", "elsewhere"].map(|folder| bed.runtime().join(folder));
    for folder in [&folder, &elsewhere] {
        fs::create_dir(folder)?;
    }
    let policy = folder.join("policy.toml");
    fs::write(&policy, "default = \"allow\"\n")?;
    Ok(Beside { bed, policy, elsewhere })
}

impl Beside {
    fn start(&mut self, landlock: &str) -> Result<()> {
        let policy = self.policy.display().to_string();
        self.bed.start_node(1, &["--join-grace-ms", "0", "--policy", &policy, "--landlock", landlock])
    }

    /// The policy's name leads to another file in the other folder from now on.
    fn lead_away(&self, to: &str) -> Result<PathBuf> {
        let file = self.elsewhere.join(to);
        fs::write(&file, format!("default = \"allow\"\n[[rule]]\nname = \"{to}\"\naction = \"deny\"\n"))?;
        fs::remove_file(&self.policy)?;
        symlink(&file, &self.policy)?;
        Ok(file)
    }

    /// What a reload of the policy says if it is refused.
    fn refusal(&self) -> Result<Option<String>> {
        let mut reload = self.bed.client().command(artifacts::samepath()?);
        let output =
            program::output(reload.args(["policy", "reload", "--control-socket"]).arg(self.bed.socket(1)))?;
        let sentence = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok((output.status.code() == Some(1)).then_some(sentence))
    }

    /// What names the policy in force.
    fn digest(&self) -> Result<String> {
        Ok(self.bed.status(1)?["policy"].to_string())
    }
}

#[test]
fn a_reload_takes_a_new_file_in_the_same_folder_and_names_landlock_where_it_may_not() -> Result<()> {
    let mut node = beside("landlock-policy")?;
    node.start("on")?;
    if !confined(&node.bed)? {
        return node.bed.finish();
    }
    let first = node.digest()?;
    // As an editor does.
    let new = node.policy.with_extension("new");
    fs::write(&new, "default = \"reject\"\n")?;
    fs::rename(&new, &node.policy)?;
    ensure!(node.refusal()?.is_none() && node.digest()? != first, "a new file in its place is read");
    let second = node.digest()?;

    let file = node.lead_away("one")?;
    let sentence = node.refusal()?.context("what is elsewhere was read")?;
    for part in [
        node.policy.to_str(),
        file.to_str(),
        Some("--landlock off"),
        Some("restart samepath"),
        Some("stays in force"),
    ] {
        ensure!(part.is_some_and(|part| sentence.contains(part)), "{part:?}: {sentence}");
    }
    let warnings = node.bed.status(1)?["warnings"].to_string();
    ensure!(node.digest()? == second && warnings.contains("--landlock"), "{warnings}");

    // A restart allows the new place.
    ensure!(node.bed.stop_node(1)?.success(), "it stops in order");
    node.start("on")?;
    ensure!(node.digest()? != second && node.refusal()?.is_none(), "{}", node.bed.status(1)?);
    node.bed.kill_node(1)?;

    node.start("off")?;
    let third = node.digest()?;
    node.elsewhere = node.bed.runtime().to_owned();
    node.lead_away("two")?;
    ensure!(node.refusal()?.is_none() && node.digest()? != third, "--landlock off reads any file");
    node.bed.finish()
}

#[test]
fn keys_that_have_gone_elsewhere_are_named_and_those_in_use_stay() -> Result<()> {
    let mut node = beside("landlock-keys")?;
    node.start("on")?;
    if !confined(&node.bed)? {
        return node.bed.finish();
    }
    let (certificate, away) = (node.bed.keys().join("node-1.crt"), node.elsewhere.join("node-1.crt"));
    fs::rename(&certificate, &away)?;
    symlink(&away, &certificate)?;
    node.bed.signal_node(1, Signal::SIGHUP)?;
    let says = |node: &Beside, word: &str| Ok(node.bed.status(1)?["warnings"].to_string().contains(word));
    wait::until_true("status names Landlock", SOON, || says(&node, "--landlock"))?;
    ensure!(says(&node, away.to_str().context("a name")?)?, "{}", node.bed.status(1)?);
    fs::rename(&away, &certificate)?;
    node.bed.signal_node(1, Signal::SIGHUP)?;
    wait::until_true("the keys are read again", SOON, || Ok(!says(&node, "--landlock")?))?;
    node.bed.finish()
}
