/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What makes a tunnel packet one of its own: stream, counter, and the tag of an XDP program's streams. The bytes are
 * those of dataplane/src/wire/tag.rs. The benches' generator numbers its packets with the same code. */
#ifndef SAMEPATH_TAG_H
#define SAMEPATH_TAG_H

#include "layout.h"
#include "hash.h"

#define OPTION_STREAM 19 /* offsets in the option data */
#define OPTION_COUNTER 20
#define OPTION_TAG 28

/* SipHash-2-4 (J.-P. Aumasson, D. J. Bernstein, 2012), state in v[4]. */
static __always_inline void sip_round(__u64 *v)
{
	v[0] += v[1], v[2] += v[3];
	v[1] = v[1] << 13 | v[1] >> 51, v[3] = v[3] << 16 | v[3] >> 48;
	v[1] ^= v[0], v[3] ^= v[2];
	v[0] = v[0] << 32 | v[0] >> 32;
	v[2] += v[1], v[0] += v[3];
	v[1] = v[1] << 17 | v[1] >> 47, v[3] = v[3] << 21 | v[3] >> 43;
	v[1] ^= v[2], v[3] ^= v[0];
	v[2] = v[2] << 32 | v[2] >> 32;
}

/* The tag of packet `counter` (as on the wire) of a stream: of these nine bytes. */
static __always_inline __u64 packet_tag(__u64 secret, __u64 key_half, __be64 counter, __u8 stream)
{
	__u64 words[2] = { from_little_endian(counter), 9ULL << 56 | stream };
	__u64 v[4] = {
		secret ^ 0x736f6d6570736575ULL,
		key_half ^ 0x646f72616e646f6dULL,
		secret ^ 0x6c7967656e657261ULL,
		key_half ^ 0x7465646279746573ULL,
	};
	int i;

	for (i = 0; i < 2; i++) {
		v[3] ^= words[i];
		sip_round(v);
		sip_round(v);
		v[0] ^= words[i];
	}
	v[2] ^= 0xff;
	for (i = 0; i < 4; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

#endif
