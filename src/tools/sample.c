/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors that are only said. */
#include "tools/sample.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Nobody says more by hand. */
#define TENSORS_MAX 1000000u
#define NESTED_MAX 16

struct texts {
	struct sd_arena arena;
	const char **at;
	size_t n, room;
};

/* Where a brace closes, or NULL; *comma: the first comma in it that is not in another one, or NULL. */
static const char *find_end(const char *open, const char **comma)
{
	unsigned depth = 0;

	*comma = NULL;
	for (const char *at = open; *at; at++) {
		if (*at == '\\' && at[1])
			at++;
		else if (*at == '{')
			depth++;
		else if (*at == ',' && depth == 1 && !*comma)
			*comma = at;
		else if (*at == '}' && --depth == 0)
			return at;
	}
	return NULL;
}

static bool read_number(const char **at, uint64_t *number)
{
	size_t length = strspn(*at, "0123456789");
	char text[24];

	if (!length || length >= sizeof(text))
		return false;
	memcpy(text, *at, length);
	text[length] = '\0';
	*at += length;
	return sd_text_number(text, number);
}

/* "{0..39}" or "{3..39..4}". */
static bool read_range(const char *open, const char *close, uint64_t range[3])
{
	const char *at = open + 1;

	range[2] = 1;
	if (!read_number(&at, &range[0]) || strncmp(at, "..", 2) != 0)
		return false;
	at += 2;
	if (!read_number(&at, &range[1]))
		return false;
	if (at == close)
		return true;
	at += strncmp(at, "..", 2) == 0 ? 2 : 0;
	return read_number(&at, &range[2]) && at == close && range[2];
}

static enum sd_result expand(struct texts *texts, const char *text, size_t done, unsigned nested, struct sd_error *err);

/* Puts a word in the place of a brace, and goes on behind what was in front of it. */
static enum sd_result expand_word(struct texts *texts, const char *text, const char *open, const char *word,
				  size_t length, const char *rest, unsigned nested, struct sd_error *err)
{
	const char *made =
		sd_arena_printf(&texts->arena, "%.*s%.*s%s", (int)(open - text), text, (int)length, word, rest);

	return made ? expand(texts, made, (size_t)(open - text), nested + 1, err) : sd_fail_memory(err);
}

static enum sd_result expand_list(struct texts *texts, const char *text, const char *open, const char *close,
				  unsigned nested, struct sd_error *err)
{
	const char *word = open + 1;
	unsigned depth = 0;

	for (const char *at = word; at <= close; at++) {
		if (*at == '\\' && at < close)
			at++;
		else if (*at == '{')
			depth++;
		else if (*at == '}' && at < close)
			depth--;
		if ((at != close && *at != ',') || depth)
			continue;
		if (expand_word(texts, text, open, word, (size_t)(at - word), close + 1, nested, err) != SD_OK)
			return err->result;
		word = at + 1;
	}
	return SD_OK;
}

static enum sd_result expand_range(struct texts *texts, const char *text, const char *open, const char *close,
				   const uint64_t range[3], unsigned nested, struct sd_error *err)
{
	for (uint64_t number = range[0]; number <= range[1]; number += range[2]) {
		char word[24];
		int length = snprintf(word, sizeof(word), "%" PRIu64, number);

		if (expand_word(texts, text, open, word, (size_t)length, close + 1, nested, err) != SD_OK)
			return err->result;
		if (number > UINT64_MAX - range[2])
			break;
	}
	return SD_OK;
}

/* The text without the backslashes that take a meaning away. */
static enum sd_result add_text(struct texts *texts, const char *text, struct sd_error *err)
{
	char *plain = sd_arena_text(&texts->arena, text, strlen(text)), *end = plain;

	if (!plain || !sd_array_grow(&texts->at, texts->n, &texts->room, sizeof(*texts->at)))
		return sd_fail_memory(err);
	if (texts->n == TENSORS_MAX)
		return sd_fail(err, SD_USAGE, "more than %u tensors", TENSORS_MAX);
	for (const char *at = text; *at; at++)
		*end++ = *at == '\\' && at[1] ? *++at : *at;
	*end = '\0';
	texts->at[texts->n++] = plain;
	return SD_OK;
}

/* All texts that braces behind the first done bytes make of one. */
static enum sd_result expand(struct texts *texts, const char *text, size_t done, unsigned nested, struct sd_error *err)
{
	for (const char *open = text + done; *open; open++) {
		const char *comma, *close = *open == '{' ? find_end(open, &comma) : NULL;
		uint64_t range[3];

		if (*open == '\\' && open[1])
			open++;
		if (!close)
			continue;
		if (nested == NESTED_MAX)
			return sd_fail(err, SD_USAGE, "more than %d braces", NESTED_MAX);
		if (comma)
			return expand_list(texts, text, open, close, nested, err);
		if (read_range(open, close, range))
			return expand_range(texts, text, open, close, range, nested, err);
	}
	return add_text(texts, text, err);
}

/* "[768 2048]", with blanks or commas. */
static bool read_shape(const char *text, uint64_t *shape, uint32_t *rank)
{
	if (*text++ != '[')
		return false;
	for (*rank = 0; text += strspn(text, " \t,"), *text != ']';)
		if (*rank == SD_RANK_MAX || !read_number(&text, &shape[(*rank)++]))
			return false;
	return !text[1 + strspn(text + 1, " \t")];
}

static enum sd_result add_tensors(struct sd_manifest *m, const struct texts *texts, enum sd_dtype dtype,
				  const uint64_t *shape, uint32_t rank, struct sd_error *err)
{
	uint64_t count, bytes;

	if (!sd_shape_count(shape, rank, &count) || !sd_dtype_bytes(dtype, count, &bytes))
		return sd_fail(err, SD_USAGE, "the shape is too large");
	for (size_t i = 0; i < texts->n; i++)
		if (!sd_manifest_add_tensor(m, texts->at[i], dtype, shape, rank))
			return sd_fail_memory(err);
	return SD_OK;
}

enum sd_result sample_add(struct sd_manifest *m, const char *text, struct sd_error *err)
{
	struct texts texts = {.n = 0};
	size_t key = strcspn(text, " \t"), gap = strspn(text + key, " \t");
	const char *word = text + key + gap, *name = sd_arena_text(&texts.arena, text, key);
	size_t length = strcspn(word, " \t[");
	enum sd_dtype dtype = sd_dtype_parse(word, length);
	uint64_t shape[SD_RANK_MAX];
	uint32_t rank = 0;
	enum sd_result result = SD_OK;

	word += length + strspn(word + length, " \t");
	if (!name)
		result = sd_fail_memory(err);
	else if (!key || !dtype || !read_shape(word, shape, &rank))
		result = sd_fail(err, SD_USAGE, "a sample is KEY DTYPE [SIZE ...], as in 'a.weight BF16 [768 2048]'");
	if (result == SD_OK)
		result = expand(&texts, name, 0, 0, err);
	if (result == SD_OK)
		result = add_tensors(m, &texts, dtype, shape, rank, err);
	if (result == SD_USAGE)
		sd_error_at(err, "--sample '%s'", text);
	free(texts.at);
	sd_arena_free(&texts.arena);
	return result;
}
