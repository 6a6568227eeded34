/* SPDX-License-Identifier: Apache-2.0 */
/* sd-stat --by: pools what was counted, by folded names, layers or experts. */
#include "base/memstream.h"
#include "base/names.h"
#include "base/text.h"
#include "tools/stat.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* While it is pooled. */
struct pooling {
	const struct stat_source *s;
	struct stat_groups *groups;
	struct sd_names names; /* to groups */
	unsigned *kinds;       /* by tensor, what is wrong with it */
};

static bool add_group(struct stat_groups *groups, const char *name, const struct sd_counted *one)
{
	if (!name || !sd_array_grow(&groups->at, groups->n, &groups->room, sizeof(*groups->at)))
		return false;
	groups->at[groups->n++] = (struct stat_group){.name = name, .one = one};
	return true;
}

static void join(struct pooling *p, size_t number, size_t tensor, const struct sd_statistics *s)
{
	struct stat_group *g = &p->groups->at[number];
	const struct sd_counted *t = &p->s->tensors[tensor];
	uint64_t elements = 0;

	p->groups->of[tensor] = (uint32_t)number;
	sd_statistics_join(&g->s, s, 0);
	if (!sd_shape_count(t->shape, t->rank, &elements))
		elements = UINT64_MAX;
	g->elements += s == &t->all ? elements : elements / t->nexperts;
	g->dead += s == &t->all ? t->dead : 0;
	g->tensors++;
	g->kinds |= p->kinds[tensor];
}

/* A text that is written by a function, in the arena. */
static const char *keep(struct sd_arena *arena, void (*write)(FILE *out, const void *user), const void *user)
{
	FILE *out;
	struct sd_memstream *stream = sd_memstream_open(&out);
	const char *kept;
	size_t length;
	char *text;

	if (!stream)
		return NULL;
	write(out, user);
	if (!sd_memstream_close(stream, &text, &length))
		return NULL;
	kept = sd_arena_text(arena, text, length);
	free(text);
	return kept;
}

static void write_text(FILE *out, const void *text)
{
	sd_text_print(out, text);
}

static void write_fold(FILE *out, const void *line)
{
	sd_fold_print(out, line);
}

static bool pool_tensors(struct pooling *p)
{
	for (size_t i = 0; i < p->s->n; i++) {
		const struct sd_counted *t = &p->s->tensors[i];

		if (!add_group(p->groups, keep(&p->groups->arena, write_text, t->name), t))
			return false;
		join(p, i, i, &t->all);
	}
	return true;
}

/* What tells tensors apart that are not to be in one group, whatever their names. */
static char *kind_of(const struct sd_counted *t, const char *name)
{
	char shape[SD_RANK_MAX * 21 + 3], *text;

	sd_shape_brief(t->shape, t->rank, shape, sizeof(shape));
	return asprintf(&text, "%s\t%d%s", name, t->stored, shape) < 0 ? NULL : text;
}

static bool pool_patterns(struct pooling *p)
{
	const char **names = malloc((p->s->n + 1) * sizeof(*names));
	uint32_t *kinds = malloc((p->s->n + 1) * sizeof(*kinds));
	bool memory = names && kinds;

	for (uint32_t i = 0; i < p->s->n && memory; i++) {
		char *kind = kind_of(&p->s->tensors[i], "");
		const char *kept = kind ? sd_arena_text(&p->groups->arena, kind, strlen(kind)) : NULL;

		names[i] = p->s->tensors[i].name;
		kinds[i] = kept ? sd_names_add(&p->names, kept, i) : SD_NO_NAME;
		memory = kinds[i] != SD_NO_NAME;
		free(kind);
	}
	memory = memory && sd_fold(names, kinds, p->s->n, &p->groups->fold, NULL) == SD_OK;
	for (size_t i = 0; i < p->groups->fold.nlines && memory; i++) {
		const struct sd_fold_line *line = &p->groups->fold.lines[i];

		memory = add_group(p->groups, keep(&p->groups->arena, write_fold, line), &p->s->tensors[line->first]);
		if (memory)
			p->groups->at[i].fold = line;
		for (uint32_t k = line->first; k != UINT32_MAX && memory; k = p->groups->fold.next[k])
			join(p, i, k, &p->s->tensors[k].all);
	}
	free(names);
	free(kinds);
	return memory;
}

/* Adds to the group of this name, which has tensors of one kind. */
static bool join_named(struct pooling *p, const char *name, size_t i, const struct sd_statistics *s)
{
	const struct sd_counted *t = &p->s->tensors[i];
	char *kind = kind_of(t, name);
	const char *kept = kind ? sd_arena_text(&p->groups->arena, kind, strlen(kind)) : NULL;
	uint32_t number = kept ? sd_names_add(&p->names, kept, (uint32_t)p->groups->n) : SD_NO_NAME;

	free(kind);
	if (number == SD_NO_NAME)
		return false;
	if (number == p->groups->n && !add_group(p->groups, keep(&p->groups->arena, write_text, name), t))
		return false;
	join(p, number, i, s);
	return true;
}

/* By layer the numbers of experts do not matter, by expert those of layers. */
static bool pool_numbers(struct pooling *p, bool layers)
{
	bool memory = true;

	for (size_t i = 0; i < p->s->n && memory; i++) {
		const struct sd_counted *t = &p->s->tensors[i];
		char *key = stat_key(t->name, !layers, &memory);

		if (memory && (layers || !t->nexperts))
			memory = join_named(p, key ? key : t->name, i, &t->all);
		for (uint64_t e = 0; !layers && e < t->nexperts && memory; e++) {
			char *name = NULL;

			memory = asprintf(&name, "%s[%" PRIu64 "]", key ? key : t->name, e) >= 0 &&
				 join_named(p, name, i, &t->expert[e]);
			free(name);
		}
		free(key);
	}
	return memory;
}

enum sd_result stat_pool(const struct stat_source *s, enum stat_by by, const struct stat_findings *findings,
			 struct stat_groups *groups, struct sd_error *err)
{
	struct pooling p = {.s = s, .groups = groups, .kinds = calloc(s->n + 1, sizeof(*p.kinds))};
	bool memory;

	groups->of = calloc(s->n + 1, sizeof(*groups->of));
	memory = p.kinds && groups->of;
	for (size_t i = 0; i < findings->n && memory; i++)
		p.kinds[findings->at[i].tensor - s->tensors] |= 1U << findings->at[i].kind;
	if (memory && by == STAT_BY_PATTERN)
		memory = pool_patterns(&p);
	else if (memory && by == STAT_BY_TENSOR)
		memory = pool_tensors(&p);
	else if (memory)
		memory = pool_numbers(&p, by == STAT_BY_LAYER);
	sd_names_free(&p.names);
	free(p.kinds);
	return memory ? SD_OK : sd_fail_memory(err);
}

void stat_groups_free(struct stat_groups *groups)
{
	sd_arena_free(&groups->arena);
	sd_fold_free(&groups->fold);
	free(groups->at);
	free(groups->of);
}
