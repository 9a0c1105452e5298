//! The operator socket: request lines.

use std::net::Ipv4Addr;

use samepath::operator::api::{Request, Role, SessionRow};
use samepath::operator::server::read_request;

/// One request line.
pub fn operator(input: &[u8]) {
    let line = input.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let request = match read_request(line) {
        Ok(request) => request,
        Err(refusal) => return assert!(refusal.len() > 10, "a refusal says why"),
    };
    let written = serde_json::to_vec(&request).expect("a request can be written");
    assert_eq!(
        read_request(&written).ok(),
        Some(request.clone()),
        "a request that was read is written as it was"
    );
    if let Request::Sessions { filter } | Request::SessionsCount { filter } = &request {
        let row = sample();
        // Any filter has an answer for any session.
        let _ = (filter.matches(&row), filter.is_full(1));
    }
}

fn sample() -> SessionRow {
    SessionRow {
        proto: "tcp".into(),
        src: Ipv4Addr::new(10, 0, 0, 1).into(),
        dst: Ipv4Addr::new(192, 0, 2, 9).into(),
        sport: 4000,
        dport: 80,
        vlan: 0,
        inner_vlan: 0,
        state: "ESTABLISHED".into(),
        role: Role::Owner,
        owner: 1,
        generation: 1,
        age_s: 1,
        timeout_s: 1,
        packets: 1,
        bytes: 60,
    }
}
