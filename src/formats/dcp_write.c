/* SPDX-License-Identifier: Apache-2.0 */
/* The shards of PyTorch's distributed checkpoints (DCP) in safetensors form, planned. */
#include "formats/dcp_write.h"
#include "base/json.h"
#include "base/memstream.h"
#include "base/names.h"
#include "formats/assembly.h"
#include "formats/dcp_safetensors.h"
#include "formats/hf_metadata.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define NO_PLACE UINT32_MAX
#define SHARD "shard-%05" PRIu64 "-model-00001-of-00001.safetensors"

struct planner {
	const struct sd_manifest *in;
	const struct sd_output_plan_options *options;
	struct sd_dcp_ranks ranks;
	struct sd_output_plan *layout;
	struct sd_manifest *out;
	struct sd_output_plan whole;
	struct sd_tensor *tensors; /* of the whole, in the order of a file */
	struct sd_names names;     /* to them */
	uint32_t *place;           /* of each tensor, by rank: in layout->tensors, or NO_PLACE */
	uint32_t *file_of;         /* of each place */
	uint64_t (*begin)[2];      /* of each place: its tensor's number, its first row */
	size_t nplaces;
	struct sd_output_plan_place *places; /* of the targets so far */
	size_t room;
};

/* ---- what can be cut ---- */

/* The dtypes of safetensors that safetensors.torch maps to PyTorch's: its reader knows no other. */
static bool is_read(uint8_t dtype)
{
	static const enum sd_dtype dtypes[] = {SD_BOOL, SD_U8,  SD_I8,  SD_F8_E4M3,     SD_F8_E5M2, SD_F8_E4M3FNUZ,
					       SD_I16,  SD_U16, SD_F16, SD_F8_E5M2FNUZ, SD_BF16,    SD_I32,
					       SD_U32,  SD_F32, SD_I64, SD_U64,         SD_F64,     SD_C64};

	for (size_t i = 0; i < sizeof(dtypes) / sizeof(*dtypes); i++)
		if (dtypes[i] == dtype)
			return true;
	return false;
}

static enum sd_result check_tensors(const struct planner *p, struct sd_error *err)
{
	if (strncmp(p->whole.index_name, "adapter", strlen("adapter")) == 0)
		return sd_fail(err, SD_INPUT,
			       "an adapter is one file, and PEFT reads no shards of it: sd-pack -o DIR/");
	for (size_t i = 0; i < p->whole.ntensors; i++)
		if (!is_read(p->whole.tensors[i].dtype))
			return sd_fail(err, SD_INPUT,
				       "%s is %s, which PyTorch does not read from shards; where it belongs to a "
				       "quantised weight, put sd-cast --dequant=BF16 in front",
				       p->whole.tensors[i].name, sd_dtype_name(p->whole.tensors[i].dtype));
	return SD_OK;
}

/* The rows of a tensor that a rank gets, as torch.chunk cuts. False if it gets none of it. */
static bool rows_of(const struct planner *p, const struct sd_tensor *t, uint64_t rank, uint64_t *begin, uint64_t *count)
{
	uint64_t rows = t->rank ? t->shape[0] : 1, each = rows / p->ranks.of + (rows % p->ranks.of != 0);

	*begin = 0;
	*count = rows;
	if (!t->rank || sd_shape_is_empty(t->shape, t->rank))
		return rank == 0;
	if (each == 0 || rank > (rows - 1) / each)
		return false;
	*begin = rank * each;
	*count = rows - *begin < each ? rows - *begin : each;
	return true;
}

/* ---- files ---- */

/* The tensors of the whole, in order, and a table of their names. */
static enum sd_result sort_tensors(struct planner *p, struct sd_error *err)
{
	size_t n = p->whole.ntensors;

	p->tensors = calloc(n + 1, sizeof(*p->tensors));
	if (!p->tensors || !sd_names_reserve(&p->names, n))
		return sd_fail_memory(err);
	if (n) {
		memcpy(p->tensors, p->whole.tensors, n * sizeof(*p->tensors));
		qsort(p->tensors, n, sizeof(*p->tensors), sd_safetensors_order);
	}
	for (size_t i = 0; i < n; i++)
		if (sd_names_add(&p->names, p->tensors[i].name, (uint32_t)i) == SD_NO_NAME)
			return sd_fail_memory(err);
	return SD_OK;
}

/* Adds what a rank gets of a tensor to its file. */
static enum sd_result add_piece(struct planner *p, size_t number, uint64_t rank, struct sd_output_plan_file *file,
				struct sd_error *err)
{
	const struct sd_tensor *t = &p->tensors[number];
	struct sd_tensor *piece = &p->layout->tensors[p->nplaces];
	uint32_t *place = &p->place[number * p->ranks.count + (rank - p->ranks.first)];
	uint64_t begin, count, *shape;

	*place = NO_PLACE;
	if (!rows_of(p, t, rank, &begin, &count))
		return SD_OK;
	*piece = *t;
	if (t->rank) {
		piece->shape = shape = sd_arena_copy(&p->layout->arena, t->shape, t->rank * sizeof(*shape));
		if (!shape)
			return sd_fail_memory(err);
		shape[0] = count;
	}
	*place = (uint32_t)p->nplaces;
	p->file_of[p->nplaces] = (uint32_t)(file - p->layout->files);
	p->begin[p->nplaces][0] = number;
	p->begin[p->nplaces++][1] = begin;
	file->ntensors++;
	return SD_OK;
}

/* The files of the ranks that get something, and rank 0's in any case. */
static enum sd_result fill_files(struct planner *p, struct sd_error *err)
{
	struct sd_output_plan *layout = p->layout;
	size_t most;

	if (__builtin_mul_overflow(p->whole.ntensors, p->ranks.count, &most) || most >= NO_PLACE)
		return sd_fail(err, SD_INPUT, "%zu tensors, each cut for %" PRIu64 " ranks, are too many",
			       p->whole.ntensors, p->ranks.count);
	layout->files = sd_arena_array(&layout->arena, p->ranks.count, sizeof(*layout->files));
	layout->tensors = sd_arena_array(&layout->arena, most + 1, sizeof(*layout->tensors));
	p->place = calloc(most + 1, sizeof(*p->place));
	p->file_of = calloc(most + 1, sizeof(*p->file_of));
	p->begin = calloc(most + 1, sizeof(*p->begin));
	if (!layout->files || !layout->tensors || !p->place || !p->file_of || !p->begin)
		return sd_fail_memory(err);
	for (uint64_t rank = p->ranks.first; rank < p->ranks.first + p->ranks.count; rank++) {
		struct sd_output_plan_file *file = &layout->files[layout->nfiles];

		*file = (struct sd_output_plan_file){.tensors = layout->tensors + p->nplaces};
		file->name = sd_arena_printf(&layout->arena, SHARD, rank + 1);
		for (size_t i = 0; i < p->whole.ntensors && file->name; i++)
			if (add_piece(p, i, rank, file, err) != SD_OK)
				return err->result;
		if (!file->name)
			return sd_fail_memory(err);
		layout->nfiles += file->ntensors || rank == 0;
	}
	return SD_OK;
}

/* {"w": {"saved_offsets": [3, 0]}, ..}, as Python's json writes it. */
static enum sd_result write_info(const struct planner *p, const struct sd_output_plan_file *file, char **text,
				 struct sd_error *err)
{
	size_t first = (size_t)(file->tensors - p->layout->tensors), length;
	struct sd_memstream *stream;
	FILE *out;

	stream = sd_memstream_open(&out);
	if (!stream)
		return sd_fail_memory(err);
	putc('{', out);
	for (size_t i = 0; i < file->ntensors; i++) {
		const struct sd_tensor *t = &file->tensors[i];

		fputs(i ? ", " : "", out);
		sd_json_write(out, t->name, SD_JSON_ASCII);
		fputs(": {\"saved_offsets\": [", out);
		for (uint32_t k = 0; k < t->rank; k++)
			fprintf(out, "%s%" PRIu64, k ? ", " : "", k ? 0 : p->begin[first + i][1]);
		fputs("]}", out);
	}
	putc('}', out);
	return sd_memstream_close(stream, text, &length) ? SD_OK : sd_fail_memory(err);
}

static enum sd_result make_header(struct planner *p, struct sd_output_plan_file *file, struct sd_entry *metadata,
				  size_t nmetadata, struct sd_error *err)
{
	enum sd_result result;
	char *info;

	if (write_info(p, file, &info, err) != SD_OK)
		return err->result;
	/* In bytewise order: the two are capitals, and what they are called is nobody else's. */
	metadata[0] = (struct sd_entry){SD_DCP_INFO_KEY, info};
	metadata[1] = (struct sd_entry){SD_DCP_VERSION_KEY, SD_DCP_VERSION};
	result = sd_safetensors_header(file->tensors, file->ntensors, metadata, nmetadata, &file->header,
				       &file->header_length, err);
	free(info);
	if (result == SD_INPUT)
		return sd_fail(err, SD_INPUT,
			       "%s: the header of its %zu tensors would be longer than safetensors allows (%u)",
			       file->name, file->ntensors, SD_SAFETENSORS_HEADER_MAX);
	file->size = file->header_length;
	/* What is whole has a possible size, and so have its parts. */
	if (result == SD_OK && file->ntensors)
		file->size += file->tensors[file->ntensors - 1].end;
	return result;
}

static enum sd_result make_headers(struct planner *p, struct sd_error *err)
{
	size_t count;
	struct sd_entry *others = sd_output_plan_metadata(p->in, p->options, &p->layout->arena, &count);
	struct sd_entry *all = sd_arena_array(&p->layout->arena, count + 2, sizeof(*all));
	size_t used = 2;

	if (!others || !all)
		return sd_fail_memory(err);
	for (size_t i = 0; i < count; i++) {
		if (strcmp(others[i].key, SD_DCP_INFO_KEY) == 0 || strcmp(others[i].key, SD_DCP_VERSION_KEY) == 0)
			return sd_fail(err, SD_INPUT,
				       "%s in the metadata is what shards have of their own: it cannot be given",
				       others[i].key);
		all[used++] = others[i];
	}
	for (size_t k = 0; k < p->layout->nfiles; k++)
		if (make_header(p, &p->layout->files[k], all, used, err) != SD_OK)
			return err->result;
	return SD_OK;
}

/* ---- targets ---- */

/* What stands for each new target: where its piece begins. */
static enum sd_result note_places(struct planner *p, size_t before, uint32_t place, struct sd_error *err)
{
	uint32_t file = p->file_of[place];

	for (size_t i = before; i < p->out->ntargets; i++) {
		if (!sd_array_grow(&p->places, i, &p->room, sizeof(*p->places)))
			return sd_fail_memory(err);
		p->places[i] = (struct sd_output_plan_place){file, p->layout->files[file].header_length +
									   p->layout->tensors[place].begin};
	}
	return SD_OK;
}

/* "w [0:4, 0:8]": a piece while it is a tensor of its own, and for people. */
static const char *piece_name(struct planner *p, const struct sd_tensor *piece, uint64_t first)
{
	uint64_t begin[SD_RANK_MAX] = {first}, end[SD_RANK_MAX];
	char text[SD_BOX_TEXT];

	for (uint32_t k = 0; k < piece->rank; k++)
		end[k] = begin[k] + piece->shape[k];
	return sd_arena_printf(&p->out->arena, "%s %s", piece->name, sd_box_text(begin, end, piece->rank, text));
}

/* Adds what a piece takes of a target of the whole. */
static enum sd_result cut_target(struct planner *p, const struct sd_target *t, uint32_t place, struct sd_error *err)
{
	const struct sd_tensor *piece = &p->layout->tensors[place];
	uint64_t begin[SD_RANK_MAX] = {p->begin[place][1]};
	size_t before = p->out->ntargets, added;
	struct sd_target part = *t;
	struct sd_move slice, room;

	if (sd_shape_equal(piece->shape, piece->rank, t->shape, t->rank)) {
		if (!sd_manifest_add_target(p->out, t))
			return sd_fail_memory(err);
		return note_places(p, before, place, err);
	}
	part.shape = piece->shape;
	part.name = piece_name(p, piece, begin[0]);
	if (!part.name)
		return sd_fail_memory(err);
	if (!sd_move_slice(&slice, t->shape, t->rank, begin, piece->shape))
		return sd_fail(err, SD_INPUT, "%s: its shape is too large to be cut", t->name);
	if (sd_manifest_add_moved(p->out, &part, sd_target_move(p->in, t, &room), &slice, &added, err) != SD_OK)
		return err->result;
	return note_places(p, before, place, err);
}

static enum sd_result cut_targets(struct planner *p, struct sd_error *err)
{
	for (size_t i = 0; i < p->in->nrecords; i++)
		if (!sd_manifest_add_record(p->out, &p->in->records[i]))
			return sd_fail_memory(err);
	for (size_t i = 0; i < p->in->ntargets; i++) {
		const struct sd_target *t = &p->in->targets[i];
		uint32_t number;

		if (p->in->records[t->record].state != SD_HERE)
			continue;
		number = sd_names_find(&p->names, t->name);
		for (uint64_t k = 0; k < p->ranks.count; k++) {
			uint32_t place = p->place[number * p->ranks.count + k];

			if (place != NO_PLACE && cut_target(p, t, place, err) != SD_OK)
				return err->result;
		}
	}
	p->layout->places = sd_arena_array(&p->layout->arena, p->out->ntargets + 1, sizeof(*p->places));
	if (!p->layout->places)
		return sd_fail_memory(err);
	if (p->out->ntargets)
		memcpy(p->layout->places, p->places, p->out->ntargets * sizeof(*p->places));
	return SD_OK;
}

/* ---- side files ---- */

/* The number of a file of a consolidated checkpoint: that in "model-00002-of-00003.safetensors". */
static uint64_t number_of(const char *name, size_t otherwise)
{
	unsigned long number, of;
	int end = 0;

	if (sscanf(name, "model-%5lu-of-%5lu.safetensors%n", &number, &of, &end) == 2 && end && !name[end] && number)
		return number;
	return otherwise;
}

struct numbered {
	const char *name;
	uint64_t file;
};

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct numbered *)a)->name, ((const struct numbered *)b)->name);
}

/* {name: number of its file}, as NeMo AutoModel writes it. */
static enum sd_result write_mapping(const struct sd_output_plan *whole, struct sd_arena *arena,
				    struct sd_side_file *file, struct sd_error *err)
{
	struct numbered *all = calloc(whole->ntensors + 1, sizeof(*all));
	struct sd_memstream *stream = NULL;
	size_t n = 0;
	FILE *out;
	char *json = NULL;

	if (all)
		stream = sd_memstream_open(&out);
	for (size_t k = 0; k < whole->nfiles && stream; k++)
		for (size_t i = 0; i < whole->files[k].ntensors; i++)
			all[n++] = (struct numbered){whole->files[k].tensors[i].name,
						     number_of(whole->files[k].name, k + 1)};
	if (n)
		qsort(all, n, sizeof(*all), by_name);
	if (stream)
		putc('{', out);
	for (size_t i = 0; i < n; i++) {
		fputs(i ? ",\n  " : "\n  ", out);
		sd_json_write(out, all[i].name, SD_JSON_ASCII);
		fprintf(out, ": %" PRIu64, all[i].file);
	}
	if (stream)
		fputs(n ? "\n}\n" : "}\n", out);
	free(all);
	if (stream && sd_memstream_close(stream, &json, &file->size))
		file->data = sd_arena_copy(arena, json, file->size);
	free(json);
	return file->data ? SD_OK : sd_fail_memory(err);
}

/* Those of rank 0: what came, and which tensor is in which file once they are put together. */
static enum sd_result add_side_files(struct planner *p, struct sd_error *err)
{
	struct sd_side_file mapping = {.name = SD_HF_METADATA "/" SD_HF_METADATA_FILES};

	if (p->ranks.first != 0)
		return SD_OK;
	for (size_t i = 0; i < p->in->nside; i++) {
		struct sd_side_file side = p->in->side[i];

		side.name = sd_arena_printf(&p->out->arena, SD_HF_METADATA "/%s", side.name);
		if (!side.name || !sd_manifest_add_side(p->out, &side))
			return sd_fail_memory(err);
	}
	if (write_mapping(&p->whole, &p->out->arena, &mapping, err) != SD_OK)
		return err->result;
	return sd_manifest_add_side(p->out, &mapping) ? SD_OK : sd_fail_memory(err);
}

/* ---- all of it ---- */

static enum sd_result plan(struct planner *p, struct sd_error *err)
{
	struct sd_output_plan_options options = *p->options;
	enum sd_result result;

	options.directory = true;
	options.like = NULL;
	result = sd_output_plan_make(p->in, &options, &p->whole, err);
	if (result == SD_OK)
		result = check_tensors(p, err);
	if (result == SD_OK)
		result = sort_tensors(p, err);
	if (result == SD_OK)
		result = fill_files(p, err);
	if (result == SD_OK)
		result = make_headers(p, err);
	if (result == SD_OK)
		result = cut_targets(p, err);
	if (result == SD_OK)
		result = add_side_files(p, err);
	p->layout->ntensors = p->whole.ntensors;
	p->layout->left_out = p->whole.left_out;
	p->layout->bytes = p->whole.bytes;
	return result;
}

enum sd_result sd_dcp_plan_make(const struct sd_manifest *manifest, const struct sd_output_plan_options *options,
				const struct sd_dcp_ranks *ranks, struct sd_output_plan *layout,
				struct sd_manifest **pieces, struct sd_error *err)
{
	struct planner p = {.in = manifest, .options = options, .ranks = *ranks, .layout = layout};
	enum sd_result result;

	*layout = (struct sd_output_plan){0};
	p.out = *pieces = sd_manifest_new();
	result = p.out ? plan(&p, err) : sd_fail_memory(err);
	layout->all = layout->files;
	layout->nall = layout->nfiles;
	sd_output_plan_free(&p.whole);
	sd_names_free(&p.names);
	free(p.tensors);
	free(p.place);
	free(p.file_of);
	free(p.begin);
	free(p.places);
	return result;
}

enum sd_result sd_dcp_check_no_shard(const char *directory, uint64_t rank, struct sd_error *err)
{
	struct stat st;
	char *path;
	bool there;

	if (asprintf(&path, "%s/" SHARD, directory, rank + 1) < 0)
		return sd_fail_memory(err);
	there = lstat(path, &st) == 0;
	free(path);
	return there ? sd_fail(err, SD_IO,
			       "%s/" SHARD " stands there, and rank %" PRIu64
			       " gets no part of any tensor now: remove it",
			       directory, rank + 1, rank)
		     : SD_OK;
}

bool sd_dcp_is_of(const char *name, uint64_t ranks)
{
	unsigned long rank;
	int end = 0;

	return sscanf(name, "shard-%lu-model-00001-of-00001.safetensors%n", &rank, &end) == 1 && end && !name[end] &&
	       rank >= 1 && rank <= ranks;
}
