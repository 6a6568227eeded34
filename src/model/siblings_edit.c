/* SPDX-License-Identifier: Apache-2.0 */
/* The edits that mend what is odd. */
#include "base/advice.h"
#include "model/siblings_search.h"

#include <stdlib.h>
#include <string.h>

/* All names of a manifest, and their patterns. */
struct known {
	const struct sd_manifest *m;
	struct sd_arena *arena;
	struct sd_names names, patterns;
	bool memory;
};

static void add_pattern(struct known *k, const char *name)
{
	char pattern[NAME_MAX_LENGTH + 1];
	struct sd_sibling_name p;
	const char *kept;

	if (!sd_siblings_parse(name, &p))
		return;
	sd_siblings_write_pattern(&p, 0, p.length, pattern);
	if (sd_names_find(&k->patterns, pattern) != SD_NO_NAME)
		return;
	kept = sd_arena_text(k->arena, pattern, strlen(pattern));
	k->memory = kept && sd_names_add(&k->patterns, kept, 0) != SD_NO_NAME;
}

static void read_names(struct known *k)
{
	k->memory = sd_names_reserve(&k->names, k->m->ntargets);
	for (size_t i = 0; i < k->m->ntargets && k->memory; i++) {
		k->memory = sd_names_add(&k->names, k->m->targets[i].name, (uint32_t)i) != SD_NO_NAME;
		if (k->memory)
			add_pattern(k, k->m->targets[i].name);
	}
}

/* Whether a name would be a new one, and like those that there are. */
static bool is_wanted(const struct known *k, const char *name)
{
	char pattern[NAME_MAX_LENGTH + 1];
	struct sd_sibling_name p;

	if (sd_names_find(&k->names, name) != SD_NO_NAME || !sd_siblings_parse(name, &p))
		return false;
	sd_siblings_write_pattern(&p, 0, p.length, pattern);
	return sd_names_find(&k->patterns, pattern) != SD_NO_NAME;
}

/* Whether each name with this piece is right once that is another one. */
static bool piece_mends(const struct known *k, const char *piece, const char *meant)
{
	size_t length = strlen(piece);

	for (size_t i = 0; i < k->m->ntargets; i++) {
		const char *name = k->m->targets[i].name, *at = strstr(name, piece);
		char edited[2 * NAME_MAX_LENGTH];

		if (!at)
			continue;
		if (snprintf(edited, sizeof(edited), "%.*s%s%s", (int)(at - name), name, meant, at + length) >=
			    (int)sizeof(edited) ||
		    !is_wanted(k, edited))
			return false;
	}
	return true;
}

void sd_name_difference(const char *a, const char *b, size_t *begin, size_t *end)
{
	size_t na = strlen(a), nb = strlen(b), front = 0, back = 0;

	while (a[front] && a[front] == b[front])
		front++;
	while (front && a[front - 1] != '.')
		front--;
	while (back < na - front && back < nb - front && a[na - back - 1] == b[nb - back - 1])
		back++;
	while (back && a[na - back] != '.')
		back--;
	*begin = front;
	*end = na - back;
}

/* Of the odd part alone, with the dots around, where that mends all that have it; else of the whole name. */
static const char *write_edit(const struct known *k, const char *is, const char *meant)
{
	size_t begin, end, length;
	const char *piece, *right;

	sd_name_difference(is, meant, &begin, &end);
	begin -= begin > 0;
	end += is[end] == '.';
	length = strlen(meant) - strlen(is) + end - begin;
	piece = sd_arena_text(k->arena, is + begin, end - begin);
	right = sd_arena_text(k->arena, meant + begin, length);
	if (begin && piece && right && !strchr(piece, '*') && piece_mends(k, piece, right))
		return sd_advice_edit(k->arena, SD_ADVICE_PIECE, piece, end - begin, right);
	return sd_advice_edit(k->arena, SD_ADVICE_WHOLE, is, strlen(is), meant);
}

enum sd_result sd_findings_write_edits(struct sd_findings *findings, const struct sd_manifest *m,
				       struct sd_arena *arena, struct sd_error *err)
{
	struct known k = {.m = m, .arena = arena, .memory = true};
	bool read = false;

	for (size_t i = 0; i < findings->n && k.memory; i++) {
		struct sd_finding *f = &findings->at[i];

		if (f->edit || f->kind != SD_ODD_TYPO || !f->near)
			continue;
		if (!read)
			read_names(&k);
		read = true;
		if (k.memory)
			f->edit = write_edit(&k, f->name, f->near);
	}
	sd_names_free(&k.names);
	sd_names_free(&k.patterns);
	return k.memory && !arena->failed ? SD_OK : sd_fail_memory(err);
}
