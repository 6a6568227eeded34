/* SPDX-License-Identifier: Apache-2.0 */
/* sd-ls -d: what a checkpoint is, in one line: family and layout, layers, experts, parameters, dtypes. */
#include "base/advice.h"
#include "base/json.h"
#include "base/names.h"
#include "base/text.h"
#include "base/units.h"
#include "renaming/rename.h"
#include "model/config_json.h"
#include "model/siblings.h"
#include "model/stack.h"
#include "tools/ls.h"
#include "tools/maps.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define NUMBERS_MAX 65536 /* layers and experts with larger numbers are not counted */
#define MODULES_MAX 64

/* ---- looking ---- */

/* Numbers that were seen. */
struct seen {
	unsigned char there[NUMBERS_MAX / 8];
	size_t count;
};

struct kind {
	const struct ls_source *s;
	struct sd_arena arena;
	const char *family, *layout, *quant;
	const char *wrapper; /* whose word stands in front of names: the layout is that behind it */
	const char **fits;
	size_t nfits, fits_room;
	const char *modules[MODULES_MAX]; /* that an adapter is for */
	size_t nmodules;
	bool adapter;
	uint64_t rank;
	uint64_t layers, experts, params, bytes, files;
	struct share {
		uint64_t tensors, params, bytes;
	} dtypes[SD_DTYPES];
	bool failed; /* memory was out */
};

static const char *keep(struct kind *k, const char *text, size_t length)
{
	const char *kept = sd_arena_text(&k->arena, text, length);

	k->failed = k->failed || !kept;
	return kept;
}

static void see(struct seen *seen, uint32_t number)
{
	unsigned char bit = (unsigned char)(1u << number % 8);

	if (number >= NUMBERS_MAX || seen->there[number / 8] & bit)
		return;
	seen->there[number / 8] |= bit;
	seen->count++;
}

static void count_layers(struct kind *k, struct seen *seen)
{
	size_t length, stack;
	const char *main_stack = sd_stack_main(k->s->source->manifest, &length);
	uint32_t number;

	for (size_t i = 0; main_stack && i < k->s->listing.n; i++) {
		const char *name = k->s->listing.tensors[i].name;

		if (strncmp(name, main_stack, length) == 0 &&
		    sd_stack_number(name, main_stack, length, &stack, &number))
			see(seen, number);
	}
	k->layers = seen->count;
}

/* Whether a tensor holds the experts of a layer, by its name: a part of it is "experts", without a number behind. */
static bool holds_experts(const char *name)
{
	static const char word[] = "experts.";
	const char *at = strstr(name, word);

	return at && (at == name || at[-1] == '.');
}

/* Those with numbers; where there are none, as many as the tensors that hold a layer's have. */
static void count_experts(struct kind *k, struct seen *seen)
{
	uint64_t most = 0;
	size_t stack;
	uint32_t number;

	for (size_t i = 0; i < k->s->listing.n; i++) {
		const struct sd_listed *t = &k->s->listing.tensors[i];

		if (sd_stack_number(t->name, "experts", 7, &stack, &number))
			see(seen, number);
		else if (t->rank >= 3 && holds_experts(t->name) && t->shape[0] > most)
			most = t->shape[0];
	}
	k->experts = seen->count > most ? seen->count : most;
}

static void count_dtypes(struct kind *k)
{
	for (size_t i = 0; i < k->s->nshown; i++) {
		const struct sd_listed *t = &k->s->listing.tensors[k->s->shown[i]];
		struct share *share = &k->dtypes[t->dtype];

		share->tensors++;
		share->params += t->elements;
		share->bytes += t->bytes;
		k->params += t->elements;
		k->bytes += t->bytes;
	}
}

/* Records are in the order of their files; a tensor may have several. */
static void count_files(struct kind *k)
{
	const struct sd_source *source = k->s->source;
	const char *last = NULL, *file;
	uint64_t offset;

	for (uint32_t i = 0; i < source->manifest->nrecords && source->ops->place; i++) {
		if (!source->ops->place(source, i, &file, &offset) || file == last)
			continue;
		last = file;
		k->files++;
	}
}

/* The module of "...q_proj.lora_A.weight", once. What PEFT wraps a second time is called base_layer in between. */
static void add_module(struct kind *k, const char *name, const char *lora)
{
	static const char between[] = ".base_layer";
	const char *begin = lora;
	size_t length = strlen(between);

	while ((size_t)(begin - name) > length && memcmp(begin - length, between, length) == 0)
		begin -= length;
	lora = begin;
	while (begin > name && begin[-1] != '.')
		begin--;
	length = (size_t)(lora - begin);
	for (size_t i = 0; i < k->nmodules; i++)
		if (strncmp(k->modules[i], begin, length) == 0 && !k->modules[i][length])
			return;
	if (k->nmodules < MODULES_MAX && keep(k, begin, length))
		k->modules[k->nmodules++] = keep(k, begin, length);
}

static int natural(const void *a, const void *b)
{
	return sd_text_natural(*(const char *const *)a, *(const char *const *)b);
}

static void take_number(void *user, const char *value)
{
	uint64_t *number = user;

	if (!*number && !sd_text_number(value, number))
		*number = 0;
}

/* Where config.json of the adapter does not say the rank, the shortest side of its first matrix does. */
static void look_at_adapter(struct kind *k)
{
	const struct sd_side_file *config = sd_manifest_side(k->s->source->manifest, "adapter_config.json");
	uint64_t shortest = 0;

	for (size_t i = 0; i < k->s->listing.n; i++) {
		const struct sd_listed *t = &k->s->listing.tensors[i];
		const char *lora = strstr(t->name, ".lora_");

		if (!lora)
			continue;
		k->adapter = true;
		add_module(k, t->name, lora);
		if (!shortest && t->rank >= 2)
			shortest = t->shape[t->rank - 1] < t->shape[t->rank - 2] ? t->shape[t->rank - 1]
										 : t->shape[t->rank - 2];
	}
	if (k->adapter && config)
		sd_config_find(config, "r", take_number, &k->rank);
	k->rank = k->rank ? k->rank : shortest;
	if (k->nmodules)
		qsort(k->modules, k->nmodules, sizeof(*k->modules), natural);
}

struct text {
	struct kind *kind;
	const char *text;
};

static void take_text(void *user, const char *value)
{
	struct text *t = user;

	if (!t->text)
		t->text = keep(t->kind, value, strlen(value));
}

static const char *config_text(struct kind *k, const char *file, const char *field)
{
	const struct sd_side_file *side = sd_manifest_side(k->s->source->manifest, file);
	struct text found = {k, NULL};

	if (side)
		sd_config_find(side, field, take_text, &found);
	return found.text;
}

/* What config.json says of quantisation: the method, and how. */
static void look_at_quant(struct kind *k)
{
	static const char *const details[] = {"quantization_config.format", "quantization_config.fmt",
					      "quantization_config.bits"};
	const char *method = config_text(k, "config.json", "quantization_config.quant_method"), *detail = NULL;

	if (!method)
		method = config_text(k, "hf_quant_config.json", "quantization.quant_algo");
	for (size_t i = 0; method && !detail && i < sizeof(details) / sizeof(*details); i++)
		detail = config_text(k, "config.json", details[i]);
	k->quant = detail ? sd_arena_printf(&k->arena, "%s %s", method, detail) : method;
	k->failed = k->failed || (method && !k->quant);
}

static void take_fit(void *user, const char *map, const char *layout, bool sure)
{
	struct kind *k = user;
	const char *fit = sd_arena_printf(&k->arena, "%s %s", map, layout);

	if (!k->nfits && sure) {
		k->family = k->family ? k->family : keep(k, map, strlen(map));
		k->layout = keep(k, layout, strlen(layout));
	}
	if (fit && sd_array_grow(&k->fits, k->nfits, &k->fits_room, sizeof(*k->fits)))
		k->fits[k->nfits++] = fit;
	else
		k->failed = true;
}

/* The first word of a wrapper that names have; NULL: none. */
static const char *find_wrapper(const struct sd_manifest *m)
{
	for (size_t i = 0; i < m->ntargets; i++)
		for (size_t w = 0; sd_wrapper_words[w]; w++) {
			const char *word = sd_wrapper_words[w], *name = m->targets[i].name;
			const char *at = *word == '_' ? strstr(name, word) : NULL;

			if (strncmp(name, word, strlen(word)) == 0 || (at && at[-1] == '.'))
				return word;
		}
	return NULL;
}

/* An edit that takes the words of wrappers off: in front each of them, further back what no module is called. */
static char *unwrap_edit(struct sd_arena *arena)
{
	char *front = "module", *behind = "";

	for (size_t w = 1; sd_wrapper_words[w] && front && behind; w++) {
		int length = (int)strlen(sd_wrapper_words[w]) - 1;

		front = sd_arena_printf(arena, "%s|%.*s", front, length, sd_wrapper_words[w]);
		behind = sd_arena_printf(arena, "%s%s%.*s", behind, w > 1 ? "|" : "", length, sd_wrapper_words[w]);
	}
	return front && behind ? sd_arena_printf(arena, "s/^((%s)[.])+|(?<=[.])((%s)[.])+//g", front, behind) : NULL;
}

/* What all names have in front of what those of released models begin with; NULL: nothing. */
static const char *find_front(struct kind *k)
{
	const struct sd_manifest *m = k->s->source->manifest;
	size_t length = 0;
	const char *name = sd_unusual_beginning(m, &length);

	if (!name || !length || k->adapter)
		return NULL;
	for (size_t i = 0; i < m->ntargets; i++)
		if (strncmp(m->targets[i].name, name, length) != 0)
			return NULL;
	return keep(k, name, length);
}

/* What it is once names are edited. */
static enum sd_result look_behind(struct kind *k, const char *text, struct sd_error *err)
{
	struct sd_edit *edit = NULL;
	struct sd_rename rename = {.edits = (const struct sd_edit *const *)&edit, .nedits = 1};
	struct sd_plan plan = {0};
	struct sd_error own;
	enum sd_result result = text ? sd_edit_new(text, &edit, err) : sd_fail_memory(err);

	/* Where names would be the same then, nothing is known of it. */
	if (result == SD_OK && sd_rename_plan(&rename, k->s->source->manifest, &plan, &own) == SD_OK)
		result = sd_maps_layouts(plan.manifest, take_fit, k, err);
	else if (result == SD_OK && own.result == SD_IO)
		result = sd_fail_memory(err);
	sd_plan_free(&plan);
	sd_edit_free(edit);
	return result;
}

static enum sd_result look(struct kind *k, struct sd_error *err)
{
	struct seen *seen = calloc(2, sizeof(*seen));
	enum sd_result result = SD_OK;
	const char *front;

	if (!seen)
		return sd_fail_memory(err);
	count_layers(k, &seen[0]);
	count_experts(k, &seen[1]);
	free(seen);
	count_dtypes(k);
	count_files(k);
	look_at_adapter(k);
	look_at_quant(k);
	k->family = config_text(k, "config.json", "model_type");
	k->wrapper = find_wrapper(k->s->source->manifest);
	front = k->wrapper ? NULL : find_front(k);
	if (k->wrapper)
		result = look_behind(k, unwrap_edit(&k->arena), err);
	else if (front)
		result = look_behind(k, sd_advice_edit(&k->arena, SD_ADVICE_FRONT, front, strlen(front), ""), err);
	/* What no map knows without it is no wrapper. */
	if (result == SD_OK && front && k->nfits)
		k->wrapper = front;
	if (result == SD_OK && !k->wrapper)
		result = sd_maps_layouts(k->s->source->manifest, take_fit, k, err);
	return result == SD_OK && k->failed ? sd_fail_memory(err) : result;
}

/* ---- for programs ---- */

static void print_text(const char *text)
{
	sd_text_print(stdout, text ? text : "-");
	putchar('\t');
}

static void print_list(const char *const *texts, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (i)
			putchar(',');
		sd_text_print(stdout, texts[i]);
	}
	fputs(n ? "\t" : "-\t", stdout);
}

/* Those that are there, with commas between. */
static void write_dtypes(FILE *out, const struct kind *k, const char *between)
{
	bool first = true;

	for (int i = 0; i < SD_DTYPES; i++) {
		if (!k->dtypes[i].tensors)
			continue;
		fprintf(out, "%s%s", first ? "" : between, sd_dtype_name((enum sd_dtype)i));
		first = false;
	}
}

static void print_tsv(const struct kind *k)
{
	print_text(k->s->name);
	print_text(k->family);
	print_text(k->layout);
	printf("%" PRIu64 "\t%" PRIu64 "\t%zu\t%" PRIu64 "\t%" PRIu64 "\t", k->layers, k->experts, k->s->nshown,
	       k->params, k->bytes);
	if (!k->s->nshown)
		putchar('-');
	write_dtypes(stdout, k, ",");
	printf("\t%" PRIu64 "\t", k->files);
	print_list(k->modules, k->nmodules);
	if (k->adapter)
		printf("%" PRIu64 "\t", k->rank);
	else
		fputs("-\t", stdout);
	print_text(k->quant);
	sd_text_print(stdout, k->nfits ? k->fits[0] : "-");
	for (size_t i = 1; i < k->nfits; i++) {
		putchar(',');
		sd_text_print(stdout, k->fits[i]);
	}
	if (k->s->sums)
		printf("\t%016" PRIx64, k->s->sum);
	putchar('\n');
}

static void print_string(const char *name, const char *text)
{
	printf("\"%s\":", name);
	if (text)
		sd_json_write(stdout, text, SD_JSON_ASCII);
	else
		printf("null");
	putchar(',');
}

static void print_strings(const char *name, const char *const *texts, size_t n)
{
	printf("\"%s\":[", name);
	for (size_t i = 0; i < n; i++) {
		if (i)
			putchar(',');
		sd_json_write(stdout, texts[i], SD_JSON_ASCII);
	}
	putchar(']');
}

static void print_json(const struct kind *k)
{
	const char *open = "";

	putchar('{');
	print_string("source", k->s->name);
	print_string("family", k->family);
	print_string("layout", k->layout);
	print_strings("fits", k->fits, k->nfits);
	printf(",\"layers\":%" PRIu64 ",\"experts\":%" PRIu64 ",\"tensors\":%zu,\"params\":%" PRIu64
	       ",\"bytes\":%" PRIu64 ",\"dtypes\":{",
	       k->layers, k->experts, k->s->nshown, k->params, k->bytes);
	for (int i = 0; i < SD_DTYPES; i++) {
		const struct share *share = &k->dtypes[i];

		if (!share->tensors)
			continue;
		printf("%s\"%s\":{\"tensors\":%" PRIu64 ",\"params\":%" PRIu64 ",\"bytes\":%" PRIu64 "}", open,
		       sd_dtype_name((enum sd_dtype)i), share->tensors, share->params, share->bytes);
		open = ",";
	}
	printf("},\"files\":%" PRIu64 ",\"lora\":", k->files);
	if (k->adapter) {
		printf("{\"r\":%" PRIu64 ",", k->rank);
		print_strings("modules", k->modules, k->nmodules);
		printf("},");
	} else {
		printf("null,");
	}
	printf("\"quant\":");
	if (k->quant)
		sd_json_write(stdout, k->quant, SD_JSON_ASCII);
	else
		printf("null");
	printf(",\"behind\":");
	if (k->wrapper)
		sd_json_write(stdout, k->wrapper, SD_JSON_ASCII);
	else
		printf("null");
	if (k->s->sums)
		printf(",\"xxh3\":\"%016" PRIx64 "\"", k->s->sum);
	puts("}");
}

/* ---- for people ---- */

static void write_layout(FILE *out, const struct kind *k)
{
	if (k->adapter) {
		fprintf(out, "lora r=%" PRIu64, k->rank);
		for (size_t i = 0; i < k->nmodules; i++) {
			fputc(i ? ',' : ' ', out);
			sd_text_print(out, k->modules[i]);
		}
		return;
	}
	sd_text_print(out, k->family ? k->family : "?");
	fputc(' ', out);
	sd_text_print(out, k->layout ? k->layout : "?");
	if (k->wrapper)
		fprintf(out, " behind %s", k->wrapper);
	if (k->quant) {
		fputc(' ', out);
		sd_text_print(out, k->quant);
	}
}

/* A number, or - for none. */
static void write_number(FILE *out, uint64_t number)
{
	if (number)
		fprintf(out, "%" PRIu64, number);
	else
		fputc('-', out);
}

static void write_cells(FILE *out, const struct ls_options *opt, const struct kind *k)
{
	char text[SD_UNITS_TEXT];

	sd_text_print(out, k->s->name);
	fputc('\0', out);
	write_layout(out, k);
	fputc('\0', out);
	write_number(out, k->layers);
	fputc('\0', out);
	write_number(out, k->experts);
	fprintf(out, "%c%zu%c%s%c", '\0', k->s->nshown, '\0', sd_units_count(k->params, text), '\0');
	write_dtypes(out, k, " ");
	fputc('\0', out);
	if (opt->exact)
		fprintf(out, "%" PRIu64, k->bytes);
	else
		fputs(sd_units_bytes(k->bytes, text), out);
	fputc('\0', out);
	if (k->s->sums)
		fprintf(out, "%016" PRIx64, k->s->sum);
	fputc('\0', out);
}

bool ls_kinds_open(const struct ls_options *opt, struct ls_kinds *kinds)
{
	static const char titles[] = "\0layout\0layers\0experts\0tensors\0params\0dtypes\0size";

	*kinds = (struct ls_kinds){.n = 1};
	kinds->stream = sd_memstream_open(&kinds->out);
	if (!kinds->stream)
		return false;
	fwrite(titles, 1, sizeof(titles), kinds->out);
	fprintf(kinds->out, "%s%c", opt->checksum ? "xxh3" : "", '\0');
	return true;
}

enum sd_result ls_kind(const struct ls_options *opt, const struct ls_source *s, struct ls_kinds *kinds,
		       struct sd_error *err)
{
	struct kind k = {.s = s};
	enum sd_result result = look(&k, err);

	if (result == SD_OK && opt->look.human && !opt->quiet) {
		write_cells(kinds->out, opt, &k);
		kinds->n++;
	} else if (result == SD_OK && !opt->quiet) {
		(opt->form.json ? print_json : print_tsv)(&k);
	}
	free(k.fits);
	sd_arena_free(&k.arena);
	return result;
}

#define CELLS 9

static bool is_right(size_t cell)
{
	return cell >= 2 && cell != 6 && cell != 8;
}

static size_t gap_before(size_t cell)
{
	return cell == 0 ? 0 : cell == 1 || cell == 8 ? 2 : 1;
}

static void print_cells(const struct ls_options *opt, const char *cell, size_t n, const size_t width[CELLS])
{
	for (size_t i = 0; i < n * CELLS; i++, cell += strlen(cell) + 1) {
		size_t column = i % CELLS, pad = width[column] - sd_look_columns(cell);

		if (i == 0)
			sd_ink(stdout, &opt->look, SD_INK_HEADING);
		if (width[column])
			sd_look_pad(stdout, gap_before(column));
		if (is_right(column))
			sd_look_pad(stdout, pad);
		fputs(cell, stdout);
		if (column + 1 < CELLS && !is_right(column))
			sd_look_pad(stdout, pad);
		if (i + 1 == CELLS)
			sd_ink(stdout, &opt->look, SD_INK_NONE);
		if (column + 1 == CELLS)
			putchar('\n');
	}
}

/* Where there is no room for columns, each source has lines of its own, with what it has of the columns. */
static void write_blocks(FILE *out, const struct ls_options *opt, const char *cell, size_t n)
{
	static const char *const units[CELLS] = {NULL,         NULL, "layers", "experts", "tensors",
						 "parameters", NULL, NULL,     NULL};

	const char *between = "";

	for (size_t i = 0; i < n * CELLS; i++, cell += strlen(cell) + 1) {
		size_t column = i % CELLS;

		if (i < CELLS)
			continue;
		if (column == 0)
			sd_ink(out, &opt->look, SD_INK_HEADING);
		if (column == 0 || (*cell && strcmp(cell, "-") != 0)) {
			fprintf(out, "%s%s%s%s", between, cell, units[column] ? " " : "",
				units[column] ? units[column] : "");
			between = column < 2 ? "\n  " : ", ";
		}
		if (column == 0)
			sd_ink(out, &opt->look, SD_INK_NONE);
		if (column + 1 == CELLS) {
			fputc('\n', out);
			between = "";
		}
	}
}

static bool print_blocks(const struct ls_options *opt, const char *cell, size_t n)
{
	FILE *out;
	struct sd_memstream *stream = sd_memstream_open(&out);

	if (!stream)
		return false;
	write_blocks(out, opt, cell, n);
	return sd_look_close(stream, &opt->look);
}

bool ls_kinds_print(const struct ls_options *opt, struct ls_kinds *kinds)
{
	size_t width[CELLS] = {0}, all = 0, length, n = kinds->n > 1 ? kinds->n : 0;
	bool memory = true;
	char *text;
	const char *cell;

	if (!sd_memstream_close(kinds->stream, &text, &length))
		return false;
	cell = text;
	for (size_t i = 0; i < n * CELLS; i++, cell += strlen(cell) + 1) {
		size_t columns = sd_look_columns(cell);

		width[i % CELLS] = columns > width[i % CELLS] ? columns : width[i % CELLS];
	}
	for (size_t i = 0; i < CELLS; i++)
		all += width[i] ? gap_before(i) + width[i] : 0;
	if (all <= opt->look.width)
		print_cells(opt, text, n, width);
	else
		memory = print_blocks(opt, text, n);
	free(text);
	return memory;
}
