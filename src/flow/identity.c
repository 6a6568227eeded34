/* SPDX-License-Identifier: Apache-2.0 */
/* A number that tells a checkpoint from others. */
#include "flow/identity.h"
#include "base/io.h"
#include "flow/checksum.h"
#include "model/parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SAMPLES 1024
#define SAMPLE 256  /* bytes, from the middle of a record's data */
#define PIECE 65536 /* bytes, from the head, the middle and the tail of a file that is read once */

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

/* Head, middle and tail; they overlap in a small file. */
static enum sd_result add_pieces(struct sd_checksum *sum, int fd, uint64_t size, struct sd_error *err)
{
	uint64_t n = size < PIECE ? size : PIECE, at[] = {0, (size - n) / 2, size - n};
	enum sd_result result = SD_OK;
	char *piece = malloc(PIECE);

	if (!piece)
		return sd_fail_memory(err);
	add_number(sum, size);
	for (size_t i = 0; i < sizeof(at) / sizeof(*at) && result == SD_OK; i++) {
		result = sd_pread_all(fd, piece, (size_t)n, (off_t)at[i], err);
		if (result == SD_OK)
			sd_checksum_add(sum, piece, (size_t)n);
	}
	free(piece);
	return result;
}

/* What is no file is not opened: a pipe would wait for a writer. */
static enum sd_result add_input(struct sd_checksum *sum, const char *name, bool *unsure, struct sd_error *err)
{
	bool standard = strcmp(name, "-") == 0;
	enum sd_result result;
	struct stat st;
	int fd;

	if ((standard ? fstat(STDIN_FILENO, &st) : stat(name, &st)) != 0)
		return sd_fail_errno(err, errno, "%s", name);
	if (!S_ISREG(st.st_mode)) {
		*unsure = true;
		return SD_OK;
	}
	fd = standard ? STDIN_FILENO : sd_openat(AT_FDCWD, name, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return sd_fail_errno(err, errno, "%s", name);
	result = add_pieces(sum, fd, (uint64_t)st.st_size, err);
	if (!standard)
		close(fd);
	return result == SD_OK ? SD_OK : sd_error_at(err, "%s", name);
}

enum sd_result sd_identity_of_inputs(const char *const *names, size_t count, uint64_t *id, bool *unsure,
				     struct sd_error *err)
{
	struct sd_checksum *sum = sd_checksum_new();
	enum sd_result result = sum ? SD_OK : sd_fail_memory(err);

	*unsure = false;
	if (result == SD_OK) {
		sd_checksum_begin(sum);
		add_number(sum, *id);
	}
	for (size_t i = 0; i < count && result == SD_OK; i++)
		result = add_input(sum, names[i], unsure, err);
	if (result == SD_OK)
		*id = sd_checksum_value(sum);
	sd_checksum_free(sum);
	return result;
}

/* What becomes of the bytes of a target's record. */
static void add_target(struct sd_checksum *sum, const struct sd_manifest *m, const struct sd_target *t)
{
	sd_checksum_add(sum, m->records[t->record].key, strlen(m->records[t->record].key) + 1);
	sd_checksum_add(sum, t->name, strlen(t->name) + 1);
	add_number(sum, t->dtype);
	if (t->move)
		sd_checksum_add(sum, t->move, sd_move_size(t->move));
	for (uint32_t k = 0; k < t->nsteps; k++) {
		const struct sd_step *step = &t->steps[k];
		const char *operand = step->operand == SD_NO_RECORD ? "" : m->records[step->operand].key;

		add_number(sum, step->kind);
		add_number(sum, step->dtype);
		add_number(sum, step->param);
		sd_checksum_add(sum, operand, strlen(operand) + 1);
	}
}

enum sd_result sd_identity_fold(struct sd_manifest *out, const struct sd_manifest *in, const uint64_t *more,
				size_t count, struct sd_error *err)
{
	struct sd_checksum *sum;
	struct sd_parts *parts;

	if (!out->parts || !out->parts->of)
		return SD_OK;
	sum = sd_checksum_new();
	parts = sd_arena_copy(&out->arena, out->parts, sizeof(*parts));
	if (sum && parts) {
		sd_checksum_begin(sum);
		add_number(sum, parts->id);
		for (size_t i = 0; i < in->ntargets; i++)
			add_target(sum, in, &in->targets[i]);
		for (size_t i = 0; i < count; i++)
			add_number(sum, more[i]);
		parts->id = (parts->id & ~(uint64_t)UINT32_MAX) | (sd_checksum_value(sum) & UINT32_MAX);
		out->parts = parts;
	}
	sd_checksum_free(sum);
	return sum && parts ? SD_OK : sd_fail_memory(err);
}

/* A file, or the archive that it is a member of. */
static enum sd_result look_at(const char *file, struct stat *st, struct sd_error *err)
{
	char *path = strdup(file), *slash;
	int failed = path ? stat(path, st) : 0;

	while (path && failed && errno == ENOTDIR && (slash = strrchr(path, '/'))) {
		*slash = '\0';
		failed = stat(path, st);
	}
	if (!path)
		return sd_fail_memory(err);
	free(path);
	return failed ? sd_fail_errno(err, errno, "%s", file) : SD_OK;
}

/* Of each file that records lie in one after another. */
static enum sd_result add_files(struct sd_checksum *sum, struct sd_source *source, struct sd_error *err)
{
	const char *file, *last = NULL;
	uint64_t offset;
	struct stat st;

	for (size_t i = 0; i < source->manifest->nrecords; i++) {
		if (!source->ops->place || !source->ops->place(source, (uint32_t)i, &file, &offset))
			continue;
		if (last && strcmp(last, file) == 0)
			continue;
		if (look_at(file, &st, err) != SD_OK)
			return err->result;
		add_number(sum, (uint64_t)st.st_size);
		add_number(sum, (uint64_t)st.st_mtim.tv_sec);
		add_number(sum, (uint64_t)st.st_mtim.tv_nsec);
		last = file;
	}
	return SD_OK;
}

enum sd_result sd_source_identity_of_files(struct sd_source *source, const struct sd_manifest *m, uint64_t *id,
					   struct sd_error *err)
{
	struct sd_checksum *sum = sd_checksum_new();
	enum sd_result result = sum ? sd_source_identity(source, m, id, err) : sd_fail_memory(err);

	if (result == SD_OK) {
		sd_checksum_begin(sum);
		add_number(sum, *id);
		result = add_files(sum, source, err);
	}
	if (result == SD_OK)
		*id = sd_checksum_value(sum);
	sd_checksum_free(sum);
	return result;
}
