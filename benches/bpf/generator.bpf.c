/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0-only
 *
 * The generator: run by BPF_PROG_TEST_RUN with live frames, it writes each frame anew (the kernel
 * recycles them) and redirects it into the interface of the device under test.
 *
 * Paced by spinning inside the program: a generator that drops what is too early, or that floods,
 * fights the device under test for the lock of the page pool that frees its frames.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "tag.h"

/* What the packets are; see `Kind` in src/generator.rs. */
enum kind { UDP, TCP_SYN, TCP_SYN_ACK, TCP_ACK };

#define FRAME 60        /* shortest Ethernet frame without its checksum */
#define REPLAYED 160    /* longest recorded frame */
#define OPTION_DATA 54  /* in a tunnel packet: behind Ethernet, IPv4, UDP, Geneve and the option's header */
#define STREAM (SP_FORWARDER_STREAM + SP_FORWARDER_STREAMS - 1) /* of a processor that the sender does not have */
#define BATCH 64        /* frames per look at the clock */
#define LATE_NS 5000000 /* a schedule that is this late begins anew */

#define CLIENTS 0x0a010000u /* 10.1.0.0/16 */
#define SERVER 0x0a020002u  /* 10.2.0.2 */
#define CLIENT_PORTS 1024
#define SERVER_PORT 80
#define CLIENT_SEQUENCE 1000
#define SERVER_SEQUENCE 5000

const volatile __u8 destination_mac[6];
const volatile __u8 source_mac[6];
const volatile __u32 kind;
const volatile __u32 reverse; /* from the server to the client */
const volatile __u32 in_order; /* each flow once, one after the other; else spread over all of them */
const volatile __u32 replay_every; /* 0: nothing recorded is sent, 1: nothing else, 2: every second packet */
/* Recorded frames are tunnel packets over IPv4; each leaves with a number of its own. */
const volatile __u64 last_counter; /* of what was sent before */
const volatile __u64 key_half;     /* the half of the tags' key that all flows have in common */
const volatile __u64 first_flow;
const volatile __u64 flows;
const volatile __u64 interval_ns; /* between batches */
const volatile __u64 end_ns;      /* CLOCK_MONOTONIC */

__u64 sent;
static __u64 next_ns;

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 2); /* 0: for packets made here, 1: for recorded ones */
	__type(key, __u32);
	__type(value, __u32);
} device SEC(".maps");

struct recorded {
	__u8 bytes[REPLAYED];
	__u64 secret; /* the flow's half of the tags' key */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct recorded);
} recording SEC(".maps");

static long wait_until_due(__u32 turn, void *context)
{
	(void)turn;
	(void)context;
	return bpf_ktime_get_ns() >= next_ns;
}

/* Once per batch: waits for its time; false when the run is over. */
static __always_inline int pace(void)
{
	__u64 now = bpf_ktime_get_ns();

	if (now >= end_ns)
		return 0;
	if (now > next_ns + LATE_NS)
		next_ns = now;
	if (now < next_ns)
		bpf_loop(1 << 20, wait_until_due, 0, 0);
	next_ns += interval_ns;
	return 1;
}

/* The number of the flow of the packet to be sent: multiplied by the golden ratio, consecutive packets
 * fall far from each other and all flows are met equally often. */
static __always_inline __u64 pick_flow(void)
{
	if (in_order)
		return first_flow + sent;
	return first_flow + ((((sent * 0x9e3779b97f4a7c15ull) >> 32) * flows) >> 32);
}

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static __always_inline __u64 sum_words(const void *from, int bytes)
{
	const __u16 *words = from;
	__u64 sum = 0;

	for (int word = 0; word < bytes / 2; word++)
		sum += words[word];
	return sum;
}

static __always_inline void write_udp(struct udphdr *udp, __u16 source, __u16 destination)
{
	udp->source = source;
	udp->dest = destination;
	udp->len = bpf_htons(FRAME - ETH_HLEN - sizeof(struct iphdr));
	udp->check = 0;
}

static __always_inline void write_tcp(struct iphdr *ip, struct tcphdr *tcp, __u16 source, __u16 destination)
{
	__u32 mine = reverse ? SERVER_SEQUENCE : CLIENT_SEQUENCE;
	__u32 theirs = reverse ? CLIENT_SEQUENCE : SERVER_SEQUENCE;
	__u32 *flags = (__u32 *)tcp + 3;

	tcp->source = source;
	tcp->dest = destination;
	tcp->seq = bpf_htonl(kind == TCP_ACK ? mine + 1 : mine);
	tcp->ack_seq = kind == TCP_SYN ? 0 : bpf_htonl(theirs + 1);
	/* data offset 5, flags, window 65535 */
	*flags = bpf_htonl(0x5000ffff | (kind == TCP_SYN ? 0x20000 : kind == TCP_SYN_ACK ? 0x120000 : 0x100000));
	tcp->check = 0;
	tcp->urg_ptr = 0;
	tcp->check = fold(sum_words(&ip->saddr, 8) + bpf_htons(IPPROTO_TCP) +
			  bpf_htons(sizeof(struct tcphdr)) + sum_words(tcp, sizeof(struct tcphdr)));
}

static __always_inline void write_frame(void *data)
{
	struct ethhdr *ethernet = data;
	struct iphdr *ip = data + ETH_HLEN;
	void *transport = data + ETH_HLEN + sizeof(struct iphdr);
	__u64 flow = pick_flow();
	__u32 client = bpf_htonl(CLIENTS | (flow & 0xffff));
	__u16 client_port = bpf_htons(CLIENT_PORTS + (flow >> 16));
	__u16 server_port = bpf_htons(SERVER_PORT);

	for (int byte = 0; byte < ETH_ALEN; byte++) {
		ethernet->h_dest[byte] = destination_mac[byte];
		ethernet->h_source[byte] = source_mac[byte];
	}
	ethernet->h_proto = bpf_htons(ETH_P_IP);
	__builtin_memset(ip, 0, FRAME - ETH_HLEN);
	ip->version = 4;
	ip->ihl = 5;
	ip->ttl = 64;
	ip->protocol = kind == UDP ? IPPROTO_UDP : IPPROTO_TCP;
	ip->tot_len = bpf_htons(kind == UDP ? FRAME - ETH_HLEN : sizeof(*ip) + sizeof(struct tcphdr));
	ip->saddr = reverse ? bpf_htonl(SERVER) : client;
	ip->daddr = reverse ? client : bpf_htonl(SERVER);
	ip->check = fold(sum_words(ip, sizeof(*ip)));
	if (kind == UDP)
		write_udp(transport, reverse ? server_port : client_port, reverse ? client_port : server_port);
	else
		write_tcp(ip, transport, reverse ? server_port : client_port, reverse ? client_port : server_port);
}

/* What the forwarder of a node does when it sends one more packet of the flow. */
static __always_inline int number(__u8 *data, void *end, __u64 secret)
{
	__be64 counter = bpf_cpu_to_be64(last_counter + 1 + sent);
	__u8 *option = data + OPTION_DATA;

	if ((void *)(option + OPTION_TAG + 8) > end)
		return 0;
	option[OPTION_STREAM] = STREAM;
	*(__be64 *)(option + OPTION_COUNTER) = counter;
	*(__be64 *)(option + OPTION_TAG) = bpf_cpu_to_be64(packet_tag(secret, key_half, counter, STREAM));
	return 1;
}

static __always_inline int replay(struct xdp_md *context)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	__u32 flow = pick_flow();
	struct recorded *frame = bpf_map_lookup_elem(&recording, &flow);

	if (!frame)
		return 0;
	for (int word = 0; word < REPLAYED / 8; word++) {
		if (data + 8 * word + 8 > end)
			break;
		((__u64 *)data)[word] = ((__u64 *)frame->bytes)[word];
	}
	return number(data, end, frame->secret);
}

SEC("xdp")
int generate(struct xdp_md *context)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	__u32 recorded;

	if (sent % BATCH == 0 && !pace())
		return XDP_DROP;
	if (in_order && sent >= flows)
		return XDP_DROP;
	recorded = replay_every && sent % replay_every == 0;
	if (recorded) {
		if (!replay(context))
			return XDP_ABORTED;
	} else {
		/* Recorded frames are longer, and all frames of a run begin alike. */
		if (end - data > FRAME && bpf_xdp_adjust_tail(context, FRAME - (end - data)))
			return XDP_ABORTED;
		data = (void *)(long)context->data;
		end = (void *)(long)context->data_end;
		if (data + FRAME > end)
			return XDP_ABORTED;
		write_frame(data);
	}
	sent++;
	return bpf_redirect_map(&device, recorded, XDP_DROP);
}

char _license[] SEC("license") = "Dual MIT/GPL";
