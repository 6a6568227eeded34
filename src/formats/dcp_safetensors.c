/* SPDX-License-Identifier: Apache-2.0 */
/* PyTorch's distributed checkpoints (DCP) in safetensors form. */
#include "formats/dcp_safetensors.h"
#include "base/json.h"
#include "formats/assembly.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char info_key[] = SD_DCP_INFO_KEY, version_key[] = SD_DCP_VERSION_KEY, version[] = SD_DCP_VERSION;

bool sd_dcp_claims(const struct sd_safetensors *header)
{
	return sd_safetensors_metadata(header, info_key) != NULL;
}

/* "shard-00001-" is what torch puts in front of the name that the file would have without ranks. */
bool sd_dcp_is_shard(const char *name, const char **rest)
{
	static const char word[] = "shard-";
	const char *p = name + strlen(word);

	if (strncmp(name, word, strlen(word)) != 0 || *p < '0' || *p > '9')
		return false;
	while (*p >= '0' && *p <= '9')
		p++;
	*rest = p + 1;
	return *p == '-';
}

/* ---- what a file says ---- */

struct info {
	const struct sd_safetensors *header;
	struct sd_names names; /* of the header's tensors, to their numbers */
	struct sd_arena *arena;
	const uint64_t **begin;
	const struct sd_tensor *tensor; /* that is being told of */
	uint64_t at[SD_RANK_MAX];
	uint32_t rank;
};

static enum sd_result fail_form(const struct info *in, struct sd_error *err)
{
	return sd_fail(err, SD_INPUT, "%s%s%s: it must be {\"TENSOR\": {\"saved_offsets\": [NUMBER, ..]}, ..}",
		       in->tensor ? in->tensor->name : "", in->tensor ? ", " : "", info_key);
}

static enum sd_result begin_told(struct info *in, const struct sd_json_token *token, struct sd_error *err)
{
	char *name = sd_arena_text(in->arena, token->text, token->length);
	uint32_t number;

	if (!name)
		return sd_fail_memory(err);
	number = strlen(name) == token->length ? sd_names_find(&in->names, name) : SD_NO_NAME;
	if (number == SD_NO_NAME)
		return sd_fail(err, SD_INPUT, "%s tells of %s, which is not in this file", info_key, name);
	sd_arena_undo(in->arena, name);
	in->tensor = &in->header->tensors[number];
	if (in->begin[number])
		return sd_fail(err, SD_INPUT, "%s tells of %s twice", info_key, in->tensor->name);
	return SD_OK;
}

static enum sd_result end_told(struct info *in, struct sd_error *err)
{
	const struct sd_tensor *t = in->tensor;
	const uint64_t **begin = &in->begin[t - in->header->tensors];

	if (*begin)
		return fail_form(in, err);
	if (in->rank != t->rank)
		return sd_fail(err, SD_INPUT, "%s has %" PRIu32 " dimensions, but %" PRIu32 " saved_offsets", t->name,
			       t->rank, in->rank);
	*begin = sd_arena_copy(in->arena, in->at, in->rank * sizeof(*in->at));
	return *begin ? SD_OK : sd_fail_memory(err);
}

static enum sd_result take_offset(struct info *in, const struct sd_json_token *token, struct sd_error *err)
{
	if (in->rank == SD_RANK_MAX || !sd_json_integer(token, &in->at[in->rank]))
		return fail_form(in, err);
	in->rank++;
	return SD_OK;
}

static enum sd_result take(void *user, const struct sd_json_token *token, struct sd_error *err)
{
	struct info *in = user;

	switch (token->depth) {
	case 0:
		if (token->kind == SD_JSON_OBJECT || token->kind == SD_JSON_OBJECT_END)
			return SD_OK;
		break;
	case 1:
		if (token->kind == SD_JSON_KEY)
			return begin_told(in, token, err);
		if (token->kind == SD_JSON_OBJECT)
			return SD_OK;
		if (token->kind == SD_JSON_OBJECT_END && in->begin[in->tensor - in->header->tensors])
			return SD_OK;
		break;
	case 2:
		if (token->kind == SD_JSON_KEY && sd_json_is(token, "saved_offsets"))
			return SD_OK;
		if (token->kind == SD_JSON_ARRAY) {
			in->rank = 0;
			return SD_OK;
		}
		if (token->kind == SD_JSON_ARRAY_END)
			return end_told(in, err);
		break;
	case 3:
		return take_offset(in, token, err);
	default:
		break;
	}
	return fail_form(in, err);
}

static enum sd_result parse(struct info *in, const char *text, struct sd_error *err)
{
	const struct sd_safetensors *header = in->header;
	enum sd_result result;

	for (size_t i = 0; i < header->ntensors; i++)
		if (sd_names_add(&in->names, header->tensors[i].name, (uint32_t)i) == SD_NO_NAME)
			return sd_fail_memory(err);
	result = sd_json_parse(text, strlen(text), take, in, err);
	for (size_t i = 0; i < header->ntensors && result == SD_OK; i++)
		if (!in->begin[i])
			result = sd_fail(err, SD_INPUT, "%s does not tell where %s begins", info_key,
					 header->tensors[i].name);
	return result;
}

enum sd_result sd_dcp_parse(const char *text, const struct sd_safetensors *header, struct sd_arena *arena,
			    const uint64_t **begin, struct sd_error *err)
{
	struct info in = {.header = header, .arena = arena, .begin = begin};
	enum sd_result result = parse(&in, text, err);

	sd_names_free(&in.names);
	return result;
}

/* ---- pieces ---- */

struct dcp {
	struct sd_gather base;
	struct sd_source *source;
	struct sd_assembly *assembly;
};

static enum sd_result add_piece(struct dcp *d, const struct sd_header *h, const struct sd_tensor *t,
				const uint64_t *begin, struct sd_error *err)
{
	struct sd_assembly_box box = {.name = t->name,
				      .begin = begin,
				      .rank = t->rank,
				      .dtype = t->dtype,
				      .input = h->input,
				      .offset = h->data + t->begin,
				      .bytes = t->end - t->begin};

	if (h->chooser && !h->chooser->wants(h->chooser, t->name, &box.lack))
		return SD_OK;
	box.size = sd_arena_copy(&d->source->manifest->arena, t->shape, t->rank * sizeof(*t->shape));
	return box.size ? sd_assembly_add(d->assembly, &box, err) : sd_fail_memory(err);
}

/* A failure leaves no piece of the file. */
static enum sd_result dcp_add(struct sd_gather *gather, const struct sd_header *h, struct sd_error *err)
{
	struct dcp *d = (struct dcp *)gather;
	const struct sd_safetensors *st = h->content;
	const char *said = sd_safetensors_metadata(st, version_key);
	const uint64_t **begin = calloc(st->ntensors + 1, sizeof(*begin));
	size_t before = sd_assembly_count(d->assembly);
	enum sd_result result = begin ? SD_OK : sd_fail_memory(err);

	if (result == SD_OK && said && strcmp(said, version) != 0)
		result = sd_fail(err, SD_INPUT, "%s %s of PyTorch DCP, of which only %s is known", version_key, said,
				 version);
	if (result == SD_OK)
		result = sd_dcp_parse(sd_safetensors_metadata(st, info_key), st, &d->source->manifest->arena, begin,
				      err);
	for (size_t i = 0; i < st->ntensors && result == SD_OK; i++)
		result = add_piece(d, h, &st->tensors[i], begin[i], err);
	free(begin);
	if (result != SD_OK)
		sd_assembly_cut(d->assembly, before);
	d->base.count = sd_assembly_count(d->assembly);
	return result;
}

static enum sd_result dcp_finish(struct sd_gather *gather, const struct sd_names *whole, struct sd_error *err)
{
	return sd_assembly_finish(((struct dcp *)gather)->assembly, whole, err);
}

static void dcp_free(struct sd_gather *gather)
{
	sd_assembly_free(((struct dcp *)gather)->assembly);
	free(gather);
}

struct sd_gather *sd_dcp_gather(struct sd_source *source, const struct sd_limits *limits)
{
	struct dcp *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->base = (struct sd_gather){.add = dcp_add, .finish = dcp_finish, .free = dcp_free};
	d->source = source;
	d->assembly = sd_assembly_new(source, limits->short_data);
	if (d->assembly)
		return &d->base;
	free(d);
	return NULL;
}
