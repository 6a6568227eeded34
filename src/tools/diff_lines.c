/* SPDX-License-Identifier: Apache-2.0 */
/* sd-diff for programs: a line a pair, TSV or JSON. */
#include "base/json.h"
#include "base/text.h"
#include "tools/diff.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

const char *diff_word(enum diff_status status)
{
	static const char *const words[DIFF_STATUSES] = {"same",    "values", "dtype",   "shape",
							 "renamed", "part",   "removed", "added"};

	return words[status];
}

static uint64_t origin_numbers(const struct diff_side *side, uint32_t record)
{
	return sd_numbers_each((enum sd_dtype)side->m->records[record].dtype);
}

bool diff_write_origin(FILE *out, const struct diff *diff, const struct diff_pair *p, int number, uint64_t i)
{
	const struct diff_side *side = &diff->side[number];
	const struct sd_listed *t = diff_tensor(diff, p, number);
	struct sd_view view = {0};
	struct sd_listed origin = {0};
	struct sd_error ignored;
	uint32_t record;
	uint64_t at;
	bool found = side->source && side->source != side->opened &&
		     sd_view_make(&view, side->source, side->m, &side->listing, p->tensor[number], NULL, &ignored) ==
			     SD_OK &&
		     !view.straight && sd_view_place(&view, i / sd_numbers_each((enum sd_dtype)t->dtype), &record, &at);

	if (found) {
		const struct sd_record *r = &side->m->records[record];

		origin.shape = r->shape;
		origin.rank = r->rank;
		origin.dtype = r->dtype;
		at = at * origin_numbers(side, record) + i % origin_numbers(side, record);
		sd_text_print(out, r->key);
		diff_write_index(out, &origin, at);
	}
	sd_view_free(&view);
	return found;
}

/* ---- TSV ---- */

/* With the digits that a float32 needs, and always the same way where it is not finite. */
static void print_number(double number)
{
	if (isfinite(number))
		printf("\t%.9g", number);
	else
		printf("\t%s", isnan(number) ? "nan" : number < 0 ? "-inf" : "inf");
}

static void print_name(const struct sd_listed *t)
{
	if (t)
		sd_text_print(stdout, t->name);
	else
		putchar('-');
}

/* "BF16", or where they differ "BF16>F32". */
static void print_dtypes(const struct sd_listed *a, const struct sd_listed *b)
{
	fputs(sd_dtype_name((enum sd_dtype)(a ? a : b)->dtype), stdout);
	if (a && b && a->dtype != b->dtype)
		printf(">%s", sd_dtype_name((enum sd_dtype)b->dtype));
}

static void print_shapes(const struct sd_listed *a, const struct sd_listed *b)
{
	sd_shape_print(stdout, (a ? a : b)->shape, (a ? a : b)->rank);
	if (a && b && !sd_shape_equal(a->shape, a->rank, b->shape, b->rank)) {
		putchar('>');
		sd_shape_print(stdout, b->shape, b->rank);
	}
}

static void print_numbers(const struct diff *diff, const struct diff_pair *p)
{
	const struct sd_difference *d = &p->d;

	if (!p->compared) {
		printf("\t%s\t%" PRIu64 "\t-\t-\t-\t-", p->status == DIFF_SAME ? "0" : "-",
		       (diff_tensor(diff, p, 0) ? diff_tensor(diff, p, 0) : diff_tensor(diff, p, 1))->elements);
		return;
	}
	printf("\t%" PRIu64 "\t%" PRIu64, d->differ, d->numbers);
	if (d->differ) {
		print_number(d->max);
		putchar('\t');
		diff_write_index(stdout, diff_tensor(diff, p, 0), d->at);
	} else {
		printf("\t-\t-");
	}
	print_number(sd_difference_rel(d));
	print_number(sd_difference_cos(d));
}

/* With --count, lines of their own: where, A, B, and where they come from if that is another place. */
static void print_list(const struct diff *diff, const struct diff_pair *p)
{
	for (size_t i = 0; i < p->nlist; i++) {
		printf("element\t");
		print_name(diff_tensor(diff, p, 0));
		putchar('\t');
		diff_write_index(stdout, diff_tensor(diff, p, 0), p->list[i]);
		print_number(p->values[i].a);
		print_number(p->values[i].b);
		for (int k = 0; k < 2; k++) {
			putchar('\t');
			if (!diff_write_origin(stdout, diff, p, k, p->list[i]))
				putchar('-');
		}
		putchar('\n');
	}
}

static void print_line(const struct diff *diff, const struct diff_pair *p)
{
	const struct sd_listed *a = diff_tensor(diff, p, 0), *b = diff_tensor(diff, p, 1);

	printf("%s\t", diff_word(p->status));
	print_name(a);
	putchar('\t');
	print_name(b);
	putchar('\t');
	print_dtypes(a, b);
	putchar('\t');
	print_shapes(a, b);
	print_numbers(diff, p);
	putchar('\t');
	sd_text_print(stdout, p->note ? p->note : "-");
	putchar('\n');
	print_list(diff, p);
}

/* ---- JSON ---- */

void diff_json_number(const char *name, double number)
{
	printf(",\"%s\":", name);
	if (isfinite(number))
		printf("%.9g", number);
	else
		printf("\"%s\"", isnan(number) ? "nan" : number < 0 ? "-inf" : "inf");
}

static void json_index(const char *name, const struct sd_listed *t, uint64_t i)
{
	printf(",\"%s\":", name);
	diff_write_index(stdout, t, i);
}

static void json_dtype(const struct sd_listed *t)
{
	if (t)
		printf("\"%s\"", sd_dtype_name((enum sd_dtype)t->dtype));
	else
		printf("null");
}

static void json_shape(const struct sd_listed *t)
{
	if (t)
		sd_shape_print(stdout, t->shape, t->rank);
	else
		printf("null");
}

static void json_tensors(const struct sd_listed *a, const struct sd_listed *b)
{
	sd_json_member(stdout, "a", a ? a->name : NULL);
	sd_json_member(stdout, "b", b ? b->name : NULL);
	printf(",\"dtype\":[");
	json_dtype(a);
	putchar(',');
	json_dtype(b);
	printf("],\"shape\":[");
	json_shape(a);
	putchar(',');
	json_shape(b);
	putchar(']');
}

static void json_list(const struct diff *diff, const struct diff_pair *p)
{
	printf(",\"list\":[");
	for (size_t i = 0; i < p->nlist; i++) {
		printf("%s{\"at\":", i ? "," : "");
		diff_write_index(stdout, diff_tensor(diff, p, 0), p->list[i]);
		diff_json_number("a", p->values[i].a);
		diff_json_number("b", p->values[i].b);
		putchar('}');
	}
	putchar(']');
}

static void json_line(const struct diff *diff, const struct diff_pair *p)
{
	const struct sd_listed *a = diff_tensor(diff, p, 0), *b = diff_tensor(diff, p, 1);
	const struct sd_difference *d = &p->d;

	printf("{\"status\":\"%s\"", diff_word(p->status));
	json_tensors(a, b);
	printf(",\"elements\":%" PRIu64, (a ? a : b)->elements);
	if (p->compared) {
		printf(",\"differ\":%" PRIu64, d->differ);
		diff_json_number("max_abs", d->max);
		if (d->differ) {
			json_index("at", a, d->at);
			diff_json_number("at_a", d->at_a);
			diff_json_number("at_b", d->at_b);
		}
		diff_json_number("rel", sd_difference_rel(d));
		diff_json_number("cos", sd_difference_cos(d));
		printf(",\"nan\":[%" PRIu64 ",%" PRIu64 "]", d->side[0].nans, d->side[1].nans);
	}
	if (p->nlist)
		json_list(diff, p);
	sd_json_member(stdout, "note", p->note);
	puts("}");
}

enum sd_result diff_print_lines(const struct diff *diff, struct sd_error *err)
{
	(void)err;
	for (size_t i = 0; i < diff->npairs; i++) {
		const struct diff_pair *p = &diff->pairs[i];

		if (!diff_shows(diff, p))
			continue;
		if (diff->opt->form.json)
			json_line(diff, p);
		else
			print_line(diff, p);
	}
	return SD_OK;
}
