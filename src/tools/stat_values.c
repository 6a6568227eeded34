/* SPDX-License-Identifier: Apache-2.0 */
/* sd-stat --values: elements of tensors, chosen as numpy does. */
#include "base/checked.h"
#include "base/glob.h"
#include "base/json.h"
#include "base/names.h"
#include "base/text.h"
#include "tools/stat.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Without a SLICE, of a dimension that is longer than this its ends are shown, of so many elements each. */
#define SHORT 6
#define EDGE 3

/* More elements than this are nothing that one looks at; --values is not for taking data out. */
#define ELEMENTS_MOST (1U << 20)

/* What is chosen of a dimension: first, first + step, .. , count of them. ends: EDGE at each end instead. */
struct range {
	uint64_t first, step, count;
	bool ends;
};

/* One --values. */
struct wish {
	const char *text;
	struct sd_glob *name;
	const char *slice; /* NULL: none */
};

/* A wish for one tensor. */
struct picked {
	const char *name;
	char *kept;
	uint64_t *shape;
	uint32_t rank;
	uint8_t dtype;
	struct range *range; /* by dimension */
	uint64_t count;
	double *values; /* of C64 two each */
	bool *there;    /* by element */
	uint32_t next;  /* the next one of the same tensor */
};

struct values {
	struct stat_observer observer; /* first */
	struct wish *wishes;
	size_t nwishes;
	struct picked *at;
	size_t n, room;
	struct sd_names names; /* to the first one of a tensor */
};

/* ---- reading NAME[SLICE] ---- */

/* A number that may be negative; false where there is none. */
static bool read_number(const char **at, int64_t *number)
{
	bool negative = **at == '-';
	const char *digit = *at + negative;
	uint64_t n = 0;

	if (*digit < '0' || *digit > '9')
		return false;
	for (; *digit >= '0' && *digit <= '9'; digit++)
		if (!sd_mul(n, 10, &n) || !sd_add(n, (uint64_t)(*digit - '0'), &n) || n > INT64_MAX)
			return false;
	*number = negative ? -(int64_t)n : (int64_t)n;
	*at = digit;
	return true;
}

/* As numpy has it: from the end if negative, and cut to what is there. */
static uint64_t bound(int64_t number, uint64_t size)
{
	if (number < 0)
		return (uint64_t)-number > size ? 0 : size - (uint64_t)-number;
	return (uint64_t)number > size ? size : (uint64_t)number;
}

/* One of "3", "-1", "0:4", ":", "::2", behind which is a comma or the end. false: it is none of them, or too large. */
static bool read_range(const char **at, uint64_t size, struct range *r)
{
	int64_t first = 0, last, step = 1;
	bool one = read_number(at, &first);
	uint64_t end = size;

	if (one && **at != ':') {
		r->first = first < 0 ? size - (uint64_t)-first : (uint64_t)first;
		r->count = r->step = 1;
		return first < 0 ? (uint64_t)-first <= size : (uint64_t)first < size;
	}
	if (**at != ':')
		return false;
	++*at;
	if (read_number(at, &last))
		end = bound(last, size);
	if (**at == ':') {
		++*at;
		if (read_number(at, &step) && step <= 0)
			return false;
	}
	r->first = bound(first, size);
	r->step = (uint64_t)step;
	r->count = end > r->first ? (end - r->first - 1) / r->step + 1 : 0;
	return true;
}

/* What is chosen of a tensor; dimensions that are not named are whole. */
static bool read_slice(const char *slice, const struct picked *p)
{
	for (uint32_t k = 0; k < p->rank; k++) {
		p->range[k] = (struct range){0, 1, p->shape[k], false};
		if (!slice && p->shape[k] > SHORT)
			p->range[k] = (struct range){0, 1, (uint64_t)2 * EDGE, true};
	}
	if (!slice)
		return true;
	slice++;
	for (uint32_t k = 0; *slice != ']'; k++) {
		if (k >= p->rank || !read_range(&slice, p->shape[k], &p->range[k]))
			return false;
		if (*slice == ',' && slice[1] != ']')
			slice++;
		else if (*slice != ']')
			return false;
	}
	return slice[1] == '\0';
}

static enum sd_result read_wish(struct wish *wish, const char *text, struct sd_selection *choice, struct sd_error *err)
{
	size_t length = strlen(text);
	const char *open = length && text[length - 1] == ']' ? strrchr(text, '[') : NULL;
	char *name = open ? strndup(text, (size_t)(open - text)) : strdup(text);
	enum sd_result result = name ? SD_OK : sd_fail_memory(err);

	wish->text = text;
	wish->slice = open;
	if (open && strspn(open + 1, "0123456789:,-") + 2 != strlen(open))
		result = sd_fail(err, SD_USAGE, "--values: \"%s\" is no slice, such as [3,0:4]", open);
	if (result == SD_OK)
		result = sd_glob_new(name, &wish->name, err);
	if (result == SD_OK)
		result = sd_selection_add_name(choice, name, err);
	free(name);
	return result;
}

/* ---- picking ---- */

/* The place of number i of what is chosen of a dimension. */
static uint64_t place_in(const struct range *r, uint64_t size, uint64_t i)
{
	return r->ends && i >= EDGE ? size - 2 * EDGE + i : r->first + i * r->step;
}

/* The number among what is chosen of a dimension; false where it is not chosen. */
static bool number_in(const struct range *r, uint64_t size, uint64_t place, uint64_t *number)
{
	if (r->ends) {
		*number = place < EDGE ? place : place - (size - 2 * EDGE);
		return place < EDGE || place >= size - EDGE;
	}
	*number = place < r->first ? 0 : (place - r->first) / r->step;
	return place >= r->first && (place - r->first) % r->step == 0 && *number < r->count;
}

static bool allocate(struct values *v, struct picked *p, const struct sd_target *t)
{
	uint32_t first;

	p->kept = strdup(t->name);
	p->shape = malloc((t->rank + 1) * sizeof(*p->shape));
	p->range = calloc(t->rank + 1, sizeof(*p->range));
	if (!p->kept || !p->shape || !p->range)
		return false;
	if (t->rank)
		memcpy(p->shape, t->shape, t->rank * sizeof(*p->shape));
	p->rank = t->rank;
	p->dtype = t->dtype;
	p->name = p->kept;
	first = sd_names_add(&v->names, p->name, (uint32_t)v->n);
	p->next = UINT32_MAX;
	if (first != SD_NO_NAME && first != v->n) {
		p->next = v->at[first].next;
		v->at[first].next = (uint32_t)v->n;
	}
	return first != SD_NO_NAME;
}

static enum sd_result pick(struct values *v, const struct wish *wish, const struct sd_target *t, struct sd_error *err)
{
	struct picked *p;
	char shape[SD_SHAPE_TEXT];

	if (!sd_array_grow(&v->at, v->n, &v->room, sizeof(*v->at)))
		return sd_fail_memory(err);
	p = &v->at[v->n];
	*p = (struct picked){.count = 1};
	if (!allocate(v, p, t)) {
		v->n++;
		return sd_fail_memory(err);
	}
	v->n++;
	if (!read_slice(wish->slice, p))
		return sd_fail(err, SD_INPUT, "%s has the shape %s, in which there is no %s", t->name,
			       sd_shape_brief(t->shape, t->rank, shape, sizeof(shape)), wish->slice);
	for (uint32_t k = 0; k < p->rank; k++)
		if (!sd_mul(p->count, p->range[k].count, &p->count) || p->count > ELEMENTS_MOST)
			return sd_fail(err, SD_INPUT, "%s: more than %u elements are chosen: choose fewer", wish->text,
				       ELEMENTS_MOST);
	p->values = calloc((size_t)p->count * 2 + 1, sizeof(*p->values));
	p->there = calloc((size_t)p->count + 1, sizeof(*p->there));
	return p->values && p->there ? SD_OK : sd_fail_memory(err);
}

static enum sd_result prepare(struct stat_observer *observer, const struct sd_manifest *m, struct sd_error *err)
{
	struct values *v = (struct values *)observer;
	enum sd_result result = SD_OK;

	for (size_t w = 0; w < v->nwishes && result == SD_OK; w++) {
		struct sd_names seen = {0};

		for (size_t i = 0; i < m->ntargets && result == SD_OK; i++) {
			bool yes = false;
			uint32_t number = sd_names_add(&seen, m->targets[i].name, (uint32_t)i);

			if (number == SD_NO_NAME)
				result = sd_fail_memory(err);
			else if (number == i)
				result = sd_glob_matches(v->wishes[w].name, m->targets[i].name, &yes, err);
			if (result == SD_OK && yes)
				result = pick(v, &v->wishes[w], &m->targets[i], err);
		}
		sd_names_free(&seen);
	}
	return result;
}

/* Where an element is among those that are picked; false where it is not. */
static bool find(const struct picked *p, uint64_t element, uint64_t *at)
{
	uint64_t stride = 1, number;

	*at = 0;
	for (uint32_t k = p->rank; k-- > 0;) {
		if (!number_in(&p->range[k], p->shape[k], element % p->shape[k], &number))
			return false;
		*at += number * stride;
		stride *= p->range[k].count;
		element /= p->shape[k];
	}
	return true;
}

static void take(void *observer, const struct sd_target *tensor, uint64_t first, const double *values, size_t count)
{
	struct values *v = observer;
	unsigned parts = sd_statistics_parts(tensor->dtype);

	for (uint32_t i = sd_names_find(&v->names, tensor->name); i < v->n; i = v->at[i].next) {
		struct picked *p = &v->at[i];
		uint64_t at;

		for (size_t k = 0; k < count / parts; k++) {
			if (!find(p, first + k, &at))
				continue;
			memcpy(&p->values[at * parts], &values[k * parts], parts * sizeof(*values));
			p->there[at] = true;
		}
	}
}

enum sd_result stat_values_new(const struct stat_options *opt, struct sd_selection *choice,
			       struct stat_observer **observer, struct sd_error *err)
{
	struct values *v = calloc(1, sizeof(*v));
	enum sd_result result = SD_OK;

	*observer = (struct stat_observer *)v;
	if (!v)
		return sd_fail_memory(err);
	*v = (struct values){.observer = {prepare, take}, .wishes = calloc(opt->nvalues, sizeof(*v->wishes))};
	if (!v->wishes)
		return sd_fail_memory(err);
	for (; v->nwishes < opt->nvalues && result == SD_OK; v->nwishes++)
		result = read_wish(&v->wishes[v->nwishes], opt->values[v->nwishes], choice, err);
	return result;
}

void stat_values_free(struct stat_observer *observer)
{
	struct values *v = (struct values *)observer;

	if (!v)
		return;
	for (size_t i = 0; i < v->nwishes; i++)
		sd_glob_free(v->wishes[i].name);
	for (size_t i = 0; i < v->n; i++) {
		free(v->at[i].kept);
		free(v->at[i].shape);
		free(v->at[i].range);
		free(v->at[i].values);
		free(v->at[i].there);
	}
	sd_names_free(&v->names);
	free(v->wishes);
	free(v->at);
	free(v);
}

/* ---- printing ---- */

static void write_index(FILE *out, const struct picked *p, uint64_t at)
{
	uint64_t place[SD_RANK_MAX];

	for (uint32_t k = p->rank; k-- > 0;) {
		place[k] = place_in(&p->range[k], p->shape[k], at % p->range[k].count);
		at /= p->range[k].count;
	}
	fputc('[', out);
	for (uint32_t k = 0; k < p->rank; k++)
		fprintf(out, "%s%" PRIu64, k ? "," : "", place[k]);
	fputc(']', out);
}

/* As many digits as tell it from its neighbours; for people a few. */
static void write_value(FILE *out, const struct stat_options *opt, const struct picked *p, uint64_t at)
{
	int digits = opt->look.human ? 5 : p->dtype == SD_C64 || sd_dtype_bits(p->dtype) <= 32 ? 9 : 17;

	digits = !opt->look.human && (p->dtype == SD_U32 || p->dtype == SD_I32) ? 10 : digits;
	if (!p->there[at])
		fputc('-', out);
	else if (p->dtype == SD_C64)
		fprintf(out, "%.*g%+.*gj", digits, p->values[2 * at], digits, p->values[2 * at + 1]);
	else if (opt->look.human && (p->dtype == SD_U64 || p->dtype == SD_I64 || !sd_dtype_is_float(p->dtype)))
		fprintf(out, "%.17g", p->values[at]);
	else
		fprintf(out, "%.*g", digits, p->values[at]);
}

static void print_json(const struct stat_options *opt, const struct stat_source *s, const struct picked *p, uint64_t at)
{
	bool plain = p->dtype != SD_C64 && isfinite(p->values[at]) && p->there[at];

	printf("{\"name\":");
	sd_json_write(stdout, p->name, SD_JSON_ASCII);
	printf(",\"index\":");
	write_index(stdout, p, at);
	printf(plain ? ",\"value\":" : ",\"value\":\"");
	write_value(stdout, opt, p, at);
	fputs(plain ? "" : "\"", stdout);
	if (opt->count > 1)
		sd_json_member(stdout, "source", s->name);
	puts("}");
}

static void print_tsv(const struct stat_options *opt, const struct stat_source *s, const struct picked *p, uint64_t at)
{
	sd_text_print(stdout, p->name);
	putchar('\t');
	write_index(stdout, p, at);
	putchar('\t');
	write_value(stdout, opt, p, at);
	if (opt->count > 1) {
		putchar('\t');
		sd_text_print(stdout, s->name);
	}
	putchar('\n');
}

#define CELL_TEXT 80
#define GAP "  ..."

/* An element as people see it, or its index; how long that is. */
static size_t value_text(const struct stat_options *opt, const struct picked *p, uint64_t at, char text[CELL_TEXT])
{
	FILE *out = fmemopen(text, CELL_TEXT, "w");

	*text = '\0';
	if (!out)
		return 0;
	write_value(out, opt, p, at);
	fclose(out);
	return strlen(text);
}

static size_t index_text(const struct picked *p, uint64_t at, char text[CELL_TEXT])
{
	FILE *out = fmemopen(text, CELL_TEXT, "w");

	*text = '\0';
	if (!out)
		return 0;
	write_index(out, p, at);
	fclose(out);
	return strlen(text);
}

/* How wide indices and elements are. */
static void measure(const struct stat_options *opt, const struct picked *p, uint64_t row, size_t *index, size_t *cell)
{
	char text[CELL_TEXT];

	*index = *cell = 0;
	for (uint64_t i = 0; i < p->count; i++) {
		size_t width = value_text(opt, p, i, text);

		*cell = width > *cell ? width : *cell;
		width = i % row ? 0 : index_text(p, i, text);
		*index = width > *index ? width : *index;
	}
}

/* A row of the last dimension in a line, or where that is too long in several, with its first index in front; a gap
 * where ends are shown, at which such a line breaks. */
static void print_rows(const struct stat_options *opt, const struct picked *p)
{
	uint64_t row = p->rank ? p->range[p->rank - 1].count : 1;
	bool ends = p->rank && p->range[p->rank - 1].ends, apart;
	size_t index, cell, at = 0;

	sd_ink(stdout, &opt->look, SD_INK_HEADING);
	sd_text_print(stdout, p->name);
	sd_ink(stdout, &opt->look, SD_INK_NONE);
	printf("  %s ", sd_dtype_name(p->dtype));
	sd_shape_print(stdout, p->shape, p->rank);
	putchar('\n');
	measure(opt, p, row, &index, &cell);
	apart = ends && row > EDGE && 2 + index + row * (2 + cell) + strlen(GAP) > opt->look.width;
	for (uint64_t i = 0; i < p->count; i++) {
		const char *gap = ends && i % row == EDGE ? GAP : "";
		char text[CELL_TEXT];

		if (i % row == 0 || (apart && *gap) || at + strlen(gap) + 2 + cell > opt->look.width) {
			index_text(p, i, text);
			printf("%s  %-*s", i ? "\n" : "", (int)index, i % row ? "" : text);
			at = 2 + index;
		}
		value_text(opt, p, i, text);
		at += (size_t)printf("%s  %*s", gap, (int)cell, text);
	}
	if (p->count)
		putchar('\n');
}

void stat_values_print(const struct stat_options *opt, const struct stat_source *s,
		       const struct stat_observer *observer)
{
	const struct values *v = (const struct values *)observer;

	for (size_t i = 0; i < v->n; i++) {
		const struct picked *p = &v->at[i];

		if (opt->look.human)
			print_rows(opt, p);
		for (uint64_t k = 0; k < p->count && !opt->look.human; k++)
			(opt->form.json ? print_json : print_tsv)(opt, s, p, k);
	}
}
