/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0-only
 *
 * For dpdk-testpmd: its own program needs program types that not every kernel has. The map's name is
 * what DPDK's af_xdp driver looks for (drivers/net/af_xdp/rte_eth_af_xdp.c, load_custom_xdp_prog).
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} xsks_map SEC(".maps");

SEC("xdp")
int to_testpmd(struct xdp_md *context)
{
	return bpf_redirect_map(&xsks_map, context->rx_queue_index, XDP_PASS);
}

char _license[] SEC("license") = "Dual MIT/GPL";
