//! Policies as operators write them, right and wrong.

use samepath_dataplane::flow::key_bytes;
use samepath_dataplane::policy::{Action, Question};

use super::*;

const ZONES: [&str; 3] = ["dmz", "inside", "outside"];

fn compiled(text: &str) -> Compiled {
    let file = PolicyFile::parse(text).unwrap();
    file.verify_zones(&ZONES).unwrap();
    Compiled::new(1, file, (&ZONES, &[]), &Default::default()).unwrap()
}

fn question(zone: u8, protocol: u8, from: &str, to: &str, port: u16) -> Question {
    let address = |text: &str| key_bytes(text.parse().unwrap());
    Question {
        zone,
        protocol,
        source: address(from),
        destination: address(to),
        source_port: 40_000,
        destination_port: port,
    }
}

const OFFICE: &str = r#"
default = "deny"

[[rule]]
name = "no-telnet"
protocol = "tcp"
destination_port = 23
action = "reject"
log = true

[[rule]]
name = "web"
from = "inside"
source = ["10.0.0.0/8", "2001:db8::/32"]
protocol = ["tcp", "udp"]
destination_port = [80, "443-444"]
action = "allow"
timeout = { tcp_established = 3600 }

[[rule]]
name = "ping"
from = ["inside", "dmz"]
protocol = ["icmp", "icmpv6"]
icmp = "echo-request"
action = "allow"
aggregation = false
"#;

#[test]
fn the_first_rule_that_matches_counts() {
    let office = compiled(OFFICE);
    let judge = |question: Question| {
        let judged = office.policy.judge(&question);
        (judged.rule, judged.action)
    };
    assert_eq!(judge(question(2, 6, "10.1.1.1", "192.0.2.1", 443)), (1, Action::Allow));
    assert_eq!(judge(question(2, 17, "2001:db8::1", "2001:db9::1", 80)), (1, Action::Allow));
    assert_eq!(judge(question(2, 6, "10.1.1.1", "192.0.2.1", 23)), (0, Action::Reject));
    assert_eq!(judge(question(3, 6, "10.1.1.1", "192.0.2.1", 443)), (3, Action::Deny), "another zone");
    assert_eq!(judge(question(2, 6, "11.1.1.1", "192.0.2.1", 443)), (3, Action::Deny), "another source");
    assert_eq!(judge(question(2, 6, "10.1.1.1", "192.0.2.1", 445)), (3, Action::Deny), "another port");
    assert_eq!(judge(question(1, 1, "10.1.1.1", "192.0.2.1", 8)), (2, Action::Allow));
    assert_eq!(judge(question(1, 58, "2001:db8::1", "2001:db9::1", 128)), (2, Action::Allow));
    assert_eq!(judge(question(1, 1, "10.1.1.1", "192.0.2.1", 13)), (3, Action::Deny), "another type");
}

#[test]
fn what_a_rule_says_of_its_sessions_is_kept() {
    let office = compiled(OFFICE);
    let web = office.policy.judge(&question(2, 6, "10.1.1.1", "192.0.2.1", 443));
    assert_eq!((web.terms, web.local, web.log), (1, false, false));
    let ping = office.policy.judge(&question(1, 1, "10.1.1.1", "192.0.2.1", 8));
    assert_eq!((ping.terms, ping.local), (0, true));
    assert!(office.policy.judge(&question(2, 6, "10.1.1.1", "192.0.2.1", 23)).log);
    let timeouts = office.file.rules[1].timeouts(&Default::default()).unwrap();
    assert_eq!((timeouts.get("tcp_established"), timeouts.get("udp")), (Some(3600), Some(30)));
}

#[test]
fn comments_and_blanks_make_no_other_policy() {
    let other = format!("# a comment\n\n{}", OFFICE.replace("[80, \"443-444\"]", "[ 80, '443-444' ] # web"));
    let (one, other) = (compiled(OFFICE), compiled(&other));
    assert_eq!((&one.digest, one.policy.version), (&other.digest, other.policy.version));
    assert_eq!(one.digest.len(), 16);
    let changed = compiled(&OFFICE.replace("= 23", "= 24"));
    assert_ne!(one.digest, changed.digest);
}

#[test]
fn a_rule_sends_flows_through_a_service_of_the_node_and_no_other() {
    let text =
        "default = 'deny'\n[[rule]]\nname = 'a'\naction = 'service'\nservice = 'web'\ntimeout = { udp = 9 }";
    let file = PolicyFile::parse(text).unwrap();
    assert_eq!(file.rules[0].action_text(), "service web");
    assert_eq!(file.verify_services(&["ids", "web"]), Ok(()));
    let compiled = Compiled::new(1, file.clone(), (&ZONES, &["ids", "web"]), &Default::default()).unwrap();
    let judged = compiled.policy.judge(&question(1, 6, "10.1.1.1", "192.0.2.1", 80));
    assert!(judged.allows() && judged.service() == 2, "{judged:?}");
    for (services, remedy) in [(&["ids"][..], "services are ids"), (&[], "give it one with --service")] {
        let refused = file.verify_services(services).unwrap_err();
        let expected =
            format!("line 2: rule \"a\": service = \"web\": this node has no such service port; {remedy}");
        assert_eq!(refused, expected);
    }
    let refused = PolicyFile::parse("default = 'service'").unwrap_err();
    assert!(refused.starts_with("line 1: default: service is for rules"), "{refused}");
}

/// The sentence for a policy with these keys in the rule that begins in line 2.
fn refused(keys: &str) -> String {
    PolicyFile::parse(&format!("default = \"deny\"\n[[rule]]\n{keys}\n")).unwrap_err()
}

#[test]
fn complaints_name_line_rule_and_remedy() {
    let rows = [
        ("", "line 2: rule number 1: name is missing"),
        ("name = 'a b'\naction = 'allow'", "line 3: rule number 1: name: 'a b' is no name"),
        ("name = 'a'", "line 2: rule \"a\": action is missing"),
        (
            "name = 'a'\naction = 'permit'",
            "line 4: rule \"a\": action: \"permit\" is no action: write allow, deny, reject or service",
        ),
        (
            "name = 'a'\naction = 'service proxy'",
            "line 4: rule \"a\": action: \"service proxy\" names the service in the wrong place: write action = \"service\" and service = \"proxy\"",
        ),
        ("name = 'a'\naction = 'service'", "line 2: rule \"a\": action = \"service\" without a name"),
        (
            "name = 'a'\naction = 'deny'\nservice = 'web'",
            "line 2: rule \"a\": service = \"web\" with action = \"deny\": only flows that begin go through a service",
        ),
        (
            "name = 'a'\naction = 'service'\nservice = ''",
            "line 5: rule \"a\": service: a service's name is not empty",
        ),
        ("name = 'a'\naction = 'allow'\ncolour = 1", "line 5: unknown field `colour`"),
        (
            "name = 'a'\naction = 'allow'\nsource = '10.0.0.1/8'",
            "line 5: rule \"a\": source: \"10.0.0.1/8\" has bits behind its length: write 10.0.0.0/8",
        ),
        (
            "name = 'a'\naction = 'allow'\nsource = ['10.0.0.0/8', 'x']",
            "line 5: rule \"a\": source: \"x\" is no prefix",
        ),
        (
            "name = 'a'\naction = 'allow'\nsource = []",
            "line 5: rule \"a\": source: an empty list matches nothing",
        ),
        (
            "name = 'a'\naction = 'allow'\nsource = '10.0.0.0/8'\ndestination = '2001:db8::/32'",
            "line 2: rule \"a\": source and destination are of different IP versions",
        ),
        (
            "name = 'a'\naction = 'allow'\nprotocol = 'tpc'",
            "line 5: rule \"a\": protocol: \"tpc\": a protocol is tcp, udp",
        ),
        (
            "name = 'a'\naction = 'allow'\ndestination_port = 80",
            "line 2: rule \"a\": destination_port with any protocol: only tcp, udp, sctp, dccp and udplite have ports",
        ),
        (
            "name = 'a'\naction = 'allow'\nprotocol = ['tcp', 'icmp']\nsource_port = 80",
            "line 2: rule \"a\": source_port with a protocol without ports",
        ),
        (
            "name = 'a'\naction = 'allow'\nprotocol = 'tcp'\ndestination_port = '90-80'",
            "line 6: rule \"a\": destination_port: \"90-80\" is no range",
        ),
        (
            "name = 'a'\naction = 'allow'\nprotocol = 'tcp'\ndestination_port = 70000",
            "line 6: rule \"a\": destination_port: 70000 is no port",
        ),
        (
            "name = 'a'\naction = 'allow'\nicmp = 8",
            "line 2: rule \"a\": icmp without protocol icmp or icmpv6",
        ),
        (
            "name = 'a'\naction = 'allow'\nprotocol = 'icmp'\nicmp = 'echo-reply'",
            "line 6: rule \"a\": icmp: \"echo-reply\" begins no flow: replies pass with their requests",
        ),
        (
            "name = 'a'\naction = 'allow'\nprotocol = ['icmp', 'icmpv6']\nicmp = 13",
            "line 2: rule \"a\": icmp names no type of icmpv6",
        ),
        (
            "name = 'a'\naction = 'deny'\naggregation = false",
            "line 2: rule \"a\": aggregation and timeout are for flows that begin",
        ),
        (
            "name = 'a'\naction = 'allow'\nbackup = 'established'",
            "line 5: rule \"a\": backup: \"established\": this release backs up every session at once",
        ),
        (
            "name = 'a'\naction = 'allow'\ntimeout = { tpc = 1 }",
            "line 5: rule \"a\": timeout: timeout \"tpc\" is unknown",
        ),
        (
            "name = 'a'\naction = 'allow'\ntimeout = { udp = 0 }",
            "line 5: rule \"a\": timeout: timeout udp = 0 s is out of range",
        ),
        (
            "name = 'a'\naction = 'allow'\nlog = 'yes'",
            "line 5: rule \"a\": log: \"yes\" is neither true nor false",
        ),
        (
            "name = 'a'\naction = 'allow'\n[[rule]]\nname = 'a'\naction = 'deny'",
            "line 5: rule \"a\" has the name of the rule in line 2",
        ),
    ];
    for (keys, sentence) in rows {
        let refused = refused(keys).replace('\u{27}', "\"");
        let sentence = sentence.replace('\u{27}', "\"");
        assert!(refused.starts_with(&sentence), "{keys}\n  said {refused}\n  not  {sentence}");
    }
}

#[test]
fn the_default_must_be_said() {
    let missing = PolicyFile::parse("[[rule]]\nname = 'a'\naction = 'allow'").unwrap_err();
    assert!(missing.starts_with("line 1: default is missing"), "{missing}");
    let wrong = PolicyFile::parse("\ndefault = 'drop'").unwrap_err();
    assert!(wrong.starts_with("line 2: default: \"drop\" is no action"), "{wrong}");
    let broken = PolicyFile::parse("default = \"deny\"\n[[rule]\n").unwrap_err();
    assert!(broken.starts_with("line 2: "), "{broken}");
}

#[test]
fn a_zone_nobody_is_in_is_refused() {
    let file = PolicyFile::parse(OFFICE).unwrap();
    let refused = file.verify_zones(&["inside", "outside"]).unwrap_err();
    assert!(
        refused.starts_with("line 20: rule \"ping\": from = \"dmz\": no data interface is in this zone"),
        "{refused}"
    );
    assert!(refused.ends_with("zones are inside, outside"), "{refused}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let missing = PolicyFile::read(Path::new("/nowhere/policy.toml"), None, None).unwrap_err().0;
    assert!(missing.starts_with("the policy /nowhere/policy.toml cannot be read"), "{missing}");
}
