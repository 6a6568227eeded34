/* SPDX-License-Identifier: Apache-2.0 */
/* sd-ls --metadata: __metadata__ and the side files of a checkpoint. */
#include "base/json.h"
#include "base/text.h"
#include "base/units.h"
#include "tools/ls.h"

#include <stdlib.h>
#include <string.h>

static void print_tsv(const char *kind, const char *name, const char *value, const struct ls_options *opt,
		      const struct ls_source *s)
{
	printf("%s\t", kind);
	sd_text_print(stdout, name);
	putchar('\t');
	sd_text_print(stdout, value);
	if (opt->count > 1) {
		putchar('\t');
		sd_text_print(stdout, s->name);
	}
	putchar('\n');
}

static void end_json(const struct ls_options *opt, const struct ls_source *s)
{
	if (opt->count > 1) {
		printf(",\"source\":");
		sd_json_write(stdout, s->name, SD_JSON_ASCII);
	}
	puts("}");
}

/* As much of a value as the rest of the line takes; long ones are JSON, or lists, that nobody reads here. False where
 * memory is out. */
static bool print_for_people(const struct ls_options *opt, const char *name, size_t width, const char *value)
{
	size_t room = opt->look.width > width + 2 ? opt->look.width - width - 2 : 1;
	char *escaped = malloc(4 * strlen(value) + 1), *end;
	size_t columns = 0;

	sd_text_print(stdout, name);
	sd_look_pad(stdout, width - sd_look_columns(name) + 2);
	if (!escaped)
		return false;
	sd_text_escape(value, escaped, 4 * strlen(value) + 1);
	end = escaped;
	if (!opt->all && sd_look_columns(escaped) > room) {
		for (; *end && (columns + 3 < room || ((unsigned char)*end & 0xC0) == 0x80); end++)
			columns += ((unsigned char)end[1] & 0xC0) != 0x80;
		*end = '\0';
		printf("%s...\n", escaped);
	} else {
		puts(escaped);
	}
	free(escaped);
	return true;
}

static bool print_metadata(const struct ls_options *opt, const struct ls_source *s, size_t width)
{
	const struct sd_manifest *m = s->source->manifest;

	for (size_t i = 0; i < m->nmetadata; i++) {
		const struct sd_entry *entry = &m->metadata[i];

		if (opt->look.human) {
			if (!print_for_people(opt, entry->key, width, entry->value))
				return false;
		} else if (!opt->form.json) {
			print_tsv("metadata", entry->key, entry->value, opt, s);
		} else {
			printf("{\"metadata\":");
			sd_json_write(stdout, entry->key, SD_JSON_ASCII);
			printf(",\"value\":");
			sd_json_write(stdout, entry->value, SD_JSON_ASCII);
			end_json(opt, s);
		}
	}
	return true;
}

static bool print_files(const struct ls_options *opt, const struct ls_source *s, size_t width)
{
	const struct sd_manifest *m = s->source->manifest;

	for (size_t i = 0; i < m->nside; i++) {
		const struct sd_side_file *file = &m->side[i];
		char size[SD_UNITS_TEXT], exact[SD_UNITS_TEXT];

		snprintf(exact, sizeof(exact), "%zu", file->size);
		if (opt->look.human) {
			if (!print_for_people(opt, file->name, width,
					      opt->exact ? exact : sd_units_bytes(file->size, size)))
				return false;
		} else if (!opt->form.json) {
			print_tsv("file", file->name, exact, opt, s);
		} else {
			printf("{\"file\":");
			sd_json_write(stdout, file->name, SD_JSON_ASCII);
			printf(",\"bytes\":%zu", file->size);
			end_json(opt, s);
		}
	}
	return true;
}

enum sd_result ls_print_metadata(const struct ls_options *opt, const struct ls_source *s, struct sd_error *err)
{
	const struct sd_manifest *m = s->source->manifest;
	size_t width = 0;

	for (size_t i = 0; i < m->nmetadata; i++)
		width = sd_look_columns(m->metadata[i].key) > width ? sd_look_columns(m->metadata[i].key) : width;
	for (size_t i = 0; i < m->nside; i++)
		width = sd_look_columns(m->side[i].name) > width ? sd_look_columns(m->side[i].name) : width;
	return print_metadata(opt, s, width) && print_files(opt, s, width) ? SD_OK : sd_fail_memory(err);
}
