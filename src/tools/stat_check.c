/* SPDX-License-Identifier: Apache-2.0 */
/* sd-stat --check: what is wrong with numbers, by themselves and beside those of siblings. */
#include "base/json.h"
#include "base/names.h"
#include "base/text.h"
#include "model/companions.h"
#include "model/stack.h"
#include "tools/stat.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* How far the deviation of an expert may be from the median of its siblings, and how many these have to be. */
#define UNLIKE 4.0
#define SIBLINGS_LEAST 4

const char *stat_word(enum stat_kind kind)
{
	static const char *const words[] = {"nan", "inf", "zero", "dead", "unlike"};

	return words[kind];
}

static bool add(struct stat_findings *findings, struct stat_finding finding)
{
	if (!sd_array_grow(&findings->at, findings->n, &findings->room, sizeof(*findings->at)))
		return false;
	findings->at[findings->n++] = finding;
	return true;
}

static bool is_zero(const struct sd_statistics *s)
{
	return s->zeros && s->zeros == s->finite && !s->nan && !s->inf;
}

/* Rows of these stand for words, and nobody has to use all words. */
static bool has_words(const char *name)
{
	static const char *const parts[] = {"embed", "embd", "wte", "wpe", "lm_head"};

	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++)
		if (strstr(name, parts[i]))
			return true;
	return false;
}

/* Of a tensor that holds several experts, those that are zeros. *rows: theirs. */
static bool check_experts(const struct sd_counted *t, struct stat_findings *findings, uint64_t *rows)
{
	struct stat_finding f = {.kind = STAT_ZERO, .tensor = t};

	for (f.expert = 0; f.expert < t->nexperts; f.expert++) {
		f.count = t->expert[f.expert].zeros;
		if (!is_zero(&t->expert[f.expert]))
			continue;
		*rows += t->rows / t->nexperts;
		if (!add(findings, f))
			return false;
	}
	return true;
}

enum sd_result stat_check_tensor(const struct sd_counted *t, struct stat_findings *findings, struct sd_error *err)
{
	struct stat_finding f = {.tensor = t, .expert = STAT_NO_EXPERT};
	bool memory = true, zero = is_zero(&t->all);
	uint64_t rows = 0; /* of experts of zeros, which are told themselves */

	if (t->all.nan) {
		f.kind = STAT_NAN;
		f.count = t->all.nan;
		f.first = t->all.first_nan;
		memory = add(findings, f);
	}
	if (t->all.inf && memory) {
		f.kind = STAT_INF;
		f.count = t->all.inf;
		f.first = t->all.first_inf;
		memory = add(findings, f);
	}
	if (zero && t->floats && t->rank >= 2 && memory) {
		f.kind = STAT_ZERO;
		f.count = t->all.zeros;
		memory = add(findings, f);
	}
	if (!zero && t->floats && memory)
		memory = check_experts(t, findings, &rows);
	if (!zero && t->dead > rows && !has_words(t->name) && memory) {
		f.kind = STAT_DEAD;
		f.count = t->dead;
		f.first = t->first_dead;
		memory = add(findings, f);
	}
	return memory ? SD_OK : sd_fail_memory(err);
}

/* ---- siblings ---- */

/* Tensors whose names differ in one number only. */
struct families {
	uint32_t *first, *next; /* of each tensor: of its family the first one, and the next; UINT32_MAX: none */
	char **keys;
};

static bool find_number(const char *name, bool layers, size_t *stack)
{
	uint32_t number;

	return layers ? sd_stack_layer(name, stack, &number) : sd_stack_number(name, "experts", 7, stack, &number);
}

char *stat_key(const char *name, bool layers, bool *memory)
{
	const char *digits;
	size_t stack, end;
	char *key;

	if (!find_number(name, layers, &stack))
		return NULL;
	digits = strpbrk(name + stack, "0123456789");
	end = digits ? (size_t)(digits - name) + strspn(digits, "0123456789") : 0;
	if (!digits || asprintf(&key, "%.*s*%s", (int)(digits - name), name, name + end) < 0) {
		*memory = *memory && !digits;
		return NULL;
	}
	return key;
}

static void free_families(const struct stat_source *s, struct families *f)
{
	for (size_t i = 0; f->keys && i < s->n; i++)
		free(f->keys[i]);
	free(f->keys);
	free(f->first);
	free(f->next);
}

static bool find_families(const struct stat_source *s, bool layers, struct families *f)
{
	struct sd_names names = {0};
	uint32_t *last = malloc((s->n + 1) * sizeof(*last));
	bool memory;

	f->first = malloc((s->n + 1) * sizeof(*f->first));
	f->next = malloc((s->n + 1) * sizeof(*f->next));
	f->keys = calloc(s->n + 1, sizeof(*f->keys));
	memory = last && f->first && f->next && f->keys;
	for (uint32_t i = 0; i < s->n && memory; i++) {
		f->first[i] = f->next[i] = UINT32_MAX;
		f->keys[i] = stat_key(s->tensors[i].name, layers, &memory);
		if (!f->keys[i])
			continue;
		f->first[i] = sd_names_add(&names, f->keys[i], i);
		memory = memory && f->first[i] != SD_NO_NAME;
		if (memory && f->first[i] != i)
			f->next[last[f->first[i]]] = i;
		if (memory)
			last[f->first[i]] = i;
	}
	sd_names_free(&names);
	free(last);
	return memory;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The median of those that are numbers and not 0, which are sorted; 0 where they are too few. */
static double median(double *stds, size_t n)
{
	qsort(stds, n, sizeof(*stds), by_size);
	if (n < SIBLINGS_LEAST)
		return 0;
	return n % 2 ? stds[n / 2] : (stds[n / 2 - 1] + stds[n / 2]) / 2;
}

static bool is_unlike(double std, double usual)
{
	return usual > 0 && std > 0 && (std > usual * UNLIKE || std * UNLIKE < usual);
}

static bool compare_experts(const struct sd_counted *t, double *stds, struct stat_findings *findings)
{
	double usual;
	size_t n = 0;

	for (uint64_t i = 0; i < t->nexperts; i++) {
		double std = sd_statistics_std(&t->expert[i]);

		if (std > 0 && isfinite(std))
			stds[n++] = std;
	}
	usual = median(stds, n);
	for (uint64_t i = 0; i < t->nexperts; i++) {
		double std = sd_statistics_std(&t->expert[i]);

		if (is_unlike(std, usual) && !add(findings, (struct stat_finding){STAT_UNLIKE, t, i, 1, 0, std, usual}))
			return false;
	}
	return true;
}

/* One expert a tensor: the family that begins with this one. */
static bool compare_family(const struct stat_source *s, const struct families *f, uint32_t first, double *stds,
			   struct stat_findings *findings)
{
	double usual;
	size_t n = 0;

	for (uint32_t i = first; i != UINT32_MAX; i = f->next[i]) {
		double std = sd_statistics_std(&s->tensors[i].all);

		if (std > 0 && isfinite(std))
			stds[n++] = std;
	}
	usual = median(stds, n);
	for (uint32_t i = first; i != UINT32_MAX; i = f->next[i]) {
		double std = sd_statistics_std(&s->tensors[i].all);
		struct stat_finding finding = {STAT_UNLIKE, &s->tensors[i], STAT_NO_EXPERT, 1, 0, std, usual};

		if (is_unlike(std, usual) && !add(findings, finding))
			return false;
	}
	return true;
}

/* Of a bias or a norm zeros are odd only where most of its siblings in other layers are none. */
static bool check_vectors(const struct stat_source *s, const struct families *f, uint32_t first,
			  struct stat_findings *findings)
{
	size_t n = 0, zeros = 0;

	for (uint32_t i = first; i != UINT32_MAX; i = f->next[i]) {
		n++;
		zeros += is_zero(&s->tensors[i].all);
	}
	for (uint32_t i = first; i != UINT32_MAX && zeros * 2 < n; i = f->next[i]) {
		const struct sd_counted *t = &s->tensors[i];
		struct stat_finding finding = {STAT_ZERO, t, STAT_NO_EXPERT, t->all.zeros, 0, 0, 0};

		if (t->rank < 2 && t->floats && is_zero(&t->all) && !add(findings, finding))
			return false;
	}
	return true;
}

/* Scales may be what they like. */
static bool is_weight(const struct sd_counted *t)
{
	return t->floats && sd_name_role(t->name).role <= SD_ROLE_CODES;
}

static bool compare_all(const struct stat_source *s, struct stat_findings *findings)
{
	struct families layers = {0}, experts = {0};
	uint64_t most = s->n;
	double *stds;
	bool memory = find_families(s, true, &layers) && find_families(s, false, &experts);

	for (size_t i = 0; i < s->n; i++)
		most = s->tensors[i].nexperts > most ? s->tensors[i].nexperts : most;
	stds = malloc(((size_t)most + 1) * sizeof(*stds));
	memory = memory && stds;
	for (uint32_t i = 0; i < s->n && memory; i++) {
		if (s->tensors[i].nexperts && is_weight(&s->tensors[i]))
			memory = compare_experts(&s->tensors[i], stds, findings);
		if (memory && experts.first[i] == i && is_weight(&s->tensors[i]))
			memory = compare_family(s, &experts, i, stds, findings);
		if (memory && layers.first[i] == i)
			memory = check_vectors(s, &layers, i, findings);
	}
	free_families(s, &layers);
	free_families(s, &experts);
	free(stds);
	return memory;
}

static int by_tensor(const void *left, const void *right)
{
	const struct stat_finding *a = left, *b = right;

	if (a->tensor != b->tensor)
		return a->tensor < b->tensor ? -1 : 1;
	if (a->expert != b->expert)
		return a->expert < b->expert ? -1 : 1;
	return a->kind < b->kind ? -1 : a->kind > b->kind;
}

enum sd_result stat_check(const struct stat_source *s, struct stat_findings *findings, struct sd_error *err)
{
	for (size_t i = 0; i < s->n; i++)
		if (stat_check_tensor(&s->tensors[i], findings, err) != SD_OK)
			return err->result;
	if (!compare_all(s, findings))
		return sd_fail_memory(err);
	if (findings->n)
		qsort(findings->at, findings->n, sizeof(*findings->at), by_tensor);
	return SD_OK;
}

/* ---- printing ---- */

static void write_place(FILE *out, const struct sd_counted *t, uint64_t element)
{
	uint64_t inner = 1;

	for (uint32_t k = 1; k < t->rank; k++)
		inner *= t->shape[k];
	fputc('[', out);
	for (uint32_t k = 0; k < t->rank; k++) {
		fprintf(out, "%s%" PRIu64, k ? "," : "", element / inner);
		element %= inner;
		if (k + 1 < t->rank)
			inner /= t->shape[k + 1];
	}
	fputc(']', out);
}

void stat_write_name(FILE *out, const struct stat_finding *f)
{
	sd_text_print(out, f->tensor->name);
	if (f->expert != STAT_NO_EXPERT)
		fprintf(out, "[%" PRIu64 "]", f->expert);
}

void stat_write_finding(FILE *out, const struct stat_finding *f)
{
	if (f->kind == STAT_ZERO) {
		fprintf(out, "all %" PRIu64 " elements are 0", f->count);
	} else if (f->kind == STAT_DEAD) {
		fprintf(out, "%" PRIu64 " of %" PRIu64 " rows are all 0, the first is %" PRIu64, f->count,
			f->tensor->rows, f->first);
	} else if (f->kind == STAT_UNLIKE) {
		fprintf(out, "std is %.3g, of its siblings %.3g", f->std, f->usual);
	} else {
		fprintf(out, "%" PRIu64 " %s, first at ", f->count, stat_word(f->kind));
		write_place(out, f->tensor, f->first);
	}
}

static void print_json(const struct stat_options *opt, const struct stat_source *s, const struct stat_finding *f)
{
	printf("{\"kind\":\"%s\"", stat_word(f->kind));
	sd_json_member(stdout, "name", f->tensor->name);
	if (f->expert == STAT_NO_EXPERT)
		printf(",\"expert\":null");
	else
		printf(",\"expert\":%" PRIu64, f->expert);
	printf(",\"count\":%" PRIu64 ",\"text\":\"", f->count);
	stat_write_finding(stdout, f);
	putchar('"');
	if (opt->count > 1)
		sd_json_member(stdout, "source", s->name);
	puts("}");
}

static void print_line(const struct stat_options *opt, const struct stat_source *s, const struct stat_finding *f)
{
	fputs(stat_word(f->kind), stdout);
	putchar('\t');
	stat_write_name(stdout, f);
	putchar('\t');
	stat_write_finding(stdout, f);
	if (opt->count > 1) {
		putchar('\t');
		sd_text_print(stdout, s->name);
	}
	putchar('\n');
}

static bool print_for_people(const struct stat_options *opt, const struct stat_source *s,
			     const struct stat_findings *findings)
{
	FILE *out;
	struct sd_memstream *stream = sd_memstream_open(&out);

	if (!stream)
		return false;
	for (size_t i = 0; i < findings->n; i++) {
		sd_ink(out, &opt->look, SD_INK_FAULT);
		fprintf(out, "%-8s", stat_word(findings->at[i].kind));
		sd_ink(out, &opt->look, SD_INK_NONE);
		stat_write_name(out, &findings->at[i]);
		fputs(": ", out);
		stat_write_finding(out, &findings->at[i]);
		fputc('\n', out);
	}
	if (findings->n) {
		sd_text_print(out, s->name);
		fprintf(out, ": %zu odd thing%s in %zu tensors\n", findings->n, findings->n == 1 ? "" : "s", s->n);
	}
	return sd_look_close(stream, &opt->look);
}

enum sd_result stat_print_findings(const struct stat_options *opt, const struct stat_source *s,
				   const struct stat_findings *findings, struct sd_error *err)
{
	if (opt->look.human)
		return print_for_people(opt, s, findings) ? SD_OK : sd_fail_memory(err);
	for (size_t i = 0; i < findings->n; i++)
		(opt->form.json ? print_json : print_line)(opt, s, &findings->at[i]);
	return SD_OK;
}
