/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What the XDP program and user space agree on: the metadata, map entries, outcomes, limits.
 * src/layout.rs mirrors this file; a test compares the two. */
#ifndef SAMEPATH_LAYOUT_H
#define SAMEPATH_LAYOUT_H

#include <linux/types.h>

#define SP_MAX_PORTS 16      /* interfaces of one node */
#define SP_MAX_QUEUES 64     /* receive queues per interface */
#define SP_MAX_ADDRESSES 4096 /* own addresses; a router with thousands of VLAN gateways fits */
#define SP_OWN_FILTER 64      /* words of `own_filter` */
#define SP_OWN_FACTOR 0x9e3779b97f4a7c15ULL /* an address's bit: its halves' XOR times this, the highest 12 bits */
#define SP_OWN_SHIFT 52
#define SP_MAX_PEERS 256     /* cluster addresses of other nodes */
#define SP_MAX_PASS 1024     /* entries of the pass list */
#define SP_FORWARD_BUCKETS 32768 /* of the map `forwards`, a power of two */
#define SP_FORWARD_BUCKET_SHIFT 17 /* a flow's home is the flow hash shifted by this; see find_entry for its other bucket */
#define SP_FORWARD_WAYS 2    /* entries of a bucket: 128 bytes, which the processor fetches together */
#define SP_FORWARD_HINTS 2   /* elements in front of the hints: the gate, and one to keep pairs aligned */
#define SP_FORWARD_FIRST 4098 /* elements in front of the first bucket: those and the hints, eight buckets in one */
#define SP_FORWARD_HEADERS 110 /* bytes of outer headers, the larger (IPv6) case */
#define SP_MAX_EXTENSIONS 8  /* IPv6 extension headers walked; the data plane has the same number */

#define SP_TUNNEL_PORT 6081        /* Geneve, RFC 8926 section 3.3 */
#define SP_ETHERTYPE_HELLO 0x88b5  /* IEEE 802 local experimental: a tunnel packet without a user's packet */
#define SP_NO_VLAN 0xffff

#define SP_FORWARDER_STREAM 128    /* the program numbers its packets in stream 128 + processor */
#define SP_FORWARDER_STREAMS 128   /* on other processors it forwards nothing */

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

/* Element of `ports`. */
struct sp_port {
	__u32 ifindex; /* 0 = none */
	__u8 index;
	__u8 role;
	__u8 mac[6];
};
_Static_assert(sizeof(struct sp_port) == 12, "mirrored in layout.rs");

#define SP_ROLE_DATA 0
#define SP_ROLE_CLUSTER_LINK 1
#define SP_ROLE_SERVICE 2 /* steered as data */

/* Key of the map `pass_list`. */
struct sp_pass {
	__u8 proto;
	__u8 zero;
	__u16 port; /* destination port, native byte order; 0 = any */
};
_Static_assert(sizeof(struct sp_pass) == 4, "mirrored in layout.rs");

/* Element 0 of the map `forwards`: whether entries may be followed. Control writes `open`, workers `published`. */
struct sp_forward_gate {
	__u32 open;      /* epoch whose entries may be followed; 0 = none */
	__u32 zero;
	__u32 published; /* newest epoch in which an entry was made: until it is `open`, no frame looks further */
	__u32 rest[13];
};
_Static_assert(sizeof(struct sp_forward_gate) == 64, "an element of `forwards`");

/* The elements from SP_FORWARD_HINTS on: the flow hashes of a bucket's entries, so that a frame without an entry
 * is known for it by four bytes out of 256 KiB and not by two lines out of 4 MiB. Only an entry itself counts. */
struct sp_forward_hints {
	__u32 flow_hash[8][SP_FORWARD_WAYS];
};
_Static_assert(sizeof(struct sp_forward_hints) == 64, "an element of `forwards`");

/* Other elements of `forwards`: packets of one direction of a flow that arrive on one port go to a peer. The worker
 * that has the flow's session is the only writer; see decision 0009 for how a reader knows that an entry is whole. */
struct sp_forward {
	__u32 epoch;     /* of the view it was made in; 0 = empty */
	__u32 flow_hash;
	__u32 generation;
	__u8 peer;       /* index in `forward_peers` */
	__u8 zone;
	__u8 port;       /* index of the interface its packets arrive on */
	__u8 writes;     /* counts what was written here: the same number, the same entry */
	__u64 secret;    /* half of the key of its packets' tags */
	__u16 source_port; /* of the flow, native byte order; 0 = none */
	__u16 destination_port;
	__u32 proto_vlans; /* as the flow hash takes it */
	union sp_address source;
	union sp_address destination;
};
_Static_assert(sizeof(struct sp_forward) == 64, "one cache line; mirrored in dataplane/src/forwards.rs");

/* Element of the map `forward_peers`: what stands in front of every packet to one peer. */
struct sp_forward_peer {
	__u32 epoch;         /* of the view the headers are of; 0 = the peer cannot be reached */
	__u16 outer_length;  /* 90 over IPv4, 110 over IPv6 */
	__u16 largest;       /* bytes of the largest inner frame the cluster link carries */
	__u64 key_half;      /* the half of the tags' keys that all flows have in common */
	__u8 headers[SP_FORWARD_HEADERS]; /* length, checksum, UDP source port, zone, generation and what makes the
					   * packet one of its own (stream, counter, tag) are 0 */
	__u8 zero[2];
};
_Static_assert(sizeof(struct sp_forward_peer) == 128, "mirrored in layout.rs");

/* Every frame ends in exactly one of these; each is a per-CPU counter. Names and order as in layout.rs. */
enum sp_outcome {
	SP_STEERED,
	SP_STEERED_TUNNEL,
	SP_REDIRECTED,
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
