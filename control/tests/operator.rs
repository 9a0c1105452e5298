//! The operator socket with both real ends: the server in this process before a task that answers, the
//! client as the real program.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use samepath::operator::api::{Aggregation, Count, Members, Reply, Request, Role, SessionRow, Stats, Status};
use samepath::operator::api::{LogReply, PolicyReply, PolicyRule};
use samepath::operator::drain::{Drain, Stage};
use samepath::operator::events::{FollowOrder, Followed, SessionEvent};
use samepath::operator::server::SocketError;
use samepath::operator::symmetry;
use samepath::operator::why::{self, Silent};
use samepath::operator::{Filter, OperatorRequest, OperatorSocket};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Sessions the answering task knows: several pages and a rest.
const SESSIONS: u16 = 1000;

/// A server before a task that answers like a daemon would.
struct Daemon {
    dir: tempfile::TempDir,
    server: JoinHandle<()>,
    answering: JoinHandle<()>,
}

impl Daemon {
    fn start(ready: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = OperatorSocket::bind(&socket_in(dir.path())).unwrap();
        let (sender, mut requests) = mpsc::channel::<OperatorRequest>(4);
        let server = tokio::spawn(socket.serve(sender));
        let answering = tokio::spawn(async move {
            while let Some(OperatorRequest { request, reply }) = requests.recv().await {
                // Without an answer `reply` is dropped.
                if let Some(answer) = answer(request, ready) {
                    drop(reply.send(answer));
                }
            }
        });
        Self { dir, server, answering }
    }

    fn path(&self) -> PathBuf {
        socket_in(self.dir.path())
    }

    /// Runs a command against this daemon.
    async fn run(&self, arguments: &[&str]) -> Output {
        samepath(arguments, &self.path()).await
    }

    async fn connect(&self) -> BufReader<UnixStream> {
        BufReader::new(UnixStream::connect(self.path()).await.unwrap())
    }
}

fn socket_in(dir: &Path) -> PathBuf {
    dir.join("node.sock")
}

async fn samepath(arguments: &[&str], socket: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_samepath"));
    command.args(arguments).arg("--control-socket").arg(socket);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn rows() -> impl Iterator<Item = SessionRow> {
    (0..SESSIONS).map(|n| SessionRow {
        proto: if n % 2 == 0 { "tcp".into() } else { "udp".into() },
        src: "10.0.0.1".parse().unwrap(),
        dst: "10.0.0.2".parse().unwrap(),
        sport: n,
        dport: 80,
        vlan: 0,
        inner_vlan: 0,
        state: "ESTABLISHED".into(),
        role: if n < 10 { Role::Backup } else { Role::Owner },
        owner: 1,
        generation: 1,
        age_s: 0,
        timeout_s: 30,
        packets: 1,
        bytes: 60,
    })
}

fn listed(filter: &Filter) -> Vec<SessionRow> {
    rows().filter(|row| filter.matches(row)).take(filter.limit.unwrap_or(usize::MAX)).collect()
}

fn policy() -> PolicyReply {
    let rule = PolicyRule { name: "web".into(), action: "allow".into(), line: 3, packets: 9, flows: 8 };
    PolicyReply {
        file: "/etc/samepath/policy.toml".into(),
        digest: "0011223344556677".into(),
        loads: 1,
        default: "deny".into(),
        rules: vec![rule],
        default_packets: 5,
        ..PolicyReply::default()
    }
}

fn answer(request: Request, ready: bool) -> Option<Reply> {
    Some(match request {
        Request::Status => Reply::Status(Box::new(Status { node: 4, ready, ..Status::default() })),
        Request::Members => Reply::Members(Members::default()),
        Request::Sessions { filter } => Reply::sessions(listed(&filter)),
        Request::SessionsCount { filter } => {
            let mut count = Count::default();
            listed(&filter).iter().for_each(|row| count.add(row.role));
            Reply::Count(count)
        }
        Request::Stats => Reply::Stats(Box::new(Stats { rx: 77, ..Stats::default() })),
        Request::Director { .. } => return None,
        Request::Policy => Reply::Policy(policy()),
        Request::PolicyReload => Reply::error("line 3: no; the policy before it stays in force"),
        Request::Drain | Request::Undrain | Request::Leave => {
            let stage = if ready { Stage::Drained } else { Stage::Draining };
            Reply::Drain(Drain { node: 4, stage, owned: 7, began_with: 9, ..Drain::default() })
        }
        Request::Why { flow, here } => {
            let silent = Silent { node: 3, reason: "no control channel to it".into() };
            let silent = if here { Vec::new() } else { vec![silent] };
            Reply::Why(Box::new(why::merge(flow, Vec::new(), silent)))
        }
        Request::Symmetry { limit, .. } => {
            Reply::Symmetry(Box::new(symmetry::merge(Vec::new(), Vec::new(), limit)))
        }
        Request::Watch(_) => Reply::Watched(Box::default()),
        Request::Follow(FollowOrder { filter, end, .. }) => Reply::Followed(followed(&filter, end)),
        Request::Log { filter: None } => Reply::Log(log_reply("info")),
        Request::Log { filter: Some(filter) } => Reply::Log(log_reply(&filter)),
        Request::Aggregation { on: true } => Reply::error("not while the moon is full"),
        Request::Aggregation { on } => Reply::Aggregation(Aggregation { node: 4, aggregation: on }),
    })
}

/// Two events each time, of which one more is lost than was told.
fn followed(filter: &Filter, end: bool) -> Followed {
    let event = |session| SessionEvent { at_ns: 1_000_000_000, event: "new".into(), was: None, session };
    let events = if end { Vec::new() } else { listed(filter).into_iter().take(2).map(event).collect() };
    let lost = u64::from(filter.sport == Some(7));
    Followed { node: 4, looks: true, lost, gave_way: 0, more: true, events }
}

fn log_reply(filter: &str) -> LogReply {
    LogReply { filter: filter.into(), before: "info".into() }
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)))
}

fn complaint(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn policy_show_lists_rules_with_their_counters_and_reload_tells_a_failure() {
    let daemon = Daemon::start(true);
    let shown = daemon.run(&["policy", "show"]).await;
    let text = String::from_utf8(shown.stdout).unwrap();
    assert_eq!(shown.status.code(), Some(0));
    assert_eq!(
        text,
        "policy 0011223344556677 from /etc/samepath/policy.toml\nrule       action  packets  flows\nweb        allow         9      8\n(default)  deny          5      0\n"
    );
    let shown = json(&daemon.run(&["policy", "show", "--json"]).await);
    assert_eq!((&shown["kind"], &shown["rules"][0]["flows"]), (&"policy".into(), &8.into()));
    let reload = daemon.run(&["policy", "reload"]).await;
    assert_eq!(reload.status.code(), Some(1));
    assert!(complaint(&reload).contains("line 3: no"), "{}", complaint(&reload));
}

#[tokio::test]
async fn status_tells_readiness_by_its_exit_code() {
    let ready = Daemon::start(true);
    let output = ready.run(&["status", "--json"]).await;
    assert_eq!(output.status.code(), Some(0));
    let value = json(&output);
    assert_eq!((&value["schema"], &value["node"], &value["ready"]), (&1.into(), &4.into(), &true.into()));

    let starting = Daemon::start(false);
    for arguments in [&["status", "--json"][..], &["status"]] {
        assert_eq!(starting.run(arguments).await.status.code(), Some(5));
    }
}

#[tokio::test]
async fn drain_waits_for_its_end_or_its_timeout() {
    let drained = Daemon::start(true);
    let output = drained.run(&["drain", "--json"]).await;
    assert_eq!((output.status.code(), &json(&output)["stage"]), (Some(0), &"drained".into()));

    let draining = Daemon::start(false);
    let output = draining.run(&["drain", "--timeout", "0", "--json"]).await;
    assert_eq!((output.status.code(), &json(&output)["owned"]), (Some(1), &7.into()));
    let complaint = complaint(&output);
    assert!(complaint.contains("7 of 9 sessions still here"), "{complaint}");
    assert!(complaint.contains("undrain"), "{complaint}");
}

#[tokio::test]
async fn sessions_come_whole_through_pages() {
    let daemon = Daemon::start(true);
    let value = json(&daemon.run(&["sessions", "--json"]).await);
    let ports: Vec<u64> =
        value["sessions"].as_array().unwrap().iter().map(|row| row["sport"].as_u64().unwrap()).collect();
    assert_eq!(ports, (0..u64::from(SESSIONS)).collect::<Vec<_>>());

    let plain = daemon.run(&["sessions", "list"]).await;
    assert_eq!(plain.stdout.split(|byte| *byte == b'\n').count(), usize::from(SESSIONS) + 1);
    assert_eq!(complaint(&plain), "samepath: 1000 sessions shown\n");
}

#[tokio::test]
async fn no_line_of_a_long_list_is_long() {
    let daemon = Daemon::start(true);
    let mut stream = daemon.connect().await;
    stream.write_all(b"{\"command\":\"sessions\"}\n").await.unwrap();
    let mut pages = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let page: Value = serde_json::from_str(&line).unwrap();
        pages.push(page["sessions"].as_array().unwrap().len());
        if page.get("more").is_none() {
            break;
        }
    }
    assert_eq!(pages, [256, 256, 256, 232]);
}

#[tokio::test]
async fn filters_reach_the_daemon() {
    let daemon = Daemon::start(true);
    let value = json(&daemon.run(&["sessions", "--json", "--proto", "udp", "--limit", "3"]).await);
    let rows = value["sessions"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["sport"].as_u64()).collect::<Vec<_>>(), [Some(1), Some(3), Some(5)]);

    let value = json(&daemon.run(&["sessions", "count", "--json", "--role", "backup"]).await);
    assert_eq!((&value["count"], &value["backup"], &value["owner"]), (&10.into(), &10.into(), &0.into()));

    let none = json(&daemon.run(&["sessions", "--json", "--src", "192.0.2.0/24"]).await);
    assert_eq!(none["sessions"], Value::Array(Vec::new()));
}

#[tokio::test]
async fn one_connection_takes_many_requests_and_survives_bad_ones() {
    let daemon = Daemon::start(true);
    let mut stream = daemon.connect().await;
    for (request, kind, sentence) in [
        ("{\"command\":\"stats\"}", "stats", ""),
        ("", "error", "this is not a request"),
        ("nonsense", "error", "this is not a request"),
        ("{\"command\":\"explode\"}", "error", "explode"),
        ("\u{0}\u{7f}\u{ffff}", "error", "this is not a request"),
        ("{\"command\":\"director\",\"src\":\"::1\",\"dst\":\"::2\"}", "error", "gave no answer"),
        ("{\"command\":\"members\"}", "members", ""),
    ] {
        stream.write_all(format!("{request}\n").as_bytes()).await.unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let reply: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(reply["kind"], kind, "{request}");
        assert_eq!(reply["schema"], 1);
        assert!(line.contains(sentence), "{line}");
    }
}

#[tokio::test]
async fn an_endless_request_is_cut_off() {
    let daemon = Daemon::start(true);
    let mut stream = daemon.connect().await;
    // The server closes while there is more to read, which may reset the write.
    drop(stream.write_all(&[b'['; 64 * 1024]).await);
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    let reply: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(reply["error"], "a request has at most 16384 bytes");
    assert_eq!(json(&daemon.run(&["stats", "--json"]).await)["rx"], 77);
}

#[tokio::test]
async fn top_shows_a_frame_of_what_happens_between_two_looks() {
    let daemon = Daemon::start(true);
    let shown = daemon.run(&["top", "--once", "--interval", "0.1"]).await;
    let text = String::from_utf8(shown.stdout).unwrap();
    assert_eq!(shown.status.code(), Some(0), "{text}");
    assert!(text.starts_with("node 4 ready, ") && text.contains("drops: none"), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
    let shown = json(&daemon.run(&["top", "--once", "--interval", "0.1", "--json"]).await);
    assert_eq!((&shown["kind"], &shown["packets"][0]), (&"top".into(), &0.into()));
    let wrong = daemon.run(&["top", "--once", "--interval", "0"]).await;
    assert_eq!(wrong.status.code(), Some(2));
}

#[tokio::test]
async fn events_are_told_until_there_are_enough_and_losses_have_their_exit_code() {
    let daemon = Daemon::start(true);
    let told = daemon.run(&["sessions", "events", "-n", "3", "--proto", "udp"]).await;
    let text = String::from_utf8(told.stdout.clone()).unwrap();
    assert_eq!((told.status.code(), text.lines().count()), (Some(0), 3), "{text}");
    assert!(text.starts_with("1.000000     [NEW] udp      17 30 ESTABLISHED src=10.0.0.1"), "{text}");
    let said = complaint(&told);
    assert!(said.contains("following sessions of node 4") && said.contains("3 events told\n"), "{said}");
    let told = daemon.run(&["sessions", "events", "-n", "1", "--sport", "7", "--json"]).await;
    let text = String::from_utf8(told.stdout.clone()).unwrap();
    let [event, end] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
    let (event, end): (Value, Value) = (event.parse().unwrap(), end.parse().unwrap());
    assert_eq!((&event["kind"], &event["session"]["sport"]), (&"session_event".into(), &7.into()));
    assert_eq!((&end["kind"], &end["told"], &end["lost"]), (&"session_events".into(), &1.into(), &1.into()));
    assert_eq!(told.status.code(), Some(5));
    assert!(complaint(&told).contains("1 events lost"), "{}", complaint(&told));
    let timed = daemon.run(&["sessions", "events", "--src", "192.0.2.1", "--for", "0.1"]).await;
    assert_eq!((timed.status.code(), timed.stdout.len()), (Some(0), 0), "{}", complaint(&timed));
    let wrong = daemon.run(&["sessions", "count", "--for", "1"]).await;
    assert_eq!(wrong.status.code(), Some(2));
    assert!(complaint(&wrong).contains("--for is how long"), "{}", complaint(&wrong));
}

#[tokio::test]
async fn a_picture_is_written_beside_the_answer() {
    let daemon = Daemon::start(true);
    let file = daemon.dir.path().join("detours.svg");
    let drawn = daemon.run(&["symmetry", "--picture", file.to_str().unwrap(), "--json"]).await;
    assert_eq!((drawn.status.code(), &json(&drawn)["kind"]), (Some(0), &"symmetry".into()));
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("<svg "));
    assert!(complaint(&drawn).contains("wrote "), "{}", complaint(&drawn));
    let refused = daemon.run(&["symmetry", "--picture", "/nowhere/detours.svg"]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(complaint(&refused).contains("--picture"), "{}", complaint(&refused));
}

#[tokio::test]
async fn log_shows_the_filter_and_sets_another_one() {
    let daemon = Daemon::start(true);
    let text = |output: Output| String::from_utf8(output.stdout).unwrap();
    assert_eq!(text(daemon.run(&["log"]).await), "log info\n");
    assert_eq!(text(daemon.run(&["log", "debug"]).await), "log debug (before: info)\n");
    let set = json(&daemon.run(&["log", "info,samepath=trace", "--json"]).await);
    assert_eq!((&set["kind"], &set["filter"]), (&"log".into(), &"info,samepath=trace".into()));
    let wrong = daemon.run(&["log", "samepath=loud"]).await;
    assert_eq!(wrong.status.code(), Some(2));
    assert!(complaint(&wrong).contains("'samepath=loud'"), "{}", complaint(&wrong));
}

#[tokio::test]
async fn why_says_who_did_not_answer_and_its_exit_code_does_too() {
    let daemon = Daemon::start(true);
    let flow = ["why", "udp", "10.0.0.1:4000", "10.0.0.2:53"];
    let asked = daemon.run(&flow).await;
    let text = String::from_utf8(asked.stdout).unwrap();
    assert_eq!(asked.status.code(), Some(5), "{text}");
    assert!(text.starts_with("udp 10.0.0.1:4000 → 10.0.0.2:53\n"), "{text}");
    assert!(text.contains("node 3 did not answer: no control channel to it"), "{text}");
    let here = daemon.run(&[&flow[..], &["--here", "--json"]].concat()).await;
    assert_eq!((here.status.code(), &json(&here)["flow"]["dport"]), (Some(0), &53.into()));
    // A ping's identifier is in both ports.
    let ping = daemon.run(&["why", "icmp", "10.0.0.1:77", "10.0.0.2", "--here", "--json"]).await;
    assert_eq!(json(&ping)["flow"]["dport"], 77);
    let wrong = daemon.run(&["why", "udp", "10.0.0.1:x", "10.0.0.2:53"]).await;
    assert_eq!(wrong.status.code(), Some(2));
    assert!(complaint(&wrong).contains("[2001:db8::1]:4000"), "{}", complaint(&wrong));
}

#[tokio::test]
async fn a_refusal_is_a_sentence_and_exit_code_1() {
    let daemon = Daemon::start(true);
    let output = daemon.run(&["aggregation", "on"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(complaint(&output), "samepath: not while the moon is full\n");
    assert!(output.stdout.is_empty());

    let output = daemon.run(&["aggregation", "off", "--json"]).await;
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(json(&output)["aggregation"], false);
}

#[tokio::test]
async fn the_socket_is_for_owner_and_group_and_goes_with_the_server() {
    let daemon = Daemon::start(true);
    let metadata = std::fs::symlink_metadata(daemon.path()).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o660);

    daemon.answering.abort();
    daemon.server.await.unwrap();
    assert!(!socket_in(daemon.dir.path()).exists());
    let output = samepath(&["status"], &socket_in(daemon.dir.path())).await;
    assert_eq!(output.status.code(), Some(3));
    assert!(complaint(&output).contains("there is no control socket"), "{}", complaint(&output));
}

#[tokio::test]
async fn a_dead_daemons_socket_is_replaced_a_live_ones_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = socket_in(&dir.path().join("made/on/demand"));
    let first = OperatorSocket::bind(&path).unwrap();
    let error = OperatorSocket::bind(&path).unwrap_err();
    assert!(matches!(error, SocketError::AlreadyRunning { .. }), "{error}");
    assert!(error.to_string().contains("already running"), "{error}");
    drop(first);

    // What is left after kill -9: a socket nobody listens on.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let output = samepath(&["status"], &path).await;
    assert_eq!(output.status.code(), Some(3));
    assert!(complaint(&output).contains("nobody listens"), "{}", complaint(&output));
    drop(OperatorSocket::bind(&path).unwrap());

    std::fs::write(&path, "a file").unwrap();
    let error = OperatorSocket::bind(&path).unwrap_err();
    assert!(matches!(error, SocketError::NotASocket { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a file");
}

#[tokio::test]
async fn an_old_server_leaves_its_successors_socket_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = socket_in(dir.path());
    let old = OperatorSocket::bind(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let new = OperatorSocket::bind(&path).unwrap();
    drop(old);
    assert!(path.exists());
    drop(new);
    assert!(!path.exists());
}
