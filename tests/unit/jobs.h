/* SPDX-License-Identifier: Apache-2.0 */
/* Random jobs for devices, and what they are to give, element by element. */
#ifndef TESTS_JOBS_H
#define TESTS_JOBS_H

#include "move/transpose.h"
#include "exact.h"

#include <stdio.h>
#include <stdlib.h>

#define POISON 0xa5

struct case_ {
	struct sd_job job;
	uint8_t *source_room, *target_room, *want_room, *scale_room; /* what is to be freed */
	uint8_t *want; /* what the target has to be, gaps and margins included */
	size_t target_bytes;
	char text[512];
};

static inline uint64_t pick(uint64_t *seed, uint64_t below)
{
	return exact_random(seed) % below;
}

static inline void *room(size_t bytes, uint8_t **to_free)
{
	*to_free = malloc(bytes + 64);
	if (!*to_free)
		abort();
	return *to_free;
}

/* Strides of a row-major array whose dimensions, slowest first, are order[]; now and then with gaps. Returns its
 * elements. */
static inline uint64_t place(uint64_t *seed, struct sd_move *move, const uint32_t *order, bool source, unsigned gaps)
{
	uint64_t stride = 1;

	for (uint32_t k = move->rank; k-- > 0;) {
		struct sd_dim *dim = &move->dim[order[k]];

		if (gaps && pick(seed, 4) == 0)
			stride += pick(seed, gaps);
		*(source ? &dim->from : &dim->to) = stride;
		stride *= dim->size;
	}
	return stride;
}

static inline void shuffle(uint64_t *seed, uint32_t *order, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		uint32_t j = (uint32_t)pick(seed, i + 1);

		order[i] = order[j];
		order[j] = i;
	}
}

static inline uint64_t element_get(const uint8_t *data, uint64_t i, unsigned size)
{
	uint64_t bits = 0;

	memcpy(&bits, data + i * size, size);
	return bits;
}

static inline uint64_t code_get(const uint8_t *data, uint64_t i)
{
	return i % 2 == 0 ? data[i / 2] % 16 : data[i / 2] / 16;
}

/* What the job has to give, straight from the words of device.h. */
static inline void naive(const struct sd_job *job, uint8_t *target)
{
	unsigned from_size = sd_element_size(job->source_dtype); /* 0: codes */
	unsigned to_size = sd_dtype_size((enum sd_dtype)job->target_dtype);
	uint64_t at[SD_MOVE_RANK] = {0};
	const struct sd_move *move = &job->move;

	for (uint32_t k = 0; k < move->rank; k++)
		if (move->dim[k].size == 0)
			return;
	for (;;) {
		uint64_t from = move->from, to = move->to, by = job->scale.from, bits;
		uint32_t k = move->rank;

		for (uint32_t d = 0; d < move->rank; d++) {
			from += at[d] * move->dim[d].from;
			to += at[d] * move->dim[d].to;
			if (job->scale.data)
				by += (job->scale.dim[d].begin + at[d]) / job->scale.dim[d].block *
				      job->scale.dim[d].stride;
		}
		bits = from_size ? element_get(job->source, from, from_size) : code_get(job->source, from);
		if (job->scale.data) {
			uint64_t scale = element_get(job->scale.data, by, sd_element_size(job->scale.dtype));
			uint32_t single = sd_element_decode(job->scale.dtype, scale);

			single = sd_element_scale(sd_element_decode(job->source_dtype, bits), single);
			bits = sd_element_encode(job->target_dtype, single);
		} else if (job->source_dtype != job->target_dtype) {
			bits = sd_element_encode(job->target_dtype, sd_element_decode(job->source_dtype, bits));
		}
		memcpy(target + to * to_size, &bits, to_size);
		while (k-- > 0 && ++at[k] == move->dim[k].size)
			at[k] = 0;
		if (k == UINT32_MAX)
			return;
	}
}

static inline void choose_dtypes(uint64_t *seed, struct sd_job *job)
{
	static const uint8_t plain[] = {SD_U8, SD_F8_E4M3, SD_BF16, SD_U16, SD_F32, SD_I32, SD_F64, SD_U64};
	static const uint8_t reads[] = {SD_F8_E4M3, SD_F8_E5M2, SD_BF16, SD_F16,
					SD_F32,     SD_F64,     SD_E2M1, SD_E2M1 + SD_E2M1_TWICE + SD_E2M1_PLUS,
					SD_INT4};
	static const uint8_t makes[] = {SD_BF16, SD_F16, SD_F32, SD_F64};
	static const uint8_t scales[] = {SD_F32, SD_BF16, SD_F16, SD_E8M0, SD_E8M0 + SD_E8M0_HALF};

	job->source_dtype = job->target_dtype = plain[pick(seed, sizeof(plain))];
	if (pick(seed, 2) == 0)
		return;
	job->source_dtype = reads[pick(seed, sizeof(reads))];
	job->target_dtype = makes[pick(seed, sizeof(makes))];
	job->scale.dtype = pick(seed, 2) == 0 ? scales[pick(seed, sizeof(scales))] : SD_NO_DTYPE;
}

/* A scale for blocks of any size, in dimensions of any order, the blocks beginning anywhere. */
static inline void choose_scale(uint64_t *seed, struct case_ *c)
{
	struct sd_scale *scale = &c->job.scale;
	uint64_t count = 1, bytes;
	uint8_t *data;

	if (scale->dtype == SD_NO_DTYPE)
		return;
	scale->from = pick(seed, 5);
	for (uint32_t k = 0; k < c->job.move.rank; k++) {
		uint64_t size = c->job.move.dim[k].size;

		scale->dim[k].begin = pick(seed, 3) == 0 ? pick(seed, 300) : 0;
		scale->dim[k].block = pick(seed, 3) == 0 ? 128 : 1 + pick(seed, size + 3);
		scale->dim[k].stride = pick(seed, 4) == 0 ? 0 : count;
		if (scale->dim[k].stride)
			count *= (scale->dim[k].begin + size - 1) / scale->dim[k].block + 1;
	}
	bytes = (scale->from + count) * sd_element_size(scale->dtype);
	data = (uint8_t *)room(bytes, &c->scale_room) + pick(seed, 8);
	for (uint64_t i = 0; i < bytes; i++)
		data[i] = (uint8_t)exact_random(seed);
	scale->data = data;
}

/* A random job of about elements elements at most. */
static inline void case_make(struct case_ *c, uint64_t seed, uint64_t elements)
{
	uint64_t s = seed, left = 1 + pick(&s, elements), used;
	struct sd_move *move = &c->job.move;
	uint32_t from[SD_MOVE_RANK], to[SD_MOVE_RANK];
	unsigned gaps = pick(&s, 3) == 0 ? 9 : 0;
	bool again; /* one dimension of the source gives the same element again and again */
	uint8_t *source;

	memset(c, 0, sizeof(*c));
	choose_dtypes(&s, &c->job);
	move->rank = (uint32_t)pick(&s, 6);
	used = (size_t)snprintf(c->text, sizeof(c->text), "seed %llu:", (unsigned long long)seed);
	for (uint32_t k = 0; k < move->rank; k++) {
		uint64_t most = k + 1 == move->rank ? left : 1 + pick(&s, left);
		uint64_t round = pick(&s, 4) == 0 ? 32 : 1;

		move->dim[k].size = pick(&s, 40) == 0 ? 1 : most > round ? most / round * round : most;
		left = left / move->dim[k].size;
		left = left > 0 ? left : 1;
	}
	shuffle(&s, from, move->rank);
	shuffle(&s, to, move->rank);
	again = move->rank > 0 && pick(&s, 12) == 0;
	move->from = pick(&s, 3) == 0 ? pick(&s, 20) : 0;
	move->to = pick(&s, 3) == 0 ? pick(&s, 20) : 0;
	c->job.source_count = move->from + place(&s, move, from, true, gaps);
	if (again)
		move->dim[from[move->rank - 1]].from = 0;
	c->job.target_count = move->to + place(&s, move, to, false, gaps);
	for (uint32_t k = 0; k < move->rank && used < sizeof(c->text); k++)
		used += (size_t)snprintf(c->text + used, sizeof(c->text) - used, " %llux(%llu,%llu)",
					 (unsigned long long)move->dim[k].size, (unsigned long long)move->dim[k].from,
					 (unsigned long long)move->dim[k].to);
	choose_scale(&s, c);
	snprintf(c->text + used, sizeof(c->text) - used, " %u to %u, scale %u", c->job.source_dtype,
		 c->job.target_dtype, c->job.scale.dtype);

	used = sd_element_bytes(c->job.source_dtype, c->job.source_count);
	source = (uint8_t *)room(used, &c->source_room) + pick(&s, 64);
	for (uint64_t i = 0; i < used; i++)
		source[i] = (uint8_t)exact_random(&s);
	c->job.source = source;
	/* The image and 32 bytes behind it. Half of the targets begin at a line. */
	c->target_bytes = c->job.target_count * sd_dtype_size((enum sd_dtype)c->job.target_dtype) + 32;
	c->job.target = (uint8_t *)room(c->target_bytes + 64, &c->target_room);
	c->job.target = (uint8_t *)c->job.target + (64 - (uintptr_t)c->job.target % 64) % 64;
	if (pick(&s, 2) == 0)
		c->job.target = (uint8_t *)c->job.target + pick(&s, 64);
	c->want = room(c->target_bytes, &c->want_room);
	memset(c->want, POISON, c->target_bytes);
	naive(&c->job, c->want);
	memset(c->job.target, POISON, c->target_bytes);
}

static inline bool case_holds(const struct case_ *c)
{
	return memcmp(c->job.target, c->want, c->target_bytes) == 0;
}

static inline void case_free(struct case_ *c)
{
	free(c->source_room);
	free(c->target_room);
	free(c->want_room);
	free(c->scale_room);
}

#endif
