/* SPDX-License-Identifier: Apache-2.0 */
/* JSON by yajl, and the checks that yajl leaves to its users. */
#include "base/json.h"
#include "base/text.h"

#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <yajl/yajl_parse.h>

/* What yajl has of memory: it looks at none that it gets, so what it cannot have takes the way back to who asked it. */
struct piece {
	struct piece *next, **link; /* link: what points here */
	max_align_t data[];
};

struct pieces {
	struct piece *first;
	jmp_buf out;
};

static void *take_piece(void *ctx, size_t size)
{
	struct pieces *pieces = ctx;
	struct piece *piece = size < SIZE_MAX / 2 ? malloc(sizeof(*piece) + size) : NULL;

	if (!piece)
		longjmp(pieces->out, 1);
	*piece = (struct piece){pieces->first, &pieces->first};
	if (piece->next)
		piece->next->link = &piece->next;
	pieces->first = piece;
	return piece->data;
}

static struct piece *piece_of(void *data)
{
	return (struct piece *)((char *)data - offsetof(struct piece, data));
}

static void free_piece(void *ctx, void *data)
{
	struct piece *piece = piece_of(data);

	(void)ctx;
	if (!data)
		return;
	*piece->link = piece->next;
	if (piece->next)
		piece->next->link = piece->link;
	free(piece);
}

static void *resize_piece(void *ctx, void *data, size_t size)
{
	struct pieces *pieces = ctx;
	struct piece *piece;

	if (!data)
		return take_piece(ctx, size);
	piece = size < SIZE_MAX / 2 ? realloc(piece_of(data), sizeof(*piece) + size) : NULL;
	if (!piece)
		longjmp(pieces->out, 1);
	*piece->link = piece;
	if (piece->next)
		piece->next->link = &piece->next;
	return piece->data;
}

struct parse {
	yajl_handle handle;
	sd_json_take take;
	void *user;
	struct sd_error *err;
	enum sd_result result;
	unsigned depth;
};

static int give(struct parse *parse, enum sd_json_kind kind, unsigned depth, const void *text, size_t length)
{
	struct sd_json_token token = {kind, depth, text, length, yajl_get_bytes_consumed(parse->handle)};

	parse->result = parse->take ? parse->take(parse->user, &token, parse->err) : SD_OK;
	return parse->result == SD_OK;
}

static int open_value(struct parse *parse, enum sd_json_kind kind)
{
	if (parse->depth == SD_JSON_DEPTH) {
		parse->result = sd_fail(parse->err, SD_INPUT, "bad JSON: nested deeper than %d", SD_JSON_DEPTH);
		return 0;
	}
	return give(parse, kind, parse->depth++, "", 0);
}

static int on_null(void *parse)
{
	return give(parse, SD_JSON_WORD, ((struct parse *)parse)->depth, "null", 4);
}

static int on_boolean(void *parse, int value)
{
	return give(parse, SD_JSON_WORD, ((struct parse *)parse)->depth, value ? "true" : "false", value ? 4 : 5);
}

static int on_number(void *parse, const char *text, size_t length)
{
	return give(parse, SD_JSON_NUMBER, ((struct parse *)parse)->depth, text, length);
}

static int on_string(void *parse, const unsigned char *text, size_t length)
{
	return give(parse, SD_JSON_STRING, ((struct parse *)parse)->depth, text, length);
}

static int on_key(void *parse, const unsigned char *text, size_t length)
{
	return give(parse, SD_JSON_KEY, ((struct parse *)parse)->depth, text, length);
}

static int on_object(void *parse)
{
	return open_value(parse, SD_JSON_OBJECT);
}

static int on_object_end(void *parse)
{
	return give(parse, SD_JSON_OBJECT_END, --((struct parse *)parse)->depth, "", 0);
}

static int on_array(void *parse)
{
	return open_value(parse, SD_JSON_ARRAY);
}

static int on_array_end(void *parse)
{
	return give(parse, SD_JSON_ARRAY_END, --((struct parse *)parse)->depth, "", 0);
}

static const yajl_callbacks callbacks = {
	.yajl_null = on_null,
	.yajl_boolean = on_boolean,
	.yajl_number = on_number,
	.yajl_string = on_string,
	.yajl_map_key = on_key,
	.yajl_start_map = on_object,
	.yajl_end_map = on_object_end,
	.yajl_start_array = on_array,
	.yajl_end_array = on_array_end,
};

/* The four hex digits at p, or -1. */
static int hex4(const char *p, const char *end)
{
	int value = 0;

	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		const char *digits = "0123456789abcdef0123456789ABCDEF", *at = p[i] ? strchr(digits, p[i]) : NULL;

		if (!at)
			return -1;
		value = value * 16 + (int)((at - digits) & 15);
	}
	return value;
}

/* yajl turns a surrogate without its other half into a question mark: two names could become one. */
static const char *lone_surrogate(const char *json, size_t length)
{
	const char *p = json, *end = json + length;

	while ((p = memchr(p, '\\', (size_t)(end - p)))) {
		int unit = end - p > 1 && p[1] == 'u' ? hex4(p + 2, end) : -1;

		if (unit >= 0xDC00 && unit <= 0xDFFF)
			return p;
		if (unit >= 0xD800 && unit <= 0xDBFF) {
			int other = end - p > 7 && p[6] == '\\' && p[7] == 'u' ? hex4(p + 8, end) : -1;

			if (other < 0xDC00 || other > 0xDFFF)
				return p;
			p += 12;
		} else {
			p += end - p > 1 ? 2 : 1;
		}
	}
	return NULL;
}

static enum sd_result fail_yajl(yajl_handle handle, const char *json, size_t length, bool early, struct sd_error *err)
{
	unsigned char *text = yajl_get_error(handle, 0, (const unsigned char *)json, length);
	const char *line = (const char *)text;
	/* yajl counts bytes only where it parses them, not when it misses some at the end. */
	size_t at = early ? length : yajl_get_bytes_consumed(handle);

	sd_fail(err, SD_INPUT, "bad JSON at byte %zu: %.*s", at < length ? at : length, (int)strcspn(line, "\n"), line);
	yajl_free_error(handle, text);
	return SD_INPUT;
}

static void parse_all(struct parse *parse, struct pieces *pieces, const char *json, size_t length)
{
	yajl_alloc_funcs functions = {take_piece, resize_piece, free_piece, pieces};
	yajl_status status;
	bool early;

	parse->handle = yajl_alloc(&callbacks, &functions, parse);
	status = yajl_parse(parse->handle, (const unsigned char *)json, length);
	early = status == yajl_status_ok;
	if (early)
		status = yajl_complete_parse(parse->handle);
	if (status == yajl_status_error)
		parse->result = fail_yajl(parse->handle, json, length, early, parse->err);
	yajl_free(parse->handle);
}

enum sd_result sd_json_parse(const char *json, size_t length, sd_json_take take, void *user, struct sd_error *err)
{
	struct parse parse = {.take = take, .user = user, .err = err};
	const char *lone = lone_surrogate(json, length);
	struct pieces pieces = {.first = NULL};
	enum sd_result result;

	/* yajl takes overlong forms and encoded surrogates. */
	if (!sd_text_is_utf8(json, length))
		return sd_fail(err, SD_INPUT, "bad JSON: not UTF-8");
	if (lone)
		return sd_fail(err, SD_INPUT, "bad JSON at byte %zu: half of a surrogate pair", (size_t)(lone - json));
	/* Between here and what jumps there are only functions of yajl: what is taken calls none that does. */
	if (setjmp(pieces.out) == 0) {
		parse_all(&parse, &pieces, json, length);
		result = parse.result;
	} else {
		result = sd_fail_memory(err);
	}
	while (pieces.first)
		free_piece(&pieces, pieces.first->data);
	return result;
}

bool sd_json_is(const struct sd_json_token *token, const char *text)
{
	return token->length == strlen(text) && memcmp(token->text, text, token->length) == 0;
}

bool sd_json_integer(const struct sd_json_token *token, uint64_t *number)
{
	char digits[24];

	if (token->kind != SD_JSON_NUMBER || token->length >= sizeof(digits))
		return false;
	memcpy(digits, token->text, token->length);
	digits[token->length] = '\0';
	return sd_text_number(digits, number);
}

/* The code point of the well-formed sequence at *p, which moves on. */
static unsigned code_point(const unsigned char **p)
{
	unsigned first = *(*p)++;
	int more = first < 0x80 ? 0 : first < 0xE0 ? 1 : first < 0xF0 ? 2 : 3;
	unsigned point = more ? first & (0x3Fu >> more) : first;

	while (more-- > 0 && **p)
		point = point << 6 | (*(*p)++ & 0x3F);
	return point;
}

static void write_unit(FILE *out, unsigned point)
{
	if (point > 0xFFFF) {
		fprintf(out, "\\u%04x", 0xD800 + ((point - 0x10000) >> 10));
		point = 0xDC00 + ((point - 0x10000) & 0x3FF);
	}
	fprintf(out, "\\u%04x", point);
}

/* Whether a character stands in a JSON string as it is; NUL does not. */
static bool is_plain(unsigned char c, enum sd_json_style style)
{
	return c >= 0x20 && c != '"' && c != '\\' && (c < 0x7F || style == SD_JSON_UTF8);
}

void sd_json_write(FILE *out, const char *text, enum sd_json_style style)
{
	static const char shorts[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
	const unsigned char *p = (const unsigned char *)text;

	putc('"', out);
	for (;;) {
		const unsigned char *run = p;
		const char *special;

		/* Names are one run. With a putc for each character, this was a third of sd-pack's planning. */
		while (is_plain(*p, style))
			p++;
		fwrite(run, 1, (size_t)(p - run), out);
		if (!*p)
			break;
		special = strchr(shorts, *p);
		if (special) {
			putc('\\', out);
			putc(letters[special - shorts], out);
			p++;
		} else {
			write_unit(out, code_point(&p));
		}
	}
	putc('"', out);
}

void sd_json_member(FILE *out, const char *name, const char *text)
{
	fprintf(out, ",\"%s\":", name);
	if (text)
		sd_json_write(out, text, SD_JSON_ASCII);
	else
		fputs("null", out);
}
