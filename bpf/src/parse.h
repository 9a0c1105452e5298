/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Reads a frame: Ethernet, VLAN tags, IPv4, IPv6 with extension headers, layer 4, the packet quoted in an
 * ICMP error. Every reader answers SP_STEERED ("nothing speaks against it so far") or the outcome that ends
 * the frame's way. dataplane/src/wire/layout.rs is its twin.
 *
 * Functions without `static` are verified once and on their own, which keeps the verifier's work small
 * however many VLAN tags and headers lead to them. */
#ifndef SAMEPATH_PARSE_H
#define SAMEPATH_PARSE_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "layout.h"

#define ETHERTYPE_QINQ_OLD 0x9100 /* stacked tags before 802.1ad */
#define FRAGMENT_OFFSET_V4 0x1fff
#define FRAGMENT_MORE_V4 0x2000
#define FRAGMENT_OFFSET_V6 0xfff8
#define FRAGMENT_MORE_V6 1

/* No frame is longer (a page); the verifier wants to see a bound before it lets an offset near a pointer. */
#define MAX_OFFSET 0x7fff

/* A packet as far as it has been read. Offsets count from its Ethernet header, which lies `base` bytes into
 * the frame: 0, or behind the outer headers of a tunnel packet. */
struct packet {
	struct sp_layout layout;
	union sp_address source;      /* of the flow; the quoted packet's for an ICMP error */
	union sp_address destination;
	__u32 limit;                  /* bytes from the Ethernet header to the end of what may be read */
	__u16 source_port;            /* of the flow, native byte order; 0 = none */
	__u16 destination_port;
	__u8 flow_proto;
	__u8 zero[3];
	__u32 pad;
};

/* A walk along IPv6 extension headers. Offsets count from the start of the frame. */
struct walk {
	__u32 offset; /* of the header `proto` names; 0 = there is none to read */
	__u32 end;    /* no header may reach beyond */
	__u8 proto;
	__u8 flags;
	__u16 zero;
};

/* `size` bytes at `offset` of the frame, or NULL when the frame is shorter. */
static __always_inline void *bytes_at(struct xdp_md *ctx, __u64 offset, __u32 size)
{
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;

	barrier_var(offset); /* else clang checks one register and adds another */
	if (offset > MAX_OFFSET)
		return NULL;
	data += offset;
	if (data + size > data_end)
		return NULL;
	return data;
}

static __always_inline int is_vlan_tag(__u16 ethertype)
{
	return ethertype == ETH_P_8021Q || ethertype == ETH_P_8021AD || ethertype == ETHERTYPE_QINQ_OLD;
}

static __always_inline int is_extension(__u8 proto)
{
	return proto == IPPROTO_HOPOPTS || proto == IPPROTO_ROUTING || proto == IPPROTO_FRAGMENT ||
	       proto == IPPROTO_AH || proto == IPPROTO_DSTOPTS;
}

static __always_inline int has_ports(__u8 proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_SCTP;
}

/* Rule 1 (length) and 2: Ethernet and up to two VLAN tags. Leaves the offset behind them in l3_off. */
static __always_inline int read_ethernet(struct xdp_md *ctx, struct packet *packet, __u64 base, __u16 *ethertype)
{
	struct sp_layout *layout = &packet->layout;
	__u32 offset = ETH_HLEN;
	__be16 *field;

	layout->vlan_outer = SP_NO_VLAN;
	layout->vlan_inner = SP_NO_VLAN;
	field = bytes_at(ctx, base + 2 * ETH_ALEN, 2);
	if (!field || packet->limit < ETH_HLEN)
		return SP_DROP_MALFORMED;
	*ethertype = bpf_ntohs(*field);
	if (is_vlan_tag(*ethertype)) {
		field = bytes_at(ctx, base + offset, 4);
		if (!field || packet->limit < offset + 4)
			return SP_DROP_MALFORMED;
		layout->vlan_outer = bpf_ntohs(field[0]);
		*ethertype = bpf_ntohs(field[1]);
		offset += 4;
		if (is_vlan_tag(*ethertype)) {
			field = bytes_at(ctx, base + offset, 4);
			if (!field || packet->limit < offset + 4)
				return SP_DROP_MALFORMED;
			layout->vlan_inner = bpf_ntohs(field[0]);
			*ethertype = bpf_ntohs(field[1]);
			offset += 4;
			if (is_vlan_tag(*ethertype))
				return SP_PASS_NOT_IP;
		}
	}
	layout->l3_off = offset;
	return SP_STEERED;
}

/* The IPv4-mapped form (RFC 4291 section 2.5.5.2). */
static __always_inline void map_ipv4(union sp_address *address, __be32 ipv4)
{
	address->halves[0] = 0;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	address->halves[1] = 0x0000ffff00000000ULL | ipv4;
#else
	address->halves[1] = (__u64)ipv4 << 32 | 0xffff0000ULL;
#endif
}

static __always_inline void copy_ipv6(union sp_address *address, const struct in6_addr *ipv6)
{
	const __u64 *halves = (const void *)ipv6;

	address->halves[0] = halves[0];
	address->halves[1] = halves[1];
}

/* Rules 3 to 5 for IPv4. */
static __always_inline int read_ipv4(struct xdp_md *ctx, struct packet *packet, __u64 base, int is_inner)
{
	struct sp_layout *layout = &packet->layout;
	__u32 l3_off = layout->l3_off, header, total, fragment;
	struct iphdr *ip = bytes_at(ctx, base + l3_off, sizeof(*ip));

	if (!ip || packet->limit < l3_off + sizeof(*ip))
		return SP_DROP_MALFORMED;
	header = *(__u8 *)ip & 0xf;
	header *= 4;
	total = bpf_ntohs(ip->tot_len);
	if (*(__u8 *)ip >> 4 != 4 || header < sizeof(*ip) || total < header || total > packet->limit - l3_off)
		return SP_DROP_MALFORMED;
	/* 224.0.0.0/4 and 255.255.255.255 (RFC 1122 section 3.2.1.3) */
	if (!is_inner && ((ip->daddr & bpf_htonl(0xf0000000)) == bpf_htonl(0xe0000000) || ip->daddr == 0xffffffff))
		return SP_PASS_MULTICAST;
	layout->proto = ip->protocol;
	layout->l4_off = l3_off + header;
	layout->l3_end = l3_off + total;
	fragment = bpf_ntohs(ip->frag_off);
	if (fragment & FRAGMENT_OFFSET_V4) {
		layout->flags |= SP_FRAGMENT_LATER;
		layout->l4_off = 0;
	} else if (fragment & FRAGMENT_MORE_V4) {
		layout->flags |= SP_FRAGMENT_FIRST;
	}
	map_ipv4(&packet->source, ip->saddr);
	map_ipv4(&packet->destination, ip->daddr);
	return SP_STEERED;
}

/* Rule 5: follows IPv6 extension headers to the layer-4 header. */
__noinline int walk_extensions(struct xdp_md *ctx, struct walk *walk)
{
	__u64 offset, end;
	__u8 proto;
	int count;

	if (!walk)
		return SP_DROP_MALFORMED;
	offset = walk->offset;
	end = walk->end;
	proto = walk->proto;
	for (count = 0; count <= SP_MAX_EXTENSIONS; count++) {
		__u8 *header;
		__u32 length;

		if (proto == IPPROTO_NONE)
			offset = 0;
		if (!is_extension(proto))
			break;
		if (count == SP_MAX_EXTENSIONS)
			return SP_DROP_EXTENSION_HEADERS;
		header = bytes_at(ctx, offset, 8);
		if (!header || offset + 8 > end)
			return SP_DROP_MALFORMED;
		length = header[1] * 8 + 8;
		if (proto == IPPROTO_AH) {
			length = header[1] * 4 + 8;
		} else if (proto == IPPROTO_FRAGMENT) {
			__u16 fragment = bpf_ntohs(*(__be16 *)(header + 2));

			length = 8;
			if (fragment & FRAGMENT_OFFSET_V6) {
				walk->flags |= SP_FRAGMENT_LATER;
				walk->proto = header[0];
				walk->offset = 0;
				return SP_STEERED;
			}
			if (fragment & FRAGMENT_MORE_V6)
				walk->flags |= SP_FRAGMENT_FIRST;
		}
		if (offset + length > end)
			return SP_DROP_MALFORMED;
		proto = header[0];
		offset += length;
	}
	walk->proto = proto;
	walk->offset = offset;
	return SP_STEERED;
}

/* Rules 3 to 5 for IPv6. */
static __always_inline int read_ipv6(struct xdp_md *ctx, struct packet *packet, __u64 base, int is_inner)
{
	struct sp_layout *layout = &packet->layout;
	__u32 l3_off = layout->l3_off, payload;
	struct ipv6hdr *ip = bytes_at(ctx, base + l3_off, sizeof(*ip));

	if (!ip || packet->limit < l3_off + sizeof(*ip))
		return SP_DROP_MALFORMED;
	payload = bpf_ntohs(ip->payload_len);
	if (*(__u8 *)ip >> 4 != 6 || payload == 0 || payload > packet->limit - l3_off - sizeof(*ip))
		return SP_DROP_MALFORMED;
	if (!is_inner && ip->daddr.s6_addr[0] == 0xff)
		return SP_PASS_MULTICAST;
	layout->flags |= SP_IPV6;
	layout->proto = ip->nexthdr;
	layout->l4_off = l3_off + sizeof(*ip);
	layout->l3_end = l3_off + sizeof(*ip) + payload;
	copy_ipv6(&packet->source, &ip->saddr);
	copy_ipv6(&packet->destination, &ip->daddr);
	if (is_extension(layout->proto) || layout->proto == IPPROTO_NONE) {
		struct walk walk = {
			.offset = base + layout->l4_off,
			.end = base + layout->l3_end,
			.proto = layout->proto,
		};
		int outcome = walk_extensions(ctx, &walk);

		if (outcome != SP_STEERED)
			return outcome;
		layout->proto = walk.proto;
		layout->flags |= walk.flags;
		layout->l4_off = walk.offset ? walk.offset - base : 0;
	}
	return SP_STEERED;
}

static __always_inline int read_network(struct xdp_md *ctx, struct packet *packet, __u64 base, __u16 ethertype,
					int is_inner)
{
	if (ethertype == ETH_P_IP)
		return read_ipv4(ctx, packet, base, is_inner);
	if (ethertype == ETH_P_IPV6)
		return read_ipv6(ctx, packet, base, is_inner);
	return SP_PASS_NOT_IP;
}

static __always_inline int is_icmp(__u8 proto, __u8 flags)
{
	return proto == (flags & SP_IPV6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
}

static __always_inline int is_icmp_error(__u8 type, __u8 flags)
{
	if (flags & SP_IPV6)
		return type >= 1 && type <= 4; /* RFC 4443 section 3 */
	return type == 3 || type == 4 || type == 5 || type == 11 || type == 12; /* RFC 792 */
}

/* ICMP messages with an identifier: echo, timestamp, information, address mask. */
static __always_inline int is_icmp_query(__u8 type, __u8 flags)
{
	if (flags & SP_IPV6)
		return type == 128 || type == 129;
	return type == 0 || type == 8 || (type >= 13 && type <= 18);
}

/* The flow's ports, from the first 8 bytes of its layer-4 header. */
static __always_inline void take_ports(struct packet *packet, const __be16 *l4, __u8 proto, __u8 flags)
{
	if (has_ports(proto)) {
		packet->source_port = bpf_ntohs(l4[0]);
		packet->destination_port = bpf_ntohs(l4[1]);
	} else if (is_icmp(proto, flags) && is_icmp_query(*(const __u8 *)l4, flags)) {
		packet->source_port = bpf_ntohs(l4[2]);
		packet->destination_port = packet->source_port;
	}
}

/* Reads the IP header quoted at walk->offset into the flow's addresses and the walk; false = unusable. */
static __always_inline int read_quoted_network(struct xdp_md *ctx, struct packet *packet, struct walk *walk)
{
	if (packet->layout.flags & SP_IPV6) {
		struct ipv6hdr *ip = bytes_at(ctx, walk->offset, sizeof(*ip));

		if (!ip || walk->offset + sizeof(*ip) > walk->end || *(__u8 *)ip >> 4 != 6)
			return 0;
		copy_ipv6(&packet->source, &ip->saddr);
		copy_ipv6(&packet->destination, &ip->daddr);
		walk->proto = ip->nexthdr;
		walk->offset += sizeof(*ip);
	} else {
		struct iphdr *ip = bytes_at(ctx, walk->offset, sizeof(*ip));
		__u32 header;

		if (!ip || walk->offset + sizeof(*ip) > walk->end)
			return 0;
		header = *(__u8 *)ip & 0xf;
		header *= 4;
		if (*(__u8 *)ip >> 4 != 4 || header < sizeof(*ip) || walk->offset + header > walk->end)
			return 0;
		map_ipv4(&packet->source, ip->saddr);
		map_ipv4(&packet->destination, ip->daddr);
		walk->proto = ip->protocol;
		walk->offset += header;
		if (ip->frag_off & bpf_htons(FRAGMENT_OFFSET_V4))
			walk->offset = 0;
	}
	return 1;
}

/* Rule 9: the packet an ICMP error quotes decides the flow. One that cannot be read leaves all as it was. */
__noinline int read_quoted(struct xdp_md *ctx, struct packet *packet, __u32 base)
{
	union sp_address source, destination;
	struct walk walk = {};
	__u32 l3_off;
	__be16 *l4;

	if (!packet)
		return 0;
	source = packet->source;
	destination = packet->destination;
	l3_off = packet->layout.l4_off + 8;
	walk.offset = base + l3_off;
	walk.end = base + packet->layout.l3_end;
	if (!read_quoted_network(ctx, packet, &walk))
		return 0;
	if (packet->layout.flags & SP_IPV6 && walk_extensions(ctx, &walk) != SP_STEERED) {
		packet->source = source;
		packet->destination = destination;
		return 0;
	}
	packet->layout.quoted_l3_off = l3_off;
	packet->layout.quoted_proto = walk.proto;
	packet->flow_proto = walk.proto;
	if (!walk.offset)
		return 0;
	if (has_ports(walk.proto) || is_icmp(walk.proto, packet->layout.flags)) {
		l4 = bytes_at(ctx, walk.offset, 8);
		if (!l4 || walk.offset + 8 > walk.end)
			return 0;
		take_ports(packet, l4, walk.proto, packet->layout.flags);
	}
	packet->layout.quoted_l4_off = walk.offset - base;
	return 0;
}

/* Bytes a layer-4 header has at least. */
static __always_inline __u32 least_header(__u8 proto)
{
	switch (proto) {
	case IPPROTO_TCP:
		return 20;
	case IPPROTO_SCTP:
		return 12;
	case IPPROTO_UDP:
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return 8;
	default:
		return 0;
	}
}

/* Rules 8 and 9: the layer-4 header and what the flow is. */
static __always_inline int read_transport(struct xdp_md *ctx, struct packet *packet, __u64 base)
{
	struct sp_layout *layout = &packet->layout;
	__u8 proto = layout->proto, flags = layout->flags;
	__u32 needed = least_header(proto);
	__be16 *l4;

	packet->flow_proto = proto;
	if (!layout->l4_off || !needed)
		return SP_STEERED;
	if ((__u32)layout->l4_off + needed > layout->l3_end)
		return SP_DROP_MALFORMED;
	l4 = bytes_at(ctx, base + layout->l4_off, 8);
	if (!l4)
		return SP_DROP_MALFORMED;
	if (is_icmp(proto, flags) && is_icmp_error(*(__u8 *)l4, flags)) {
		layout->flags |= SP_ICMP_ERROR;
		read_quoted(ctx, packet, base);
	} else if (!(flags & (SP_FRAGMENT_FIRST | SP_FRAGMENT_LATER))) {
		take_ports(packet, l4, proto, flags);
	}
	return SP_STEERED;
}

#endif
