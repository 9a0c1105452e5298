//! Keys made, read back, and every way in which they can be wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

use super::*;

const NODE: NodeId = NodeId(7);

fn made() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path()).unwrap();
    issue(dir.path(), NODE, false).unwrap();
    dir
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn refused(dir: &TempDir) -> String {
    ClusterKeys::load(dir.path(), NODE).unwrap_err().to_string()
}

#[track_caller]
fn assert_says(sentence: &str, parts: &[&str]) {
    for part in parts {
        assert!(sentence.contains(part), "{part:?} is not in {sentence:?}");
    }
}

#[test]
fn a_round_trip_gives_working_keys() {
    let dir = made();
    let keys = ClusterKeys::load(dir.path(), NODE).unwrap();
    issue(dir.path(), NodeId(8), false).unwrap();
    let other = ClusterKeys::load(dir.path(), NodeId(8)).unwrap();
    assert_eq!(keys.cas, other.cas);
    assert_ne!(keys.node_cert_der, other.node_cert_der);
    assert_eq!(keys.fingerprint(), other.fingerprint());
    assert!(keys.director_key() == other.director_key());
    assert!(!format!("{keys:?}").contains(&format!("{:?}", keys.secret)));
}

#[test]
fn private_files_are_private() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("keys");
    init(&dir).unwrap();
    issue(&dir, NODE, false).unwrap();
    assert_eq!(mode(&dir), 0o700);
    for name in [CA_KEY, SECRET, "node-7.key"] {
        assert_eq!(mode(&dir.join(name)), 0o600, "{name}");
    }
}

#[test]
fn nothing_is_overwritten() {
    let dir = made();
    let before = fs::read(dir.path().join(CA_KEY)).unwrap();
    assert_says(
        &init(dir.path()).unwrap_err().to_string(),
        &[CA_CERTIFICATE, "exists already and is not overwritten"],
    );
    assert_says(
        &issue(dir.path(), NODE, false).unwrap_err().to_string(),
        &["node-7.crt exists already", "add --renew if node 7"],
    );
    assert_eq!(fs::read(dir.path().join(CA_KEY)).unwrap(), before);
}

#[test]
fn a_missing_file_is_named_with_the_command_that_makes_it() {
    for (name, command) in [
        (CA_CERTIFICATE, "samepath keys init"),
        (SECRET, "samepath keys init"),
        ("node-7.crt", "samepath keys issue"),
        ("node-7.key", "samepath keys issue"),
    ] {
        let dir = made();
        fs::remove_file(dir.path().join(name)).unwrap();
        assert_says(&refused(&dir), &[name, "is missing", command]);
    }
    let error = ClusterKeys::load(Path::new("/nonexistent/keys"), NODE).unwrap_err();
    assert_says(&error.to_string(), &["/nonexistent/keys is missing", "samepath keys init"]);
    let dir = made();
    let error = ClusterKeys::load(dir.path(), NodeId(9)).unwrap_err();
    assert_says(&error.to_string(), &["node-9.crt is missing", "--node 9"]);
}

#[test]
fn a_node_needs_no_ca_key_but_issuing_does() {
    let dir = made();
    fs::remove_file(dir.path().join(CA_KEY)).unwrap();
    ClusterKeys::load(dir.path(), NODE).unwrap();
    assert_says(
        &issue(dir.path(), NodeId(8), false).unwrap_err().to_string(),
        &["ca.key is missing", "where `samepath keys init` was run"],
    );
}

#[test]
fn private_files_others_can_read_are_refused() {
    for name in [CA_KEY, SECRET, "node-7.key"] {
        let dir = made();
        let path = dir.path().join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_says(&refused(&dir), &[name, "mode 0640", "chmod 600"]);
    }
}

#[test]
fn another_clusters_certificate_is_refused() {
    let (dir, other) = (made(), made());
    for name in ["node-7.crt", "node-7.key"] {
        fs::copy(other.path().join(name), dir.path().join(name)).unwrap();
    }
    assert_says(&refused(&dir), &["node-7.crt", "not signed by this directory's ca.crt"]);
}

#[test]
fn another_nodes_certificate_is_refused() {
    let dir = made();
    issue(dir.path(), NodeId(8), false).unwrap();
    fs::copy(dir.path().join("node-8.crt"), dir.path().join("node-7.crt")).unwrap();
    assert_says(
        &refused(&dir),
        &["the certificate of node-8.samepath, not of node-7.samepath", "keys issue"],
    );
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let dir = made();
    issue(dir.path(), NodeId(8), false).unwrap();
    fs::copy(dir.path().join("node-8.key"), dir.path().join("node-7.key")).unwrap();
    assert_says(&refused(&dir), &["node-7.key", "do not belong together"]);
}

#[test]
fn files_that_are_something_else_are_refused() {
    for (name, why) in [
        (CA_CERTIFICATE, "no PEM certificate"),
        ("node-7.crt", "no PEM certificate"),
        ("node-7.key", "no private key"),
        (SECRET, "not 64 hexadecimal digits"),
    ] {
        for text in ["", "nonsense\n", "\u{fc}-----BEGIN CERTIFICATE-----\nAA==\n-----END"] {
            let dir = made();
            fs::write(dir.path().join(name), text).unwrap();
            assert_says(&refused(&dir), &[name, "is not usable", why]);
        }
    }
    let dir = made();
    fs::write(dir.path().join(SECRET), "g".repeat(64)).unwrap();
    assert_says(&refused(&dir), &["not 64 hexadecimal digits", "copy it from another node"]);
}

#[test]
fn a_broken_ca_cannot_issue() {
    let (dir, other) = (made(), made());
    fs::copy(other.path().join(CA_KEY), dir.path().join(CA_KEY)).unwrap();
    let error = issue(dir.path(), NodeId(8), false).unwrap_err().to_string();
    assert_says(&error, &[CA_CERTIFICATE, "do not belong together"]);
    assert!(!dir.path().join("node-8.key").exists());
}

#[test]
fn a_new_ca_stands_beside_the_old_one_until_it_is_retired() {
    let dir = made();
    issue(dir.path(), NodeId(8), false).unwrap();
    let before = ClusterKeys::load(dir.path(), NODE).unwrap();
    rollover(dir.path()).unwrap();
    assert_eq!(mode(&dir.path().join(CA_KEY)), 0o600);
    let both = ClusterKeys::load(dir.path(), NODE).unwrap();
    assert_eq!((both.cas.len(), &both.cas[1]), (2, &before.cas[0]));
    assert_eq!(both.node_cert_der, before.node_cert_der);

    let early = retire(dir.path()).unwrap_err().to_string();
    assert_says(&early, &["node-7.crt", "not signed by this directory's ca.crt", "--node 7 --renew"]);
    issue(dir.path(), NODE, true).unwrap();
    assert_eq!(mode(&dir.path().join("node-7.key")), 0o600);
    assert_says(&retire(dir.path()).unwrap_err().to_string(), &["node-8.crt"]);
    issue(dir.path(), NodeId(8), true).unwrap();
    assert_eq!(retire(dir.path()).unwrap(), 1);

    let after = ClusterKeys::load(dir.path(), NODE).unwrap();
    assert_eq!(after.cas, both.cas[..1]);
    let [old, new] = [before.summary(), after.summary()];
    assert!(old.issuer.starts_with("samepath cluster ") && new.issuer != old.issuer, "{old:?} {new:?}");
    assert_eq!((old.cas, both.summary().cas, new.cas), (1, 2, 1));
    assert!(new.valid_until.starts_with("20") && new.valid_until.len() == 10, "{new:?}");
    assert_ne!(after.node_cert_der, before.node_cert_der);
    assert_eq!(after.fingerprint(), before.fingerprint());
    assert_eq!(retire(dir.path()).unwrap(), 0);
    assert!(fs::read_dir(dir.path()).unwrap().all(|file| !file.unwrap().path().ends_with(".new")));
}

#[test]
fn without_a_ca_there_is_nothing_to_roll_over() {
    let dir = tempfile::tempdir().unwrap();
    assert_says(&rollover(dir.path()).unwrap_err().to_string(), &[CA_CERTIFICATE, "samepath keys init"]);
    assert_says(&retire(dir.path()).unwrap_err().to_string(), &[CA_CERTIFICATE, "samepath keys init"]);
}
