//! After the faults: everything is mended, and what there is must be what a simple model says.

use samepath_dataplane::session::{Role, Session, State};

use super::checker::{brief, flow_of};
use super::conversation::Kind;
use super::node::Process;
use super::world::World;

/// Views, bulk syncs and conflicts settle within so long, ms.
const SETTLE_MS: u64 = 3_500;
/// A connection that is alive passes a segment both ways within so long, ms.
const PASS_MS: u64 = 2_000;
/// Times 40 ms in which what was published arrives and is acknowledged; a link delays by less.
const ARRIVALS: u32 = 25;
/// Longer than the idle time of a datagram flow, ms.
const IDLE_MS: u64 = 8_000;
/// Longer than a claim waits until its Owner is asked, and than that takes, ms.
const CLAIMS_MS: u64 = 33_000;

impl World {
    /// Mends everything, lets it settle and compares. `long`: until old claims must be gone as well.
    pub fn come_to_rest(&mut self, long: bool) -> Result<(), String> {
        self.mend();
        self.run_for(SETTLE_MS, 20)?;
        let alive = self.alive();
        self.push(&alive);
        self.run_for(PASS_MS, 15)?;
        self.check_passed(&alive)?;
        self.run_for(SETTLE_MS, 100)?;
        self.let_records_arrive()?;
        self.check_tables(&alive, false)?;
        let rest = if long { CLAIMS_MS } else { IDLE_MS };
        for _ in 0..rest / 1000 {
            self.push(&alive);
            self.run_for(1000, 100)?;
        }
        self.let_records_arrive()?;
        self.check_tables(&alive, long)
    }

    /// A session may have ended a moment ago: what was said of it is on its way.
    fn let_records_arrive(&mut self) -> Result<(), String> {
        for _ in 0..ARRIVALS {
            self.run_for(40, 10)?;
            let clock = self.nodes[0].clock(self.now);
            let processes = self.nodes.iter().filter_map(|node| node.process.as_ref());
            let owed = |process: &Process| {
                let stats = process.control.machine.stats(clock);
                !process.mailbox.outbox.is_empty() || stats.iter().any(|peer| peer.lag_records > 0)
            };
            if !processes.into_iter().any(owed) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn mend(&mut self) {
        self.plan = self.plan.calm();
        self.network.heal();
        self.mends_at = None;
        let now = self.now;
        for node in &mut self.nodes {
            node.paused_until = node.paused_until.map(|_| now);
            node.starts_at = node.starts_at.map(|_| now);
            node.control_asleep_until = 0;
            if let Some(process) = &mut node.process {
                process.control.weight = 1;
                process.control.draining = false;
            }
        }
        self.wake();
        self.story.add(self.step, self.now, || "everything is mended".into());
    }

    /// Lets time pass; hosts only repeat what was not acknowledged.
    pub fn run_for(&mut self, ms: u64, slice: u64) -> Result<(), String> {
        let end = self.now + ms;
        while self.now < end {
            for flow in 0..self.flows.len() {
                self.repeat(flow);
            }
            self.advance(slice)?;
        }
        Ok(())
    }

    fn sessions(&self) -> Vec<(u16, Vec<Session>)> {
        let running = self.nodes.iter().filter_map(|node| Some((node.id, node.process.as_ref()?.sessions())));
        running.collect()
    }

    /// Flows whose session a running node holds, and all that need none.
    fn alive(&self) -> Vec<usize> {
        let tables = self.sessions();
        let held = |flow: usize| {
            let all = tables.iter().flat_map(|(_, table)| table);
            all.filter(|session| session.state != State::Claimed).any(|session| flow_of(&session.key) == flow)
        };
        (0..self.flows.len())
            .filter(|&number| {
                let flow = &self.flows[number];
                match flow.kind {
                    Kind::Tcp => flow.is_established() && held(number),
                    Kind::Udp => flow.begun.is_some(),
                    Kind::One => false,
                }
            })
            .collect()
    }

    fn push(&mut self, alive: &[usize]) {
        for &flow in alive {
            for end in 0..2 {
                let body = self.flows[flow].say(end, self.now);
                self.send_some(flow, end, body);
            }
        }
    }

    /// Promise 7: a connection whose session a live node held goes on.
    fn check_passed(&self, alive: &[usize]) -> Result<(), String> {
        for &number in alive {
            if !self.flows[number].is_quiet() {
                return Err(format!("promise 7: flow {number} is alive, but its segments no longer pass"));
            }
        }
        Ok(())
    }

    /// The reference model: one Owner for each living flow, all else equal to its record.
    fn check_tables(&self, alive: &[usize], no_claims: bool) -> Result<(), String> {
        let tables = self.sessions();
        for &flow in alive {
            let owners = tables.iter().flat_map(|(_, table)| table);
            let owners = owners.filter(|one| one.role == Role::Owner && flow_of(&one.key) == flow).count();
            if owners != 1 {
                return Err(format!("at rest: living flow {flow} has {owners} Owners"));
            }
        }
        for (node, table) in &tables {
            for session in table {
                self.check_session(*node, session, &tables, no_claims)?;
            }
            let process = self.nodes[usize::from(*node) - 1].process.as_ref();
            for peer in
                process.map(|it| it.control.machine.stats(self.nodes[0].clock(self.now))).unwrap_or_default()
            {
                if peer.lag_records > 0 || peer.syncing {
                    return Err(format!(
                        "at rest: node {node} owes node {} {} records",
                        peer.peer.0, peer.lag_records
                    ));
                }
            }
        }
        Ok(())
    }

    fn check_session(
        &self,
        node: u16,
        session: &Session,
        tables: &[(u16, Vec<Session>)],
        no_claims: bool,
    ) -> Result<(), String> {
        let flow = flow_of(&session.key);
        let same = |table: &[Session]| table.iter().find(|other| other.key == session.key).copied();
        if session.role == Role::Owner {
            for (other, table) in tables.iter().filter(|(other, _)| *other != node) {
                let equal = same(table).is_some_and(|copy| {
                    // A takeover granted and not taken up: the next record of the living Owner ends it.
                    let not_taken_up = copy.generation > session.generation
                        && (copy.role == Role::Claim || copy.owner.0 == 0);
                    not_taken_up
                        || copy.role == Role::Backup
                            && (copy.owner, copy.generation, copy.version, copy.state)
                                == (session.owner, session.generation, session.version, session.state)
                });
                if !equal {
                    let (has, of) = (same(table), session);
                    return Err(format!(
                        "at rest: flow {flow}: node {other} has {} of Owner {node}'s {}",
                        has.map_or("nothing".into(), |has| brief(&has)),
                        brief(of)
                    ));
                }
            }
            return Ok(());
        }
        let owner =
            tables.iter().find(|(other, _)| *other == session.owner.0).and_then(|(_, table)| same(table));
        let owned = owner.is_some_and(|owner| owner.role == Role::Owner);
        let known_owner = tables.iter().any(|(other, _)| *other == session.owner.0);
        if session.role == Role::Backup && known_owner && !owned {
            return Err(format!(
                "at rest: node {node} has a stale backup of flow {flow}: {}; its Owner has {}",
                brief(session),
                owner.map_or("nothing".into(), |owner| brief(&owner))
            ));
        }
        let granted = session.state == State::Claimed;
        if session.role == Role::Claim && granted && (no_claims || owned) {
            return Err(format!("at rest: node {node} has a claim left of flow {flow}: {}", brief(session)));
        }
        Ok(())
    }
}
