/* SPDX-License-Identifier: Apache-2.0 */
/* A number that tells a checkpoint from others. */
#include "flow/identity.h"
#include "flow/checksum.h"

#include <string.h>

#define SAMPLES 1024
#define SAMPLE 256 /* bytes, from the middle of a record's data */

static void add_number(struct sd_checksum *sum, uint64_t number)
{
	unsigned char bytes[8];

	for (int i = 0; i < 8; i++)
		bytes[i] = (unsigned char)(number >> 8 * i);
	sd_checksum_add(sum, bytes, sizeof(bytes));
}

static void add_manifest(struct sd_checksum *sum, const struct sd_manifest *m)
{
	for (size_t i = 0; i < m->nrecords; i++) {
		const struct sd_record *r = &m->records[i];

		sd_checksum_add(sum, r->key, strlen(r->key) + 1);
		add_number(sum, r->dtype);
		add_number(sum, r->state);
		add_number(sum, r->rank);
		for (uint32_t k = 0; k < r->rank; k++)
			add_number(sum, r->shape[k]);
	}
	for (size_t i = 0; i < m->nside; i++) {
		sd_checksum_add(sum, m->side[i].name, strlen(m->side[i].name) + 1);
		add_number(sum, m->side[i].size);
		sd_checksum_add(sum, m->side[i].data, m->side[i].size);
	}
}

static enum sd_result add_samples(struct sd_checksum *sum, struct sd_source *source, struct sd_error *err)
{
	const struct sd_manifest *m = source->manifest;
	size_t step = m->nrecords / SAMPLES + 1;

	for (size_t i = 0; i < m->nrecords; i += step) {
		unsigned char sample[SAMPLE];
		uint64_t bytes = m->records[i].bytes, n = bytes < SAMPLE ? bytes : SAMPLE;

		if (m->records[i].state != SD_HERE || !n)
			continue;
		if (sd_source_read_at(source, (uint32_t)i, (bytes - n) / 2, sample, n, err) != SD_OK)
			return err->result;
		sd_checksum_add(sum, sample, (size_t)n);
	}
	return SD_OK;
}

enum sd_result sd_source_identity(struct sd_source *source, const struct sd_manifest *m, uint64_t *id,
				  struct sd_error *err)
{
	struct sd_checksum *sum = sd_checksum_new();
	enum sd_result result = sum ? SD_OK : sd_fail_memory(err);

	if (result == SD_OK) {
		sd_checksum_begin(sum);
		add_manifest(sum, m);
	}
	if (result == SD_OK && source->random)
		result = add_samples(sum, source, err);
	if (result == SD_OK)
		*id = sd_checksum_value(sum);
	sd_checksum_free(sum);
	return result;
}
