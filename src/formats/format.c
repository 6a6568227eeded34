/* SPDX-License-Identifier: Apache-2.0 */
/* The formats of checkpoints. */
#include "formats/format.h"
#include "formats/dcp_native.h"
#include "formats/dcp_safetensors.h"
#include "formats/open.h"
#include "formats/torch_save.h"
#include "formats/zstd.h"
#include "pipe/stream.h"

#include <fnmatch.h>
#include <string.h>

#define SUFFIXES(...)                                                                                                  \
	.suffixes = (const char *const[])                                                                              \
	{                                                                                                              \
		__VA_ARGS__, NULL                                                                                      \
	}

/* The first row that fits counts. */
static const struct sd_format formats[] = {
	{.magic = SD_STREAM_MAGIC, .magic_length = SD_STREAM_MAGIC_LENGTH, .open = sd_open_stream},
	{.magic = SD_ZSTD_MAGIC,
	 .magic_length = SD_ZSTD_MAGIC_LENGTH,
	 .open = sd_open_zstd,
	 .instead = "compressed by zstd a second time: put zstd -dc in front"},
	{.claims = sd_dcp_claims,
	 .gather = sd_dcp_gather,
	 .is_shard = sd_dcp_is_shard,
	 .alone = "sharded by PyTorch DCP: it holds pieces of tensors; name the directory with all of its shards"},
	{SUFFIXES(".safetensors"), .role = SD_ROLE_WEIGHTS},
	{SUFFIXES(".safetensors.index.json"), .role = SD_ROLE_INDEX},
	{SUFFIXES("pytorch_model.bin", "*pytorch_model-*-of-*.bin", "adapter_model.bin"), .role = SD_ROLE_OTHER,
	 .second = SD_ROLE_WEIGHTS},
	{SUFFIXES("pytorch_model.bin.index.json"), .role = SD_ROLE_OTHER, .second = SD_ROLE_INDEX},
	{.magic = SD_ZIP_MAGIC,
	 .magic_length = SD_ZIP_MAGIC_LENGTH,
	 .open = sd_open_zip,
	 .add = sd_torch_add_zip,
	 .instead = "a zip archive (PyTorch .pt, .bin or .pth?)",
	 SUFFIXES(".bin", ".pt", ".pth", ".ckpt"),
	 .role = SD_ROLE_OTHER,
	 .directory = " is a file of torch.save: name it itself"},
	{.magic = SD_TORCH_LEGACY_MAGIC,
	 .magic_length = SD_TORCH_LEGACY_MAGIC_LENGTH,
	 .add = sd_torch_add_legacy,
	 .instead = "an old PyTorch file"},
	{.magic = "\x80\x04\x95", .magic_length = 3, .instead = "a Python pickle"},
	{.mark = SD_DCP_METADATA,
	 .add_directory = sd_dcp_native_add,
	 SUFFIXES(".distcp"),
	 .role = SD_ROLE_OTHER,
	 .directory = " is of PyTorch DCP, but there is no " SD_DCP_METADATA ": it was not saved to its end"},
	{SUFFIXES("metadata.json"), .role = SD_ROLE_OTHER},
	{.magic = "GGUF", .magic_length = 4, .instead = "a GGUF file", SUFFIXES(".gguf"), .role = SD_ROLE_OTHER},
	{.magic = "\x1f\x8b",
	 .magic_length = 2,
	 .open = sd_open_packed,
	 .instead = "compressed by gzip: put gunzip in front"},
	{.magic = "PK\5\6", .magic_length = 4, .instead = "an empty zip archive"},
	{.magic = "\x04\x22\x4d\x18", .magic_length = 4, .instead = "compressed by lz4: put lz4 -dc in front"},
	{.magic = "BZh",
	 .magic_length = 3,
	 .open = sd_open_packed,
	 .instead = "compressed by bzip2: put bzip2 -dc in front"},
	{SUFFIXES(".nemo", ".tar", ".tgz", ".tar.gz", ".tar.zst", ".tar.xz", ".tar.bz2"), .role = SD_ROLE_OTHER,
	 .directory = " is an archive: name it itself"},
	{.magic = "\xfd"
		  "7zXZ",
	 .magic_length = 5,
	 .open = sd_open_packed,
	 .instead = "compressed by xz: put xz -dc in front"},
	{.magic = "\x93NUMPY", .magic_length = 6, .instead = "a NumPy array", SUFFIXES(".npz"), .role = SD_ROLE_OTHER},
	{.magic = "\x89HDF", .magic_length = 4, .instead = "an HDF5 file", SUFFIXES(".h5"), .role = SD_ROLE_OTHER},
	{SUFFIXES(".msgpack", ".onnx", ".index.json"), .role = SD_ROLE_OTHER},
	{.magic = "version ",
	 .magic_length = 8,
	 .instead = "a Git LFS pointer: the file itself is still to be fetched by git lfs pull"},
};

static const struct sd_format text = {.instead = "text"};

#define FORMATS (sizeof(formats) / sizeof(*formats))

static bool is_text(const unsigned char first[SD_FORMAT_FIRST])
{
	for (int i = 0; i < SD_FORMAT_FIRST; i++)
		if ((first[i] < ' ' || first[i] > '~') && first[i] != '\n' && first[i] != '\r' && first[i] != '\t')
			return false;
	return true;
}

const struct sd_format *sd_format_of_bytes(const unsigned char first[SD_FORMAT_FIRST])
{
	for (size_t i = 0; i < FORMATS; i++)
		if (formats[i].magic && memcmp(first, formats[i].magic, formats[i].magic_length) == 0)
			return &formats[i];
	return is_text(first) ? &text : NULL;
}

static bool ends_in(const char *name, const char *end)
{
	size_t n = strlen(name), m = strlen(end);

	if (strchr(end, '*'))
		return fnmatch(end, name, FNM_NOESCAPE) == 0;
	return n >= m && strcmp(name + n - m, end) == 0;
}

const struct sd_format *sd_format_of_name(const char *name)
{
	for (size_t i = 0; i < FORMATS; i++)
		for (const char *const *end = formats[i].suffixes; end && *end; end++)
			if (ends_in(name, *end))
				return &formats[i];
	return NULL;
}

const struct sd_format *sd_format_of_mark(const char *name)
{
	for (size_t i = 0; i < FORMATS; i++)
		if (formats[i].mark && strcmp(formats[i].mark, name) == 0)
			return &formats[i];
	return NULL;
}

const struct sd_format *sd_format_of_header(const struct sd_safetensors *header)
{
	for (size_t i = 0; i < FORMATS; i++)
		if (formats[i].claims && formats[i].claims(header))
			return &formats[i];
	return NULL;
}

const char *sd_format_rest(const char *name, bool *is_shard)
{
	const char *rest = name;

	*is_shard = false;
	for (size_t i = 0; i < FORMATS && !*is_shard; i++)
		*is_shard = formats[i].is_shard && formats[i].is_shard(name, &rest);
	return *is_shard ? rest : name;
}
