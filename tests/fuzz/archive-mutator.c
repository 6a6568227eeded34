/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes tars so that they stay tars: the checksums of headers follow what was changed, and blocks are doubled or left
 * out. Only for the fuzzer; what it makes is found by no guess at single bytes.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define BLOCK 512

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t room);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned seed);

static bool is_header(const uint8_t *block)
{
	return memcmp(block + 257, "ustar", 5) == 0;
}

static void mend(uint8_t *data, size_t size)
{
	for (size_t at = 0; at + BLOCK <= size; at += BLOCK) {
		uint8_t *block = data + at;
		unsigned sum = 0;
		char text[8];

		if (!is_header(block))
			continue;
		memset(block + 148, ' ', 8);
		for (int i = 0; i < BLOCK; i++)
			sum += block[i];
		snprintf(text, sizeof(text), "%06o", sum);
		memcpy(block + 148, text, 7);
	}
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned seed)
{
	size_t blocks = size / BLOCK, i = blocks ? seed / 8 % blocks : 0, behind = size - (i + 1) * BLOCK;

	if (size < 2 * BLOCK || !is_header(data) || seed % 8 == 0)
		return LLVMFuzzerMutate(data, size, room);
	if (seed % 8 == 1 && size + BLOCK <= room) {
		memmove(data + (i + 1) * BLOCK, data + i * BLOCK, behind + BLOCK);
		size += BLOCK;
	} else if (seed % 8 == 2) {
		memmove(data + i * BLOCK, data + (i + 1) * BLOCK, behind);
		size -= BLOCK;
	} else if (seed % 8 < 6) {
		/* One block, which keeps its size. */
		LLVMFuzzerMutate(data + i * BLOCK, BLOCK, BLOCK);
	} else {
		size = LLVMFuzzerMutate(data, size, room);
	}
	mend(data, size);
	return size;
}
