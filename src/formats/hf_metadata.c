/* SPDX-License-Identifier: Apache-2.0 */
/* What NeMo AutoModel keeps beside the shards of a model that it trains. */
#include "formats/hf_metadata.h"
#include "base/json.h"
#include "base/text.h"
#include "formats/checkpoint.h"
#include "formats/index.h"
#include "move/device.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILES_NAME SD_HF_METADATA "/" SD_HF_METADATA_FILES
#define DTYPES_NAME SD_HF_METADATA "/fqn_to_dtype_mapping.json"
#define INDEX_MOST 99999

/* A tensor, and the number of its file or its dtype. */
struct pair {
	const char *key;
	uint64_t value;
};

struct mapping {
	struct sd_arena arena;
	struct sd_names keys; /* to pairs */
	struct pair *pairs;
	size_t count, room;
	bool dtypes; /* values are the names of dtypes, else numbers */
};

/* ---- reading a mapping ---- */

static enum sd_result take_value(struct mapping *m, const struct sd_json_token *token, struct sd_error *err)
{
	struct pair *pair = &m->pairs[m->count - 1];

	if (m->dtypes && token->kind == SD_JSON_STRING) {
		pair->value = sd_dtype_parse(token->text, token->length);
		return SD_OK;
	}
	if (!m->dtypes && token->kind == SD_JSON_NUMBER && sd_json_integer(token, &pair->value) && pair->value &&
	    pair->value <= INDEX_MOST)
		return SD_OK;
	return sd_fail(err, SD_INPUT, "the value of %s is no %s", pair->key,
		       m->dtypes ? "dtype" : "number of a file, 1 to 99999");
}

static enum sd_result take_key(struct mapping *m, const struct sd_json_token *token, struct sd_error *err)
{
	struct pair pair = {.key = sd_arena_text(&m->arena, token->text, token->length)};

	if (!pair.key || !sd_array_grow(&m->pairs, m->count, &m->room, sizeof(*m->pairs)))
		return sd_fail_memory(err);
	if (sd_names_add(&m->keys, pair.key, (uint32_t)m->count) == SD_NO_NAME)
		return sd_fail_memory(err);
	m->pairs[m->count++] = pair;
	return SD_OK;
}

static enum sd_result take(void *user, const struct sd_json_token *token, struct sd_error *err)
{
	struct mapping *m = user;

	if (token->depth == 0 && (token->kind == SD_JSON_OBJECT || token->kind == SD_JSON_OBJECT_END))
		return SD_OK;
	if (token->depth == 1 && token->kind == SD_JSON_KEY)
		return take_key(m, token, err);
	if (token->depth == 1 && (token->kind == SD_JSON_STRING || token->kind == SD_JSON_NUMBER))
		return take_value(m, token, err);
	return sd_fail(err, SD_INPUT, "it is no object of keys and %s", m->dtypes ? "dtypes" : "numbers");
}

/* Reads a mapping of the folder; one that is not there is empty. */
static enum sd_result read_mapping(struct sd_safetensors_read *reading, struct sd_folder *folder, const char *name,
				   struct mapping *m, struct sd_error *err)
{
	uint64_t size;
	void *json;
	enum sd_result result;

	if (!folder->ops->has(folder, name))
		return SD_OK;
	result = folder->ops->read(folder, name, reading->limits.most[SD_LIMIT_MANIFEST], reading->source, &json, &size,
				   err);
	if (result == SD_OK && !json)
		return sd_folder_fail(folder, name, err, " is no file, or larger than --limit=manifest");
	if (result != SD_OK)
		return result;
	result = sd_json_parse(json, (size_t)size, take, m, err);
	free(json);
	return result == SD_OK ? SD_OK : sd_error_at(err, "%s/%s", folder->path, name);
}

static void free_mapping(struct mapping *m)
{
	free(m->pairs);
	sd_names_free(&m->keys);
	sd_arena_free(&m->arena);
}

/* ---- files ---- */

/* The index that a consolidation would write, as a side file. The last number is how many files there are. */
static enum sd_result add_index(struct sd_safetensors_read *reading, const struct mapping *m, struct sd_error *err)
{
	struct sd_manifest *manifest = reading->source->manifest;
	struct sd_index_entry *entries = calloc(m->count + 1, sizeof(*entries));
	struct sd_side_file file = {.name = SD_WISHED_INDEX};
	struct sd_arena *arena = &manifest->arena;
	enum sd_result result = entries ? SD_OK : sd_fail_memory(err);
	uint64_t files = 0;
	char *json = NULL;

	for (size_t i = 0; i < m->count; i++)
		files = m->pairs[i].value > files ? m->pairs[i].value : files;
	for (size_t i = 0; i < m->count && result == SD_OK; i++) {
		entries[i].key = m->pairs[i].key;
		entries[i].file = sd_arena_printf(arena, "model-%05" PRIu64 "-of-%05" PRIu64 ".safetensors",
						  m->pairs[i].value, files);
		if (!entries[i].file)
			result = sd_fail_memory(err);
	}
	if (result == SD_OK)
		result = sd_index_write(entries, m->count, 0, 0, &json, &file.size, err);
	if (result == SD_OK)
		result = sd_manifest_side_fits(manifest, file.size, err);
	if (result == SD_OK) {
		file.data = sd_arena_copy(arena, json, file.size);
		if (!file.data || !sd_manifest_add_side(manifest, &file))
			result = sd_fail_memory(err);
	}
	free(json);
	free(entries);
	return result;
}

/* ---- dtypes ---- */

/* A record whose elements are cast when it is asked for. */
struct cast {
	struct sd_made base, *inner; /* inner: NULL: the bytes are at offset */
	const char *name;
	uint64_t offset, elements;
	uint8_t from, to;
};

static enum sd_result convert(const struct cast *c, const void *source, void *target, struct sd_error *err)
{
	struct sd_job job = {.source = source,
			     .target = target,
			     .source_count = c->elements,
			     .target_count = c->elements,
			     .move = sd_move_identity(c->elements),
			     .source_dtype = c->from,
			     .target_dtype = c->to};
	struct sd_device *device;
	enum sd_device_result result;

	if (sd_device_open_cpu(1, &device) != SD_DEVICE_OK)
		return sd_fail_memory(err);
	result = sd_device_run(device, &job, 1);
	device->ops->close(device);
	return result == SD_DEVICE_OK ? SD_OK : sd_fail_memory(err);
}

static enum sd_result give_cast(struct sd_made *base, const struct sd_input *input, struct sd_extent *extent,
				void **memory, struct sd_error *err)
{
	const struct cast *c = (const struct cast *)base;
	uint64_t from_bytes = c->elements * sd_dtype_size(c->from), to_bytes = c->elements * sd_dtype_size(c->to);
	struct sd_extent source = sd_extents_of(input, c->offset, from_bytes);
	void *from = malloc((size_t)from_bytes + 1), *to = malloc((size_t)to_bytes + 1);
	enum sd_result result = from && to ? SD_OK : sd_fail_memory(err);

	if (result == SD_OK)
		result = c->inner ? sd_made_read(c->inner, input, from, from_bytes, err)
				  : sd_extent_read(&source, from, from_bytes, err);
	if (result != SD_OK && !err->told)
		sd_error_at(err, "%s: %s", input->path, c->name);
	if (result == SD_OK)
		result = convert(c, from, to, err);
	free(from);
	if (result != SD_OK) {
		free(to);
		return result;
	}
	*memory = to;
	*extent = (struct sd_extent){.length = to_bytes, .memory = to, .fd = -1};
	return SD_OK;
}

static bool is_float(enum sd_dtype dtype)
{
	return dtype == SD_BF16 || dtype == SD_F16 || dtype == SD_F32 || dtype == SD_F64;
}

/* Whether the tensor of a target is to be cast, to *dtype. */
static bool wants_cast(const struct mapping *m, const struct sd_target *t, enum sd_dtype *dtype)
{
	uint32_t number = sd_names_find(&m->keys, t->name);

	*dtype = number == SD_NO_NAME ? SD_NO_DTYPE : (enum sd_dtype)m->pairs[number].value;
	return is_float(*dtype) && *dtype != t->dtype && sd_dtype_is_float(t->dtype) &&
	       sd_cast_exists(t->dtype, *dtype);
}

static enum sd_result cast_record(struct sd_safetensors_read *reading, uint32_t number, enum sd_dtype dtype,
				  struct sd_error *err)
{
	struct sd_manifest *m = reading->source->manifest;
	struct sd_record *record = &m->records[number];
	struct cast *cast = sd_arena_alloc(&m->arena, sizeof(*cast));

	if (!cast)
		return sd_fail_memory(err);
	*cast = (struct cast){
		.base = {.give = give_cast}, .name = record->key, .from = record->dtype, .to = (uint8_t)dtype};
	if (!sd_shape_count(record->shape, record->rank, &cast->elements) ||
	    !sd_dtype_bytes(dtype, cast->elements, &record->bytes))
		return sd_fail(err, SD_INPUT, "%s is too large for %s", record->key, sd_dtype_name(dtype));
	record->dtype = m->targets[number].dtype = (uint8_t)dtype;
	cast->inner = sd_extents_make(reading->source, number, &cast->base, &cast->offset);
	return SD_OK;
}

/* Each record has one target, of its own number. */
static enum sd_result cast_all(struct sd_safetensors_read *reading, const char *folder, const struct mapping *map,
			       struct sd_error *err)
{
	struct sd_manifest *m = reading->source->manifest;
	char first[256] = "";
	const char *last = NULL;
	size_t count = 0;
	enum sd_dtype dtype;

	for (uint32_t i = 0; i < m->ntargets && map->count; i++) {
		struct sd_target *t = &m->targets[i];

		if (!wants_cast(map, t, &dtype))
			continue;
		if (!first[0])
			snprintf(first, sizeof(first), "%.150s from %s to %s", t->name, sd_dtype_name(t->dtype),
				 sd_dtype_name(dtype));
		count += !last || strcmp(last, t->name) != 0;
		last = t->name;
		if (cast_record(reading, i, dtype, err) != SD_OK)
			return err->result;
	}
	if (!count)
		return SD_OK;
	return sd_safetensors_read_note(reading, err,
					"%s%s: cast as %s/" DTYPES_NAME " says; sd-cat --keep-dtypes does without",
					first, count > 1 ? ", and others" : "", folder);
}

/* ---- all of it ---- */

static int natural(const void *a, const void *b)
{
	return sd_text_natural(*(const char *const *)a, *(const char *const *)b);
}

/* The files that go along: paths in the folder, below SD_HF_METADATA. */
struct along {
	struct sd_arena *arena;
	const char **paths;
	size_t count, room;
};

static enum sd_result take_along(void *user, const char *name, struct sd_error *err)
{
	struct along *along = user;
	const char *path = sd_arena_printf(along->arena, SD_HF_METADATA "/%s", name);

	if (!path)
		return sd_fail_memory(err);
	if (name[0] == '.' || strcmp(path, FILES_NAME) == 0 || strcmp(path, DTYPES_NAME) == 0 ||
	    sd_checkpoint_role(name) != SD_ROLE_SIDE)
		return SD_OK;
	if (!sd_array_grow(&along->paths, along->count, &along->room, sizeof(*along->paths)))
		return sd_fail_memory(err);
	along->paths[along->count++] = path;
	return SD_OK;
}

static enum sd_result add_along(struct sd_safetensors_read *reading, struct sd_folder *folder, struct sd_error *err)
{
	struct sd_manifest *m = reading->source->manifest;
	struct along along = {.arena = &m->arena};
	enum sd_result result = folder->ops->list(folder, SD_HF_METADATA, take_along, &along, err);

	if (along.count)
		qsort(along.paths, along.count, sizeof(*along.paths), natural);
	for (size_t i = 0; i < along.count && result == SD_OK; i++) {
		const char *name = strrchr(along.paths[i], '/') + 1;

		if (!sd_manifest_side(m, name))
			result = sd_checkpoint_add_side(reading->source, folder, along.paths[i], name, err);
	}
	free(along.paths);
	return result;
}

enum sd_result sd_hf_metadata_obey(struct sd_safetensors_read *reading, struct sd_folder *folder, struct sd_error *err)
{
	struct mapping files = {0}, dtypes = {.dtypes = true};
	enum sd_result result = add_along(reading, folder, err);

	if (result == SD_OK)
		result = read_mapping(reading, folder, FILES_NAME, &files, err);
	if (result == SD_OK && files.count)
		result = add_index(reading, &files, err);
	if (result == SD_OK && !reading->limits.keep_dtypes)
		result = read_mapping(reading, folder, DTYPES_NAME, &dtypes, err);
	if (result == SD_OK)
		result = cast_all(reading, folder->path, &dtypes, err);
	free_mapping(&files);
	free_mapping(&dtypes);
	return result;
}
