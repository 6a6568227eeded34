/* SPDX-License-Identifier: Apache-2.0 */
/* sd-ls --checksum and -c: the XXH3 of each tensor's data, and whether it is what a list says. */
#include "base/json.h"
#include "base/memstream.h"
#include "base/text.h"
#include "flow/sink.h"
#include "flow/checksum.h"
#include "tools/ls.h"
#include "tools/sum_list.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- sums ---- */

/* A tensor has a sum if it is one record, as it came: else its data is still to be made. */
static enum sd_result check_whole(const struct ls_source *s, const struct sd_listed *t, struct sd_error *err)
{
	const struct sd_manifest *m = s->source->manifest;

	if (m->records[m->targets[t->target].record].state != SD_HERE)
		return sd_fail(err, SD_INPUT, "%s: its data does not come along: no checksum can be made", t->name);
	if (s->listing.next[t->target] != SD_NO_NAME || !sd_target_is_record(m, &m->targets[t->target]))
		return sd_fail(err, SD_INPUT,
			       "%s is still to be made, of other tensors or by pending steps: put sd-transpose and "
			       "sd-pack in front",
			       t->name);
	return SD_OK;
}

/* Which of the tensors a record is, or UINT32_MAX: none whose sum is wanted. */
static enum sd_result find_wanted(const struct ls_source *s, uint32_t *tensor_of, struct sd_error *err)
{
	const struct sd_manifest *m = s->source->manifest;

	memset(tensor_of, 0xff, m->nrecords * sizeof(*tensor_of));
	for (size_t i = 0; i < s->nshown; i++) {
		const struct sd_listed *t = &s->listing.tensors[s->shown[i]];

		if (check_whole(s, t, err) != SD_OK)
			return err->result;
		tensor_of[m->targets[t->target].record] = s->shown[i];
	}
	return SD_OK;
}

static enum sd_result read_record(struct sd_source *source, uint32_t record, struct sd_checksum *sum, bool wanted,
				  struct sd_error *err)
{
	struct sd_extent extent, piece;
	enum sd_result result = sd_source_next(source, record, &extent, err);

	while (result == SD_OK && extent.length) {
		while (wanted && result == SD_OK && extent.length)
			result = sd_checksum_take(sum, &extent, &piece, err);
		if (result == SD_OK && extent.length)
			result = sd_extent_skip(&extent, err);
		if (result == SD_OK)
			result = sd_source_next(source, record, &extent, err);
	}
	return result;
}

/* Records come in their order, and from a pipe all of them have to be taken. */
static enum sd_result read_all(struct ls_source *s, struct sd_source *from, const uint32_t *tensor_of,
			       struct sd_error *err)
{
	const struct sd_manifest *m = s->source->manifest;
	struct sd_checksum *sum = sd_checksum_new();
	enum sd_result result = sum ? SD_OK : sd_fail_memory(err);

	for (size_t i = 0; i < m->nrecords && result == SD_OK; i++) {
		if (m->records[i].state != SD_HERE)
			continue;
		sd_checksum_begin(sum);
		result = read_record(from, (uint32_t)i, sum, tensor_of[i] != UINT32_MAX, err);
		if (tensor_of[i] != UINT32_MAX)
			s->sums[tensor_of[i]] = sd_checksum_value(sum);
	}
	if (result == SD_OK)
		result = sd_source_finish(from, err);
	if (result != SD_OK)
		sd_source_explain(s->source, err);
	sd_checksum_free(sum);
	return result;
}

static enum sd_result sum_tensors(struct ls_source *s, struct sd_error *err)
{
	struct sd_sink nowhere = {.checks = true};
	struct sd_source *checked = NULL;
	uint32_t *tensor_of = malloc((s->source->manifest->nrecords + 1) * sizeof(*tensor_of));
	enum sd_result result;

	s->sums = calloc(s->listing.n + 1, sizeof(*s->sums));
	result = tensor_of && s->sums ? find_wanted(s, tensor_of, err) : sd_fail_memory(err);
	if (result == SD_OK && s->source->lack)
		result = sd_fail(err, SD_INPUT, "%s", s->source->lack);
	if (result == SD_OK)
		result = sd_checked_source(s->source, &nowhere, &checked, err);
	if (result == SD_OK)
		result = read_all(s, checked ? checked : s->source, tensor_of, err);
	sd_source_close(checked);
	free(tensor_of);
	return result;
}

static int by_line(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The lines of name, dtype, shape and sum, in the order of their bytes: so it does not matter how the tensors lie. */
static enum sd_result sum_lines(char *text, const struct ls_source *s, uint64_t *sum, struct sd_error *err)
{
	char **lines = malloc((s->nshown + 1) * sizeof(*lines));
	struct sd_checksum *all = sd_checksum_new();
	size_t n = 0;

	if (!lines || !all) {
		free(lines);
		sd_checksum_free(all);
		return sd_fail_memory(err);
	}
	for (; n < s->nshown; n++) {
		lines[n] = text;
		text += strlen(text) + 1;
	}
	if (n)
		qsort(lines, n, sizeof(*lines), by_line);
	sd_checksum_begin(all);
	for (size_t i = 0; i < n; i++) {
		sd_checksum_add(all, lines[i], strlen(lines[i]));
		sd_checksum_add(all, "\n", 1);
	}
	*sum = sd_checksum_value(all);
	free(lines);
	sd_checksum_free(all);
	return SD_OK;
}

static enum sd_result sum_all(const struct ls_options *opt, struct ls_source *s, struct sd_error *err)
{
	static const enum ls_column columns[] = {LS_COLUMN_NAME, LS_COLUMN_DTYPE, LS_COLUMN_SHAPE, LS_COLUMN_XXH3};
	FILE *out;
	struct sd_memstream *stream = sd_memstream_open(&out);
	enum sd_result result;
	size_t length;
	char *text;

	if (!stream)
		return sd_fail_memory(err);
	for (size_t i = 0; i < s->nshown; i++) {
		const struct ls_item item = {opt, s, &s->listing.tensors[s->shown[i]], NULL, NULL};

		for (size_t k = 0; k < 4; k++) {
			ls_write_cell(out, &item, columns[k], false);
			fputc(k < 3 ? '\t' : '\0', out);
		}
	}
	if (!sd_memstream_close(stream, &text, &length))
		return sd_fail_memory(err);
	result = sum_lines(text, s, &s->sum, err);
	free(text);
	return result;
}

enum sd_result ls_sum(const struct ls_options *opt, struct ls_source *s, struct sd_error *err)
{
	enum sd_result result = sum_tensors(s, err);

	return result == SD_OK ? sum_all(opt, s, err) : result;
}

/* ---- a list ---- */

static char *text_of(const struct ls_options *opt, const struct ls_source *s, const struct sd_listed *t,
		     enum ls_column column)
{
	FILE *out;
	struct sd_memstream *stream = sd_memstream_open(&out);
	const struct ls_item item = {opt, s, t, NULL, NULL};
	char *text = NULL;
	size_t length;

	if (!stream)
		return NULL;
	ls_write_cell(out, &item, column, false);
	return sd_memstream_close(stream, &text, &length) ? text : NULL;
}

/* The line of a tensor; NULL where it is not in the list, or memory is out. */
static struct sum_line *find_line(struct sum_list *list, const struct ls_options *opt, const struct ls_source *s,
				  const struct sd_listed *t, bool *memory)
{
	char *name = text_of(opt, s, t, LS_COLUMN_NAME);
	uint32_t number = name ? sd_names_find(&list->names, name) : SD_NO_NAME;

	*memory = *memory && name;
	free(name);
	return number == SD_NO_NAME ? NULL : &list->lines[number];
}

/* Only what is in the list is read. */
static bool keep_listed(struct sum_list *list, const struct ls_options *opt, struct ls_source *s)
{
	size_t kept = 0;
	bool memory = true;

	for (size_t i = 0; i < s->nshown && memory; i++) {
		struct sum_line *wanted = find_line(list, opt, s, &s->listing.tensors[s->shown[i]], &memory);

		if (!wanted)
			continue;
		wanted->there = true;
		s->shown[kept++] = s->shown[i];
	}
	s->nshown = kept;
	return memory;
}

static void tell(const struct ls_options *opt, const struct ls_source *s, const char *word, const char *name)
{
	if (opt->quiet)
		return;
	if (opt->form.json) {
		/* The name is that of the list: one that is escaped stays so. */
		printf("{\"kind\":\"%s\",\"name\":", word);
		sd_json_write(stdout, name, SD_JSON_ASCII);
		if (opt->count > 1) {
			printf(",\"source\":");
			sd_json_write(stdout, s->name, SD_JSON_ASCII);
		}
		puts("}");
		return;
	}
	sd_ink(stdout, &opt->look, SD_INK_FAULT);
	fputs(word, stdout);
	sd_ink(stdout, &opt->look, SD_INK_NONE);
	printf(opt->look.human ? "  %s" : "\t%s", name);
	if (opt->count > 1 && !opt->look.human) {
		putchar('\t');
		sd_text_print(stdout, s->name);
	}
	putchar('\n');
}

/* Whether dtype, shape and data are what the list says. */
static bool is_same(const struct ls_options *opt, const struct ls_source *s, const struct sd_listed *t,
		    const struct sum_line *wanted, bool *memory)
{
	char *shape = text_of(opt, s, t, LS_COLUMN_SHAPE);
	bool same = shape && strcmp(shape, wanted->shape) == 0 && strcmp(sd_dtype_name(t->dtype), wanted->dtype) == 0 &&
		    s->sums[t - s->listing.tensors] == wanted->sum;

	*memory = *memory && shape;
	free(shape);
	return same;
}

static enum sd_result compare(struct sum_list *list, const struct ls_options *opt, const struct ls_source *s,
			      bool *differ, struct sd_error *err)
{
	bool memory = true;
	size_t n = 0;

	for (size_t i = 0; i < s->nshown && memory; i++) {
		const struct sd_listed *t = &s->listing.tensors[s->shown[i]];
		const struct sum_line *wanted = find_line(list, opt, s, t, &memory);

		if (!wanted || is_same(opt, s, t, wanted, &memory))
			continue;
		n++;
		tell(opt, s, "differs", wanted->name);
	}
	for (size_t i = 0; i < list->n; i++) {
		if (list->lines[i].there)
			continue;
		n++;
		tell(opt, s, "missing", list->lines[i].name);
	}
	*differ = *differ || n;
	if (n && memory && opt->look.human && !opt->quiet) {
		sd_text_print(stdout, s->name);
		printf(": %zu of %zu tensors in ", n, list->n);
		sd_text_print(stdout, opt->list);
		puts(n == 1 ? " is not what it was" : " are not what they were");
	}
	return memory ? SD_OK : sd_fail_memory(err);
}

enum sd_result ls_compare_sums(const struct ls_options *opt, struct ls_source *s, bool *differ, struct sd_error *err)
{
	struct sum_list list = {.n = 0};
	enum sd_result result = sum_list_read(&list, opt->list, err);

	if (result == SD_OK && !keep_listed(&list, opt, s))
		result = sd_fail_memory(err);
	if (result == SD_OK)
		result = ls_sum(opt, s, err);
	if (result == SD_OK)
		result = compare(&list, opt, s, differ, err);
	sum_list_free(&list);
	return result;
}
