// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
//
// SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012)
// over words of 64 bits: who does not know the key cannot make a second message
// with the digest of a first.
#ifndef BREAKWATER_DIGEST_H
#define BREAKWATER_DIGEST_H

struct digest {
	u64 v0, v1, v2, v3;
};

#define ROTATE(X, N) ((X) << (N) | (X) >> (64 - (N)))

static __always_inline void digest_round(struct digest *d)
{
	d->v0 += d->v1;
	d->v2 += d->v3;
	d->v1 = ROTATE(d->v1, 13) ^ d->v0;
	d->v3 = ROTATE(d->v3, 16) ^ d->v2;
	d->v0 = ROTATE(d->v0, 32) + d->v3;
	d->v2 += d->v1;
	d->v3 = ROTATE(d->v3, 21) ^ d->v0;
	d->v1 = ROTATE(d->v1, 17) ^ d->v2;
	d->v2 = ROTATE(d->v2, 32);
}

static __always_inline void digest_begin(struct digest *d, const u64 *key)
{
	d->v0 = key[0] ^ 0x736f6d6570736575ULL;
	d->v1 = key[1] ^ 0x646f72616e646f6dULL;
	d->v2 = key[0] ^ 0x6c7967656e657261ULL;
	d->v3 = key[1] ^ 0x7465646279746573ULL;
}

static __always_inline void digest_word(struct digest *d, u64 word)
{
	d->v3 ^= word;
	digest_round(d);
	d->v0 ^= word;
}

// digest_words takes n words, n being a constant: what bytes do not fill must be
// zero. Without a branch in it, each round looks the same to the verifier.
static __always_inline void digest_words(struct digest *d, const void *bytes, u32 n)
{
	for (u32 i = 0; i < n; i++)
		digest_word(d, *(const u64 *)(bytes + i * 8));
}

static __always_inline u64 digest_end(struct digest *d)
{
	d->v2 ^= 0xff;
	digest_round(d);
	digest_round(d);
	digest_round(d);
	return d->v0 ^ d->v1 ^ d->v2 ^ d->v3;
}

#endif
