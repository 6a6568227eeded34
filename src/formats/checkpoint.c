/* SPDX-License-Identifier: Apache-2.0 */
/* A checkpoint directory as a source. */
#include "formats/checkpoint.h"
#include "base/names.h"
#include "base/text.h"
#include "formats/hf_metadata.h"
#include "formats/index.h"
#include "formats/part_files.h"
#include "formats/patch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct listing {
	struct sd_arena arena;
	const char **names[SD_ROLE_OTHER]; /* of each role that matters, in natural order */
	size_t count[SD_ROLE_OTHER], room[SD_ROLE_OTHER];
	bool patching;        /* it is being patched, or a run that did so was killed */
	bool parts;           /* it has marks of parts */
	bool seconds, thirds; /* what counts only where there is nothing else, and where that is not there either */
	const struct sd_format *marked; /* the format that a file says the whole directory is, or NULL */
	const char *mark;               /* that file's name */
	const char *unread; /* a file of weights that is not read, and what its format has to say; or NULL */
	const char *why;
};

enum sd_file_role sd_checkpoint_role(const char *name)
{
	const struct sd_format *format = sd_format_of_name(name);

	if (name[0] == '.')
		return SD_ROLE_OTHER;
	return format ? format->role : SD_ROLE_SIDE;
}

static int natural(const void *a, const void *b)
{
	return sd_text_natural(*(const char *const *)a, *(const char *const *)b);
}

/* In the order of their data, if that has one. */
static int by_rank(const void *a, const void *b, void *user)
{
	struct sd_folder *folder = user;
	uint64_t x = folder->ops->rank(folder, *(const char *const *)a);
	uint64_t y = folder->ops->rank(folder, *(const char *const *)b);

	return x != y ? (x < y ? -1 : 1) : natural(a, b);
}

static void sort(struct sd_folder *folder, const char **names, size_t count)
{
	if (count && folder->ops->rank)
		qsort_r(names, count, sizeof(*names), by_rank, folder);
	else if (count)
		qsort(names, count, sizeof(*names), natural);
}

static enum sd_result list_name(void *user, const char *name, struct sd_error *err)
{
	struct listing *list = user;
	const struct sd_format *format = sd_format_of_name(name);
	enum sd_file_role role = sd_checkpoint_role(name);
	char *copy;

	list->patching = list->patching || strcmp(name, SD_PATCH_HIDDEN) == 0;
	list->parts = list->parts || sd_part_is_mark(name);
	if (sd_part_is_ours(name))
		return SD_OK;
	if (!list->marked && (list->marked = sd_format_of_mark(name)))
		return (list->mark = sd_arena_text(&list->arena, name, strlen(name))) ? SD_OK : sd_fail_memory(err);
	if (list->seconds && name[0] != '.' && format && format->second)
		role = format->second;
	if (list->thirds && name[0] != '.' && format && format->add)
		role = SD_ROLE_WEIGHTS;

	if (role == SD_ROLE_OTHER && (list->unread || name[0] == '.' || !format->directory))
		return SD_OK;
	copy = sd_arena_text(&list->arena, name, strlen(name));
	if (role == SD_ROLE_OTHER) {
		list->unread = copy;
		list->why = format->directory;
		return copy ? SD_OK : sd_fail_memory(err);
	}
	if (!copy ||
	    !sd_array_grow(&list->names[role], list->count[role], &list->room[role], sizeof(*list->names[role])))
		return sd_fail_memory(err);
	list->names[role][list->count[role]++] = copy;
	return SD_OK;
}

#define NO_INDEX "sd-cat --no-index takes what is there"

static void free_listing(struct listing *list)
{
	for (int role = 0; role < SD_ROLE_OTHER; role++)
		free(list->names[role]);
	sd_arena_free(&list->arena);
}

static enum sd_result list_names(struct sd_folder *folder, struct listing *list, struct sd_error *err)
{
	enum sd_result result = folder->ops->list(folder, NULL, list_name, list, err);

	for (int role = 0; role < SD_ROLE_OTHER; role++)
		sort(folder, list->names[role], list->count[role]);
	return result;
}

static bool has_something(const struct listing *list)
{
	return list->marked || list->count[SD_ROLE_WEIGHTS] || list->count[SD_ROLE_INDEX];
}

/* What a directory has to be read: safetensors, or else what other formats may have there. */
static enum sd_result list_directory(struct sd_folder *folder, struct listing *list, struct sd_error *err)
{
	enum sd_result result = list_names(folder, list, err);

	for (int i = 0; i < (folder->archive ? 2 : 1) && result == SD_OK && !has_something(list); i++) {
		free_listing(list);
		*list = (struct listing){.seconds = true, .thirds = i > 0};
		result = list_names(folder, list, err);
	}
	return result;
}

enum sd_result sd_checkpoint_add_side(struct sd_source *source, struct sd_folder *folder, const char *name,
				      const char *as, struct sd_error *err)
{
	struct sd_manifest *m = source->manifest;
	struct sd_side_file file = {0};
	uint64_t size;
	void *data;
	enum sd_result result = folder->ops->read(folder, name, SD_SIDE_FILE_MAX, source, &data, &size, err);

	if (result != SD_OK || !data)
		return result;
	file.size = (size_t)size;
	if (!sd_file_name_good(as)) {
		free(data);
		return sd_folder_fail(folder, name, err,
				      ": a file of this name cannot be carried along: rename it or move it away");
	}
	if (sd_manifest_side_fits(m, file.size, err) != SD_OK) {
		free(data);
		return sd_error_at(err, "%s is too much: take it out of %s", name, folder->path);
	}
	file.data = sd_arena_copy(&m->arena, data, file.size);
	file.name = sd_arena_text(&m->arena, as, strlen(as));
	free(data);
	return file.data && file.name && sd_manifest_add_side(m, &file) ? SD_OK : sd_fail_memory(err);
}

/* The first bytes of a file of weights, the last input of the source; it is dropped where they are not there. */
static enum sd_result read_first(struct sd_source *source, uint32_t input, unsigned char first[8], struct sd_error *err)
{
	const struct sd_input *in = sd_extents_at(source, input);
	enum sd_result result = SD_OK;
	size_t got = 0;

	if (in->size < 8)
		result = sd_fail(err, SD_INPUT, "%s is %s: no file of weights", in->path,
				 in->size ? "shorter than 8 bytes" : "empty");
	else if (lseek(in->fd, (off_t)in->begin, SEEK_SET) < 0)
		result = sd_fail_errno(err, errno, "%s", in->path);
	else
		result = sd_read_upto(in->fd, first, 8, &got, err);
	if (result == SD_OK && got < 8)
		result = sd_fail(err, SD_INPUT, "%s changed while it was being read", in->path);
	if (result != SD_OK)
		sd_extents_drop(source);
	return result;
}

static enum sd_result add_weights(struct sd_safetensors_read *reading, struct sd_folder *folder, const char *name,
				  struct sd_chooser *chooser, struct sd_error *err)
{
	struct sd_source *source = reading->source;
	size_t before = source->manifest->nrecords;
	unsigned char first[8];
	const struct sd_format *format;
	uint32_t input;
	enum sd_result result;

	if (!folder->ops->has(folder, name))
		return sd_folder_fail(folder, name, err, " is not there, but the index names it; " NO_INDEX);
	result = folder->ops->open(folder, name, source, &input, err);
	if (result == SD_OK)
		result = read_first(source, input, first, err);
	if (result != SD_OK)
		return result;
	result = sd_safetensors_read_input(reading, input, first, chooser, false, err);
	if (result == SD_OK && folder->ops->added)
		result = folder->ops->added(folder, reading, input, before, err);
	format = sd_format_of_bytes(first);
	if (result == SD_INPUT && sd_safetensors_length(first) > SD_SAFETENSORS_HEADER_MAX && format && !format->add &&
	    format->instead)
		return sd_folder_fail(folder, name, err, " is no file of weights, but %s", format->instead);
	return result;
}

/* A failure, result, that is a lack of data is noted where that may be. */
static enum sd_result note_lack(struct sd_safetensors_read *reading, enum sd_result result, struct sd_error *err)
{
	struct sd_error lack;

	if (result != SD_INPUT || err->told || !reading->limits.short_data)
		return result;
	lack = *err;
	return sd_extents_lack(reading->source, &lack, err);
}

/* Where data may be missing, a file that could not be added is noted, and what it had is missing. */
static enum sd_result add_weights_there(struct sd_safetensors_read *reading, struct sd_folder *folder, const char *name,
					struct sd_chooser *chooser, struct sd_error *err)
{
	size_t before = sd_safetensors_read_count(reading);
	enum sd_result result = add_weights(reading, folder, name, chooser, err);

	return sd_safetensors_read_count(reading) == before ? note_lack(reading, result, err) : result;
}

/* ---- with an index ---- */

struct indexed {
	const char *path; /* of the index */
	void *json;
	uint64_t size;
	struct sd_index index;
};

static bool is_of_bin(const char *index)
{
	static const char end[] = ".bin.index.json";

	return strlen(index) > strlen(end) && strcmp(index + strlen(index) - strlen(end), end) == 0;
}

/* Under another name, a file would be taken for something else too: a side file, the index itself. */
static enum sd_result check_file_names(const struct sd_index *index, const char *end, struct sd_error *err)
{
	const char *bad = NULL;
	size_t i = 0;

	for (size_t k = 0; k < index->nfiles && !bad; k++) {
		const char *name = index->files[k];
		size_t length = strlen(name), n = strlen(end);

		if (name[0] == '.' || length < n || strcmp(name + length - n, end) != 0)
			bad = name;
	}
	if (!bad)
		return SD_OK;
	while (index->entries[i].file != bad)
		i++;
	return sd_fail(err, SD_INPUT,
		       "the key %s is in %s, but a file of tensors has a name that ends in %s and begins "
		       "with no dot",
		       index->entries[i].key, bad, end);
}

/* source: to watch whether the index changes, or NULL. in->path is set already. */
static enum sd_result read_index(struct sd_folder *folder, const char *name, const struct sd_limits *limits,
				 struct sd_source *source, struct indexed *in, struct sd_error *err)
{
	uint64_t most = (limits ? limits : &sd_limits_default)->most[SD_LIMIT_MANIFEST];
	const char *path = in->path;
	enum sd_result result = folder->ops->read(folder, name, most, source, &in->json, &in->size, err);

	if (result == SD_OK && !in->json) {
		result = sd_limits_check(limits, SD_LIMIT_MANIFEST, in->size, "the index has", err);
		return result == SD_OK ? sd_fail(err, SD_INPUT, "%s is no file", path) : sd_error_at(err, "%s", path);
	}
	if (result != SD_OK)
		return result;
	result = sd_index_parse(in->json, (size_t)in->size, limits, &in->index, err);
	if (result == SD_OK)
		result = check_file_names(&in->index, is_of_bin(path) ? ".bin" : ".safetensors", err);
	if (result == SD_INPUT && !strstr(err->text, "--limit=")) {
		struct sd_error bad = *err;

		return sd_fail(err, SD_INPUT, "%s: %s; " NO_INDEX, path, bad.text);
	}
	if (result != SD_OK)
		return sd_error_at(err, "%s", path);
	sort(folder, in->index.files, in->index.nfiles);
	return SD_OK;
}

static void free_indexed(struct indexed *in)
{
	free(in->json);
	sd_index_free(&in->index);
}

/* What the index says of the tensors of one file. */
struct chooser {
	struct sd_chooser base;
	const struct indexed *in;
	struct sd_arena *arena;
	const char *file;  /* one of the index's texts */
	const char *first; /* the first key that the index gives to another file */
	size_t others;     /* how many there are */
	bool out_of_memory;
};

static bool wants(struct sd_chooser *base, const char *key, const char **doubt)
{
	struct chooser *c = (struct chooser *)base;
	uint32_t number = sd_names_find(&c->in->index.keys, key);

	if (number == SD_NO_NAME) {
		*doubt = sd_arena_printf(
			c->arena,
			"%s does not name the key %s, which %s has; sd-cat --exclude leaves it out, and "
			"--no-index takes it",
			c->in->path, key, c->file);
		c->out_of_memory = c->out_of_memory || !*doubt;
		return true;
	}
	if (c->in->index.entries[number].file == c->file)
		return true;
	c->first = c->others++ ? c->first : c->in->index.entries[number].key;
	return false;
}

/* A key that two files have is the one that the index names, which is worth a word. */
static enum sd_result tell_others(struct sd_source *source, const struct chooser *c, struct sd_error *err)
{
	uint32_t number = sd_names_find(&c->in->index.keys, c->first);
	char more[32] = "";

	if (c->others > 1)
		snprintf(more, sizeof(more), " and %zu more", c->others - 1);
	source->note = sd_arena_printf(c->arena, "%s%s: taken from %s, as %s says, and not from %s", c->first, more,
				       c->in->index.entries[number].file, c->in->path, c->file);
	return source->note ? SD_OK : sd_fail_memory(err);
}

/* Every key of the index must have been found. others: a file that has keys which the index gives to others. */
static enum sd_result check_all_there(const struct indexed *in, const struct sd_manifest *m,
				      const struct chooser *others, struct sd_error *err)
{
	struct sd_names there = {0};
	enum sd_result result = sd_names_reserve(&there, m->nrecords) ? SD_OK : sd_fail_memory(err);
	const struct sd_index_entry *first = NULL;
	size_t missing = 0;
	bool is_other;

	for (size_t i = 0; i < m->nrecords && result == SD_OK; i++)
		if (sd_names_add(&there, m->records[i].key, 0) == SD_NO_NAME)
			result = sd_fail_memory(err);
	for (size_t i = 0; i < in->index.nentries && result == SD_OK; i++)
		if (sd_names_find(&there, in->index.entries[i].key) == SD_NO_NAME) {
			first = first ? first : &in->index.entries[i];
			missing++;
		}
	sd_names_free(&there);
	is_other = first && others->first && strcmp(others->first, first->key) == 0;
	if (result == SD_OK && missing)
		result = sd_fail(err, SD_INPUT,
				 "%s says that the key %s is in %s, which does not have it%s%s (%zu of %zu keys are "
				 "missing); " NO_INDEX,
				 in->path, first->key, first->file, is_other ? ", and is in " : "",
				 is_other ? others->file : "", missing, in->index.nentries);
	return result;
}

static enum sd_result add_indexed_files(struct sd_safetensors_read *reading, struct sd_folder *folder,
					const struct indexed *in, struct sd_error *err)
{
	struct sd_source *source = reading->source;
	struct sd_manifest *m = source->manifest;
	struct chooser others = {.in = in, .arena = &m->arena};
	enum sd_result result;

	if (!sd_names_reserve(&reading->whole, in->index.nentries))
		return sd_fail_memory(err);
	for (size_t i = 0; i < in->index.nfiles; i++) {
		struct chooser c = {.base = {wants}, .in = in, .arena = &m->arena, .file = in->index.files[i]};

		result = add_weights_there(reading, folder, c.file, &c.base, err);
		if (result == SD_IO)
			sd_error_at(err, "%s names a file that cannot be read", in->path);
		if (result == SD_OK && c.out_of_memory)
			result = sd_fail_memory(err);
		others = others.others ? others : c;
		if (result != SD_OK)
			return result;
	}
	result = sd_safetensors_read_finish(reading, err);
	if (result == SD_OK && !source->lack && (m->nrecords != in->index.nentries || others.others))
		result = note_lack(reading, check_all_there(in, m, &others, err), err);
	if (result == SD_OK && others.others && !source->lack)
		result = tell_others(source, &others, err);
	return result;
}

/* transformers takes model.safetensors before it looks for an index: one that does not name it is of another model. */
static enum sd_result check_whole_beside(const struct listing *list, const char *index, const struct sd_index *in,
					 struct sd_error *err)
{
	static const char whole[] = "model.safetensors";
	bool there = false, others = false;

	if (strcmp(index, "model.safetensors.index.json") != 0)
		return SD_OK;
	for (size_t i = 0; i < list->count[SD_ROLE_WEIGHTS]; i++) {
		there = there || strcmp(list->names[SD_ROLE_WEIGHTS][i], whole) == 0;
		others = others || strcmp(list->names[SD_ROLE_WEIGHTS][i], whole) != 0;
	}
	for (size_t i = 0; i < in->nfiles && there; i++)
		there = strcmp(in->files[i], whole) != 0;
	return there ? sd_fail(err, SD_INPUT,
			       "%s and %s, which does not name it, are of two checkpoints, and transformers takes the "
			       "first: %s",
			       whole, index, others ? "move one of the two away" : NO_INDEX)
		     : SD_OK;
}

static enum sd_result add_indexed(struct sd_safetensors_read *reading, struct sd_folder *folder,
				  const struct listing *list, const char *name, struct sd_error *err)
{
	struct sd_source *source = reading->source;
	struct indexed in = {0};
	enum sd_result result = sd_folder_path(folder, &source->manifest->arena, name, &in.path, err);

	if (result == SD_OK)
		result = read_index(folder, name, &reading->limits, source, &in, err);
	/* Of a million keys it is 100 MB. */
	free(in.json);
	in.json = NULL;
	if (result == SD_OK && check_whole_beside(list, name, &in.index, err) != SD_OK)
		result = sd_error_at(err, "%s", folder->path);
	if (result == SD_OK)
		result = add_indexed_files(reading, folder, &in, err);
	free_indexed(&in);
	return result;
}

/* The one index that counts, or NULL where there is none. */
static enum sd_result choose_index(const struct listing *list, const char **name, struct sd_error *err)
{
	size_t count = list->count[SD_ROLE_INDEX];
	const char *const *names = list->names[SD_ROLE_INDEX];

	*name = count ? names[0] : NULL;
	for (size_t i = 0; i < count && count > 1; i++)
		if (strcmp(names[i], "model.safetensors.index.json") == 0 ||
		    strcmp(names[i], "pytorch_model.bin.index.json") == 0) {
			*name = names[i];
			return SD_OK;
		}
	if (count > 1)
		return sd_fail(err, SD_INPUT,
			       "two indexes, %s and %s, and neither is model.safetensors.index.json; move one away, "
			       "or " NO_INDEX,
			       names[0], names[1]);
	return SD_OK;
}

/* ---- without one ---- */

/* Whether a name ends in "-00003-of-00006.safetensors", or ".bin": *stem is what stands before, *total the second
 * number. */
static bool is_numbered(const char *name, size_t *stem, unsigned long *total)
{
	const char *of = strstr(name, "-of-"), *p = of;
	char *end;

	if (!of || of[4] < '0' || of[4] > '9')
		return false;
	*total = strtoul(of + 4, &end, 10);
	while (p > name && p[-1] >= '0' && p[-1] <= '9')
		p--;
	*stem = (size_t)(p - name);
	return p < of && p > name && p[-1] == '-' && (strcmp(end, ".safetensors") == 0 || strcmp(end, ".bin") == 0);
}

bool sd_checkpoint_is_shard(const char *name)
{
	unsigned long total;
	size_t stem;

	return is_numbered(name, &stem, &total) && total > 1;
}

/* Shards that say how many they are must be that many: without an index nothing else tells that one is missing. */
static enum sd_result check_numbers(const struct listing *list, struct sd_error *err)
{
	const char *const *names = list->names[SD_ROLE_WEIGHTS];
	size_t count = list->count[SD_ROLE_WEIGHTS], stem, other;
	unsigned long total, n;

	/* In natural order, those of one stem stand together. */
	for (size_t i = 0, k; i < count; i = k) {
		bool is_shard;

		k = i + 1;
		sd_format_rest(names[i], &is_shard);
		if (is_shard || !is_numbered(names[i], &stem, &total))
			continue;
		while (k < count && is_numbered(names[k], &other, &n) && n == total && other == stem &&
		       memcmp(names[i], names[k], stem) == 0)
			k++;
		if (k - i != total)
			return sd_fail(err, SD_INPUT,
				       "%zu of %lu files are there: %s and so on, and no index; " NO_INDEX, k - i,
				       total, names[i]);
	}
	return SD_OK;
}

/* Names that a whole checkpoint has by itself: what stands beside it is another one. */
static bool is_whole(const char *name)
{
	static const char *const names[] = {"model.safetensors",
					    "consolidated.safetensors",
					    "adapter_model.safetensors",
					    "pytorch_model.safetensors",
					    "diffusion_pytorch_model.safetensors",
					    "pytorch_model.bin",
					    "adapter_model.bin",
					    "diffusion_pytorch_model.bin"};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

enum oneness { ONE, PERHAPS, TWO };

/*
 * Whether two files are of one checkpoint, by their names: shards of one number, or names that say nothing. One of
 * these beside such shards is perhaps.
 */
static enum oneness are_one(const char *a, const char *b)
{
	unsigned long total_a = 0, total_b = 0;
	size_t stem_a = 0, stem_b = 0;
	bool numbered_a, numbered_b, shard_a, shard_b;

	a = sd_format_rest(a, &shard_a);
	b = sd_format_rest(b, &shard_b);
	numbered_a = is_numbered(a, &stem_a, &total_a);
	numbered_b = is_numbered(b, &stem_b, &total_b);
	if (shard_a != shard_b || is_whole(a) || is_whole(b))
		return TWO;
	if (numbered_a != numbered_b)
		return shard_a ? TWO : PERHAPS;
	return !numbered_a || (total_a == total_b && stem_a == stem_b && memcmp(a, b, stem_a) == 0) ? ONE : TWO;
}

/* Whether the file of this number is what stands in a directory that another checkpoint takes, and alone. */
static bool is_guard(const struct listing *list, size_t i)
{
	const char *const *names = list->names[SD_ROLE_WEIGHTS];
	size_t count = list->count[SD_ROLE_WEIGHTS], stem;
	const char *letters = strchr(names[i], '-');
	unsigned long total;
	char guard[64];

	if (!letters || !is_numbered(names[i], &stem, &total) || total != 2)
		return false;
	snprintf(guard, sizeof(guard), SD_CHECKPOINT_GUARD, letters + 1);
	return strcmp(names[i], guard) == 0 && (i + 1 == count || strncmp(names[i + 1], names[i], stem) != 0);
}

static enum sd_result fail_two(const char *a, const char *b, struct sd_error *err)
{
	return sd_fail(err, SD_INPUT,
		       "%s and %s are of two checkpoints, and no index says which of them is meant: "
		       "move one of the two away, or name the files of the other",
		       a, b);
}

/* One directory is one checkpoint. An index says which files are; without one their names do. *numbered: the first
 * shard that is, beside files whose names say nothing; or NULL. */
static enum sd_result check_one(const struct listing *list, const char **numbered, struct sd_error *err)
{
	const char *const *names = list->names[SD_ROLE_WEIGHTS], *first = NULL;
	enum oneness one = ONE;
	size_t stem;
	unsigned long total;

	*numbered = NULL;

	for (size_t i = 0; i < list->count[SD_ROLE_WEIGHTS]; i++)
		if (is_guard(list, i))
			return sd_fail(err, SD_INPUT,
				       "unfinished: a run of sd-pack was killed here while it replaced what was there "
				       "before; sd-pack --recover=DIR ends that, or run it again, with -f");
	for (size_t i = 0; i < list->count[SD_ROLE_WEIGHTS]; i++) {
		if (i && (one = are_one(names[i - 1], names[i])) == TWO)
			return fail_two(names[i - 1], names[i], err);
		if (is_numbered(names[i], &stem, &total) && !first)
			first = names[i];
		if (first && are_one(first, names[i]) == TWO)
			return fail_two(first, names[i], err);
		if (one == PERHAPS)
			*numbered = "";
	}
	*numbered = *numbered ? first : NULL;
	return SD_OK;
}

/* The first word of a tensor's name. */
static const char *first_word(struct sd_arena *arena, const char *name)
{
	return sd_arena_text(arena, name, strcspn(name, "."));
}

static const char *file_of(const struct sd_source *source, uint32_t record, bool *numbered)
{
	const char *path = sd_extents_at(source, sd_extents_input_of(source, record))->path,
		   *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	unsigned long total;
	size_t stem;

	*numbered = is_numbered(name, &stem, &total);
	return name;
}

/*
 * Files whose names say nothing belong to the numbered shards beside them where their tensors' names begin as some of
 * those do. Those of another checkpoint, or of another form of the same one, do not.
 */
static enum sd_result check_words(const struct sd_source *source, const char *shard, struct sd_error *err)
{
	const struct sd_manifest *m = source->manifest;
	struct sd_arena texts = {0};
	struct sd_names words = {0};
	enum sd_result result = SD_OK;
	bool numbered;

	for (uint32_t pass = 0; pass < 2; pass++)
		for (uint32_t i = 0; i < m->nrecords && result == SD_OK; i++) {
			const char *name = file_of(source, i, &numbered), *word;

			if (numbered == pass)
				continue;
			word = first_word(&texts, m->records[i].key);
			if (!word || (numbered && sd_names_add(&words, word, i) == SD_NO_NAME))
				result = sd_fail_memory(err);
			else if (!numbered && sd_names_find(&words, word) == SD_NO_NAME)
				result = fail_two(name, shard, err);
		}
	sd_names_free(&words);
	sd_arena_free(&texts);
	return result;
}

static enum sd_result add_unindexed(struct sd_safetensors_read *reading, struct sd_folder *folder,
				    const struct listing *list, struct sd_error *err)
{
	const char *numbered;
	enum sd_result result = check_one(list, &numbered, err);

	if (result == SD_OK && !reading->limits.no_index)
		result = check_numbers(list, err);
	if (result != SD_OK)
		sd_error_at(err, "%s", folder->path);
	result = note_lack(reading, result, err);
	for (size_t i = 0; i < list->count[SD_ROLE_WEIGHTS] && result == SD_OK; i++)
		result = add_weights_there(reading, folder, list->names[SD_ROLE_WEIGHTS][i], NULL, err);
	if (result == SD_OK)
		result = sd_safetensors_read_finish(reading, err);
	if (result != SD_OK || !numbered)
		return result;
	result = check_words(reading->source, numbered, err);
	return note_lack(reading, result == SD_OK ? result : sd_error_at(err, "%s", folder->path), err);
}

/* A directory that a file says all of: nothing else in it may be a checkpoint too. */
static enum sd_result add_marked(struct sd_safetensors_read *reading, struct sd_folder *folder,
				 const struct listing *list, struct sd_error *err)
{
	enum sd_file_role role = list->count[SD_ROLE_INDEX] ? SD_ROLE_INDEX : SD_ROLE_WEIGHTS;

	if (list->count[role]) {
		sd_fail(err, SD_INPUT, "%s and %s are of two checkpoints: move one of the two away", list->mark,
			list->names[role][0]);
		return sd_error_at(err, "%s", folder->path);
	}
	if (list->marked->add_directory(reading, folder, err) != SD_OK)
		return err->result;
	return sd_extents_values(reading->source, err);
}

static enum sd_result add_tensors(struct sd_safetensors_read *reading, struct sd_folder *folder,
				  const struct listing *list, struct sd_error *err)
{
	const char *index;
	bool alone = reading->limits.no_index && list->count[SD_ROLE_WEIGHTS];
	enum sd_result result;

	if (list->marked)
		return add_marked(reading, folder, list, err);
	result = alone ? SD_OK : choose_index(list, &index, err);
	if (alone)
		index = NULL;
	if (result == SD_OK && !index && !list->count[SD_ROLE_WEIGHTS] && list->parts)
		return sd_safetensors_read_finish(reading, err);
	if (result == SD_OK && !index && !list->count[SD_ROLE_WEIGHTS])
		result = sd_fail(
			err, SD_INPUT, "no checkpoint here: neither *.safetensors nor *.safetensors.index.json%s%s%s",
			list->unread ? "; " : "", list->unread ? list->unread : "", list->unread ? list->why : "");
	if (result != SD_OK)
		return sd_error_at(err, "%s", folder->path);
	return index ? add_indexed(reading, folder, list, index, err) : add_unindexed(reading, folder, list, err);
}

static enum sd_result fill(struct sd_safetensors_read *reading, struct sd_folder *folder, const struct listing *list,
			   struct sd_error *err)
{
	enum sd_result result = add_tensors(reading, folder, list, err);

	for (size_t i = 0; i < list->count[SD_ROLE_SIDE] && result == SD_OK; i++)
		result = sd_checkpoint_add_side(reading->source, folder, list->names[SD_ROLE_SIDE][i],
						list->names[SD_ROLE_SIDE][i], err);
	return result == SD_OK ? sd_hf_metadata_obey(reading, folder, err) : result;
}

static bool same_names(const struct listing *a, const struct listing *b, enum sd_file_role role)
{
	if (a->count[role] != b->count[role])
		return false;
	for (size_t i = 0; i < a->count[role]; i++)
		if (strcmp(a->names[role][i], b->names[role][i]) != 0)
			return false;
	return true;
}

/*
 * Another checkpoint may have taken this one's place meanwhile. Everything is open now: if each name still leads to
 * what was opened by it, and there are no others, then all of it stood there at one time.
 */
static enum sd_result look_again(const struct sd_source *source, struct sd_folder *folder, const struct listing *then,
				 struct sd_error *err)
{
	struct listing now = {0};
	enum sd_result result = list_directory(folder, &now, err);

	if (result == SD_OK && (then->marked != now.marked || !same_names(then, &now, SD_ROLE_INDEX) ||
				(!then->count[SD_ROLE_INDEX] && !same_names(then, &now, SD_ROLE_WEIGHTS))))
		result = sd_fail(err, SD_INPUT, "%s changed while it was being read", folder->path);
	free_listing(&now);
	return result == SD_OK ? sd_extents_still(source, err) : result;
}

/* NeMo AutoModel has this file in the directory of a checkpoint, around that of its model, until all of it is there. */
static enum sd_result check_finished(struct sd_folder *folder, const struct sd_limits *limits, struct sd_error *err)
{
	static const char *const names[] = {".incomplete", "../.incomplete"};

	for (int i = 0; i < 2 && !limits->incomplete && !limits->short_data; i++)
		if (folder->ops->has(folder, names[i]))
			return sd_folder_fail(folder, names[i], err,
					      " is there: the checkpoint was not saved to its end; sd-cat --incomplete "
					      "reads what is there");
	return SD_OK;
}

/*
 * A directory that has parts of a checkpoint: all of them, unless others may come from elsewhere. What is there is read
 * whatever its files' names say of their number.
 */
static enum sd_result take_parts(struct sd_safetensors_read *reading, struct sd_folder *folder, struct sd_error *err)
{
	struct sd_manifest *m = reading->source->manifest;
	struct sd_part_set set = {0};
	const char *path = folder->path;
	enum sd_result result;
	bool some;

	if (folder->archive)
		return sd_fail(err, SD_INPUT,
			       "%s has parts of a checkpoint: unpack it, and join them with sd-pack --join", path);
	result = sd_part_set_read(path, &set, err);
	some = reading->limits.parts && !set.joined;

	for (size_t i = 0; i < set.nmarks && result == SD_OK && some; i++)
		result = sd_part_check(path, &set.marks[i], err);
	if (result == SD_OK && some)
		result = sd_part_describe(&set, &m->arena, &m->parts, err);
	else if (result == SD_OK && !set.joined && !reading->limits.incomplete)
		result = note_lack(reading, sd_part_prove(path, &set, err), err);
	reading->limits.no_index = reading->limits.no_index || !set.joined;
	sd_part_set_free(&set);
	return result;
}

enum sd_result sd_checkpoint_read(struct sd_folder *folder, struct sd_safetensors_read *reading, struct sd_error *err)
{
	struct listing list = {0};
	enum sd_result result = list_directory(folder, &list, err);

	if (result == SD_OK && list.patching)
		result = sd_fail(
			err, SD_INPUT,
			"%s: a run of sd-pack --patch is at work here, or was killed: sd-pack --recover=%s ends it",
			folder->path, folder->path);
	if (result == SD_OK)
		result = check_finished(folder, &reading->limits, err);
	if (result == SD_OK && list.parts)
		result = take_parts(reading, folder, err);
	if (result == SD_OK)
		result = fill(reading, folder, &list, err);
	if (result == SD_OK)
		result = look_again(reading->source, folder, &list, err);
	free_listing(&list);
	return result;
}

bool sd_checkpoint_is_there(struct sd_folder *folder)
{
	struct listing list = {0};
	struct sd_error err;
	bool there = list_directory(folder, &list, &err) == SD_OK && has_something(&list);

	free_listing(&list);
	return there;
}

enum sd_result sd_checkpoint_open(const char *path, const struct sd_limits *limits, struct sd_source **source,
				  struct sd_error *err)
{
	struct sd_folder folder = sd_folder_directory(path);
	struct sd_safetensors_read reading;
	enum sd_result result = sd_safetensors_read_begin(&reading, limits, err);

	*source = NULL;
	if (result != SD_OK)
		return result;
	result = sd_checkpoint_read(&folder, &reading, err);
	sd_safetensors_read_free(&reading);
	if (result == SD_OK)
		*source = reading.source;
	else
		sd_source_close(reading.source);
	return result;
}

/* ---- the files by themselves ---- */

static enum sd_result copy_names(struct sd_checkpoint_files *files, const char *const *names, size_t count,
				 struct sd_error *err)
{
	files->weights = sd_arena_array(&files->arena, count + 1, sizeof(*files->weights));
	for (; files->weights && files->nweights < count; files->nweights++) {
		const char *name = names[files->nweights];

		files->weights[files->nweights] = sd_arena_text(&files->arena, name, strlen(name));
		if (!files->weights[files->nweights])
			return sd_fail_memory(err);
	}
	return files->weights ? SD_OK : sd_fail_memory(err);
}

static enum sd_result list_indexed(struct sd_checkpoint_files *files, struct sd_folder *folder, const char *name,
				   const struct sd_limits *limits, struct sd_error *err)
{
	struct indexed in = {0};
	enum sd_result result = sd_folder_path(folder, &files->arena, name, &in.path, err);

	if (result == SD_OK)
		result = read_index(folder, name, limits, NULL, &in, err);

	files->index_name = sd_arena_text(&files->arena, name, strlen(name));
	if (result == SD_OK && !files->index_name)
		result = sd_fail_memory(err);
	if (result == SD_OK)
		result = copy_names(files, in.index.files, in.index.nfiles, err);
	if (result == SD_OK) {
		files->index = in.json;
		files->index_length = (size_t)in.size;
		in.json = NULL;
	}
	free_indexed(&in);
	return result;
}

enum sd_result sd_checkpoint_list(const char *path, const struct sd_limits *limits, struct sd_checkpoint_files *files,
				  struct sd_error *err)
{
	struct sd_checkpoint_files made = {0};
	struct listing list = {0};
	const char *index = NULL;
	struct sd_folder folder = sd_folder_directory(path);
	enum sd_result result = list_names(&folder, &list, err);

	if (result == SD_OK)
		result = choose_index(&list, &index, err);
	if (result == SD_OK)
		result = index ? list_indexed(&made, &folder, index, limits, err)
			       : copy_names(&made, list.names[SD_ROLE_WEIGHTS], list.count[SD_ROLE_WEIGHTS], err);
	free_listing(&list);
	if (result == SD_OK)
		*files = made;
	else
		sd_arena_free(&made.arena);
	return result;
}
