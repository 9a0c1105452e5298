/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The short way of a packet whose flow another node owns: a worker has left an entry in `forwards`, so the packet
 * gets its tunnel header here and leaves by the cluster link without entering user space. The bytes are those
 * dataplane/src/wire/tunnel.rs writes. Whatever is not a plain Redirect answers 0 and goes to the worker. */
#ifndef SAMEPATH_FORWARD_H
#define SAMEPATH_FORWARD_H

#include "layout.h"
#include "parse.h"
#include "tag.h"

#define TCP_SYN 2
#define IPV4_LENGTH 16   /* offsets in the outer headers, Ethernet included */
#define IPV4_CHECKSUM 24
#define IPV6_LENGTH 18
#define UDP_IN_IPV4 34
#define UDP_IN_IPV6 54
#define UDP_LENGTH 4     /* offsets from the UDP header */
#define OPTION_DATA 20
#define OPTION_ZONE 3    /* offsets in the option data */
#define OPTION_GENERATION 8

/* The third part of a flow's name: protocol and VLAN numbers. */
static __always_inline __u32 proto_vlans(const struct packet *packet)
{
	const struct sp_layout *layout = &packet->layout;
	__u32 outer = layout->vlan_outer == SP_NO_VLAN ? 0 : layout->vlan_outer & 0xfff;
	__u32 inner = layout->vlan_inner == SP_NO_VLAN ? 0 : layout->vlan_inner & 0xfff;

	return (__u32)packet->flow_proto << 24 | inner << 12 | outer;
}

/* A packet a worker would redirect without a second look: whole, not about to expire, no end of a connection's
 * life that could begin a new one, layer 4 as it should be. */
static __always_inline int is_plain(struct xdp_md *ctx, const struct packet *packet)
{
	const struct sp_layout *layout = &packet->layout;
	__u32 room = layout->l3_end - layout->l4_off;
	__u8 *ttl = bytes_at(ctx, layout->l3_off + (layout->flags & SP_IPV6 ? 7 : 8), 1);
	__u8 *l4;

	if (layout->flags & ~SP_IPV6 || !layout->l4_off || !ttl || *ttl <= 1)
		return 0;
	switch (layout->proto) {
	case IPPROTO_TCP:
		l4 = bytes_at(ctx, layout->l4_off, 20);
		return l4 && !(l4[13] & TCP_SYN) && l4[12] >> 4 >= 5 && (__u32)(l4[12] >> 4) * 4 <= room;
	case IPPROTO_UDP:
		l4 = bytes_at(ctx, layout->l4_off, 8);
		return l4 && bpf_ntohs(*(__be16 *)(l4 + 4)) >= 8 && bpf_ntohs(*(__be16 *)(l4 + 4)) <= room;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
	case IPPROTO_SCTP:
		return 0;
	default:
		return 1;
	}
}

/* Copies the entry of this packet's flow, direction and port into `found`; false = there is none, or it is being
 * written. x86 neither reorders loads nor stores, so the same first two words before and after mean that what was
 * read between them is one entry. */
static __always_inline int read_entry(const struct packet *packet, __u32 index, __u32 open, struct sp_forward *found)
{
	const volatile __u64 *words = bpf_map_lookup_elem(&forwards, &index);
	const __u64 *source = packet->source.halves, *destination = packet->destination.halves;
	union {
		__u64 words[8];
		struct sp_forward entry;
	} copy;

	if (!words)
		return 0;
	copy.words[0] = words[0];
	if (copy.entry.epoch != open || copy.entry.flow_hash != packet->layout.flow_hash)
		return 0;
	copy.words[1] = words[1];
	copy.words[2] = words[2];
	copy.words[3] = words[3];
	copy.words[4] = words[4];
	copy.words[5] = words[5];
	copy.words[6] = words[6];
	copy.words[7] = words[7];
	if (words[1] != copy.words[1] || words[0] != copy.words[0])
		return 0;
	if (copy.words[4] != source[0] || copy.words[5] != source[1] || copy.words[6] != destination[0] ||
	    copy.words[7] != destination[1])
		return 0;
	*found = copy.entry;
	return found->source_port == packet->source_port && found->destination_port == packet->destination_port &&
	       found->proto_vlans == proto_vlans(packet) && found->port == packet->layout.port;
}

/* One of the two buckets an entry may be in: both have their hints in one line. */
static __always_inline int find_in(const struct packet *packet, const volatile struct sp_forward_hints *hints,
				   __u32 bucket, __u32 open, struct sp_forward *found)
{
	__u32 first = SP_FORWARD_FIRST + bucket * SP_FORWARD_WAYS;
	const volatile __u32 *flow_hash = hints->flow_hash[bucket & 7];

	return (flow_hash[0] == packet->layout.flow_hash && read_entry(packet, first, open, found)) ||
	       (flow_hash[1] == packet->layout.flow_hash && read_entry(packet, first + 1, open, found));
}

static __always_inline int find_entry(const struct packet *packet, __u32 open, struct sp_forward *found)
{
	__u32 home = packet->layout.flow_hash >> SP_FORWARD_BUCKET_SHIFT;
	__u32 other = home ^ (1 + (packet->layout.flow_hash & 3)), index = SP_FORWARD_HINTS + home / 8;
	const volatile struct sp_forward_hints *hints = bpf_map_lookup_elem(&forwards, &index);

	return hints && (find_in(packet, hints, home, open, found) || find_in(packet, hints, other, open, found));
}

/* The one's complement of the sum of the ten words of an IPv4 header (RFC 791). */
static __always_inline __u16 ipv4_checksum(const __u16 *words)
{
	__u32 sum = 0;
	int i;

	for (i = 0; i < 10; i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* What makes this packet one of its own: the program on each processor counts what it sends to each peer. */
struct seal {
	__u8 stream;
	__be64 counter;
	__u64 tag;
};

static __always_inline int make_seal(struct seal *seal, const struct sp_forward *entry, __u64 key_half)
{
	__u32 processor = bpf_get_smp_processor_id(), index = entry->peer;
	__u64 *sent = bpf_map_lookup_elem(&forward_counters, &index);

	if (!sent || processor >= SP_FORWARDER_STREAMS)
		return 0;
	*sent += 1;
	seal->stream = SP_FORWARDER_STREAM + processor;
	seal->counter = bpf_cpu_to_be64(*sent);
	seal->tag = packet_tag(entry->secret, key_half, seal->counter, seal->stream);
	return 1;
}

/* Fills in what differs from packet to packet behind the outer IP header. */
static __always_inline void write_udp(__u8 *udp, __u16 length, __u32 flow_hash, const struct sp_forward *entry,
				      const struct seal *seal)
{
	__u8 *data = udp + OPTION_DATA;

	*(__be16 *)udp = bpf_htons(0xc000 | (flow_hash & 0x3fff));
	*(__be16 *)(udp + UDP_LENGTH) = bpf_htons(length);
	data[OPTION_ZONE] = entry->zone;
	*(__be32 *)(data + OPTION_GENERATION) = bpf_htonl(entry->generation);
	data[OPTION_STREAM] = seal->stream;
	*(__be64 *)(data + OPTION_COUNTER) = seal->counter;
	*(__be64 *)(data + OPTION_TAG) = bpf_cpu_to_be64(seal->tag);
}

static __always_inline void write_over_ipv4(__u8 *outer, const struct sp_forward_peer *peer, __u32 inner_length,
					    __u32 flow_hash, const struct sp_forward *entry, const struct seal *seal)
{
	__u16 total = SP_FORWARD_HEADERS - 20 - ETH_HLEN + inner_length;

	__builtin_memcpy(outer, peer->headers, SP_FORWARD_HEADERS - 20);
	*(__be16 *)(outer + IPV4_LENGTH) = bpf_htons(total);
	*(__u16 *)(outer + IPV4_CHECKSUM) = ipv4_checksum((__u16 *)(outer + ETH_HLEN));
	write_udp(outer + UDP_IN_IPV4, total - 20, flow_hash, entry, seal);
}

static __always_inline void write_over_ipv6(__u8 *outer, const struct sp_forward_peer *peer, __u32 inner_length,
					    __u32 flow_hash, const struct sp_forward *entry, const struct seal *seal)
{
	__u16 length = SP_FORWARD_HEADERS - 40 - ETH_HLEN + inner_length;

	__builtin_memcpy(outer, peer->headers, SP_FORWARD_HEADERS);
	*(__be16 *)(outer + IPV6_LENGTH) = bpf_htons(length);
	write_udp(outer + UDP_IN_IPV6, length, flow_hash, entry, seal);
}

/* Makes room and writes the outer headers; says how many bytes, 0 = nothing was changed. */
static __always_inline int encapsulate(struct xdp_md *ctx, const struct sp_forward_peer *peer, __u32 inner_length,
				       __u32 flow_hash, const struct sp_forward *entry)
{
	struct seal seal;
	int is_ipv6 = *(const volatile __u16 *)&peer->outer_length == SP_FORWARD_HEADERS;
	int length = is_ipv6 ? SP_FORWARD_HEADERS : SP_FORWARD_HEADERS - 20;
	__u8 *outer;

	if (!make_seal(&seal, entry, peer->key_half) || bpf_xdp_adjust_head(ctx, -length))
		return 0;
	outer = bytes_at(ctx, 0, SP_FORWARD_HEADERS);
	if (!outer) {
		/* Cannot be: the frame was at least an Ethernet and an IP header long. */
		bpf_xdp_adjust_head(ctx, length);
		return 0;
	}
	if (is_ipv6)
		write_over_ipv6(outer, peer, inner_length, flow_hash, entry, &seal);
	else
		write_over_ipv4(outer, peer, inner_length, flow_hash, entry, &seal);
	return length;
}

static __always_inline void count_bytes(__u32 length)
{
	__u32 zero = 0;
	__u64 *bytes = bpf_map_lookup_elem(&redirected_bytes, &zero);

	if (bytes)
		*bytes += length;
}

/* True if the packet now stands in the cluster link's queue, on its way to the flow's Owner. */
__noinline int forward_open(struct xdp_md *ctx, struct packet *packet, __u32 open)
{
	__u32 zero = 0, index, length = (long)ctx->data_end - (long)ctx->data;
	const volatile struct sp_forward_gate *gate;
	const struct sp_forward_peer *peer;
	struct sp_forward entry;
	int outer;

	if (!packet || !is_plain(ctx, packet) || !find_entry(packet, open, &entry))
		return 0;
	/* Sockets leave the map when the daemon stops or dies: then nobody keeps the entries true. */
	index = packet->layout.port * SP_MAX_QUEUES + ctx->rx_queue_index;
	if (ctx->rx_queue_index >= SP_MAX_QUEUES || !bpf_map_lookup_elem(&sockets, &index))
		return 0;
	index = entry.peer;
	peer = bpf_map_lookup_elem(&forward_peers, &index);
	if (!peer || peer->epoch != open || length > peer->largest)
		return 0;
	if (bpf_redirect_map(&forward_link, 0, 0) != XDP_REDIRECT)
		return 0;
	outer = encapsulate(ctx, peer, length, packet->layout.flow_hash, &entry);
	if (!outer)
		return 0;
	/* Closed meanwhile, so perhaps with headers that were being changed: back to what it was. */
	gate = bpf_map_lookup_elem(&forwards, &zero);
	if (!gate || gate->open != open) {
		bpf_xdp_adjust_head(ctx, outer);
		return 0;
	}
	count_bytes(length + outer);
	return 1;
}

/* What every steered frame pays: while nothing is published, two loads from one line. */
static __always_inline int forward(struct xdp_md *ctx, struct packet *packet)
{
	__u32 zero = 0, open;
	const volatile struct sp_forward_gate *gate = bpf_map_lookup_elem(&forwards, &zero);

	if (!gate)
		return 0;
	open = gate->open;
	if (!open || gate->published != open)
		return 0;
	return forward_open(ctx, packet, open);
}

#endif
