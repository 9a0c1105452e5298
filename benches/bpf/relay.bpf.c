/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0-only
 *
 * Hands packets from one interface to another. tc's own mirred marks what it redirects, and generic XDP
 * leaves marked packets alone; bpf_redirect to an ingress does not mark.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

const volatile __u32 to;
const volatile __u64 flags;

SEC("tc")
int relay(struct __sk_buff *packet)
{
	(void)packet;
	return bpf_redirect(to, flags);
}

char _license[] SEC("license") = "Dual MIT/GPL";
