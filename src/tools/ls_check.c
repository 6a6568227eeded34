/* SPDX-License-Identifier: Apache-2.0 */
/* sd-ls --check: what is odd among the names, shapes and dtypes of a checkpoint. */
#include "base/fold.h"
#include "base/json.h"
#include "base/text.h"
#include "model/siblings.h"
#include "tools/ls.h"

#include <inttypes.h>
#include <string.h>

#define INDENT "           "

struct check {
	const struct ls_options *opt;
	const struct ls_source *s;
	FILE *out; /* what people get */
	struct sd_arena arena;
	struct sd_findings findings;
	const char *edit; /* the last one that was printed */
};

/* "BF16 [32,64]", or nothing. */
static void print_kind(FILE *out, const struct sd_target *t, const char *nothing)
{
	if (!t) {
		fputs(nothing, out);
		return;
	}
	fprintf(out, "%s ", sd_dtype_name(t->dtype));
	sd_shape_print(out, t->shape, t->rank);
}

/* ---- for people ---- */

/* The edit that mends it, once where several findings have the same. */
static void print_edit(struct check *c, const struct sd_finding *f)
{
	if (f->edit && (!c->edit || strcmp(c->edit, f->edit) != 0))
		fprintf(c->out, INDENT "sd-rename -e '%s'\n", f->edit);
	c->edit = f->edit;
}

/* "layers {0,1,{3..5}}", or "the others". */
static bool print_siblings(struct check *c, const struct sd_finding *f)
{
	const char *numbers;

	if (!f->nsiblings || !f->among) {
		fprintf(c->out, "the others");
		return true;
	}
	numbers = sd_fold_numbers(&c->arena, f->siblings, f->nsiblings);
	if (!numbers)
		return false;
	sd_text_print(c->out, f->among);
	fputc(' ', c->out);
	sd_ink(c->out, &c->opt->look, SD_INK_NUMBERS);
	fputs(numbers, c->out);
	sd_ink(c->out, &c->opt->look, SD_INK_NONE);
	return true;
}

static bool print_details(struct check *c, const struct sd_finding *f)
{
	bool memory;
	size_t begin, end;

	fputs(INDENT, c->out);
	switch (f->kind) {
	case SD_ODD_TYPO:
		sd_name_difference(f->near, f->name, &begin, &end);
		fprintf(c->out, "for %.*s, which ", (int)(end - begin), f->near + begin);
		memory = print_siblings(c, f);
		fputs(f->right ? " have: " : " have", c->out);
		print_kind(c->out, f->right, "");
		fputc('\n', c->out);
		print_edit(c, f);
		return memory;
	case SD_ODD_MISSING:
		memory = print_siblings(c, f);
		fprintf(c->out, f->right ? " have it: " : " have it");
		print_kind(c->out, f->right, "");
		fputc('\n', c->out);
		return memory;
	case SD_ODD_SHAPE:
	case SD_ODD_DTYPE:
		if (!f->right) {
			sd_text_print(c->out, f->line);
			fputc('\n', c->out);
			return true;
		}
		memory = print_siblings(c, f);
		fprintf(c->out, ": ");
		print_kind(c->out, f->right, "");
		fputs(sd_shape_is_transposed(f->is->shape, f->is->rank, f->right->shape, f->right->rank)
			      ? "; transposed?\n"
			      : "\n",
		      c->out);
		return memory;
	default:
		sd_text_print(c->out, f->line);
		fputc('\n', c->out);
		if (f->edit && !strstr(f->line, f->edit))
			print_edit(c, f);
		return true;
	}
}

static bool print_for_people(struct check *c, const struct sd_finding *f)
{
	sd_ink(c->out, &c->opt->look, SD_INK_FAULT);
	fprintf(c->out, "%-9s", sd_oddity_word(f->kind));
	sd_ink(c->out, &c->opt->look, SD_INK_NONE);
	sd_text_print(c->out, f->name);
	if (f->kind == SD_ODD_TYPO && sd_text_unusual(f->name))
		fprintf(c->out, "  (with U+%04" PRIX32 ")", sd_text_unusual(f->name));
	if (f->is) {
		fprintf(c->out, "  ");
		print_kind(c->out, f->is, "");
	}
	if (f->tensors > 1)
		fprintf(c->out, "  (%zu tensors)", f->tensors);
	fputc('\n', c->out);
	return print_details(c, f);
}

/* ---- for programs ---- */

static void print_tsv(const struct check *c, const struct sd_finding *f)
{
	printf("%s\t", sd_oddity_word(f->kind));
	sd_text_print(stdout, f->name);
	putchar('\t');
	print_kind(stdout, f->is, "-");
	putchar('\t');
	print_kind(stdout, f->right, "-");
	putchar('\t');
	sd_text_print(stdout, f->near ? f->near : "-");
	printf("\t%zu", f->tensors);
	if (c->opt->count > 1) {
		putchar('\t');
		sd_text_print(stdout, c->s->name);
	}
	putchar('\n');
}

static void print_kind_member(const char *name, const struct sd_target *t)
{
	printf(",\"%s\":", name);
	if (!t) {
		printf("null");
		return;
	}
	printf("{\"dtype\":\"%s\",\"shape\":", sd_dtype_name(t->dtype));
	sd_shape_print(stdout, t->shape, t->rank);
	putchar('}');
}

static void print_json(const struct check *c, const struct sd_finding *f)
{
	printf("{\"kind\":\"%s\"", sd_oddity_word(f->kind));
	sd_json_member(stdout, "name", f->name);
	print_kind_member("is", f->is);
	print_kind_member("siblings_are", f->right);
	sd_json_member(stdout, "near", f->near);
	sd_json_member(stdout, "edit", f->edit);
	printf(",\"tensors\":%zu", f->tensors);
	sd_json_member(stdout, "among", f->among);
	printf(",\"siblings\":[");
	for (size_t i = 0; i < f->nsiblings; i++)
		printf("%s%" PRIu32, i ? "," : "", f->siblings[i]);
	putchar(']');
	sd_json_member(stdout, "text", f->line);
	if (c->opt->count > 1)
		sd_json_member(stdout, "source", c->s->name);
	puts("}");
}

/* All findings for people, and how many they are. */
static bool print_all_for_people(struct check *c)
{
	struct sd_memstream *stream = sd_memstream_open(&c->out);
	bool memory = true;

	if (!stream)
		return false;
	for (size_t i = 0; i < c->findings.n && memory; i++)
		memory = print_for_people(c, &c->findings.at[i]);
	sd_text_print(c->out, c->s->name);
	fprintf(c->out, ": %zu odd thing%s in %zu tensors\n", c->findings.n, c->findings.n == 1 ? "" : "s",
		c->s->listing.n);
	return sd_look_close(stream, &c->opt->look) && memory;
}

enum sd_result ls_check(const struct ls_options *opt, const struct ls_source *s, bool *odd, struct sd_error *err)
{
	struct check c = {.opt = opt, .s = s};
	enum sd_result result = sd_siblings_check(s->source->manifest, &c.arena, &c.findings, err);

	if (result == SD_OK)
		result = ls_refused(s->source->manifest, &c.arena, &c.findings, err);
	*odd = result == SD_OK && c.findings.n;
	if (*odd && !opt->quiet)
		result = sd_findings_write_edits(&c.findings, s->source->manifest, &c.arena, err);
	if (result == SD_OK && *odd && !opt->quiet && opt->look.human && !print_all_for_people(&c))
		result = sd_fail_memory(err);
	for (size_t i = 0; i < c.findings.n && result == SD_OK && !opt->quiet && !opt->look.human; i++)
		(opt->form.json ? print_json : print_tsv)(&c, &c.findings.at[i]);
	sd_findings_free(&c.findings);
	sd_arena_free(&c.arena);
	return result;
}
