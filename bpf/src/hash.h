/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The flow hash: the same number for both directions of a flow, seeded per boot so that nobody outside can
 * aim flows at one core. dataplane/src/wire/flow_hash.rs is its twin. */
#ifndef SAMEPATH_HASH_H
#define SAMEPATH_HASH_H

#include "layout.h"

#define SP_K1 0x9e3779b97f4a7c15ULL
#define SP_K2 0xff51afd7ed558ccdULL

static __always_inline __u64 from_little_endian(__u64 value)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	return __builtin_bswap64(value);
#else
	return value;
#endif
}

static __always_inline __u64 hash_end(__u64 seed, const union sp_address *address, __u16 port)
{
	__u64 x = seed ^ from_little_endian(address->halves[0]);
	x *= SP_K1;
	x ^= x >> 32;
	x ^= from_little_endian(address->halves[1]);
	x *= SP_K2;
	x ^= x >> 29;
	x += port;
	x *= SP_K1;
	x ^= x >> 32;
	return x;
}

/* The sum of both ends is what makes it symmetric. */
static __always_inline __u32 hash_flow(__u64 seed, const union sp_address *source, __u16 source_port,
				       const union sp_address *destination, __u16 destination_port, __u32 proto_vlans)
{
	__u64 e = hash_end(seed, source, source_port) + hash_end(seed, destination, destination_port);
	e ^= proto_vlans * SP_K2;
	e *= SP_K1;
	e ^= e >> 32;
	return (__u32)e;
}

#endif
