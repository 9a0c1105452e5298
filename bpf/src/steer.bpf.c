// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* Decides for every frame an interface receives: is it ours, and which flow's? Ours goes into the AF_XDP
 * socket of its queue with a struct sp_layout in front; the rest to the kernel, or nowhere. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "hash.h"
#include "layout.h"
#include "parse.h"

/* Set before load: the flow hash's seed, and what becomes of our frames while no socket is there. */
const volatile __u64 seed = 0;
const volatile __u32 on_crash = XDP_DROP;

/* Saves every frame a lookup while the pass list is empty. */
__u32 pass_list_length = 0;

/* A search among few numbers that lie in a line of memory; a hash map's look-up costs more than twice as much. */
struct sp_port ports[SP_MAX_PORTS] = {};

/* Of each own address one bit is set (own_bit): most packets are for others and need no look-up to know. */
__u64 own_filter[SP_OWN_FILTER] = {};

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, SP_MAX_PORTS * SP_MAX_QUEUES);
	__type(key, __u32); /* port index * SP_MAX_QUEUES + queue */
	__type(value, __u32);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SP_MAX_ADDRESSES);
	__type(key, union sp_address);
	__type(value, __u8);
} own_addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SP_MAX_PEERS);
	__type(key, union sp_address);
	__type(value, __u8);
} peers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SP_MAX_PASS);
	__type(key, struct sp_pass);
	__type(value, __u8);
} pass_list SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SP_OUTCOMES);
	__type(key, __u32); /* enum sp_outcome */
	__type(value, __u64);
} outcomes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SP_FORWARD_HINTS); /* with room for entries only if they are wanted */
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct sp_forward);
} forwards SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SP_MAX_PEERS);
	__type(key, __u32); /* position among the node's peers */
	__type(value, struct sp_forward_peer);
} forward_peers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SP_MAX_PEERS);
	__type(key, __u32); /* position among the node's peers */
	__type(value, __u64); /* packets sent to that peer */
} forward_counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__type(key, __u32); /* 0 */
	__type(value, __u32); /* ifindex of the cluster link */
} forward_link SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} redirected_bytes SEC(".maps");

#include "forward.h"

struct geneve {
	__u8 version_length; /* 2 bits version, 6 bits length of the options in words */
	__u8 flags;
	__be16 protocol;
	__be32 vni;
};

#define GENEVE_ETHERNET 0x6558 /* transparent Ethernet bridging */

/* Tunnel rules: the outer headers end, the inner packet takes the outer one's place in `packet`. */
__noinline int read_tunnel(struct xdp_md *ctx, struct packet *packet)
{
	struct sp_layout *layout;
	__u32 udp_off, udp_length, inner_off;
	union sp_address source;
	struct geneve *geneve;
	__u16 ethertype = 0;
	__be16 *udp;

	if (!packet)
		return SP_DROP_TUNNEL_MALFORMED;
	layout = &packet->layout;
	/* Linux 6.1 takes no key from memory that is an argument, only from the stack. */
	source = packet->source;
	if (!bpf_map_lookup_elem(&peers, &source))
		return SP_DROP_TUNNEL_UNKNOWN_PEER;
	udp_off = layout->l4_off;
	if (layout->vlan_inner != SP_NO_VLAN)
		return SP_DROP_TUNNEL_MALFORMED;
	if (layout->flags & SP_IPV6 && udp_off != layout->l3_off + sizeof(struct ipv6hdr))
		return SP_DROP_TUNNEL_MALFORMED;
	udp = bytes_at(ctx, udp_off, 8);
	geneve = bytes_at(ctx, udp_off + 8, sizeof(*geneve));
	if (!udp || !geneve)
		return SP_DROP_TUNNEL_MALFORMED;
	udp_length = bpf_ntohs(udp[2]);
	inner_off = udp_off + 8 + sizeof(*geneve) + (geneve->version_length & 0x3f) * 4;
	if (geneve->version_length >> 6 || geneve->protocol != bpf_htons(GENEVE_ETHERNET) ||
	    udp_off + udp_length > layout->l3_end || inner_off > udp_off + udp_length)
		return SP_DROP_TUNNEL_MALFORMED;

	packet->limit = udp_off + udp_length - inner_off;
	__builtin_memset(layout, 0, sizeof(*layout));
	layout->inner_off = inner_off;
	layout->flags = SP_TUNNEL;
	if (read_ethernet(ctx, packet, inner_off, &ethertype) != SP_STEERED)
		return SP_DROP_TUNNEL_MALFORMED;
	if (ethertype == SP_ETHERTYPE_HELLO) {
		layout->l3_off = 0;
		layout->flags |= SP_HELLO;
		return SP_STEERED_TUNNEL;
	}
	if (read_network(ctx, packet, inner_off, ethertype, 1) != SP_STEERED ||
	    read_transport(ctx, packet, inner_off) != SP_STEERED)
		return SP_DROP_TUNNEL_MALFORMED;
	return SP_STEERED_TUNNEL;
}

/* Whether a bit of own_filter says that this address may be the node's. */
static __always_inline int may_be_own(const union sp_address *address)
{
	__u32 bit = (address->halves[0] ^ address->halves[1]) * SP_OWN_FACTOR >> SP_OWN_SHIFT;

	return own_filter[bit / 64 % SP_OWN_FILTER] >> bit % 64 & 1;
}

static __always_inline int is_listed(__u8 proto, __u16 port)
{
	struct sp_pass key = { .proto = proto, .port = port };

	if (bpf_map_lookup_elem(&pass_list, &key))
		return 1;
	key.port = 0;
	return bpf_map_lookup_elem(&pass_list, &key) != NULL;
}

/* Rules 6 and 7: what the kernel must get, and what a tunnel is. */
static __always_inline int keep_local(struct xdp_md *ctx, struct packet *packet, __u8 role)
{
	struct sp_layout *layout = &packet->layout;
	__u32 available = layout->l4_off ? layout->l3_end - layout->l4_off : 0;
	__u8 proto = layout->proto;
	__u16 port = 0;
	int is_tunnel;

	if (proto == IPPROTO_ICMPV6 && layout->flags & SP_IPV6 && available) {
		__u8 *type = bytes_at(ctx, layout->l4_off, 1);

		if (type && *type >= 133 && *type <= 137) /* RFC 4861 section 4 */
			return SP_PASS_NEIGHBOUR;
	}
	if (has_ports(proto) && available >= 4) {
		__be16 *l4 = bytes_at(ctx, layout->l4_off, 4);

		if (l4)
			port = bpf_ntohs(l4[1]);
	}
	is_tunnel = proto == IPPROTO_UDP && port == SP_TUNNEL_PORT && !(layout->flags & SP_FRAGMENT_FIRST);
	if (may_be_own(&packet->destination) && bpf_map_lookup_elem(&own_addresses, &packet->destination)) {
		if (!is_tunnel)
			return SP_PASS_OWN_ADDRESS;
		if (role != SP_ROLE_CLUSTER_LINK)
			return SP_DROP_TUNNEL_ELSEWHERE;
		return read_tunnel(ctx, packet);
	}
	if (pass_list_length && layout->l4_off && is_listed(proto, port))
		return SP_PASS_LISTED;
	if (role == SP_ROLE_CLUSTER_LINK)
		return is_tunnel ? SP_DROP_TUNNEL_ELSEWHERE : SP_PASS_CLUSTER_LINK;
	return SP_STEERED;
}

/* Rule 1: a frame for somebody else's link address is not ours to route. */
static __always_inline int check_mac(struct xdp_md *ctx, const struct sp_port *port)
{
	__u8 *mac = bytes_at(ctx, 0, ETH_HLEN);

	if (!mac)
		return SP_DROP_MALFORMED;
	if (mac[0] & 1)
		return SP_PASS_MULTICAST;
	if (*(__u16 *)mac != *(__u16 *)port->mac || *(__u16 *)(mac + 2) != *(__u16 *)(port->mac + 2) ||
	    *(__u16 *)(mac + 4) != *(__u16 *)(port->mac + 4))
		return SP_PASS_OTHER_HOST;
	return SP_STEERED;
}

static __always_inline int classify(struct xdp_md *ctx, const struct sp_port *port, struct packet *packet)
{
	__u16 ethertype = 0;
	int outcome;

	packet->limit = (long)ctx->data_end - (long)ctx->data;
	outcome = check_mac(ctx, port);
	if (outcome == SP_STEERED)
		outcome = read_ethernet(ctx, packet, 0, &ethertype);
	if (outcome == SP_STEERED)
		outcome = read_network(ctx, packet, 0, ethertype, 0);
	if (outcome == SP_STEERED)
		outcome = keep_local(ctx, packet, port->role);
	if (outcome == SP_STEERED)
		outcome = read_transport(ctx, packet, 0);
	return outcome;
}

static __always_inline __u32 flow_hash(const struct packet *packet)
{
	if (packet->layout.flags & SP_HELLO)
		return 0;
	return hash_flow(seed, &packet->source, packet->source_port, &packet->destination,
			 packet->destination_port, proto_vlans(packet));
}

static __always_inline int finish(__u32 outcome, int action)
{
	__u64 *counter = bpf_map_lookup_elem(&outcomes, &outcome);

	if (counter)
		(*counter)++;
	return action;
}

/* Writes the metadata and hands the frame to the socket of its queue. */
static __always_inline int steer(struct xdp_md *ctx, const struct sp_port *port, struct packet *packet, int outcome)
{
	__u32 queue = ctx->rx_queue_index;
	struct sp_layout *metadata;
	int action = on_crash;

	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(*metadata)))
		return finish(SP_DROP_METADATA, XDP_DROP);
	metadata = (void *)(long)ctx->data_meta;
	if ((void *)(metadata + 1) > (void *)(long)ctx->data)
		return finish(SP_DROP_METADATA, XDP_DROP);
	*metadata = packet->layout;
	if (queue < SP_MAX_QUEUES)
		action = bpf_redirect_map(&sockets, port->index * SP_MAX_QUEUES + queue, on_crash);
	return finish(action == XDP_REDIRECT ? outcome : SP_NO_SOCKET, action);
}

/* The interface's port, or NULL. */
static __always_inline const struct sp_port *port_of(__u32 ifindex)
{
	int index;

	for (index = 0; index < SP_MAX_PORTS; index++)
		if (ports[index].ifindex == ifindex)
			return &ports[index];
	return NULL;
}

SEC("xdp")
int samepath_steer(struct xdp_md *ctx)
{
	const struct sp_port *port = port_of(ctx->ingress_ifindex);
	struct packet packet = {};
	int outcome;

	if (!port)
		return finish(SP_PASS_UNKNOWN_INTERFACE, XDP_PASS);
	outcome = classify(ctx, port, &packet);
	if (outcome == SP_STEERED || outcome == SP_STEERED_TUNNEL) {
		packet.layout.port = port->index;
		packet.layout.flow_hash = flow_hash(&packet);
		if (outcome == SP_STEERED && forward(ctx, &packet))
			return finish(SP_REDIRECTED, XDP_REDIRECT);
		return steer(ctx, port, &packet, outcome);
	}
	return finish(outcome, outcome < SP_DROP_MALFORMED ? XDP_PASS : XDP_DROP);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
