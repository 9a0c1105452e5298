/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0-only
 *
 * Devices under test that do less than samepath: to an AF_XDP socket without a look at the packet, and
 * forwarding inside XDP without sessions.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

const volatile __u8 next_hop_mac[6];
const volatile __u8 own_mac[6];

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} device SEC(".maps");

SEC("xdp")
int to_socket(struct xdp_md *context)
{
	(void)context;
	return bpf_redirect_map(&sockets, 0, XDP_PASS);
}

SEC("xdp")
int pass(struct xdp_md *context)
{
	(void)context;
	return XDP_PASS;
}

SEC("xdp")
int to_device(struct xdp_md *context)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	struct ethhdr *ethernet = data;
	struct iphdr *ip = data + ETH_HLEN;
	__u32 sum;

	if ((void *)(ip + 1) > end || ethernet->h_proto != bpf_htons(ETH_P_IP) || ip->ttl <= 1)
		return XDP_PASS;
	for (int byte = 0; byte < ETH_ALEN; byte++) {
		ethernet->h_dest[byte] = next_hop_mac[byte];
		ethernet->h_source[byte] = own_mac[byte];
	}
	ip->ttl--;
	sum = ip->check + bpf_htons(0x0100);
	ip->check = sum + (sum >> 16);
	return bpf_redirect_map(&device, 0, XDP_DROP);
}

char _license[] SEC("license") = "Dual MIT/GPL";
