/* SPDX-License-Identifier: Apache-2.0 */
/* `sample`: keys and shapes that a map has to bring to the right layout and back. */
#include "base/text.h"
#include "map/parser.h"

#include <stdlib.h>

#define SAMPLES_MAX 1000

/* "[2 3]" */
static enum sd_result parse_shape(struct sd_parser *p, struct sd_map_sample_tensor *t)
{
	const char *text = NULL;
	char *list, *number, *rest = NULL;

	if (sd_token_want(p, LIST, "the shape, as in [2 3],", &text) != SD_OK)
		return p->err->result;
	list = sd_arena_text(&p->map->arena, text + 1, strlen(text) - 2);
	t->shape = sd_arena_array(&p->map->arena, SD_RANK_MAX, sizeof(*t->shape));
	if (!list || !t->shape)
		return sd_fail_memory(p->err);
	for (number = strtok_r(list, " \t", &rest); number; number = strtok_r(NULL, " \t", &rest))
		if (t->rank == SD_RANK_MAX || !sd_text_number(number, &t->shape[t->rank++]))
			return sd_parse_fail(p, "%s is no shape: a shape is as in [2 3]", text);
	return SD_OK;
}

/* @NAME=VALUE .., as -D has them. */
static enum sd_result parse_defines(struct sd_parser *p, struct sd_map_sample *sample)
{
	struct sd_define *defines = sd_arena_array(&p->map->arena, p->ntokens, sizeof(*defines));

	sample->group = "";
	if (!defines)
		return sd_fail_memory(p->err);
	while (*sd_token_peek(p) == '@') {
		char *text = p->tokens[p->at++].text + 1;

		sample->group = sd_arena_printf(&p->map->arena, "%s %s", sample->group, text);
		defines[sample->ndefines].name = text;
		defines[sample->ndefines].value = sd_token_cut(text);
		if (!defines[sample->ndefines++].value)
			return sd_parse_fail(p, "in front of a sample stand options and sizes as @NAME=VALUE");
		if (!sample->group)
			return sd_fail_memory(p->err);
	}
	sample->defines = defines;
	return SD_OK;
}

/* The next combination of the words of all holes; false after the last. */
static bool next_words(const struct sd_map_holes *holes, struct sd_map_values *values)
{
	for (uint32_t h = holes->n; h-- > 0;) {
		if (++values->value[h].word < holes->hole[h].nwords)
			return true;
		values->value[h].word = 0;
	}
	return false;
}

/* One side's key, whose holes are choices. */
static enum sd_result parse_key(struct sd_parser *p, const char *text, int side, struct sd_map_holes *holes,
				struct sd_pattern *key)
{
	if (sd_parse_pattern(p, text, side, holes, key) != SD_OK)
		return p->err->result;
	for (uint32_t i = 0; i < key->n; i++)
		if (key->elements[i].kind == TEXT ||
		    (key->elements[i].kind == HOLE && holes->hole[key->elements[i].number].kind != HOLE_CHOICE))
			return sd_parse_fail(p, "the holes of a sample are choices, as {x=a|b}");
	return SD_OK;
}

/* Whether a key, choices filled in, can stand in a sample again, as --expand writes it. */
static bool is_plain(const char *key)
{
	return sd_token_is_plain(key) && !strpbrk(key, "{}");
}

/* One sample for each choice that the key leaves. */
static enum sd_result add_samples(struct sd_parser *p, struct sd_map_sample *sample)
{
	struct sd_map_holes holes = {0};
	struct sd_map_values values = {0};
	struct sd_pattern key, right = {0};

	if (parse_key(p, sample->left.key, LEFT, &holes, &key) != SD_OK ||
	    (sample->right.key && parse_key(p, sample->right.key, RIGHT, &holes, &right) != SD_OK))
		return p->err->result;
	do {
		struct sd_map_sample *added = SD_PARSE_ADD(p->map->samples, p->map->nsamples, p->map->samples_room);

		sample->left.key = sd_pattern_fill(&key, &holes, NULL, &values, &p->map->arena);
		if (right.text)
			sample->right.key = sd_pattern_fill(&right, &holes, NULL, &values, &p->map->arena);
		if (!added || !sample->left.key || (right.text && !sample->right.key))
			return sd_fail_memory(p->err);
		if (!is_plain(sample->left.key) || (right.text && !is_plain(sample->right.key)))
			return sd_parse_fail(p, "\"%s\" cannot be the key of a sample",
					     is_plain(sample->left.key) ? sample->right.key : sample->left.key);
		*added = *sample;
		if (p->map->nsamples > SAMPLES_MAX)
			return sd_parse_fail(p, "more than %d samples", SAMPLES_MAX);
	} while (next_words(&holes, &values));
	return SD_OK;
}

static enum sd_result parse_tensor(struct sd_parser *p, struct sd_map_sample_tensor *t)
{
	if (sd_token_want(p, WORD, "the sample's key", &t->key) != SD_OK)
		return p->err->result;
	t->dtype = (uint8_t)sd_dtype_parse(sd_token_peek(p), strlen(sd_token_peek(p)));
	if (!t->dtype)
		return sd_parse_fail(p, "behind the sample's key comes its dtype");
	p->at++;
	return parse_shape(p, t);
}

enum sd_result sd_parse_sample(struct sd_parser *p)
{
	struct sd_map_sample sample = {.file = sd_arena_text(&p->map->arena, p->file, strlen(p->file)),
				       .line = p->line};

	if (p->user && !p->whole)
		return SD_OK;
	if (!sample.file)
		return sd_fail_memory(p->err);
	if (parse_defines(p, &sample) != SD_OK || parse_tensor(p, &sample.left) != SD_OK)
		return p->err->result;
	sample.one_way = sd_token_accept(p, "->");
	if (sample.one_way && !sd_token_accept(p, "drop") && parse_tensor(p, &sample.right) != SD_OK)
		return p->err->result;
	return sd_token_end(p) == SD_OK ? add_samples(p, &sample) : p->err->result;
}
