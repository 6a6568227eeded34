/* SPDX-License-Identifier: Apache-2.0 */
/* Files of torch.save. */
#include "formats/torch_save.h"
#include "base/checked.h"
#include "formats/torch_dict.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static struct sd_extent whole_of(const struct sd_input *input)
{
	return sd_extents_of(input, 0, input->size);
}

/* limits: NULL where the pickle is of one tensor, of which nothing can be left out. */
static enum sd_result read_tree(const void *text, size_t length, const struct sd_limits *limits,
				struct sd_pickle *pickle, struct sd_error *err)
{
	struct sd_pickle_rules rules = sd_torch_rules;

	rules.others = limits && limits->skip_objects;
	rules.advice = limits ? "; sd-cat --skip-objects leaves out what it would make" : NULL;
	return sd_pickle_read(text, length, &rules, pickle, err);
}

/* ---- zip ---- */

/* Storages are members of the zip. */
struct in_zip {
	struct sd_torch_finder base;
	const struct sd_extent *whole;
	const struct sd_zip *zip;
	struct sd_arena *arena;
	const char *folder; /* "archive/" */
	bool single;        /* it has one tensor and nothing else */
};

static enum sd_result find_member(struct sd_torch_finder *base, const char *key, struct sd_torch_storage *s,
				  struct sd_error *err)
{
	struct in_zip *z = (struct in_zip *)base;
	const char *path = sd_arena_printf(z->arena, "%sdata/%s", z->folder, key);
	const struct sd_zip_member *m = path ? sd_zip_find(z->zip, path) : NULL;
	struct sd_extent packed;

	if (!path)
		return sd_fail_memory(err);
	s->name = path + strlen(z->folder);
	if (!m)
		return sd_fail(err, SD_INPUT, "its storage %s is not in the file", s->name);
	if (m->size != s->bytes)
		return sd_fail(err, SD_INPUT, "its storage %s has %" PRIu64 " bytes, and should have %" PRIu64, s->name,
			       m->size, s->bytes);
	if (sd_zip_locate(z->whole, m, &packed, err) != SD_OK)
		return err->result;
	s->offset = (uint64_t)(packed.memory ? (const char *)packed.memory - (const char *)z->whole->memory
					     : packed.offset - z->whole->offset);
	s->packed = m->packed;
	s->crc = m->crc;
	s->deflated = m->deflated;
	return SD_OK;
}

/* The one folder that all members are in, "" where there is no pickle. */
static enum sd_result find_folder(struct in_zip *z, struct sd_error *err)
{
	const struct sd_zip *zip = z->zip;
	size_t length;

	z->folder = NULL;
	for (size_t i = 0; i < zip->count && !z->folder; i++) {
		const char *name = zip->members[i].name, *slash = strchr(name, '/');

		if (slash && strcmp(slash, "/data.pkl") == 0 &&
		    !(z->folder = sd_arena_text(z->arena, name, (size_t)(slash - name) + 1)))
			return sd_fail_memory(err);
	}
	if (!z->folder)
		return sd_fail(err, SD_INPUT, "a zip without data.pkl, so it is no file of torch.save");
	length = strlen(z->folder);
	for (size_t i = 0; i < zip->count; i++)
		if (strncmp(zip->members[i].name, z->folder, length) != 0)
			return sd_fail(err, SD_INPUT, "%s is beside the folder %s of the zip, which has its data.pkl",
				       zip->members[i].name, z->folder);
	return SD_OK;
}

bool sd_torch_is_zip(const struct sd_zip *zip)
{
	for (size_t i = 0; i < zip->count; i++) {
		const char *slash = strchr(zip->members[i].name, '/');

		if (slash && strcmp(slash, "/data.pkl") == 0)
			return true;
	}
	return false;
}

static const struct sd_zip_member *member(const struct in_zip *z, const char *name)
{
	char path[1024];

	if (strlen(z->folder) + strlen(name) >= sizeof(path))
		return NULL;
	strcpy(path, z->folder);
	strcat(path, name);
	return sd_zip_find(z->zip, path);
}

static enum sd_result read_byte_order(const struct in_zip *z, bool *big_endian, struct sd_error *err)
{
	const struct sd_zip_member *m = member(z, "byteorder");
	void *text;

	*big_endian = false;
	if (!m)
		return SD_OK;
	if (sd_zip_member_read(z->whole, m, 16, &text, err) != SD_OK)
		return err->result;
	*big_endian = strcmp(text, "big") == 0;
	if (!*big_endian && strcmp(text, "little") != 0)
		sd_fail(err, SD_INPUT, "byteorder says neither little nor big");
	else
		err = NULL;
	free(text);
	return err ? err->result : SD_OK;
}

/* Reads the pickle of an archive; *text is what it points into. */
static enum sd_result read_zip(struct in_zip *z, struct sd_zip *zip, const struct sd_limits *limits, void **text,
			       struct sd_pickle *pickle, bool *big_endian, struct sd_error *err)
{
	const struct sd_zip_member *m;
	enum sd_result result = sd_zip_read(z->whole, limits, zip, err);

	if (result == SD_OK)
		result = find_folder(z, err);
	if (result == SD_OK && member(z, "constants.pkl"))
		result = sd_fail(err, SD_INPUT,
				 "a TorchScript archive: it holds a program, not only tensors; save its "
				 "state_dict() with torch.save");
	if (result == SD_OK)
		result = read_byte_order(z, big_endian, err);
	if (result != SD_OK)
		return result;
	m = member(z, "data.pkl");
	if (!m)
		return sd_fail(err, SD_INPUT, "the name of its folder is too long");
	result = sd_zip_member_read(z->whole, m, limits->most[SD_LIMIT_MANIFEST], text, err);
	if (result != SD_OK)
		return result;
	if (read_tree(*text, (size_t)m->size, z->single ? NULL : limits, pickle, err) != SD_OK)
		return sd_error_at(err, "data.pkl");
	return SD_OK;
}

enum sd_result sd_torch_add_zip(struct sd_safetensors_read *reading, uint32_t input, struct sd_chooser *chooser,
				struct sd_error *err)
{
	struct sd_extent whole = whole_of(sd_extents_at(reading->source, input));
	struct sd_arena *arena = &reading->source->manifest->arena;
	struct sd_zip zip = {0};
	struct sd_pickle pickle = {0};
	struct in_zip z = {.base = {find_member}, .whole = &whole, .zip = &zip, .arena = arena};
	struct sd_torch torch = {.arena = arena, .finder = &z.base};
	void *text = NULL;
	enum sd_result result = read_zip(&z, &zip, &reading->limits, &text, &pickle, &torch.big_endian, err);

	if (result == SD_OK)
		result = sd_torch_dict_add(reading, input, &pickle, &torch, chooser, err);
	sd_torch_free(&torch);
	sd_pickle_free(&pickle);
	free(text);
	sd_zip_free(&zip);
	return result;
}

enum sd_result sd_torch_single_read(const struct sd_extent *whole, const struct sd_limits *limits,
				    struct sd_torch_single *single, struct sd_error *err)
{
	struct in_zip z = {
		.base = {find_member}, .whole = whole, .zip = &single->zip, .arena = &single->arena, .single = true};
	struct sd_torch torch = {.arena = &single->arena, .finder = &z.base};
	enum sd_result result;

	*single = (struct sd_torch_single){0};
	result = read_zip(&z, &single->zip, limits, &single->text, &single->pickle, &torch.big_endian, err);
	if (result == SD_OK)
		result = sd_torch_view(&torch, single->pickle.top, &single->view, err);
	sd_torch_free(&torch);
	return result;
}

void sd_torch_single_free(struct sd_torch_single *single)
{
	sd_pickle_free(&single->pickle);
	free(single->text);
	sd_zip_free(&single->zip);
	sd_arena_free(&single->arena);
}

/* ---- before 1.6 ---- */

/* Storages come behind the pickles, each behind the number of its elements. */
struct in_order {
	struct sd_torch_finder base;
	struct sd_arena *arena;
};

static enum sd_result find_later(struct sd_torch_finder *base, const char *key, struct sd_torch_storage *s,
				 struct sd_error *err)
{
	s->name = sd_arena_printf(((struct in_order *)base)->arena, "storage %s", key);
	s->offset = UINT64_MAX;
	return s->name ? SD_OK : sd_fail_memory(err);
}

#define FIRST_PART (UINT64_C(1) << 20)

/* Reads the pickle at an offset of a file, of which nobody knows how long it is. *text is what it points into. */
static enum sd_result read_pickle(const struct sd_extent *whole, const struct sd_limits *limits, uint64_t *offset,
				  void **text, struct sd_pickle *pickle, struct sd_error *err)
{
	uint64_t rest = whole->length - *offset, most = limits->most[SD_LIMIT_MANIFEST];

	for (uint64_t length = FIRST_PART;; length *= 2) {
		uint64_t part = length < rest ? length : rest;
		struct sd_extent chunk;

		*text = malloc((size_t)part + 1);
		if (!*text)
			return sd_fail_memory(err);
		if (!sd_zip_part(whole, *offset, part, &chunk) || sd_extent_read(&chunk, *text, part, err) != SD_OK)
			return err->result;
		if (read_tree(*text, (size_t)part, limits, pickle, err) == SD_OK)
			break;
		if (!pickle->cut_short || part == rest || length >= most)
			return sd_error_at(err, "the pickle from byte %" PRIu64 " on", *offset);
		sd_pickle_free(pickle);
		*pickle = (struct sd_pickle){0};
		free(*text);
		*text = NULL;
	}
	*offset += pickle->used;
	return SD_OK;
}

enum { MAGIC, VERSION, SYSTEM, OBJECT, KEYS, PICKLES };

struct legacy {
	struct sd_pickle pickles[PICKLES];
	void *texts[PICKLES];
	uint64_t end; /* of the last one */
};

static enum sd_result read_legacy(const struct sd_extent *whole, const struct sd_limits *limits, struct legacy *l,
				  bool *big_endian, struct sd_error *err)
{
	const struct sd_pickle_node *system, *little;

	for (int i = 0; i < PICKLES; i++)
		if (read_pickle(whole, limits, &l->end, &l->texts[i], &l->pickles[i], err) != SD_OK)
			return err->result;
	system = l->pickles[SYSTEM].top;
	little = system->kind == SD_PICKLE_DICT ? sd_pickle_get(system->items, system->count, "little_endian") : NULL;
	if (l->pickles[MAGIC].top->kind != SD_PICKLE_LONG || l->pickles[VERSION].top->kind != SD_PICKLE_INT ||
	    l->pickles[VERSION].top->integer != 1001 || !little || little->kind != SD_PICKLE_BOOL ||
	    l->pickles[KEYS].top->kind != SD_PICKLE_LIST)
		return sd_fail(err, SD_INPUT, "an old PyTorch file, but not as torch.save wrote it");
	*big_endian = !little->integer;
	return SD_OK;
}

/* The storage of a key behind the pickles; *at moves behind it. */
static enum sd_result place_storage(const struct sd_extent *whole, const struct sd_torch *torch,
				    const struct sd_pickle_node *key, uint64_t *at, struct sd_error *err)
{
	char *text = key->kind == SD_PICKLE_TEXT ? sd_arena_text(torch->arena, key->text, key->count) : NULL;
	uint32_t number = text ? sd_names_find(&torch->keys, text) : SD_NO_NAME;
	struct sd_torch_storage *s;
	unsigned char count[8];
	struct sd_extent part;

	if (number == SD_NO_NAME)
		return sd_fail(err, SD_INPUT, "the list of storages names one that no tensor has");
	s = torch->storages[number];
	if (s->offset != UINT64_MAX)
		return sd_fail(err, SD_INPUT, "the list of storages names %s twice", s->name);
	if (!sd_zip_part(whole, *at, sizeof(count), &part))
		return sd_fail(err, SD_INPUT, "truncated: it ends before %s", s->name);
	if (sd_extent_read(&part, count, sizeof(count), err) != SD_OK)
		return err->result;
	if (!sd_zip_part(whole, *at + sizeof(count), s->bytes, &part))
		return sd_fail(err, SD_INPUT,
			       "truncated: %s has %" PRIu64 " bytes from byte %" PRIu64
			       " on, the file ends at %" PRIu64,
			       s->name, s->bytes, *at + sizeof(count), whole->length);
	s->offset = *at + sizeof(count);
	s->packed = s->bytes;
	*at = s->offset + s->bytes;
	return SD_OK;
}

/* Every storage that the pickle names has its place. */
static enum sd_result place_all(const struct sd_extent *whole, const struct legacy *l, struct sd_torch *torch,
				struct sd_error *err)
{
	const struct sd_pickle_node *keys = l->pickles[KEYS].top;
	const struct sd_pickle *object = &l->pickles[OBJECT];
	struct sd_torch_storage *storage;
	uint64_t at = l->end, before;

	for (size_t i = 0; i < object->nids; i++)
		if (sd_torch_storage(torch, object->ids[i], &storage, &before, err) != SD_OK)
			return err->result;
	for (uint32_t i = 0; i < keys->count; i++)
		if (place_storage(whole, torch, keys->items[i], &at, err) != SD_OK)
			return err->result;
	for (size_t i = 0; i < torch->count; i++)
		if (torch->storages[i]->offset == UINT64_MAX)
			return sd_fail(err, SD_INPUT, "%s is not in the list of storages", torch->storages[i]->name);
	return SD_OK;
}

enum sd_result sd_torch_add_legacy(struct sd_safetensors_read *reading, uint32_t input, struct sd_chooser *chooser,
				   struct sd_error *err)
{
	struct sd_extent whole = whole_of(sd_extents_at(reading->source, input));
	struct sd_arena *arena = &reading->source->manifest->arena;
	struct in_order finder = {{find_later}, arena};
	struct sd_torch torch = {.arena = arena, .finder = &finder.base};
	struct legacy l = {0};
	enum sd_result result = read_legacy(&whole, &reading->limits, &l, &torch.big_endian, err);

	if (result == SD_OK)
		result = place_all(&whole, &l, &torch, err);
	if (result == SD_OK)
		result = sd_torch_dict_add(reading, input, &l.pickles[OBJECT], &torch, chooser, err);
	sd_torch_free(&torch);
	for (int i = 0; i < PICKLES; i++) {
		sd_pickle_free(&l.pickles[i]);
		free(l.texts[i]);
	}
	return result;
}
