/* SPDX-License-Identifier: Apache-2.0 */
/* --explain for programs: lines with tabs, and JSON. */
#include "tools/explanation.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void explain_print_tsv(const struct explanation *e, const struct row *row)
{
	struct came from = explain_what_came(e, row);
	const struct sd_target *t = explain_made_by(e, row);

	explain_tensor(stdout, from.name, from.dtype, from.shape, from.rank);
	putchar('\t');
	explain_write_source_part(stdout, e, row);
	putchar('\t');
	if (t)
		explain_tensor(stdout, t->name, t->dtype, t->shape, t->rank);
	else if (row->name != NONE)
		sd_text_print(stdout, e->name[row->name].text);
	fputs(t ? "\t" : row->name != NONE ? "\t-\t-\t" : "-\t-\t-\t", stdout);
	explain_write_part(stdout, e, row);
	putchar('\t');
	explain_write_steps(stdout, e, row);
	putchar('\t');
	explain_write_rules(stdout, e, row);
	putchar('\n');
}

/* What a writer writes, as a string of JSON, "-" as null. */
static void print_json_text(struct explanation *e, const struct row *row,
			    void (*write)(FILE *out, const struct explanation *e, const struct row *row))
{
	FILE *out;
	struct sd_memstream *stream = sd_memstream_open(&out);
	char *text = NULL;
	size_t length;

	if (stream)
		write(out, e, row);
	if (!stream || !sd_memstream_close(stream, &text, &length))
		e->failed = true;
	else if (strcmp(text, "-") == 0)
		fputs("null", stdout);
	else
		sd_json_write(stdout, text, SD_JSON_ASCII);
	free(text);
}

static void print_json_tensor(const char *name, const char *text, enum sd_dtype dtype, const uint64_t *shape,
			      uint32_t rank)
{
	printf("\"%s\":{\"name\":", name);
	sd_json_write(stdout, text, SD_JSON_ASCII);
	printf(",\"dtype\":\"%s\",\"shape\":", sd_dtype_name(dtype));
	sd_shape_print(stdout, shape, rank);
}

static void print_json_way(const struct explanation *e, const struct row *row)
{
	struct sd_map_rule rule;

	for (uint32_t i = 0; i < row->length; i++) {
		const struct edge *edge = &e->edges[row->way[i]];

		if (e->map && sd_map_rule(e->map, edge->rule, &rule)) {
			printf("%s{\"stage\":", i ? "," : "");
			sd_json_write(stdout, rule.stage, SD_JSON_ASCII);
			printf(",\"file\":");
			sd_json_write(stdout, rule.file, SD_JSON_ASCII);
			printf(",\"line\":%" PRIu32 ",\"rule\":", rule.line);
			sd_json_write(stdout, rule.text, SD_JSON_ASCII);
		} else {
			printf("%s{\"edit\":", i ? "," : "");
			sd_json_write(stdout, edge->text, SD_JSON_ASCII);
		}
		printf(",\"holes\":");
		sd_json_write(stdout, edge->holes, SD_JSON_ASCII);
		printf(",\"from\":");
		sd_json_write(stdout, e->name[edge->from].text, SD_JSON_ASCII);
		printf(",\"to\":");
		if (edge->to == NONE)
			printf("null");
		else
			sd_json_write(stdout, e->name[edge->to].text, SD_JSON_ASCII);
		putchar('}');
	}
}

void explain_print_json(struct explanation *e, const struct row *row)
{
	struct came from = explain_what_came(e, row);
	const struct sd_target *t = explain_made_by(e, row);

	putchar('{');
	print_json_tensor("source", from.name, from.dtype, from.shape, from.rank);
	printf(",\"part\":");
	print_json_text(e, row, explain_write_source_part);
	printf("},");
	if (t) {
		print_json_tensor("target", t->name, t->dtype, t->shape, t->rank);
		printf(",\"part\":");
		print_json_text(e, row, explain_write_part);
		putchar('}');
	} else if (row->name != NONE) {
		printf("\"target\":{\"name\":");
		sd_json_write(stdout, e->name[row->name].text, SD_JSON_ASCII);
		putchar('}');
	} else {
		printf("\"target\":null");
	}
	printf(",\"steps\":");
	print_json_text(e, row, explain_write_steps);
	printf(",\"rules\":[");
	print_json_way(e, row);
	puts("]}");
}
