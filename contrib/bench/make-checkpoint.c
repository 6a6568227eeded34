/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes a checkpoint of the shape of the released Qwen3.5-35B-A3B, cut to a few layers: what `make bench` converts.
 * The embedding and the head (1 GB each, which no stage changes) are left out: two layers have 3.4 GB.
 * With --numbers all of it is numbers, no infinities and NaNs, and others for each SEED: to be compared.
 * With --keys it is one to plan with, not to convert: any number of layers of 784 small tensors, one for each matrix of
 * an expert, whose data are holes in the files.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HIDDEN 2048
#define EXPERTS 256
#define INTER 512
#define SHARDS 2
#define SMALL 64 /* --keys divides dimensions by this */

struct tensor {
	const char *name;
	uint64_t shape[3];
	unsigned rank;
};

static const struct tensor of_a_layer[] = {
	{ "input_layernorm.weight", { HIDDEN }, 1 },
	{ "post_attention_layernorm.weight", { HIDDEN }, 1 },
	{ "linear_attn.A_log", { 32 }, 1 },
	{ "linear_attn.dt_bias", { 32 }, 1 },
	{ "linear_attn.conv1d.weight", { 8192, 1, 4 }, 3 },
	{ "linear_attn.in_proj_qkv.weight", { 8192, HIDDEN }, 2 },
	{ "linear_attn.in_proj_z.weight", { 4096, HIDDEN }, 2 },
	{ "linear_attn.in_proj_a.weight", { 32, HIDDEN }, 2 },
	{ "linear_attn.in_proj_b.weight", { 32, HIDDEN }, 2 },
	{ "linear_attn.norm.weight", { 128 }, 1 },
	{ "linear_attn.out_proj.weight", { HIDDEN, 4096 }, 2 },
	{ "mlp.gate.weight", { EXPERTS, HIDDEN }, 2 },
	{ "mlp.experts.gate_up_proj", { EXPERTS, 2 * INTER, HIDDEN }, 3 },
	{ "mlp.experts.down_proj", { EXPERTS, HIDDEN, INTER }, 3 },
	{ "mlp.shared_expert.gate_proj.weight", { INTER, HIDDEN }, 2 },
	{ "mlp.shared_expert.up_proj.weight", { INTER, HIDDEN }, 2 },
	{ "mlp.shared_expert.down_proj.weight", { HIDDEN, INTER }, 2 },
	{ "mlp.shared_expert_gate.weight", { 1, HIDDEN }, 2 },
};

static const struct tensor of_an_expert[] = {
	{ "gate_proj.weight", { INTER, HIDDEN }, 2 },
	{ "up_proj.weight", { INTER, HIDDEN }, 2 },
	{ "down_proj.weight", { HIDDEN, INTER }, 2 },
};

static const struct tensor norm = { "model.language_model.norm.weight", { HIDDEN }, 1 };

/* One shard in the making. */
struct shard {
	FILE *header;
	char *text;
	size_t length;
	uint64_t bytes; /* of data */
	char name[64];
};

static uint64_t total;
static FILE *weight_map;
static bool keys;
static uint64_t state = 88172645463325252u, mask = UINT64_MAX;

static void add(struct shard *shard, const char *name, const struct tensor *tensor)
{
	uint64_t bytes = 2;

	fprintf(shard->header, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[", shard->bytes ? "," : "{", name);
	for (unsigned i = 0; i < tensor->rank; i++) {
		uint64_t size = keys ? (tensor->shape[i] + SMALL - 1) / SMALL : tensor->shape[i];

		fprintf(shard->header, "%s%" PRIu64, i ? "," : "", size);
		bytes *= size;
	}
	fprintf(shard->header, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", shard->bytes, shard->bytes + bytes);
	shard->bytes += bytes;
	fprintf(weight_map, "%s    \"%s\": \"%s\"", total ? ",\n" : "", name, shard->name);
	total += bytes;
}

static void put(int fd, const void *data, size_t size)
{
	const char *next = data;

	while (size) {
		ssize_t n = write(fd, next, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			err(4, "write");
		next += n;
		size -= (size_t)n;
	}
}

/* xorshift: no two matrices are alike, and nothing compresses. */
static void put_random(int fd, uint64_t bytes)
{
	static uint64_t block[1 << 17];

	while (bytes) {
		size_t size = bytes < sizeof block ? (size_t)bytes : sizeof block;

		for (size_t i = 0; i < sizeof block / sizeof *block; i++) {
			state ^= state << 13;
			state ^= state >> 7;
			state ^= state << 17;
			block[i] = state & mask;
		}
		put(fd, block, size);
		bytes -= size;
	}
}

static void write_shard(struct shard *shard)
{
	unsigned char length[8];
	int fd = open(shard->name, O_WRONLY | O_CREAT | O_TRUNC, 0666);

	if (fd < 0)
		err(4, "%s", shard->name);
	fputc('}', shard->header);
	while ((ftell(shard->header) & 7) != 0)
		fputc(' ', shard->header);
	if (fclose(shard->header) != 0)
		err(4, "memory");
	for (int i = 0; i < 8; i++)
		length[i] = (unsigned char)((uint64_t)shard->length >> (8 * i));
	put(fd, length, sizeof length);
	put(fd, shard->text, shard->length);
	if (!keys)
		put_random(fd, shard->bytes);
	else if (ftruncate(fd, (off_t)(sizeof length + shard->length + shard->bytes)) != 0)
		err(4, "%s", shard->name);
	if (close(fd) != 0)
		err(4, "%s", shard->name);
	free(shard->text);
}

static void add_layer(struct shard *shard, int layer)
{
	char name[128];

	for (size_t i = 0; i < sizeof of_a_layer / sizeof *of_a_layer; i++) {
		if (keys && of_a_layer[i].rank == 3 && strncmp(of_a_layer[i].name, "mlp.experts.", 12) == 0)
			continue;
		snprintf(name, sizeof name, "model.language_model.layers.%d.%s", layer, of_a_layer[i].name);
		add(shard, name, &of_a_layer[i]);
	}
	for (int expert = 0; keys && expert < EXPERTS; expert++)
		for (size_t i = 0; i < sizeof of_an_expert / sizeof *of_an_expert; i++) {
			snprintf(name, sizeof name, "model.language_model.layers.%d.mlp.experts.%d.%s", layer, expert,
				 of_an_expert[i].name);
			add(shard, name, &of_an_expert[i]);
		}
}

int main(int argc, char **argv)
{
	struct shard *shards;
	int nshards = SHARDS, layers = 2;
	char *map_text;
	size_t map_length;
	FILE *file;

	if (argc == 5 && strcmp(argv[1], "--keys") == 0) {
		keys = true;
		nshards = atoi(argv[4]);
		argc = 3;
		argv++;
	}
	if (argc > 3 && strcmp(argv[1], "--numbers") == 0) {
		state ^= (uint64_t)atoi(argv[2]) << 32;
		mask = 0xbfffbfffbfffbfffu; /* no large exponent of a BF16 */
		argc -= 2;
		argv += 2;
	}
	if (argc > 2)
		layers = atoi(argv[2]);
	if (argc < 2 || argc > 3 || layers < 1 || nshards < 1)
		errx(2, "usage: make-checkpoint [--numbers SEED] DIR [LAYERS] | make-checkpoint --keys DIR LAYERS SHARDS");
	if ((mkdir(argv[1], 0777) != 0 && errno != EEXIST) || chdir(argv[1]) != 0)
		err(4, "%s", argv[1]);
	shards = calloc((size_t)nshards, sizeof *shards);
	weight_map = open_memstream(&map_text, &map_length);
	if (!shards || !weight_map)
		err(4, "memory");
	for (int i = 0; i < nshards; i++) {
		snprintf(shards[i].name, sizeof shards[i].name, "model-%05d-of-%05d.safetensors", i + 1, nshards);
		shards[i].header = open_memstream(&shards[i].text, &shards[i].length);
		if (!shards[i].header)
			err(4, "memory");
	}
	for (int layer = 0; layer < layers; layer++)
		add_layer(&shards[(int64_t)layer * nshards / layers], layer);
	add(&shards[nshards - 1], norm.name, &norm);
	for (int i = 0; i < nshards; i++)
		write_shard(&shards[i]);
	fclose(weight_map);

	file = fopen("model.safetensors.index.json", "w");
	if (!file)
		err(4, "model.safetensors.index.json");
	fprintf(file, "{\n  \"metadata\": {\n    \"total_size\": %" PRIu64 "\n  },\n  \"weight_map\": {\n%s\n  }\n}\n", total, map_text);
	if (fclose(file) != 0)
		err(4, "model.safetensors.index.json");
	free(map_text);
	free(shards);
	file = fopen("config.json", "w");
	if (!file)
		err(4, "config.json");
	fprintf(file, "{\n  \"model_type\": \"qwen3_5_moe\",\n  \"dtype\": \"bfloat16\"\n}\n");
	if (fclose(file) != 0)
		err(4, "config.json");
	return 0;
}
