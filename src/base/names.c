/* SPDX-License-Identifier: Apache-2.0 */
/* A table from names to numbers: open addressing, at most half full, hashed by XXH3. */
#include "base/names.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <xxhash.h>

#define ROOM_LEAST 64

struct sd_names_slot {
	const char *name; /* NULL: free */
	uint32_t hash;
	uint32_t number;
};

static struct sd_names_slot *look(const struct sd_names *names, const char *name, uint32_t hash)
{
	size_t i = hash & (names->room - 1);

	while (names->slots[i].name && (names->slots[i].hash != hash || strcmp(names->slots[i].name, name) != 0))
		i = (i + 1) & (names->room - 1);
	return &names->slots[i];
}

static uint32_t hash_of(const struct sd_names *names, const char *name)
{
	return (uint32_t)XXH3_64bits_withSeed(name, strlen(name), names->seed);
}

uint32_t sd_names_find(const struct sd_names *names, const char *name)
{
	const struct sd_names_slot *slot;

	if (!names->room)
		return SD_NO_NAME;
	slot = look(names, name, hash_of(names, name));
	return slot->name ? slot->number : SD_NO_NAME;
}

/* Moves all names to a table of this room, a power of two. */
static bool grow(struct sd_names *names, size_t room)
{
	struct sd_names larger = {.used = names->used, .room = room, .seed = names->seed};

	larger.slots = calloc(larger.room, sizeof(*larger.slots));
	if (!larger.slots)
		return false;
	/* Nobody knows it beforehand: else one could make names that all collide. */
	if (!names->room && getrandom(&larger.seed, sizeof(larger.seed), GRND_NONBLOCK) < 0)
		larger.seed = (uintptr_t)larger.slots;
	for (size_t i = 0; i < names->room; i++)
		if (names->slots[i].name)
			*look(&larger, names->slots[i].name, names->slots[i].hash) = names->slots[i];
	free(names->slots);
	*names = larger;
	return true;
}

bool sd_names_reserve(struct sd_names *names, size_t n)
{
	size_t room = names->room ? names->room : ROOM_LEAST;

	if (n >= SD_NO_NAME)
		return false;
	while (room / 2 < n)
		room *= 2;
	return room == names->room || grow(names, room);
}

uint32_t sd_names_add(struct sd_names *names, const char *name, uint32_t number)
{
	struct sd_names_slot *slot;
	uint32_t hash;

	if (names->used >= names->room / 2 && !grow(names, names->room ? names->room * 2 : ROOM_LEAST))
		return SD_NO_NAME;
	hash = hash_of(names, name);
	slot = look(names, name, hash);
	if (!slot->name) {
		*slot = (struct sd_names_slot){name, hash, number};
		names->used++;
	}
	return slot->number;
}

void sd_names_free(struct sd_names *names)
{
	free(names->slots);
	*names = (struct sd_names){0};
}
