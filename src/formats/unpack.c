/* SPDX-License-Identifier: Apache-2.0 */
/* One pass over an archive, by libarchive. */
#include "formats/unpack.h"
#include "base/io.h"
#include "formats/gunzip.h"
#include "formats/zip.h"
#include "formats/zstd.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STEP (256u << 10)
#define ZIP_END 22                /* bytes of the record at the end of a zip without a comment */
#define EXPANDED_FREE (16u << 20) /* that little data is expanded as far as it goes */

enum form { PLAIN, GZIP, FILTERED, ZIP };

struct sd_unpacking {
	struct sd_unpack_input input;
	enum form form;
	uint64_t at;      /* in the file, counted from its begin */
	uint64_t size;    /* of the file from there on, where it can seek */
	uint64_t in, out; /* compressed bytes, and what came of them */
	size_t taken;     /* of input.first */
	unsigned char tail[ZIP_END];
	bool starved; /* the file ended where more was expected */
	struct sd_gunzip gunzip;
	struct archive *filter;  /* what expands other compressed data */
	struct archive *archive; /* the members */
	struct archive_entry *entry;
	char *ahead; /* the first plain bytes, until archive has got them */
	size_t nahead;
	bool ahead_taken;
	struct sd_error err; /* why a callback has failed */
	unsigned char first[SD_TAR_BLOCK], raw[STEP], plain[STEP];
};

/* ---- what a tar looks like ---- */

bool sd_tar_is_header(const unsigned char block[SD_TAR_BLOCK])
{
	uint64_t sum = 0, said = 0;
	int i = 148;

	for (int k = 0; k < SD_TAR_BLOCK; k++)
		sum += k >= 148 && k < 156 ? ' ' : block[k];
	while (i < 156 && block[i] == ' ')
		i++;
	for (; i < 156 && block[i] >= '0' && block[i] <= '7'; i++)
		said = said * 8 + (uint64_t)(block[i] - '0');
	return block[0] && sum == said;
}

bool sd_tar_may_begin(const unsigned char first[8])
{
	int i = 0;

	while (i < 8 && first[i] >= ' ' && first[i] != 0x7f)
		i++;
	if (i == 0)
		return false;
	while (i < 8 && !first[i])
		i++;
	return i == 8;
}

/* ---- bytes ---- */

/* Keeps the last bytes that came. */
static void keep_tail(struct sd_unpacking *u, const unsigned char *bytes, size_t length)
{
	size_t size = sizeof(u->tail), part = length < size ? length : size;

	memmove(u->tail, u->tail + part, size - part);
	memcpy(u->tail + size - part, bytes + length - part, part);
}

/* The next bytes of the file, in u->raw or in what was read from it before. */
static enum sd_result take_raw(struct sd_unpacking *u, const void **bytes, size_t *got, struct sd_error *err)
{
	const struct sd_unpack_input *in = &u->input;

	*bytes = u->raw;
	*got = 0;
	if (in->seekable) {
		*got = u->size - u->at < STEP ? (size_t)(u->size - u->at) : STEP;
		if (*got && sd_pread_all(in->fd, u->raw, *got, (off_t)(in->begin + u->at), err) != SD_OK)
			return err->result;
	} else if (u->taken < in->nfirst) {
		*bytes = u->first + u->taken;
		*got = in->nfirst - u->taken;
		u->taken = in->nfirst;
	} else if (sd_read_some(in->fd, u->raw, STEP, got, err) != SD_OK) {
		return err->result;
	}
	u->at += *got;
	u->in += *got;
	keep_tail(u, *bytes, *got);
	u->starved = u->starved || !*got;
	return SD_OK;
}

static enum sd_result more_gzip(void *user, const void **bytes, size_t *got, struct sd_error *err)
{
	return take_raw(user, bytes, got, err);
}

/* What a call of libarchive has failed with. */
static enum sd_result fail(struct sd_unpacking *u, struct archive *a, struct sd_error *err)
{
	const char *said = archive_error_string(a);

	if (u->err.result != SD_OK) {
		*err = u->err;
		return err->result;
	}
	if (archive_errno(a) == ENOMEM)
		return sd_fail_memory(err);
	if (said && strstr(said, "too much memory"))
		return sd_fail(
			err, SD_INPUT,
			"compressed by zstd with a window of more than 128 MiB; put zstd -dc --long=31 in front");
	return sd_fail(err, SD_INPUT, "%s archive: %s", u->starved ? "truncated" : "damaged",
		       said ? said : "libarchive cannot read it");
}

/* That what is expanded stays in proportion to what there is. */
static enum sd_result check_ratio(struct sd_unpacking *u, struct sd_error *err)
{
	uint64_t most = (u->input.limits ? u->input.limits : &sd_limits_default)->most[SD_LIMIT_RATIO];

	if (u->out <= EXPANDED_FREE || u->out / most <= u->in)
		return SD_OK;
	return sd_fail(err, SD_INPUT,
		       "%" PRIu64 " compressed bytes expand to %" PRIu64
		       " and more, which is too far for weights; --limit=ratio=N takes N for each, and not %" PRIu64,
		       u->in, u->out, most);
}

/* The next bytes of the tar. */
static enum sd_result take_plain(struct sd_unpacking *u, const void **bytes, size_t *got, struct sd_error *err)
{
	la_int64_t offset;
	int status;

	if (u->form == PLAIN || u->form == ZIP)
		return take_raw(u, bytes, got, err);
	*bytes = u->plain;
	if (u->form == GZIP) {
		if (sd_gunzip_read(&u->gunzip, u->plain, STEP, got, err) != SD_OK)
			return err->result;
	} else {
		status = archive_read_data_block(u->filter, bytes, got, &offset);
		if (status == ARCHIVE_EOF)
			*got = 0;
		else if (status < ARCHIVE_WARN)
			return fail(u, u->filter, err);
	}
	u->out += *got;
	return check_ratio(u, err);
}

/* ---- callbacks of libarchive ---- */

static la_ssize_t hand_over(struct sd_unpacking *u, struct archive *a, enum sd_result result, size_t got)
{
	if (result == SD_OK)
		return (la_ssize_t)got;
	archive_set_error(a, EIO, "%s", u->err.text);
	return -1;
}

static la_ssize_t read_raw(struct archive *a, void *user, const void **bytes)
{
	struct sd_unpacking *u = user;
	size_t got;
	enum sd_result result = take_raw(u, bytes, &got, &u->err);

	return hand_over(u, a, result, got);
}

static la_ssize_t read_plain(struct archive *a, void *user, const void **bytes)
{
	struct sd_unpacking *u = user;
	size_t got = u->ahead_taken ? 0 : u->nahead;
	enum sd_result result = SD_OK;

	*bytes = u->ahead;
	u->ahead_taken = true;
	if (!got)
		result = take_plain(u, bytes, &got, &u->err);
	return hand_over(u, a, result, got);
}

static la_int64_t skip(struct archive *a, void *user, la_int64_t request)
{
	struct sd_unpacking *u = user;
	uint64_t left = u->size - u->at;

	(void)a;
	if (!u->ahead_taken || request <= 0)
		return 0;
	if ((uint64_t)request > left)
		request = (la_int64_t)left;
	u->at += (uint64_t)request;
	return request;
}

static la_int64_t seek(struct archive *a, void *user, la_int64_t offset, int whence)
{
	struct sd_unpacking *u = user;
	la_int64_t from = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? (la_int64_t)u->at : (la_int64_t)u->size, to;

	(void)a;
	if (__builtin_add_overflow(from, offset, &to) || to < 0 || (uint64_t)to > u->size)
		return ARCHIVE_FATAL;
	u->at = (uint64_t)to;
	return to;
}

/* ---- opening ---- */

static enum form form_of(const unsigned char *first, size_t n)
{
	static const struct {
		const char *magic;
		size_t length;
		enum form form;
	} forms[] = {{"\x1f\x8b", 2, GZIP},
		     {SD_ZSTD_MAGIC, SD_ZSTD_MAGIC_LENGTH, FILTERED},
		     {"\xfd"
		      "7zXZ",
		      5, FILTERED},
		     {"BZh", 3, FILTERED},
		     {SD_ZIP_MAGIC, SD_ZIP_MAGIC_LENGTH, ZIP}};

	for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++)
		if (n >= forms[i].length && memcmp(first, forms[i].magic, forms[i].length) == 0)
			return forms[i].form;
	return PLAIN;
}

/* Opens what expands the data, of any form that libarchive knows and checks. */
static enum sd_result open_filter(struct sd_unpacking *u, struct sd_error *err)
{
	struct archive *a = u->filter = archive_read_new();

	if (!a)
		return sd_fail_memory(err);
	if (archive_read_support_filter_zstd(a) != ARCHIVE_OK || archive_read_support_filter_xz(a) != ARCHIVE_OK ||
	    archive_read_support_filter_bzip2(a) != ARCHIVE_OK || archive_read_support_format_raw(a) != ARCHIVE_OK ||
	    archive_read_open(a, u, NULL, read_raw, NULL) < ARCHIVE_WARN ||
	    archive_read_next_header2(a, u->entry) < ARCHIVE_WARN)
		return fail(u, a, err);
	return SD_OK;
}

/* Keeps the first bytes of what may be a tar, a block at least, if there are so many. */
static enum sd_result look_ahead(struct sd_unpacking *u, struct sd_error *err)
{
	const void *bytes;
	size_t got = 1;
	char *larger;

	while (u->nahead < SD_TAR_BLOCK && got) {
		if (take_plain(u, &bytes, &got, err) != SD_OK)
			return err->result;
		larger = realloc(u->ahead, u->nahead + got + 1);
		if (!larger)
			return sd_fail_memory(err);
		if (got)
			memcpy(larger + u->nahead, bytes, got);
		u->ahead = larger;
		u->nahead += got;
	}
	return SD_OK;
}

static enum sd_result open_members(struct sd_unpacking *u, struct sd_error *err)
{
	struct archive *a = u->archive = archive_read_new();
	int status;

	if (!a)
		return sd_fail_memory(err);
	status = u->form != ZIP      ? archive_read_support_format_tar(a)
		 : u->input.seekable ? archive_read_support_format_zip_seekable(a)
				     : archive_read_support_format_zip_streamable(a);
	archive_read_set_read_callback(a, read_plain);
	if (archive_read_set_callback_data(a, u) != ARCHIVE_OK)
		return sd_fail_memory(err);
	if (u->input.seekable && (u->form == PLAIN || u->form == ZIP))
		archive_read_set_skip_callback(a, skip);
	if (u->form == ZIP && u->input.seekable)
		archive_read_set_seek_callback(a, seek);
	return status == ARCHIVE_OK && archive_read_open1(a) >= ARCHIVE_WARN ? SD_OK : fail(u, a, err);
}

/* The first bytes of the file: they were read, or are read now and then once more. */
static enum sd_result take_first(struct sd_unpacking *u, size_t *n, struct sd_error *err)
{
	const struct sd_unpack_input *in = &u->input;

	*n = in->nfirst;
	if (!in->seekable) {
		memcpy(u->first, in->first, in->nfirst);
		return SD_OK;
	}
	*n = u->size < sizeof(u->first) ? (size_t)u->size : sizeof(u->first);
	return sd_pread_all(in->fd, u->first, *n, (off_t)in->begin, err);
}

static enum sd_result begin(struct sd_unpacking *u, bool *is_archive, struct sd_error *err)
{
	size_t n;
	enum sd_result result = take_first(u, &n, err);

	if (result == SD_OK)
		u->form = form_of(u->first, n);
	if (result == SD_OK && u->form == GZIP)
		result = sd_gunzip_begin(&u->gunzip, more_gzip, u, err);
	if (result == SD_OK && u->form == FILTERED)
		result = open_filter(u, err);
	if (result == SD_OK && u->form != ZIP)
		result = look_ahead(u, err);
	/* Who reads zstd without an archive in it knows better what is wrong with it. */
	if (result == SD_INPUT && memcmp(u->first, SD_ZSTD_MAGIC, SD_ZSTD_MAGIC_LENGTH) == 0)
		result = SD_OK;
	*is_archive =
		result == SD_OK &&
		(u->form == ZIP || (u->nahead >= SD_TAR_BLOCK && sd_tar_is_header((const unsigned char *)u->ahead)));
	return *is_archive ? open_members(u, err) : result;
}

enum sd_result sd_unpack_open(const struct sd_unpack_input *input, struct sd_unpacking **unpack, bool *is_archive,
			      struct sd_error *err)
{
	struct sd_unpacking *u = calloc(1, sizeof(*u));
	enum sd_result result = u ? SD_OK : sd_fail_memory(err);
	struct stat st;

	*unpack = NULL;
	*is_archive = false;
	if (result == SD_OK && !(u->entry = archive_entry_new()))
		result = sd_fail_memory(err);
	if (result == SD_OK)
		u->input = *input;
	if (result == SD_OK && input->seekable && fstat(input->fd, &st) != 0)
		result = sd_fail_errno(err, errno, "cannot look at the archive");
	if (result == SD_OK && input->seekable)
		u->size = (uint64_t)st.st_size > input->begin ? (uint64_t)st.st_size - input->begin : 0;
	if (result == SD_OK)
		result = begin(u, is_archive, err);
	if (result == SD_OK)
		*unpack = u;
	else
		sd_unpack_close(u);
	return result;
}

bool sd_unpack_is_packed(const struct sd_unpacking *u)
{
	return u->form != PLAIN;
}

void sd_unpack_close(struct sd_unpacking *u)
{
	if (!u)
		return;
	archive_read_free(u->archive);
	archive_read_free(u->filter);
	archive_entry_free(u->entry);
	if (u->form == GZIP)
		sd_gunzip_end(&u->gunzip);
	free(u->ahead);
	free(u);
}

/* ---- members ---- */

static const char *what_is(struct archive_entry *entry)
{
	if (archive_entry_hardlink(entry))
		return "a hard link";
	switch (archive_entry_filetype(entry)) {
	case AE_IFLNK:
		return "a symbolic link";
	case AE_IFIFO:
		return "a FIFO";
	case AE_IFSOCK:
		return "a socket";
	case AE_IFCHR:
	case AE_IFBLK:
		return "a device";
	default:
		return archive_entry_sparse_count(entry) > 0 ? "a sparse file" : "of a kind that is not known";
	}
}

static enum sd_result describe(struct sd_unpacking *u, struct archive_entry *entry, struct sd_unpack_entry *out,
			       struct sd_error *err)
{
	mode_t type = archive_entry_filetype(entry);
	bool plain = !archive_entry_hardlink(entry) && archive_entry_sparse_count(entry) <= 0;

	out->name = archive_entry_pathname(entry);
	if (!out->name)
		out->name = archive_entry_pathname_utf8(entry);
	if (!out->name)
		return sd_fail(err, SD_INPUT, "damaged archive: a member without a name");
	out->what = what_is(entry);
	if (!archive_entry_size_is_set(entry) && type == AE_IFREG)
		return sd_fail(err, SD_INPUT,
			       "%s in the archive: its size stands behind it; such a zip cannot be read from a pipe: "
			       "put it into a file",
			       out->name);
	out->kind = !plain             ? SD_UNPACK_OTHER
		    : type == AE_IFREG ? SD_UNPACK_FILE
		    : type == AE_IFDIR ? SD_UNPACK_FOLDER
				       : SD_UNPACK_OTHER;
	out->size = archive_entry_size(entry) > 0 ? (uint64_t)archive_entry_size(entry) : 0;
	out->begin = u->form == PLAIN && u->input.seekable ? (uint64_t)archive_filter_bytes(u->archive, 0) : UINT64_MAX;
	return SD_OK;
}

static bool is_zero(const char *bytes, size_t length)
{
	return length == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0);
}

/* What is behind the last member: the end of the compressed data, whose checksum counts, and padding. */
static enum sd_result take_rest(struct sd_unpacking *u, struct sd_error *err)
{
	const void *bytes;
	size_t got = 1;

	if (u->form == ZIP && u->input.seekable)
		return SD_OK;
	if (u->starved && u->form == PLAIN)
		return sd_fail(err, SD_INPUT, "truncated archive: it has no mark at its end");
	while (got) {
		if (take_plain(u, &bytes, &got, err) != SD_OK)
			return err->result;
		if (!is_zero(bytes, got) && u->form != ZIP)
			return sd_fail(err, SD_INPUT,
				       "more data is behind the end of the archive: are two of them joined?");
	}
	return u->form != ZIP || memcmp(u->tail, "PK\5\6", 4) == 0
		       ? SD_OK
		       : sd_fail(err, SD_INPUT, "truncated archive: a zip has its directory at the end");
}

enum sd_result sd_unpack_next(struct sd_unpacking *u, struct sd_unpack_entry *out, struct sd_error *err)
{
	int status = archive_read_next_header2(u->archive, u->entry);

	*out = (struct sd_unpack_entry){.kind = SD_UNPACK_END};
	if (status == ARCHIVE_EOF)
		return take_rest(u, err);
	if (status < ARCHIVE_WARN)
		return fail(u, u->archive, err);
	return describe(u, u->entry, out, err);
}

enum sd_result sd_unpack_read(struct sd_unpacking *u, void *buffer, size_t length, size_t *got, struct sd_error *err)
{
	la_ssize_t n = archive_read_data(u->archive, buffer, length);

	*got = n > 0 ? (size_t)n : 0;
	if (n < 0)
		return fail(u, u->archive, err);
	u->out += u->form == ZIP ? *got : 0;
	return u->form == ZIP ? check_ratio(u, err) : SD_OK;
}
