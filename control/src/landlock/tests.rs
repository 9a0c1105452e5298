//! Threads that confine themselves, over folders of their own.

use std::io;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use tempfile::TempDir;

use super::*;
use crate::config::options;

/// `etc/keys` with a key elsewhere, `etc/policy.toml`, `run`, and `other`, which nobody is told of.
fn folders() -> (TempDir, Config) {
    let root = tempfile::tempdir().unwrap();
    for folder in ["etc/keys", "run", "other", "secret"] {
        fs::create_dir_all(root.path().join(folder)).unwrap();
    }
    for file in
        ["etc/keys/ca.crt", "etc/policy.toml", "other/policy.toml", "secret/node.key", "run/node.sock"]
    {
        fs::write(root.path().join(file), "of a test").unwrap();
    }
    let keys = root.path().join("etc/keys");
    std::os::unix::fs::symlink("../../secret/node.key", keys.join("node-1.key")).unwrap();
    let config = Config {
        node: samepath_dataplane::flow::NodeId(1),
        keys,
        policy: Some(root.path().join("etc/policy.toml")),
        control_socket: root.path().join("run/node.sock"),
        on_crash: OnCrash::Open,
        landlock: true,
        ..options::defaults()
    };
    (root, config)
}

/// What `look` sees on a thread that has confined itself as a daemon on a kernel of that version would; `None` if this
/// kernel has no Landlock.
fn confined<T: Send + 'static>(
    config: &Config,
    newest: ABI,
    look: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let allowed = Allowed::by(config);
    let thread = thread::spawn(move || {
        let status = allowed.enforce(newest).unwrap();
        (status.ruleset != RulesetStatus::NotEnforced).then(look)
    });
    let seen = thread.join().unwrap();
    if seen.is_none() {
        println!("skipped: this kernel has no Landlock");
    }
    seen
}

fn refused<T>(outcome: io::Result<T>) -> bool {
    outcome.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

/// The first version, that of Debian 12, and the newest.
const VERSIONS: [ABI; 3] = [ABI::V1, ABI::V2, NEWEST];

#[test]
fn what_a_reload_reads_can_be_read_and_nothing_else_be_done() {
    for version in VERSIONS {
        let (root, config) = folders();
        let at = root.path().to_owned();
        let looked = confined(&config, version, move || {
            for file in ["etc/policy.toml", "etc/keys/ca.crt", "etc/keys/node-1.key"] {
                assert_eq!(fs::read_to_string(at.join(file)).unwrap(), "of a test", "{file}");
            }
            assert!(refused(File::open(at.join("other/policy.toml"))));
            assert!(refused(File::open("/etc/passwd")));
            assert!(refused(File::create(at.join("etc/policy.toml"))));
            assert!(refused(File::create(at.join("run/new"))));
            assert!(refused(fs::read_dir(at.join("etc"))));
            assert!(refused(fs::create_dir(at.join("run/folder"))));
            assert!(refused(fs::remove_file(at.join("etc/policy.toml"))));
            assert!(refused(Command::new("/bin/true").status()));
            fs::remove_file(at.join("run/node.sock")).unwrap();
        });
        if looked.is_some() {
            assert!(!root.path().join("run/node.sock").exists(), "ABI {version}");
        }
    }
}

#[test]
fn a_confined_thread_connects_to_etcd_only() {
    let listen = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (etcd, other) = (listen(), listen());
    let [etcd_at, other_at] = [&etcd, &other].map(|one| one.local_addr().unwrap());
    let (_root, mut config) = folders();
    config.etcd = vec![etcd_at.to_string()];
    let allowed = Allowed::by(&config);
    let thread = thread::spawn(move || {
        let RestrictionStatus { landlock: LandlockStatus::Available { effective_abi, .. }, .. } =
            allowed.enforce(NEWEST).unwrap()
        else {
            return println!("skipped: this kernel has no Landlock");
        };
        std::net::TcpStream::connect(etcd_at).unwrap();
        // TCP is confined from version 4 on.
        let beyond = std::net::TcpStream::connect(other_at);
        assert_eq!(refused(beyond), effective_abi >= ABI::V4);
    });
    thread.join().unwrap();
}

#[test]
fn a_new_file_in_its_place_is_read_and_one_elsewhere_explained() {
    let (root, config) = folders();
    let (at, policy) = (root.path().to_owned(), config.policy.clone().unwrap());
    let (turn, turned) = mpsc::channel();
    let (said, saying) = mpsc::channel();
    let confined = thread::spawn(move || {
        let confinement = Confinement::enter(&config);
        let is_confined = matches!(confinement.extent, Extent::Version(_));
        for () in turned {
            said.send((is_confined, confinement.outside(config.policy.as_deref().unwrap()))).unwrap();
        }
    });
    let outside = || {
        turn.send(()).unwrap();
        saying.recv().unwrap()
    };
    assert_eq!(outside().1, None);
    // As an editor does.
    fs::write(at.join("etc/new"), "another").unwrap();
    fs::rename(at.join("etc/new"), &policy).unwrap();
    assert_eq!(outside().1, None);
    fs::remove_file(&policy).unwrap();
    std::os::unix::fs::symlink(at.join("other/policy.toml"), &policy).unwrap();
    if let (true, sentence) = outside() {
        let sentence = sentence.unwrap();
        for word in
            ["--landlock", at.join("etc").to_str().unwrap(), at.join("other/policy.toml").to_str().unwrap()]
        {
            assert!(sentence.contains(word), "{sentence}");
        }
        // A folder that is made anew is another one.
        fs::remove_file(&policy).unwrap();
        fs::rename(at.join("etc"), at.join("before")).unwrap();
        fs::create_dir(at.join("etc")).unwrap();
        fs::write(&policy, "anew").unwrap();
        assert!(outside().1.is_some());
    }
    drop(turn);
    confined.join().unwrap();
}

#[test]
fn names_are_told_from_addresses() {
    for (endpoint, name, port) in [
        ("10.0.0.1:2379", false, Some(2379)),
        ("[fd00::1]:2380", false, Some(2380)),
        ("etcd.example:2379", true, Some(2379)),
    ] {
        assert_eq!((has_name(endpoint), port_of(endpoint)), (name, port), "{endpoint}");
    }
    let (_root, mut config) = folders();
    let may_look_up =
        |config: &Config| Allowed::by(config).others.iter().any(|(path, _)| path == Path::new("/etc"));
    config.etcd = vec!["10.0.0.1:2379".into()];
    assert!(!may_look_up(&config));
    config.etcd.push("etcd.example:2379".into());
    assert!(may_look_up(&config));
}

#[test]
fn systemd_is_reached_on_an_abstract_socket() {
    assert_eq!(scope("@/org/freedesktop/systemd1/notify"), Scope::Signal);
    assert_eq!(scope("/run/systemd/notify"), Scope::Signal | Scope::AbstractUnixSocket);
}
