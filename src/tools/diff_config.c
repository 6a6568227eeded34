/* SPDX-License-Identifier: Apache-2.0 */
/* sd-diff --config: how metadata and the files beside the weights differ; of JSON, which members. */
#include "base/json_tree.h"
#include "base/text.h"
#include "tools/diff.h"

#include <stdlib.h>
#include <string.h>

#define VALUE_MOST 200 /* bytes of a value that are shown */

/* One thing that differs: what is NULL is not there. */
struct change {
	const char *file, *member; /* member: NULL is the file itself */
	const char *a, *b;
};

static void print_text(const struct diff_options *opt, const char *text)
{
	if (opt->form.json && text)
		sd_json_write(stdout, text, SD_JSON_ASCII);
	else if (opt->form.json)
		fputs("null", stdout);
	else
		sd_text_print(stdout, text ? text : "-");
}

static void tell(struct diff *diff, const struct change *c)
{
	const struct diff_options *opt = diff->opt;

	diff->differ = true;
	if (opt->quiet)
		return;
	if (opt->form.json) {
		printf("{\"status\":\"config\",\"file\":");
		print_text(opt, c->file);
		printf(",\"member\":");
		print_text(opt, c->member);
		printf(",\"a\":");
		print_text(opt, c->a);
		printf(",\"b\":");
		print_text(opt, c->b);
		puts("}");
		return;
	}
	fputs(opt->look.human ? "config   " : "config\t", stdout);
	print_text(opt, c->file);
	fputs(opt->look.human ? "  " : "\t", stdout);
	if (c->member || !opt->look.human)
		print_text(opt, c->member);
	fputs(opt->look.human ? "  " : "\t", stdout);
	print_text(opt, c->a);
	fputs(opt->look.human ? " -> " : "\t", stdout);
	print_text(opt, c->b);
	putchar('\n');
}

/* A value as it is written, cut where it is long. */
static const char *value_text(struct diff *diff, const struct sd_json_node *node)
{
	return node ? sd_arena_printf(&diff->arena, "%.*s%s",
				      (int)(node->value.length < VALUE_MOST ? node->value.length : VALUE_MOST),
				      node->value.at, node->value.length < VALUE_MOST ? "" : "...")
		    : NULL;
}

static bool is_same(const struct sd_json_node *a, const struct sd_json_node *b)
{
	return a && b && a->value.length == b->value.length && memcmp(a->value.at, b->value.at, a->value.length) == 0;
}

static bool compare_members(struct diff *diff, const char *file, const char *path, const struct sd_json_node *a,
			    const struct sd_json_node *b);

/* A member of both, or of one. */
static bool compare_member(struct diff *diff, const char *file, const char *path, const struct sd_json_node *a,
			   const struct sd_json_node *b)
{
	const char *member = sd_arena_printf(&diff->arena, "%s%s%s", path, *path ? "." : "", (a ? a : b)->key);
	struct change change = {file, member, value_text(diff, a), value_text(diff, b)};

	if (!member || (a && !change.a) || (b && !change.b))
		return false;
	if (is_same(a, b))
		return true;
	if (a && b && a->kind == SD_JSON_OBJECT && b->kind == SD_JSON_OBJECT)
		return compare_members(diff, file, member, a, b);
	tell(diff, &change);
	return true;
}

static bool compare_members(struct diff *diff, const char *file, const char *path, const struct sd_json_node *a,
			    const struct sd_json_node *b)
{
	for (const struct sd_json_node *n = a->first; n; n = n->next)
		if (!compare_member(diff, file, path, n, sd_json_get(b, n->key)))
			return false;
	for (const struct sd_json_node *n = b->first; n; n = n->next)
		if (!sd_json_get(a, n->key) && !compare_member(diff, file, path, NULL, n))
			return false;
	return true;
}

static bool is_json(const char *name)
{
	size_t length = strlen(name);

	return length > 5 && strcmp(name + length - 5, ".json") == 0;
}

static enum sd_result compare_files(struct diff *diff, const struct sd_side_file *a, const struct sd_side_file *b,
				    struct sd_error *err)
{
	struct sd_json_tree x, y;
	struct sd_error ignored;

	if (a->size == b->size && memcmp(a->data, b->data, a->size) == 0)
		return SD_OK;
	if (is_json(a->name) && sd_json_tree_read(&x, a->data, a->size, &diff->arena, &ignored) == SD_OK &&
	    sd_json_tree_read(&y, b->data, b->size, &diff->arena, &ignored) == SD_OK)
		/* What is only written in another way is the same. */
		return compare_members(diff, a->name, "", x.root, y.root) ? SD_OK : sd_fail_memory(err);
	tell(diff, &(struct change){a->name, NULL, "there", "other bytes"});
	return SD_OK;
}

static void compare_metadata(struct diff *diff, const struct sd_manifest *a, const struct sd_manifest *b)
{
	for (size_t i = 0; i < a->nmetadata; i++) {
		const char *other = sd_manifest_metadata(b, a->metadata[i].key);

		if (!other || strcmp(other, a->metadata[i].value) != 0)
			tell(diff, &(struct change){"metadata", a->metadata[i].key, a->metadata[i].value, other});
	}
	for (size_t i = 0; i < b->nmetadata; i++)
		if (!sd_manifest_metadata(a, b->metadata[i].key))
			tell(diff, &(struct change){"metadata", b->metadata[i].key, NULL, b->metadata[i].value});
}

enum sd_result diff_print_config(struct diff *diff, struct sd_error *err)
{
	const struct sd_manifest *a, *b;
	enum sd_result result = SD_OK;

	for (int i = 0; i < 2; i++)
		if (!diff->side[i].opened)
			return sd_fail(err, SD_USAGE, "--config: %s is a list of checksums, and has no files beside it",
				       diff->side[i].name);
	a = diff->side[0].opened->manifest;
	b = diff->side[1].opened->manifest;
	compare_metadata(diff, a, b);
	for (size_t i = 0; i < a->nside && result == SD_OK; i++) {
		const struct sd_side_file *other = sd_manifest_side(b, a->side[i].name);

		if (other)
			result = compare_files(diff, &a->side[i], other, err);
		else
			tell(diff, &(struct change){a->side[i].name, NULL, "there", NULL});
	}
	for (size_t i = 0; i < b->nside; i++)
		if (!sd_manifest_side(a, b->side[i].name))
			tell(diff, &(struct change){b->side[i].name, NULL, NULL, "there"});
	return result;
}
