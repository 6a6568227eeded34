/* SPDX-License-Identifier: Apache-2.0 */
/* There and back with the keys and sizes of a checkpoint. */
#include "tools/back.h"
#include "base/names.h"
#include "base/text.h"
#include "formats/zstd.h"
#include "pipe/stream.h"
#include "tools/explain.h"
#include "tools/tool.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool back_is_wanted(void)
{
	unsigned char first[SD_STREAM_MAGIC_LENGTH + 1];
	off_t at = lseek(STDIN_FILENO, 0, SEEK_CUR);
	struct stat st;

	if (at < 0 || fstat(STDIN_FILENO, &st) != 0 || !S_ISREG(st.st_mode) ||
	    pread(STDIN_FILENO, first, sizeof(first), at) != (ssize_t)sizeof(first))
		return false;
	return memcmp(first, SD_STREAM_MAGIC, SD_STREAM_MAGIC_LENGTH) == 0 ||
	       memcmp(first, SD_ZSTD_MAGIC, SD_ZSTD_MAGIC_LENGTH) == 0 || first[sizeof(first) - 1] == '{';
}

/* The targets of a manifest by name. */
static enum sd_result index_names(const struct sd_manifest *m, struct sd_names *names, struct sd_error *err)
{
	for (size_t i = 0; i < m->ntargets; i++)
		if (sd_names_add(names, m->targets[i].name, (uint32_t)i) == SD_NO_NAME)
			return sd_fail_memory(err);
	return SD_OK;
}

/* Steps that came in are still there; more of them, or a move, are a change. */
static bool is_changed(const struct sd_target *before, const struct sd_target *after)
{
	return before->nsteps != after->nsteps || (!before->move && sd_target_is_reordered(after));
}

/* "KEY<TAB>DTYPE<TAB>SHAPE<TAB>what it is when it comes back", or nothing. */
static bool print_change(const struct sd_target *before, const struct sd_target *after)
{
	const char *word = NULL;

	if (!after)
		word = "is not there";
	else if (before->dtype != after->dtype)
		word = "another dtype";
	else if (!sd_shape_equal(before->shape, before->rank, after->shape, after->rank))
		word = "another shape";
	else if (is_changed(before, after))
		word = "other values or places";
	if (!word)
		return false;
	explain_tensor(stdout, before->name, before->dtype, before->shape, before->rank);
	printf("\t%s\t", word);
	if (after)
		explain_tensor(stdout, after->name, after->dtype, after->shape, after->rank);
	else
		printf("-\t-\t-");
	putchar('\n');
	return true;
}

/* What was not there before. */
static size_t print_new(const struct sd_manifest *in, const struct sd_manifest *back, struct sd_error *err)
{
	struct sd_names names = {0};
	size_t n = 0;

	if (index_names(in, &names, err) != SD_OK) {
		sd_names_free(&names);
		return SIZE_MAX;
	}
	for (size_t i = 0; i < back->ntargets; i++) {
		const struct sd_target *t = &back->targets[i];

		if (sd_names_find(&names, t->name) != SD_NO_NAME ||
		    (i && strcmp(back->targets[i - 1].name, t->name) == 0))
			continue;
		printf("-\t-\t-\tis new\t");
		explain_tensor(stdout, t->name, t->dtype, t->shape, t->rank);
		putchar('\n');
		n++;
	}
	sd_names_free(&names);
	return n;
}

static enum sd_result compare(const struct sd_manifest *in, const struct sd_manifest *back, struct sd_error *err)
{
	struct sd_names names = {0};
	enum sd_result result = index_names(back, &names, err);
	size_t changed = 0, more;

	for (size_t i = 0; i < in->ntargets && result == SD_OK; i++) {
		uint32_t number = sd_names_find(&names, in->targets[i].name);

		changed += print_change(&in->targets[i], number == SD_NO_NAME ? NULL : &back->targets[number]);
	}
	sd_names_free(&names);
	if (result != SD_OK)
		return result;
	more = print_new(in, back, err);
	if (more == SIZE_MAX)
		return err->result;
	return changed + more ? sd_fail(err, SD_DIFFERENT, "%zu of %zu tensors do not come back as they were",
					changed + more, in->ntargets)
			      : SD_OK;
}

/* The defines for the way back: -D dtype is for one way. */
static struct sd_define *without_dtype(const struct sd_rename *asked, size_t *n)
{
	struct sd_define *defines = calloc(asked->ndefines + 1, sizeof(*defines));

	*n = 0;
	for (size_t i = 0; defines && i < asked->ndefines; i++)
		if (strcmp(asked->defines[i].name, "dtype") != 0)
			defines[(*n)++] = asked->defines[i];
	return defines;
}

enum sd_result back_check(const struct sd_rename *asked, const struct sd_manifest *in, struct sd_error *err)
{
	struct sd_rename rename = *asked;
	struct sd_plan there = {0}, back = {0};
	enum sd_result result = sd_rename_plan(&rename, in, &there, err);
	struct sd_define *defines = without_dtype(asked, &rename.ndefines);
	int to = rename.to;

	rename.defines = defines;
	rename.to = !to;
	if (!defines && result == SD_OK)
		result = sd_fail_memory(err);
	if (result == SD_OK)
		sd_note("from %s to %s and back", sd_map_layout(asked->map, !to), sd_map_layout(asked->map, to));
	if (result == SD_OK) {
		result = sd_rename_plan(&rename, there.manifest, &back, err);
		if (result == SD_INPUT || result == SD_USAGE)
			sd_error_at(err, "on the way back");
	}
	if (result == SD_OK)
		result = compare(in, back.manifest, err);
	free(defines);
	sd_plan_free(&back);
	sd_plan_free(&there);
	return result;
}
