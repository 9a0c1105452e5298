/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What the XDP program and user space agree on: the metadata, map entries, outcomes, limits.
 * src/layout.rs mirrors this file; a test compares the two. */
#ifndef SAMEPATH_LAYOUT_H
#define SAMEPATH_LAYOUT_H

#include <linux/types.h>

#define SP_MAX_PORTS 16      /* interfaces of one node */
#define SP_MAX_QUEUES 64     /* receive queues per interface */
#define SP_MAX_ADDRESSES 4096 /* own addresses; a router with thousands of VLAN gateways fits */
#define SP_MAX_PEERS 256     /* cluster addresses of other nodes */
#define SP_MAX_PASS 1024     /* entries of the pass list */
#define SP_MAX_EXTENSIONS 8  /* IPv6 extension headers walked; the data plane has the same number */

#define SP_TUNNEL_PORT 6081        /* Geneve, RFC 8926 section 3.3 */
#define SP_ETHERTYPE_HELLO 0x88b5  /* IEEE 802 local experimental: a tunnel packet without a user's packet */
#define SP_NO_VLAN 0xffff

/* Directly in front of the frame, native byte order. Offsets count from the Ethernet header (of the
 * inner frame in a tunnel packet). */
struct sp_layout {
	__u32 flow_hash;
	__u16 inner_off;     /* bytes of outer headers in front of the inner Ethernet header */
	__u16 l3_off;
	__u16 l4_off;        /* 0 = no layer-4 header here */
	__u16 l3_end;        /* end of the IP packet by its own length field */
	__u16 quoted_l3_off; /* ICMP error: the quoted IP header; 0 = none or unusable */
	__u16 quoted_l4_off; /* 0 = no usable layer-4 header quoted */
	__u16 vlan_outer;    /* TCI of the first tag or SP_NO_VLAN */
	__u16 vlan_inner;    /* TCI of the second tag or SP_NO_VLAN */
	__u8 proto;          /* final layer-4 protocol */
	__u8 quoted_proto;
	__u8 flags;
	__u8 port;           /* index of the receiving interface */
};
_Static_assert(sizeof(struct sp_layout) == 24, "kernels before 6.3 take at most 32 bytes of metadata");

#define SP_IPV6 1
#define SP_FRAGMENT_FIRST 2
#define SP_FRAGMENT_LATER 4
#define SP_ICMP_ERROR 8
#define SP_TUNNEL 16
#define SP_HELLO 32

/* An address in the form of flow keys: network byte order, IPv4 as ::ffff:a.b.c.d. */
union sp_address {
	__u8 bytes[16];
	__u64 halves[2];
};

/* Value of the map `ports`; the key is the ifindex. */
struct sp_port {
	__u8 index;
	__u8 role;
	__u8 mac[6];
};
_Static_assert(sizeof(struct sp_port) == 8, "mirrored in layout.rs");

#define SP_ROLE_DATA 0
#define SP_ROLE_CLUSTER_LINK 1

/* Key of the map `pass_list`. */
struct sp_pass {
	__u8 proto;
	__u8 zero;
	__u16 port; /* destination port, native byte order; 0 = any */
};
_Static_assert(sizeof(struct sp_pass) == 4, "mirrored in layout.rs");

/* Every frame ends in exactly one of these; each is a per-CPU counter. Names and order as in layout.rs. */
enum sp_outcome {
	SP_STEERED,
	SP_STEERED_TUNNEL,
	SP_PASS_NOT_IP,
	SP_PASS_MULTICAST,
	SP_PASS_OTHER_HOST,
	SP_PASS_NEIGHBOUR,
	SP_PASS_OWN_ADDRESS,
	SP_PASS_LISTED,
	SP_PASS_CLUSTER_LINK,
	SP_PASS_UNKNOWN_INTERFACE,
	SP_DROP_MALFORMED,
	SP_DROP_EXTENSION_HEADERS,
	SP_DROP_TUNNEL_ELSEWHERE,
	SP_DROP_TUNNEL_UNKNOWN_PEER,
	SP_DROP_TUNNEL_MALFORMED,
	SP_DROP_METADATA,
	SP_NO_SOCKET,
	SP_OUTCOMES,
};

#endif
