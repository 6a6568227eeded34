/* SPDX-License-Identifier: Apache-2.0 */
/* The form of what sd-pack writes, where that is an archive. */
#include "tools/pack_form.h"
#include "formats/zstd.h"
#include "tools/tool.h"

#include <string.h>

#define LEVEL 3

static const struct {
	const char *name, *suffix;
	enum sd_archive_form archive;
	bool packed;
} forms[] = {
	{"tar", ".tar", SD_ARCHIVE_TAR, false},
	{"tar.zst", ".tar.zst", SD_ARCHIVE_TAR, true},
	{"zip", ".zip", SD_ARCHIVE_ZIP, false},
};

/* Names of which one would not be sure. */
static const char *const odd[] = {".nemo", ".tzst", ".tar.zstd", ".zst", ".TAR", ".ZIP", ".tar.lz4", ".tar.lz", ".7z"};

#define FORMS (sizeof(forms) / sizeof(*forms))

/* Archives that are read and not written, and how to make them all the same. */
static const struct {
	const char *suffix, *packer;
} others[] = {{".tar.gz", "gzip"}, {".tgz", "gzip"}, {".tar.xz", "xz"}, {".tar.bz2", "bzip2"}};

static bool ends_in(const char *path, const char *suffix)
{
	size_t length = strlen(path), n = strlen(suffix);

	return length > n && path[length - n - 1] != '/' && strcmp(path + length - n, suffix) == 0;
}

uint64_t pack_level(const char *text)
{
	uint64_t level = text ? sd_option_number("--zstd", text) : LEVEL;

	if (level < 1 || level > SD_ZSTD_LEVEL_MOST)
		sd_misuse("--zstd: the level is 1 to %d", SD_ZSTD_LEVEL_MOST);
	return level;
}

/* The number of the form; FORMS: no archive. */
static size_t find_form(const struct pack_form *form, const char *path)
{
	size_t i = 0;

	if (form->format) {
		while (i < FORMS && strcmp(forms[i].name, form->format) != 0)
			i++;
		if (i == FORMS)
			sd_misuse("--format=%s: it is tar, tar.zst or zip", form->format);
		return i;
	}
	for (size_t k = 0; path && k < sizeof(others) / sizeof(*others); k++)
		if (ends_in(path, others[k].suffix))
			sd_misuse("-o %s: such an archive is not written; .tar.zst is, or --format=tar | %s > %s", path,
				  others[k].packer, path);
	while (i < FORMS && !(path && ends_in(path, forms[i].suffix)))
		i++;
	for (size_t k = 0; path && i == FORMS && k < sizeof(odd) / sizeof(*odd); k++)
		if (ends_in(path, odd[k]))
			sd_misuse("-o %s: what is it to be? --format=tar, tar.zst or zip says so; a safetensors file's "
				  "name ends in .safetensors",
				  path);
	return i;
}

void pack_settle_form(const struct pack_form *form, struct sd_safetensors_sink_options *pack)
{
	bool directory = pack->path && pack->layout.directory;
	size_t i = directory && !form->format ? FORMS : find_form(form, pack->path);

	if (i == FORMS && form->level)
		sd_misuse("--zstd compresses a tar: -o FILE.tar.zst, or --format=tar.zst");
	if (i == FORMS)
		return;
	if (directory)
		sd_misuse("--format=%s writes a file, and -o %s is a directory", form->format, pack->path);
	if (form->level && !forms[i].packed)
		sd_misuse("--zstd compresses a tar: -o FILE.tar.zst, or --format=tar.zst");
	if (!pack->path && forms[i].archive == SD_ARCHIVE_ZIP)
		sd_misuse("a zip is not written to standard output, as its checksums are made at the end: -o FILE.zip");
	pack->archive = forms[i].archive;
	pack->level = !forms[i].packed ? 0 : form->level ? (int)form->level : LEVEL;
	pack->layout.directory = true;
}
