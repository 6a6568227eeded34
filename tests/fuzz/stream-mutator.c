/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes manifests so that they stay manifests: an entry is changed, doubled or left out, and sizes and counts follow.
 * Only for the fuzzer; what it makes is found by no guess at single bytes.
 */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define ENTRIES_MAX 256
#define ENTRY_MAX 2048
#define HEAD 24

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t room);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned seed);

/* Where entries lie in a payload; entry number n is behind the last. */
struct entries {
	size_t at[ENTRIES_MAX + 1];
	size_t n;
};

static uint32_t number(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

/* False where the bytes are no manifest as far as that goes. */
static bool find_entries(const uint8_t *data, size_t size, struct entries *e)
{
	size_t at = HEAD;
	uint32_t labels;

	e->n = 0;
	if (size < HEAD)
		return false;
	for (labels = number(data + 16); labels > 0 && size - at >= 8; labels--) {
		size_t whole = ((size_t)number(data + at) + 4 + 1 + 7) / 8 * 8;

		if (whole > size - at)
			return false;
		at += whole;
	}
	for (; size - at >= 8 && e->n < ENTRIES_MAX; e->n++) {
		size_t whole = number(data + at);

		if (whole < 8 || whole % 8 || whole > size - at)
			return false;
		e->at[e->n] = at;
		at += whole;
	}
	e->at[e->n] = at;
	return labels == 0 && e->n > 0;
}

/* Puts length bytes in the place of an entry; returns the new size, or 0 if there is no room. */
static size_t replace(uint8_t *data, size_t size, size_t room, const struct entries *e, size_t i, const uint8_t *entry,
		      size_t length)
{
	size_t begin = e->at[i], end = e->at[i + 1];

	if (size - (end - begin) + length > room)
		return 0;
	memmove(data + begin + length, data + end, size - end);
	if (length)
		memcpy(data + begin, entry, length);
	return size - (end - begin) + length;
}

/* One more or fewer among the records, or among the targets behind them. */
static void count(uint8_t *data, size_t i, int more)
{
	uint64_t counts[2];

	memcpy(counts, data, sizeof(counts));
	counts[i >= counts[0]] += (uint64_t)(int64_t)more;
	memcpy(data, counts, sizeof(counts));
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned seed)
{
	struct entries e;
	uint8_t entry[2 * ENTRY_MAX] = {0};
	size_t i, length, changed = 0;

	if (seed % 8 == 0 || !find_entries(data, size, &e))
		return LLVMFuzzerMutate(data, size, room);
	i = seed / 8 % e.n;
	length = e.at[i + 1] - e.at[i];
	if (length > ENTRY_MAX)
		return LLVMFuzzerMutate(data, size, room);
	memcpy(entry, data + e.at[i], length);
	if (seed % 8 == 1) {
		memcpy(entry + length, entry, length);
		changed = replace(data, size, room, &e, i, entry, 2 * length);
		if (changed)
			count(data, i, 1);
	} else if (seed % 8 == 2) {
		changed = replace(data, size, room, &e, i, entry, 0);
		count(data, i, -1);
	} else {
		uint32_t whole;

		length = 4 + LLVMFuzzerMutate(entry + 4, length - 4, ENTRY_MAX);
		while (length % 8)
			entry[length++] = 0;
		whole = (uint32_t)length;
		memcpy(entry, &whole, sizeof(whole));
		changed = replace(data, size, room, &e, i, entry, length);
	}
	return changed ? changed : LLVMFuzzerMutate(data, size, room);
}
