/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a map knows the words that names are made of. */
#include "renaming/known.h"
#include "renaming/experts.h"
#include "renaming/follow.h"
#include "renaming/places.h"
#include "base/advice.h"

#include <stdio.h>
#include <string.h>

#define NAMED_MAX 5
#define SLIPS 3
#define ASKED_MAX 16 /* names with unknown words that are looked at where they may pass */

/* Names, as far as they are told: of those that are the same but for their numbers the first. */
struct list {
	size_t n, named;
	char text[1024];
	size_t used;
};

/* Names that the map does not know in the layout that is read. */
struct strangers {
	struct list unknown, other; /* other: but in the other layout */
	size_t experts;             /* of the unknown ones, for which nothing else is meant */
	bool near_only;             /* those alone are told that are near a word */
};

/* meant: what may be meant, by its spelling or else by what else there is; NULL: nothing is said of that. */
static void add_name(struct list *l, const char *name, const struct sd_meant *meant)
{
	const char *text = meant ? meant->text : NULL;

	l->n++;
	if (l->named++ >= NAMED_MAX || l->used >= sizeof(l->text))
		return;
	l->used += (size_t)snprintf(l->text + l->used, sizeof(l->text) - l->used, "%s%s%s%s%s%s",
				    l->named > 1 ? ", " : "", *name ? name : "\"\"", !text ? "" : " (",
				    !text || meant->near ? "" : "perhaps ", text ? text : "",
				    !text         ? ""
				    : meant->near ? "?)"
						  : ")");
}

/* Whether it is said already that a name is odd. */
static bool is_told(const struct sd_planner *p, const char *name)
{
	for (size_t i = 0; i < p->findings.n; i++) {
		const struct sd_finding *f = &p->findings.at[i];
		size_t length = strlen(f->name);

		if (f->kind == SD_ODD_PREFIX || strcmp(f->name, name) == 0 ||
		    (f->kind == SD_ODD_TYPO && f->name[length - 1] == '.' && strncmp(f->name, name, length) == 0))
			return true;
	}
	return false;
}

static enum sd_result fail_untaken(struct sd_planner *p)
{
	struct list l = {.n = 0};

	for (size_t i = 0; i < p->ntensors; i++)
		if (!p->tensors[i].taken)
			add_name(&l, p->tensors[i].name, NULL);
	return l.n ? sd_fail(p->err, SD_INPUT, "no rule of map %s takes %zu of the keys: %s%s", p->map->name, l.n,
			     l.text, l.n > NAMED_MAX ? ", ..." : "")
		   : SD_OK;
}

/* Whether each name with this piece gets one that is known and not there yet once the piece is another one. */
static bool mends(struct sd_planner *p, struct sd_places *places, const struct sd_names *there, const char *is,
		  const char *meant)
{
	for (size_t i = 0; i < p->in->ntargets; i++) {
		const char *name = p->in->targets[i].name, *at = strstr(name, is), *edited;

		if (!at)
			continue;
		edited = sd_arena_printf(&p->out->arena, "%.*s%s%s", (int)(at - name), name, meant, at + strlen(is));
		if (!edited || sd_names_find(there, edited) != SD_NO_NAME || !sd_places_know(places, edited))
			return false;
	}
	return true;
}

/* The edit of the part alone. */
static void advise_word(struct sd_planner *p, struct sd_places *places, const struct sd_names *there, const char *name,
			const struct sd_meant *meant)
{
	const char *at = strstr(name, meant->word), *end = at && at[strlen(meant->word)] ? "." : "", *from, *to;

	if (*p->rename->advised || !at || at == name)
		return;
	from = sd_arena_printf(&p->out->arena, ".%s%s", meant->word, end);
	to = sd_arena_printf(&p->out->arena, ".%s%s", meant->near, end);
	if (from && to && mends(p, places, there, from, to))
		sd_planner_advise(p, sd_advice_edit(&p->out->arena, SD_ADVICE_PIECE, from, strlen(from), to));
}

/* What is at hand while names are looked at. */
struct search {
	struct sd_planner *p, back; /* back: on the way from the other layout */
	struct sd_places places, other;
	struct sd_names there, told; /* names that come in; forms of those that are told */
	struct strangers *found;
};

/* Adds a name to a list; of those with one form the first is named. */
static void add_to(struct search *s, struct list *l, const char *name, const struct sd_meant *meant)
{
	const char *form = sd_places_form(&s->places, name);

	if (sd_names_find(&s->told, form) != SD_NO_NAME)
		l->n++;
	else
		add_name(l, name, meant);
	s->places.failed = s->places.failed || sd_names_add(&s->told, form, 0) == SD_NO_NAME;
}

/* Looks at one name that the map does not know. */
static void add_unknown(struct search *s, const char *name)
{
	struct strangers *found = s->found;
	bool strict = s->p->rename->strict;
	struct sd_meant meant = {.word = NULL};

	if (!found->near_only && s->p->map->nplaces && sd_places_know(&s->other, name)) {
		if (strict)
			add_to(s, &found->other, name, NULL);
		return;
	}
	if (found->unknown.named < NAMED_MAX)
		meant = sd_places_meant(&s->places, &s->there, name, strict ? SLIPS : SLIPS - 1,
					strict && !found->near_only);
	/* What the map leaves out may be called as it likes. */
	if (!meant.near && (found->near_only || sd_follow(s->p, name).dropped))
		return;
	if (!strict && (!meant.near || is_told(s->p, name) || !sd_siblings_is_alone(s->p->in, name)))
		return;
	found->experts += !meant.text && strstr(name, ".experts.");
	add_to(s, &found->unknown, name, &meant);
	if (meant.near)
		advise_word(s->p, &s->places, &s->there, name, &meant);
}

static void look_at_each(struct search *s)
{
	size_t asked = 0;

	for (size_t i = 0; i < s->p->in->ntargets && !s->places.failed; i++) {
		const char *name = s->p->in->targets[i].name;

		if (sd_places_know(&s->places, name) || (!s->p->rename->strict && asked++ >= ASKED_MAX))
			continue;
		for (size_t t = 0; t < s->p->in->ntargets && !s->there.used && !s->places.failed; t++)
			s->places.failed =
				sd_names_add(&s->there, s->p->in->targets[t].name, (uint32_t)t) == SD_NO_NAME;
		add_unknown(s, name);
	}
}

/* Finds the names that the map does not know; false when memory is out. */
static bool look_at_all(struct strangers *found, struct sd_planner *p)
{
	struct search s = {.p = p, .back = *p, .found = found};
	bool good;

	s.back.from = !p->from;
	s.back.scratch = (struct sd_map_scratch){0};
	sd_places_open(&s.places, p);
	sd_places_open(&s.other, &s.back);
	look_at_each(&s);
	good = !s.places.failed && !s.other.failed && p->scratch.size != SIZE_MAX && s.back.scratch.size != SIZE_MAX;
	sd_places_free(&s.places);
	sd_places_free(&s.other);
	sd_scratch_free(&s.back.scratch);
	sd_names_free(&s.there);
	sd_names_free(&s.told);
	return good;
}

/* Whether what is wrong with the beginning of names says more: it is what is to be done, or no word is near. */
static bool blame_beginning(struct sd_planner *p)
{
	char word[sizeof(p->rename->advised)];

	memcpy(word, p->rename->advised, sizeof(word));
	return sd_planner_experts(p) != SD_OK && (!*word || strcmp(word, p->rename->advised) != 0);
}

/* The line for names that the map does not know; NULL: memory is out. */
static const char *write_line(struct sd_planner *p, const struct list *l)
{
	const char *more = l->named > NAMED_MAX ? ", ..." : "";

	if (strcmp(p->map->layout[LEFT], p->map->layout[RIGHT]) == 0)
		return sd_arena_printf(&p->out->arena, "%zu %s words that no map knows: %s%s", l->n,
				       l->n > 1 ? "keys have" : "key has", l->text, more);
	return sd_arena_printf(&p->out->arena, "%zu %s in no layout of map %s: %s%s", l->n,
			       l->n > 1 ? "keys are" : "key is", p->map->name, l->text, more);
}

/* The line for names of the other layout. */
static const char *write_other(struct sd_planner *p, const struct list *l)
{
	const char *from = p->map->layout[p->from], *to = p->map->layout[!p->from];

	return sd_arena_printf(&p->out->arena,
			       "%zu of %zu keys are of layout %s already: %s%s; sd-rename --map %s --to %s | "
			       "sd-transpose before this makes all of them %s",
			       l->n, p->in->ntargets, to, l->text, l->named > NAMED_MAX ? ", ..." : "", p->map->name,
			       from, from);
}

/* Tells the names that the map does not know. */
static enum sd_result tell_strangers(struct sd_planner *p, bool near_only)
{
	struct strangers found = {.near_only = near_only};
	const char *line;

	if (!look_at_all(&found, p))
		return sd_fail_memory(p->err);
	/* A checkpoint that has all of the other layout is told as one. */
	if (!found.unknown.n && (!found.other.n || p->rename->idle))
		return SD_OK;
	/* Where most names are strange, what stands in front of them may be so; and experts may have another form. */
	if (!near_only && p->rename->strict &&
	    (2 * (found.unknown.n + found.other.n) > p->in->ntargets ||
	     (found.unknown.n && found.experts == found.unknown.n)) &&
	    blame_beginning(p))
		return p->err->result;
	line = found.unknown.n ? write_line(p, &found.unknown) : write_other(p, &found.other);
	return line ? sd_planner_tell(p, line) : sd_fail_memory(p->err);
}

enum sd_result sd_planner_known(struct sd_planner *p)
{
	if (p->rename->all_taken || (p->rename->strict && !p->map->nknown && !p->map->nplaces))
		return fail_untaken(p);
	return p->map->nknown || p->map->nplaces ? tell_strangers(p, false) : SD_OK;
}

enum sd_result sd_planner_blame(struct sd_planner *p)
{
	struct sd_error first = *p->err;

	if (first.result != SD_INPUT || !p->rename->strict || !(p->map->nknown || p->map->nplaces) ||
	    tell_strangers(p, true) == SD_OK)
		*p->err = first;
	return p->err->result;
}

/* How many names the map does not know on the way from one side. */
static enum sd_result count_unknown(const struct sd_rename *rename, const struct sd_manifest *in, int from, size_t *n,
				    struct sd_error *err)
{
	struct sd_rename asked = {.map = rename->map, .defines = rename->defines, .ndefines = rename->ndefines};
	struct sd_planner p = {
		.map = asked.map, .rename = &asked, .in = in, .out = sd_manifest_new(), .from = from, .err = err};
	enum sd_result result = p.out ? sd_planner_read(&p) : sd_fail_memory(err);
	struct sd_places places = {0};

	*n = 0;
	if (result == SD_OK)
		result = sd_planner_options(&p);
	if (result == SD_OK) {
		sd_places_open(&places, &p);
		for (size_t i = 0; i < in->ntargets && !places.failed; i++)
			*n += !sd_places_know(&places, in->targets[i].name);
		if (places.failed || p.scratch.size == SIZE_MAX)
			result = sd_fail_memory(err);
		sd_places_free(&places);
	}
	sd_planner_free(&p);
	sd_manifest_free(p.out);
	return result;
}

enum sd_result sd_rename_unknown(const struct sd_rename *rename, const struct sd_manifest *in, size_t *n,
				 struct sd_error *err)
{
	size_t by_side[2];

	/* Words alone know the names of any family. */
	*n = in->ntargets;
	if (!rename->map->nplaces)
		return SD_OK;
	for (int side = LEFT; side <= RIGHT; side++)
		if (count_unknown(rename, in, side, &by_side[side], err) != SD_OK)
			return err->result;
	*n = by_side[LEFT] < by_side[RIGHT] ? by_side[LEFT] : by_side[RIGHT];
	return SD_OK;
}
