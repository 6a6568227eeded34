/* SPDX-License-Identifier: Apache-2.0 */
/* sd-rename --suggest. */
#include "tools/suggest.h"
#include "base/advice.h"
#include "base/json.h"
#include "base/text.h"
#include "model/siblings.h"
#include "tools/maps.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Of larger checkpoints the first layers and experts are tried at first. */
#define TRIED_MAX 4096
#define EARLY 3

/* So many of the best are tried on the whole, and so many prefixes are taken for ones. */
#define BEST_MAX 3
#define PREFIX_PARTS 3
#define FINDINGS_MAX 20

/* What a plan comes to. */
struct score {
	bool plans;    /* there is a plan, */
	bool converts; /* and nothing is wrong with it; */
	bool strict;   /* nor with any name */
	size_t turned; /* keys that get another name, place or value */
	size_t moved; /* and those among them that get more than another name: a map gives these one for many reasons */
	size_t missing;    /* tensors that are missing for what is made */
	size_t odd;        /* names that are odd among their siblings */
	char advised[512]; /* the edit that the plan's line advises, or "" */
};

struct candidate {
	const char *edit; /* or NULL */
	const char *map, *to;
	bool prefix; /* the edit gives names another beginning, which may hide what is missing: it has to win keys */
	struct score score;
};

struct suggest {
	const struct suggest_options *opt;
	const struct sd_manifest *in;
	struct sd_plan thin; /* a few of its tensors, where it is large */
	struct sd_arena arena;
	struct candidate *at;
	size_t n, room;
	bool turns;  /* the map that was named turns some keys */
	bool failed; /* memory is out */
};

/* ---- trying ---- */

static bool is_moved(const struct sd_target *before, const struct sd_target *t)
{
	return before->dtype != t->dtype || before->nsteps != t->nsteps || before->move != t->move ||
	       !sd_shape_equal(before->shape, before->rank, t->shape, t->rank);
}

static void count_turned(const struct sd_manifest *in, const struct sd_plan *plan, struct score *score)
{
	const struct sd_manifest *out = plan->manifest;
	const struct sd_target **by_record = calloc(out->nrecords + 1, sizeof(struct sd_target *));

	for (size_t i = out->ntargets; by_record && i-- > 0;)
		by_record[out->targets[i].record] = &out->targets[i];
	for (size_t i = 0; by_record && i < in->ntargets; i++) {
		uint32_t record = plan->becomes[in->targets[i].record];
		const struct sd_target *t = record < SD_WORK ? by_record[record] : NULL;

		score->turned += t && (strcmp(in->targets[i].name, t->name) != 0 || is_moved(&in->targets[i], t));
		score->moved += t && is_moved(&in->targets[i], t);
	}
	for (size_t i = 0; i < out->nrecords; i++)
		score->missing += out->records[i].state == SD_MISSING;
	score->plans = by_record != NULL;
	free(by_record);
}

static enum sd_result count_odd(const struct sd_manifest *in, size_t *odd, struct sd_error *err)
{
	struct sd_arena arena = {0};
	struct sd_findings findings;
	enum sd_result result = sd_siblings_check(in, &arena, &findings, err);

	*odd = findings.n;
	sd_findings_free(&findings);
	sd_arena_free(&arena);
	return result;
}

/* The side that a layout is, or -1. */
static int side_of(const struct sd_map *map, const char *to)
{
	for (int side = 0; side < 2; side++)
		if (to && strcmp(to, sd_map_layout(map, side)) == 0)
			return side;
	return -1;
}

static enum sd_result open_map(const struct suggest *s, const struct candidate *c, const struct sd_manifest *in,
			       struct sd_map **map, struct sd_error *err)
{
	const char *name = c->map ? c->map : s->opt->map;

	*map = NULL;
	return name && strcmp(name, "auto") != 0 ? sd_maps_open(name, map, err)
						 : sd_maps_find(in, c->to ? c->to : s->opt->to, map, err);
}

/* Whether there is nothing to be said of a plan. */
static bool is_strict(const struct sd_rename *rename, const struct sd_manifest *in, struct score *score)
{
	struct sd_rename again = *rename;
	struct sd_plan plan = {0};
	struct sd_error ignored;
	enum sd_result result;

	again.strict = true;
	again.go_on = false;
	*again.advised = '\0';
	result = sd_rename_plan(&again, in, &plan, &ignored);
	sd_plan_free(&plan);
	if (!*score->advised)
		memcpy(score->advised, again.advised, sizeof(score->advised));
	return result == SD_OK;
}

/* Plans with a map what the candidate makes of a manifest. What cannot be planned has no score. */
static enum sd_result plan_with(const struct suggest *s, const struct candidate *c, const struct sd_manifest *in,
				bool whole, struct score *score, struct sd_error *err)
{
	struct sd_rename rename = {.defines = s->opt->defines,
				   .ndefines = s->opt->ndefines,
				   .keep_config = true,
				   .leave_missing = true,
				   .some = !whole,
				   .go_on = true};
	struct sd_map *map = NULL;
	struct sd_plan plan = {0};
	enum sd_result result = open_map(s, c, in, &map, err);

	rename.map = map;
	if (result == SD_OK && map) {
		rename.to = side_of(map, c->to ? c->to : s->opt->to);
		result = sd_rename_plan(&rename, in, &plan, err);
		if (plan.manifest)
			count_turned(in, &plan, score);
		score->converts = result == SD_OK && !score->missing;
		memcpy(score->advised, rename.advised, sizeof(score->advised));
		score->strict = whole && is_strict(&rename, in, score) && score->converts;
	}
	sd_plan_free(&plan);
	sd_map_free(map);
	return result == SD_IO ? result : SD_OK;
}

static enum sd_result try_on(const struct suggest *s, const struct candidate *c, const struct sd_manifest *in,
			     bool whole, struct score *score, struct sd_error *err)
{
	struct sd_edit *edit = NULL;
	const struct sd_edit *edits[1];
	struct sd_plan edited = {0};
	enum sd_result result = c->edit ? sd_edit_new(c->edit, &edit, err) : SD_OK;

	*score = (struct score){.plans = false};
	edits[0] = edit;
	if (result == SD_OK && edit)
		result = sd_rename_plan(&(struct sd_rename){.edits = edits, .nedits = 1}, in, &edited, err);
	if (result == SD_OK && whole)
		result = count_odd(edit ? edited.manifest : in, &score->odd, err);
	if (result == SD_OK)
		result = plan_with(s, c, edit ? edited.manifest : in, whole, score, err);
	sd_plan_free(&edited);
	sd_edit_free(edit);
	return result == SD_IO ? result : SD_OK;
}

/* ---- candidates ---- */

static bool is_early(const char *name)
{
	for (const char *at = name; *at; at++)
		if (*at >= '0' && *at <= '9' && at > name && at[-1] == '.' && strtoul(at, NULL, 10) > EARLY)
			return false;
	return true;
}

static enum sd_result make_thin(struct suggest *s, struct sd_error *err)
{
	struct sd_manifest *m = sd_manifest_new();

	s->thin.manifest = m;
	if (!m || !sd_manifest_copy_head(m, s->in))
		return sd_fail_memory(err);
	for (size_t i = 0; i < s->in->ntargets; i++)
		if ((s->in->ntargets <= TRIED_MAX || is_early(s->in->targets[i].name)) &&
		    !sd_manifest_add_target(m, &s->in->targets[i]))
			return sd_fail_memory(err);
	return sd_plan_records(&s->thin, s->in, err);
}

static void add(struct suggest *s, const char *edit, const char *map, const char *to)
{
	if (!edit && !map)
		return;
	for (size_t i = 0; i < s->n && edit; i++)
		if (s->at[i].edit && strcmp(s->at[i].edit, edit) == 0)
			return;
	s->failed = s->failed || !sd_array_grow(&s->at, s->n, &s->room, sizeof(*s->at));
	if (!s->failed)
		s->at[s->n++] = (struct candidate){.edit = edit, .map = map, .to = to};
}

/* s/^PREFIX/BEGINNING/ */
static void add_prefix(struct suggest *s, const char *prefix, size_t length, const char *beginning)
{
	size_t n;

	if (strlen(beginning) == length && memcmp(prefix, beginning, length) == 0)
		return;
	n = s->n;
	add(s, sd_advice_edit(&s->arena, SD_ADVICE_FRONT, prefix, length, beginning), NULL, NULL);
	if (s->n > n)
		s->at[n].prefix = true;
	s->failed = s->failed || s->arena.failed;
}

/* Whether at least half of the names begin so. */
static bool is_common(const struct sd_manifest *m, const char *prefix, size_t length)
{
	size_t n = 0;

	for (size_t i = 0; i < m->ntargets; i++)
		n += strncmp(m->targets[i].name, prefix, length) == 0;
	return 2 * n >= m->ntargets;
}

/* Words between others that may be too many: a wrapper's, and the name of an adapter while it is trained. */
static void add_words(struct suggest *s)
{
	static const char *const words[] = {".module.", ".default."};

	for (size_t w = 0; w < sizeof(words) / sizeof(*words); w++)
		for (size_t i = 0; i < s->thin.manifest->ntargets; i++)
			if (strstr(s->thin.manifest->targets[i].name, words[w])) {
				add(s, sd_advice_edit(&s->arena, SD_ADVICE_PIECE, words[w], strlen(words[w]), "."),
				    NULL, NULL);
				break;
			}
}

/* Prefixes that many names have, without them or with another beginning. */
static void add_prefixes(struct suggest *s)
{
	const struct sd_manifest *m = s->thin.manifest;
	const char *name = m->ntargets ? m->targets[m->ntargets / 2].name : "", *end = name;

	add_words(s);
	for (int parts = 0; parts <= PREFIX_PARTS && is_common(m, name, (size_t)(end - name)); parts++) {
		for (size_t b = 0; sd_beginnings[b]; b++)
			add_prefix(s, name, (size_t)(end - name), sd_beginnings[b]);
		end += strcspn(end, "./");
		if (!*end++)
			break;
	}
}

static void take_layout(void *user, const char *map, const char *layout, bool sure)
{
	struct suggest *s = user;
	struct sd_map *opened;
	struct sd_error err;
	const char *name, *to;

	/* By keys alone, maps of other families seem to fit. */
	if (!sure || (s->opt->map && strcmp(s->opt->map, map) == 0))
		return;
	if (sd_maps_open(map, &opened, &err) != SD_OK)
		return;
	to = s->opt->to && side_of(opened, s->opt->to) >= 0 ? s->opt->to
							    : sd_map_layout(opened, side_of(opened, layout) == 0);
	/* Another layout than is asked for is better than nothing, and no more. */
	if (s->turns && s->opt->to && strcmp(to, s->opt->to) != 0) {
		sd_map_free(opened);
		return;
	}
	name = sd_arena_text(&s->arena, map, strlen(map));
	to = sd_arena_text(&s->arena, to, strlen(to));
	s->failed = s->failed || !name || !to;
	sd_map_free(opened);
	if (!s->failed && strcmp(to, layout) != 0)
		add(s, NULL, name, to);
}

/* What sd-ls --check and the lines of the plan itself say already. */
static enum sd_result add_known(struct suggest *s, const struct score *now, struct sd_error *err)
{
	struct sd_findings findings;
	enum sd_result result = sd_siblings_check(s->in, &s->arena, &findings, err);

	if (result == SD_OK)
		result = sd_findings_write_edits(&findings, s->in, &s->arena, err);
	for (size_t i = 0; i < findings.n && result == SD_OK && s->n < FINDINGS_MAX; i++)
		add(s, findings.at[i].edit, NULL, NULL);
	sd_findings_free(&findings);
	if (*now->advised)
		add(s, sd_arena_text(&s->arena, now->advised, strlen(now->advised)), NULL, NULL);
	s->failed = s->failed || s->arena.failed;
	return result;
}

/* ---- choosing ---- */

/* Whether more is done by one of two plans; where a map only gives names, more names are more. */
static int compare_done(const struct score *a, const struct score *b)
{
	if (a->moved != b->moved)
		return a->moved > b->moved ? 1 : -1;
	if (a->moved || a->turned == b->turned)
		return 0;
	return a->turned > b->turned ? 1 : -1;
}

/* Whether something is won, and nothing lost. */
static bool is_better(const struct candidate *c, const struct score *now)
{
	const struct score *then = &c->score;
	int done = compare_done(then, now);
	bool worse = now->plans && (then->missing > now->missing || then->odd > now->odd);

	if (!then->plans || done < 0 || (now->converts && !then->converts) || (c->prefix && !done))
		return false;
	return done > 0 || (!worse && ((then->converts && !now->converts) || (then->strict && !now->strict) ||
				       then->missing < now->missing || then->odd < now->odd));
}

/* Whether one is better than another, both tried on the same. */
static bool beats(const struct score *a, const struct score *b)
{
	int done = compare_done(a, b);

	/* What leaves nothing to be said is right, though another family's map may do more with the keys. */
	if (a->converts != b->converts)
		return a->converts;
	if (a->strict != b->strict)
		return a->strict;
	if (done)
		return done > 0;
	return a->missing != b->missing ? a->missing < b->missing : a->odd < b->odd;
}

/* The best comes first; of those that are alike the one that was there first. There are few. */
static void sort(struct candidate *at, size_t n)
{
	for (size_t i = 1; i < n; i++)
		for (size_t k = i; k && beats(&at[k].score, &at[k - 1].score); k--) {
			struct candidate moved = at[k];

			at[k] = at[k - 1];
			at[k - 1] = moved;
		}
}

/* Leaves those candidates, from one on, that win something on a manifest. */
static enum sd_result leave_better(struct suggest *s, size_t from, const struct sd_manifest *in, bool whole,
				   const struct score *now, struct sd_error *err)
{
	size_t kept = from;

	for (size_t i = from; i < s->n; i++) {
		struct candidate c = s->at[i];

		if (try_on(s, &c, in, whole, &c.score, err) != SD_OK)
			return err->result;
		if (is_better(&c, now))
			s->at[kept++] = c;
	}
	s->n = kept;
	sort(s->at + from, s->n - from);
	/* What mends all makes no room for what leaves something behind. */
	for (size_t i = from; i < s->n && s->at[from].score.strict; i++)
		if (!s->at[i].score.strict)
			s->n = i;
	return SD_OK;
}

/* Candidates that win something on the whole: prefixes and maps that do so on a part first. */
static enum sd_result find(struct suggest *s, struct score *now, struct sd_error *err)
{
	const struct candidate none = {.edit = NULL};
	struct candidate guessed[BEST_MAX];
	size_t guesses;
	struct score thin;

	if (make_thin(s, err) != SD_OK || try_on(s, &none, s->in, true, now, err) != SD_OK ||
	    try_on(s, &none, s->thin.manifest, false, &thin, err) != SD_OK)
		return err->result;
	add_prefixes(s);
	s->turns = thin.turned;
	if ((!thin.turned || !now->converts) && sd_maps_layouts(s->in, take_layout, s, err) != SD_OK)
		return err->result;
	if (s->failed)
		return sd_fail_memory(err);
	if (leave_better(s, 0, s->thin.manifest, false, &thin, err) != SD_OK)
		return err->result;
	guesses = s->n < BEST_MAX ? s->n : BEST_MAX;
	memcpy(guessed, s->at, guesses * sizeof(*guessed));
	s->n = 0;
	if (add_known(s, now, err) != SD_OK)
		return err->result;
	for (size_t i = 0; i < guesses; i++) {
		size_t n = s->n;

		add(s, guessed[i].edit, guessed[i].map, guessed[i].to);
		if (s->n > n)
			s->at[n].prefix = guessed[i].prefix;
	}
	return s->failed ? sd_fail_memory(err) : leave_better(s, 0, s->in, true, now, err);
}

/* ---- printing ---- */

static void write_what(FILE *out, const struct candidate *c)
{
	if (c->edit)
		fprintf(out, "-e '%s'", c->edit);
	else
		fprintf(out, "--map=%s --to=%s", c->map, c->to);
}

static void write_for_people(FILE *out, const struct suggest *s, const struct candidate *c, const struct score *now)
{
	write_what(out, c);
	fprintf(out, "\n    %zu of %zu keys are turned then, now %zu", c->score.turned, s->in->ntargets, now->turned);
	if (c->score.missing || now->missing)
		fprintf(out, "; %zu are missing then, now %zu", c->score.missing, now->missing);
	if (c->score.odd || now->odd)
		fprintf(out, "; %zu odd names then, now %zu", c->score.odd, now->odd);
	fputc('\n', out);
}

static bool print_for_people(const struct suggest *s, const struct score *now)
{
	FILE *out;
	struct sd_memstream *stream = sd_memstream_open(&out);

	if (!stream)
		return false;
	for (size_t i = 0; i < s->n; i++)
		write_for_people(out, s, &s->at[i], now);
	return sd_look_close(stream, &s->opt->look);
}

static void print_tsv(const struct suggest *s, const struct candidate *c, const struct score *now)
{
	write_what(stdout, c);
	printf("\t%zu\t%zu\t%zu\t%zu\t%zu\t%zu\t%zu\n", c->score.turned, now->turned, s->in->ntargets, c->score.missing,
	       now->missing, c->score.odd, now->odd);
}

static void print_json(const struct suggest *s, const struct candidate *c, const struct score *now)
{
	printf("{\"edit\":");
	if (c->edit)
		sd_json_write(stdout, c->edit, SD_JSON_ASCII);
	else
		printf("null");
	if (c->map) {
		printf(",\"map\":");
		sd_json_write(stdout, c->map, SD_JSON_ASCII);
		printf(",\"to\":");
		sd_json_write(stdout, c->to, SD_JSON_ASCII);
	}
	printf(",\"keys\":%zu,\"turned\":%zu,\"turned_now\":%zu,\"missing\":%zu,\"missing_now\":%zu,\"odd\":%zu,\"odd_"
	       "now\":%zu}\n",
	       s->in->ntargets, c->score.turned, now->turned, c->score.missing, now->missing, c->score.odd, now->odd);
}

enum sd_result suggest_print(const struct suggest_options *opt, const struct sd_manifest *in, struct sd_error *err)
{
	struct suggest s = {.opt = opt, .in = in};
	struct score now;
	enum sd_result result = find(&s, &now, err);

	if (result == SD_OK && opt->look.human && !print_for_people(&s, &now))
		result = sd_fail_memory(err);
	for (size_t i = 0; i < s.n && result == SD_OK && !opt->look.human; i++)
		(opt->json ? print_json : print_tsv)(&s, &s.at[i], &now);
	if (result == SD_OK && !s.n)
		result = sd_fail(err, SD_DIFFERENT,
				 "nothing to suggest: no edit and no map is known by which more keys would be turned");
	sd_plan_free(&s.thin);
	free(s.at);
	sd_arena_free(&s.arena);
	return result;
}
