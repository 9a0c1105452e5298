//! Routes, addresses and links of a real kernel, driven with `ip`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use samepath_dataplane::route::{Resolution, Routes};

use super::super::{Mirrored, PortLink, RouteMirror, RoutesError};
use super::namespace::{DEADLINE, Namespace};
use super::{ip, net};

/// A node with two ports, p0 and p1, and one interface that is not a port, x0; and what they lead to.
pub struct Bed {
    pub node: Namespace,
    pub far: Namespace,
}

impl Bed {
    pub fn new() -> Self {
        let (node, far) = (Namespace::new("node"), Namespace::new("far"));
        for (index, (here, there)) in [("p0", "q0"), ("p1", "q1"), ("x0", "y0")].iter().enumerate() {
            node.cable(here, &far, there);
            node.ip(&format!("addr add 10.{index}.0.1/24 dev {here}"));
            node.ip(&format!("addr add 2001:db8:{index}::1/64 dev {here} nodad"));
            far.ip(&format!("addr add 10.{index}.0.2/24 dev {there}"));
            far.ip(&format!("addr add 2001:db8:{index}::2/64 dev {there} nodad"));
        }
        Self { node, far }
    }

    pub fn start(&self) -> RouteMirror {
        let port = |port, interface| PortLink { port, ifindex: self.node.ifindex(interface) };
        RouteMirror::start(vec![port(0, "p0"), port(1, "p1")]).unwrap()
    }
}

/// Waits until a snapshot satisfies the condition.
pub async fn until(mirror: &mut RouteMirror, what: &str, condition: impl Fn(&Mirrored) -> bool) -> Mirrored {
    let waiting = async {
        loop {
            if let Some(mirrored) = mirror.latest().filter(|mirrored| condition(mirrored)) {
                return mirrored;
            }
            mirror.changed().await;
        }
    };
    match tokio::time::timeout(DEADLINE, waiting).await {
        Ok(mirrored) => mirrored,
        Err(_) => panic!("waited in vain until {what}; {:?}", mirror.latest()),
    }
}

fn leads_to(mirrored: &Mirrored, destination: &str, gateway: &str) -> bool {
    let next_hop = mirrored.routes.next_hop(ip(destination), 0);
    next_hop.map(|(_, address)| address) == Some(ip(gateway))
}

fn answer(mirrored: &Mirrored, destination: &str) -> Resolution {
    mirrored.routes.resolve(ip(destination), 0)
}

#[test]
fn routes_come_and_go_as_ip_sets_them() {
    let bed = Bed::new();
    let node = &bed.node;
    node.run(|| async {
        let mut mirror = bed.start();
        until(&mut mirror, "listed", |m| leads_to(m, "10.0.0.9", "10.0.0.9")).await;
        for (prefix, destination, [first, second, third]) in [
            ("192.0.2.0/24", "192.0.2.1", ["10.0.0.2", "10.1.0.2", "10.0.0.3"]),
            ("2001:db8:9::/48", "2001:db8:9::1", ["2001:db8::2", "2001:db8:1::2", "2001:db8::3"]),
        ] {
            node.ip(&format!("route add {prefix} via {first} metric 20"));
            until(&mut mirror, "added", |m| leads_to(m, destination, first)).await;
            node.ip(&format!("route add {prefix} via {second} metric 10"));
            until(&mut mirror, "lower metric", |m| leads_to(m, destination, second)).await;
            node.ip(&format!("route replace {prefix} via {third} metric 10"));
            until(&mut mirror, "replaced", |m| leads_to(m, destination, third)).await;
            node.ip(&format!("route del {prefix} metric 10"));
            until(&mut mirror, "back to the other", |m| leads_to(m, destination, first)).await;
            node.ip(&format!("route del {prefix}"));
            until(&mut mirror, "gone", |m| answer(m, destination) == Resolution::NoRoute).await;
            node.ip(&format!("route add blackhole {prefix}"));
            until(&mut mirror, "refused", |m| answer(m, destination) == Resolution::Refused).await;
        }
    });
}

#[test]
fn multipath_and_next_hop_objects_are_followed() {
    let bed = Bed::new();
    let node = &bed.node;
    let gateways = |mirrored: &Mirrored, destination: &str| -> BTreeSet<IpAddr> {
        let hashes = (0..64_u32).map(|flow| flow.wrapping_mul(0x0400_0001));
        hashes.filter_map(|hash| mirrored.routes.next_hop(ip(destination), hash)).map(|h| h.1).collect()
    };
    let both = |a: &str, b: &str| BTreeSet::from([ip(a), ip(b)]);
    node.run(|| async {
        let mut mirror = bed.start();
        node.ip("route add 192.0.2.0/24 nexthop via 10.0.0.2 weight 2 nexthop via 10.1.0.2");
        until(&mut mirror, "IPv4 multipath", |m| gateways(m, "192.0.2.1") == both("10.0.0.2", "10.1.0.2"))
            .await;
        node.ip("-6 route add 2001:db8:9::/48 via 2001:db8::2 metric 7");
        node.ip("-6 route append 2001:db8:9::/48 via 2001:db8:1::2 metric 7");
        until(&mut mirror, "IPv6 siblings", |m| {
            gateways(m, "2001:db8:9::1") == both("2001:db8::2", "2001:db8:1::2")
        })
        .await;
        node.ip("-6 route del 2001:db8:9::/48 via 2001:db8::2 metric 7");
        until(&mut mirror, "one sibling left", |m| {
            gateways(m, "2001:db8:9::1") == BTreeSet::from([ip("2001:db8:1::2")])
        })
        .await;
        // With the compatible form off, routes name their object and nothing else. (Flows leave a
        // gateway that does not answer, so the one to come must.)
        bed.far.ip("addr add 10.0.0.9/24 dev q0");
        write_sysctl("net/ipv4/nexthop_compat_mode", "0");
        node.ip("nexthop add id 5 via 10.0.0.2 dev p0");
        node.ip("nexthop add id 6 via 10.1.0.2 dev p1");
        node.ip("nexthop add id 7 group 5/6,3");
        node.ip("route add 198.51.100.0/24 nhid 7");
        until(&mut mirror, "group of objects", |m| {
            gateways(m, "198.51.100.1") == both("10.0.0.2", "10.1.0.2")
        })
        .await;
        node.ip("nexthop replace id 5 via 10.0.0.9 dev p0");
        until(&mut mirror, "object replaced", |m| {
            gateways(m, "198.51.100.1") == both("10.0.0.9", "10.1.0.2")
        })
        .await;
        node.ip("nexthop del id 7");
        until(&mut mirror, "object removed", |m| answer(m, "198.51.100.1") == Resolution::NoRoute).await;
    });
}

#[test]
fn own_addresses_are_what_the_kernel_takes_packets_for() {
    let bed = Bed::new();
    let node = &bed.node;
    node.run(|| async {
        write_sysctl("net/ipv6/conf/p0/forwarding", "1");
        let mut mirror = bed.start();
        let own = ["10.0.0.1", "10.0.0.255", "2001:db8::1", "2001:db8::", "10.2.0.1"];
        let first = until(&mut mirror, "listed", |m| {
            own.iter().all(|address| m.own_addresses.contains(&ip(address)))
        })
        .await;
        assert!(!first.own_addresses.iter().any(|address| address.is_loopback()));
        assert!(first.own_addresses.iter().all(|&a| first.routes.resolve(a, 0) == Resolution::Local
            || matches!(a, IpAddr::V6(v6) if v6.is_unicast_link_local())));
        let p0 = first.links.iter().find(|link| link.name == "p0").unwrap();
        assert_eq!((p0.mac, p0.mtu, p0.up), (node.mac("p0"), 1500, true));
        assert!(p0.addresses.contains(&net("10.0.0.1/24")));
        node.ip("addr add 10.7.0.1/24 dev p1");
        until(&mut mirror, "added", |m| {
            m.own_addresses.contains(&ip("10.7.0.1")) && leads_to(m, "10.7.0.9", "10.7.0.9")
        })
        .await;
        node.ip("route add 203.0.113.0/24 via 10.0.0.2 src 10.7.0.1");
        until(&mut mirror, "route with source", |m| leads_to(m, "203.0.113.1", "10.0.0.2")).await;
        node.ip("addr del 10.7.0.1/24 dev p1");
        until(&mut mirror, "removed", |m| {
            !m.own_addresses.contains(&ip("10.7.0.1"))
                && answer(m, "10.7.0.9") == Resolution::NoRoute
                && answer(m, "203.0.113.1") == Resolution::NoRoute
        })
        .await;
        node.ip("link set p1 mtu 1400");
        until(&mut mirror, "MTU", |m| m.links.iter().any(|l| l.name == "p1" && l.mtu == 1400)).await;
    });
}

#[test]
fn routes_the_kernel_drops_in_silence_when_a_link_goes_down_are_dropped_here_too() {
    let bed = Bed::new();
    let node = &bed.node;
    node.run(|| async {
        node.ip("route add 192.0.2.0/24 via 10.0.0.2");
        node.ip("route add 192.0.0.0/16 via 10.1.0.2");
        let mut mirror = bed.start();
        until(&mut mirror, "listed", |m| leads_to(m, "192.0.2.1", "10.0.0.2")).await;
        node.ip("link set p0 down");
        until(&mut mirror, "less specific route", |m| leads_to(m, "192.0.2.1", "10.1.0.2")).await;
        node.ip("link set p0 up");
        until(&mut mirror, "on-link again", |m| leads_to(m, "10.0.0.9", "10.0.0.9")).await;
        node.ip("link del p1");
        until(&mut mirror, "interface gone", |m| {
            answer(m, "192.0.2.1") == Resolution::NoRoute && !m.links.iter().any(|l| l.name == "p1")
        })
        .await;
    });
}

#[test]
fn lost_notifications_are_made_up_for() {
    const ROUTES: u32 = 40_000;
    let bed = Bed::new();
    let node = &bed.node;
    let mut commands = String::new();
    for index in 0..ROUTES {
        let (b, c) = (index >> 8, index & 0xff);
        commands += &format!("route add 20.{b}.{c}.0/24 via 10.0.0.2\n");
    }
    node.run(|| async {
        let mut mirror = bed.start();
        until(&mut mirror, "listed", |_| true).await;
        // Nothing reads the socket while this thread waits for `ip`.
        node.ip_batch(&commands);
        let host = |index: u32| format!("20.{}.{}.1", index >> 8, index & 0xff);
        until(&mut mirror, "all routes", |m| (0..ROUTES).all(|index| leads_to(m, &host(index), "10.0.0.2")))
            .await;
        assert!(drops() > 0, "the socket's buffer did not overflow: nothing was tested");
    });
}

#[test]
fn resolution_agrees_with_ip_route_get() {
    let bed = Bed::new();
    let node = &bed.node;
    let prefixes = comparison_routes(node);
    node.run(|| async {
        let mut mirror = bed.start();
        // Flows leave a gateway that does not answer; the kernel does not care.
        let routes = until(&mut mirror, "all gateways of several answer", |m| {
            [("p0", "10.0.0.2"), ("p1", "10.1.0.2"), ("p0", "2001:db8::2"), ("p1", "2001:db8:1::2")]
                .iter()
                .all(|(port, gateway)| {
                    let ifindex = m.links.iter().find(|l| l.name == *port).unwrap().ifindex;
                    m.routes.neighbour(ifindex, ip(gateway)).is_some()
                })
        })
        .await
        .routes;
        let mut seed = 0x5eed_u64;
        let mut kinds = BTreeSet::new();
        for index in 0..200 {
            let destination = random_address(prefixes[index % prefixes.len()], &mut seed);
            let kernel = kernel_answer(node, destination);
            let ours = our_answers(&routes, destination);
            assert!(ours.contains(&kernel), "{destination}: {kernel}, not {ours:?}");
            kinds.insert(kernel.split(' ').next().unwrap_or_default().to_owned());
        }
        let all = ["elsewhere", "local", "none", "refused", "via"].map(String::from);
        assert_eq!(kinds, BTreeSet::from(all), "every kind of answer was compared");
    });
}

#[test]
fn interface_given_twice_is_refused() {
    let twice = vec![PortLink { port: 0, ifindex: 3 }, PortLink { port: 1, ifindex: 3 }];
    assert!(matches!(RouteMirror::start(twice), Err(RoutesError::Duplicate { port: 1, ifindex: 3 })));
}

/// Sets up routes of every kind and returns prefixes to draw destinations from.
fn comparison_routes(node: &Namespace) -> Vec<&'static str> {
    for route in [
        "192.0.2.0/24 via 10.0.0.2",
        "192.0.2.128/25 via 10.1.0.2",
        "192.0.2.192/28 dev p1",
        "172.16.0.0/12 via 10.2.0.2",
        "172.16.5.0/24 nexthop via 10.0.0.2 nexthop via 10.1.0.2 weight 5",
        "local 172.24.0.0/13 dev lo table local",
        "172.24.9.0/24 via 10.0.0.3",
        "blackhole 198.18.0.0/16",
        "unreachable 198.19.0.0/17",
        "throw 203.0.113.0/24",
        "203.0.112.0/20 via 10.0.0.2",
        "100.64.0.0/10 via inet6 2001:db8::2 dev p0",
        "2001:db8:20::/44 via 2001:db8::2",
        "2001:db8:21::/48 nexthop via 2001:db8::2 nexthop via 2001:db8:1::2",
        "2001:db8:22::/48 via 2001:db8:2::2",
        "throw 2001:db8:24::/48",
        "local 2001:db8:25::/48 dev lo table local",
        "prohibit 2001:db8:26::/48",
        "2001:db8:27::/48 dev p1 metric 9",
        "2001:db8:27::/48 dev p0 metric 9",
    ] {
        let verb = if route.ends_with("dev p0 metric 9") { "append" } else { "add" };
        node.ip(&format!("route {verb} {route}"));
    }
    let v4 = ["10.0.0.0/22", "192.0.2.0/24", "172.16.0.0/20", "172.24.8.0/22", "198.18.0.0/15"];
    let more_v4 = ["203.0.112.0/20", "100.64.0.0/10", "10.0.0.254/31", "10.0.0.0/31", "0.0.0.0/0"];
    let v6 = ["2001:db8:20::/45", "2001:db8:21::/48", "2001:db8:24::/46", "2001:db8::/127", "::/0"];
    [v4, more_v4, v6].concat()
}

fn random_address(prefix: &str, seed: &mut u64) -> IpAddr {
    let mut random = || {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed
    };
    loop {
        let address = match net(prefix) {
            ipnet::IpNet::V4(net) => {
                let host = random() as u32 & u32::from(net.hostmask());
                IpAddr::from((u32::from(net.network()) | host).to_be_bytes())
            }
            ipnet::IpNet::V6(net) => {
                let host = u128::from(random()) << 64 | u128::from(random());
                let bits = u128::from(net.network()) | host & u128::from(net.hostmask());
                IpAddr::from(bits.to_be_bytes())
            }
        };
        // Of multicast and link-local destinations the kernel says where it would send its own
        // packets; they are never forwarded.
        let forwarded = match address {
            IpAddr::V4(v4) => !v4.is_multicast() && !v4.is_unspecified() && v4.octets()[0] < 240,
            IpAddr::V6(v6) => !v6.is_multicast() && !v6.is_unicast_link_local(),
        };
        if forwarded {
            return address;
        }
    }
}

/// The kernel's answer: `local`, `none`, `refused`, `elsewhere` or `via INTERFACE ADDRESS`.
fn kernel_answer(node: &Namespace, destination: IpAddr) -> String {
    let output = node.try_ip(&format!("-json route get {destination}"));
    if !output.status.success() {
        let unreachable = String::from_utf8_lossy(&output.stderr).contains("Network is unreachable");
        return if unreachable { "none" } else { "refused" }.to_owned();
    }
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let route = &json[0];
    let text = |key: &str| route[key].as_str().map(str::to_owned);
    let via = route["via"]["host"].as_str().map(str::to_owned);
    match (text("type").as_deref(), text("dev").as_deref()) {
        (Some("local" | "broadcast" | "anycast"), _) => "local".to_owned(),
        (_, Some("x0")) => "elsewhere".to_owned(),
        (_, Some(interface)) => {
            let address = text("gateway").or(via).unwrap_or_else(|| destination.to_string());
            format!("via {} {address}", node.ifindex(interface))
        }
        other => panic!("{destination}: {other:?} {route}"),
    }
}

/// Ours, over many flows, in the same words.
fn our_answers(routes: &Routes, destination: IpAddr) -> BTreeSet<String> {
    let flows = (0..64_u32).map(|flow| flow.wrapping_mul(0x0400_0001));
    flows
        .map(|flow| match routes.resolve(destination, flow) {
            Resolution::Local => "local".to_owned(),
            Resolution::NoRoute => "none".to_owned(),
            Resolution::Refused => "refused".to_owned(),
            Resolution::Elsewhere => "elsewhere".to_owned(),
            Resolution::Send(_) | Resolution::Unresolved { .. } => {
                let (ifindex, address) = routes.next_hop(destination, flow).unwrap();
                format!("via {ifindex} {address}")
            }
        })
        .collect()
}

/// Sets a sysctl of the namespace this thread is in.
fn write_sysctl(path: &str, value: &str) {
    std::fs::write(format!("/proc/sys/{path}"), value).unwrap();
}

/// Messages the kernel could not deliver to the netlink sockets of this namespace.
fn drops() -> u64 {
    let table = std::fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
    let of_socket = |line: &str| line.split_whitespace().nth(8)?.parse::<u64>().ok();
    table.lines().skip(1).filter_map(of_socket).sum()
}
