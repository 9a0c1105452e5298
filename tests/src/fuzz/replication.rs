//! The replication decoder: frames of a stream as a peer could send them, through the machine that takes them.

use samepath::replicate::hello::{Identity, Versions};
use samepath::replicate::machine::Machine;
use samepath::replicate::message::{self, Message};
use samepath_dataplane::clock::NowMs;
use samepath_dataplane::cluster::director::DirectorHash;
use samepath_dataplane::flow::NodeId;
use samepath_dataplane::wire::record::Record;

use super::Bytes;

const NOW: NowMs = NowMs(60_000);

fn identity(node: u16) -> Identity {
    Identity {
        node: NodeId(node),
        cluster: 42,
        director_hash: DirectorHash::IpPair,
        fingerprint: 7,
        boot_id: u64::from(node),
        started: NowMs(0),
        versions: Versions::SPOKEN,
    }
}

/// The first byte says what follows: records, or frames on a link this node accepted (even) or dialled.
pub fn replication(input: &[u8]) {
    let mut bytes = Bytes(input);
    match bytes.byte() % 3 {
        0 => records(bytes.0),
        side => frames(bytes, side == 1),
    }
}

fn records(mut bytes: &[u8]) {
    while let Ok(record) = Record::decode(&mut bytes) {
        same_again(&record);
    }
}

/// A record that was read is written as it was, and what is kept of it as a session fits a table.
fn same_again(record: &Record) {
    let mut written = Vec::new();
    record.encode(&mut written);
    assert_eq!(Record::decode(&mut &written[..]), Ok(*record));
    let session = record.to_session(NOW, 1);
    assert_eq!((session.key, session.owner), (record.key, record.owner));
}

fn frames(mut bytes: Bytes<'_>, accepted: bool) {
    let peer = NodeId(2);
    let mut machine = Machine::new(identity(1), &[(peer, ([127, 0, 0, 1], 6082).into())], 64);
    let link = if accepted { machine.accepted(peer) } else { machine.dialled(peer) };
    while machine.poll_message(link, NOW).is_some() {}
    let hello = message::hello(&identity(2).hello(Default::default(), NOW));
    let first = Message::decode(&hello[4..]).expect("a Hello is read");
    machine.handle_message(link, first, NOW).expect("a Hello that fits is taken");
    while !bytes.is_empty() {
        let Ok(message) = Message::decode(bytes.string(usize::MAX)) else { return };
        if let Message::Records { records, .. } | Message::Page { records, .. } = &message {
            records.iter().for_each(same_again);
        }
        // What breaks the order ends the connection.
        if machine.handle_message(link, message, NOW).is_err() {
            return;
        }
        machine.handle_timeout(link, NOW);
        while machine.poll_message(link, NOW).is_some() {}
        while machine.poll_event().is_some() {}
    }
}
