/* SPDX-License-Identifier: Apache-2.0 */
/* Texts that come from input. */
#include "base/text.h"
#include "base/checked.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool digit(char c)
{
	return c >= '0' && c <= '9';
}

int sd_text_natural(const char *a, const char *b)
{
	const char *x, *y;
	size_t same = 0;

	/* Names that are compared often begin alike; a number is compared from its first digit on. */
	while (a[same] && a[same] == b[same])
		same++;
	while (same && digit(a[same - 1]))
		same--;
	x = a + same;
	y = b + same;
	while (*x && *y) {
		if (digit(*x) && digit(*y)) {
			size_t m = 0, n = 0;
			int order;

			while (*x == '0' && digit(x[1]))
				x++;
			while (*y == '0' && digit(y[1]))
				y++;
			while (digit(x[m]))
				m++;
			while (digit(y[n]))
				n++;
			if (m != n)
				return m < n ? -1 : 1;
			order = memcmp(x, y, m);
			if (order)
				return order;
			x += m;
			y += n;
		} else if (*x != *y) {
			return (unsigned char)*x < (unsigned char)*y ? -1 : 1;
		} else {
			x++;
			y++;
		}
	}
	if (*x || *y)
		return *x ? 1 : -1;
	return strcmp(a, b); /* "01" and "1" */
}

/* Length of the well-formed sequence at p, 0 if there is none. */
static size_t sequence(const unsigned char *p, size_t left)
{
	size_t n;
	unsigned char low = 0x80, high = 0xBF;

	if (p[0] < 0x80)
		return p[0] ? 1 : 0;
	if (p[0] < 0xC2 || p[0] > 0xF4)
		return 0;
	n = p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
	if (left < n)
		return 0;
	if (p[0] == 0xE0)
		low = 0xA0;
	else if (p[0] == 0xED)
		high = 0x9F;
	else if (p[0] == 0xF0)
		low = 0x90;
	else if (p[0] == 0xF4)
		high = 0x8F;
	if (p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++)
		if (p[i] < 0x80 || p[i] > 0xBF)
			return 0;
	return n;
}

/* Whether the 8 bytes at p are ASCII without NUL: a byte that is 0 borrows, and so has its highest bit set. */
static bool plain(const unsigned char *p)
{
	uint64_t bytes;

	memcpy(&bytes, p, sizeof(bytes));
	return !((bytes | (bytes - UINT64_C(0x0101010101010101))) & UINT64_C(0x8080808080808080));
}

bool sd_text_is_utf8(const char *text, size_t length)
{
	const unsigned char *p = (const unsigned char *)text;

	while (length) {
		/* Names are plain, mostly: byte by byte this was a quarter of the time that a large header takes. */
		size_t n = length >= 8 && plain(p) ? 8 : sequence(p, length);

		if (!n)
			return false;
		p += n;
		length -= n;
	}
	return true;
}

void sd_text_mend(char *text)
{
	size_t left = strlen(text);

	while (left) {
		size_t n = sequence((const unsigned char *)text, left);

		if (!n) {
			*text = '?';
			n = 1;
		}
		text += n;
		left -= n;
	}
}

/* Marks that change the order of what is shown: U+061C, U+200E/F, U+202A-E, U+2066-9, and the C1 controls. */
static bool harmful(const unsigned char *p, size_t n)
{
	if (n == 2)
		return (p[0] == 0xC2 && p[1] < 0xA0) || (p[0] == 0xD8 && p[1] == 0x9C);
	if (n == 3 && p[0] == 0xE2 && p[1] == 0x80)
		return p[2] == 0x8E || p[2] == 0x8F || (p[2] >= 0xA8 && p[2] <= 0xAE);
	if (n == 3 && p[0] == 0xE2 && p[1] == 0x81)
		return p[2] >= 0xA6 && p[2] <= 0xA9;
	return false;
}

/* How many of the bytes at p are shown as they are, and none of them could be a part of something else. */
static size_t plain_run(const unsigned char *p, size_t left)
{
	size_t run = 0;

	while (run < left && p[run] >= 0x20 && p[run] < 0x7F && p[run] != '\\')
		run++;
	return run;
}

#define PIECE 20

/* What stands for the character at p, of which *n bytes are taken: its length. */
static size_t escape_one(const unsigned char *p, size_t left, size_t *n, char piece[PIECE])
{
	size_t length = 0;

	*n = sequence(p, left);
	if (*n == 1 && (*p == '\t' || *p == '\n' || *p == '\\'))
		return (size_t)snprintf(piece, PIECE, "\\%c", *p == '\t' ? 't' : *p == '\n' ? 'n' : '\\');
	if (*n > 0 && *p >= 0x20 && *p != 0x7F && !harmful(p, *n)) {
		memcpy(piece, p, *n);
		return *n;
	}
	if (*n == 0)
		*n = 1;
	for (size_t i = 0; i < *n; i++)
		length += (size_t)snprintf(piece + length, PIECE - length, "\\x%02x", p[i]);
	return length;
}

void sd_text_print(FILE *out, const char *text)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t left = strlen(text);

	while (left) {
		size_t n = plain_run(p, left), length;
		char piece[PIECE];

		fwrite(p, 1, n, out);
		p += n;
		left -= n;
		if (!left)
			break;
		length = escape_one(p, left, &n, piece);
		fwrite(piece, 1, length, out);
		p += n;
		left -= n;
	}
}

/* 2^64 - 1 has so many. */
#define DIGITS 20

void sd_text_print_number(FILE *out, uint64_t number)
{
	char text[DIGITS];
	size_t begin = DIGITS;

	do
		text[--begin] = (char)('0' + number % 10);
	while (number /= 10);
	fwrite(text + begin, 1, DIGITS - begin, out);
}

const char *sd_text_harm(const char *text, size_t length)
{
	const unsigned char *p = (const unsigned char *)text;

	while (length) {
		size_t n = sequence(p, length);

		if (n == 0 || (*p < 0x20 && *p != '\t') || *p == 0x7F || harmful(p, n))
			return (const char *)p;
		p += n;
		length -= n;
	}
	return NULL;
}

uint32_t sd_text_unusual(const char *text)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t left = strlen(text);

	for (size_t n; left; p += n, left -= n) {
		uint32_t c = *p;

		n = sequence(p, left);
		if (c > ' ' && c < 0x7F)
			continue;
		for (size_t i = 1; i < n; i++)
			c = (i == 1 ? c & (0x3Fu >> (n - 1)) : c) << 6 | (p[i] & 0x3Fu);
		return c;
	}
	return 0;
}

char *sd_text_escape(const char *text, char *out, size_t size)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t left = strlen(text), used = 0;

	while (left) {
		size_t run = plain_run(p, left), length, n;
		char piece[PIECE];

		if (run > size - used - 1)
			run = size - used - 1;
		memcpy(out + used, p, run);
		used += run;
		p += run;
		left -= run;
		if (!left)
			break;
		length = escape_one(p, left, &n, piece);
		if (used + length + 1 > size)
			break;
		memcpy(out + used, piece, length);
		used += length;
		p += n;
		left -= n;
	}
	out[used] = '\0';
	return out;
}

bool sd_text_number(const char *text, uint64_t *number)
{
	uint64_t value = 0;

	if (!*text)
		return false;
	for (; *text; text++)
		if (!digit(*text) || !sd_mul(value, 10, &value) || !sd_add(value, (uint64_t)(*text - '0'), &value))
			return false;
	*number = value;
	return true;
}

bool sd_text_size(const char *text, uint64_t *bytes)
{
	static const struct {
		const char *suffix;
		uint64_t unit;
	} units[] = {
		{"", 1},
		{"B", 1},
		{"kB", 1000},
		{"KB", 1000},
		{"MB", 1000000},
		{"GB", 1000000000},
		{"TB", 1000000000000},
		{"KiB", 1ull << 10},
		{"MiB", 1ull << 20},
		{"GiB", 1ull << 30},
		{"TiB", 1ull << 40},
	};
	const char *p = text;
	uint64_t whole = 0, part = 0, scale = 1;

	while (digit(*p))
		if (!sd_mul(whole, 10, &whole) || !sd_add(whole, (uint64_t)(*p++ - '0'), &whole))
			return false;
	if (p == text)
		return false;
	if (*p == '.') {
		if (!digit(*++p))
			return false;
		for (; digit(*p); p++) {
			if (scale >= 1000000)
				return false;
			part = part * 10 + (uint64_t)(*p - '0');
			scale *= 10;
		}
	}
	for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++)
		if (strcmp(p, units[i].suffix) == 0) {
			uint64_t unit = units[i].unit, more;

			if (!sd_mul(whole, unit, &whole) || !sd_mul(part, unit, &more) || more % scale != 0)
				return false;
			return sd_add(whole, more / scale, bytes);
		}
	return false;
}

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

unsigned sd_text_distance(const char *a, const char *b, unsigned limit)
{
	unsigned rest = limit;

	while (*a && *a == *b) {
		a++;
		b++;
	}
	if (!*a && !*b)
		return 0;
	if (limit == 0)
		return 1;
	if (*a)
		rest = least(rest, sd_text_distance(a + 1, b, limit - 1));
	if (*b)
		rest = least(rest, sd_text_distance(a, b + 1, limit - 1));
	if (*a && *b)
		rest = least(rest, sd_text_distance(a + 1, b + 1, limit - 1));
	if (*a && *b && a[0] == b[1] && a[1] == b[0])
		rest = least(rest, sd_text_distance(a + 2, b + 2, limit - 1));
	return rest + 1;
}
