/* SPDX-License-Identifier: Apache-2.0 */
/* Reads JSON token by token, and writes JSON strings. */
#ifndef SD_BASE_JSON_H
#define SD_BASE_JSON_H

#include "base/error.h"

#include <stdint.h>
#include <stdio.h>

/* A document that nests deeper is refused. */
#define SD_JSON_DEPTH 64

enum sd_json_kind {
	SD_JSON_OBJECT,
	SD_JSON_OBJECT_END,
	SD_JSON_ARRAY,
	SD_JSON_ARRAY_END,
	SD_JSON_KEY,
	SD_JSON_STRING,
	SD_JSON_NUMBER,
	SD_JSON_WORD, /* true, false, null */
};

/*
 * text: keys and strings with their escapes resolved, numbers and words as they are written; not terminated, and valid
 * only during the call. It may hold NUL. depth: how many objects and arrays are around the token; an end has that of
 * its beginning. end: how many bytes of the document are read with the token.
 */
struct sd_json_token {
	enum sd_json_kind kind;
	unsigned depth;
	const char *text;
	size_t length, end;
};

/* Called for each token. Any result but SD_OK ends the parse with that result, and err. */
typedef enum sd_result (*sd_json_take)(void *user, const struct sd_json_token *token, struct sd_error *err);

/*
 * Calls take for each token of a JSON document. SD_INPUT for what RFC 8259 does not allow, ill-formed UTF-8, unpaired
 * surrogates, and too deep nesting. Duplicate keys are passed to take, which may refuse them. take may be NULL: to know
 * whether it is JSON.
 */
SD_MUST_CHECK enum sd_result sd_json_parse(const char *json, size_t length, sd_json_take take, void *user,
					   struct sd_error *err);

/* Whether the text of a token is this one. */
bool sd_json_is(const struct sd_json_token *token, const char *text);

/* The number of a token, which must be a plain non-negative integer that fits. */
SD_MUST_CHECK bool sd_json_integer(const struct sd_json_token *token, uint64_t *number);

/* How a string is written: UTF-8 as it is (as Rust's serde_json does it), or only ASCII (as Python's json does it). */
enum sd_json_style {
	SD_JSON_UTF8,
	SD_JSON_ASCII,
};

/* Writes a UTF-8 text as a JSON string with its quotes. */
void sd_json_write(FILE *out, const char *text, enum sd_json_style style);

/* Writes a member of an object that is not its first, in ASCII; null where there is no text. */
void sd_json_member(FILE *out, const char *name, const char *text);

#endif
