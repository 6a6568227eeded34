/* SPDX-License-Identifier: Apache-2.0 */
/* Patches a checkpoint directory. */
#include "formats/patch.h"
#include "base/checked.h"
#include "base/io.h"
#include "base/signals.h"
#include "formats/atomic_output.h"
#include "formats/recover.h"
#include "formats/replace.h"
#include "formats/template.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define JOURNAL ".sd-patch"
#define FILES "sd-patch-files" /* in its metadata: all files that are hidden, a line each, the index first */
#define COPY ".copy"           /* in the folder: a copy that is not whole yet */
#define AT_ONCE (1u << 20)

/* ---- files ---- */

/* The bytes of a journal are the only ones: once they are being written, a signal is no reason to stop. */
static enum sd_result copy_bytes(int from, uint64_t from_at, int to, uint64_t to_at, uint64_t length, char *buffer,
				 struct sd_error *err)
{
	while (length) {
		size_t most = length < AT_ONCE ? (size_t)length : AT_ONCE;
		ssize_t got = pread(from, buffer, most, (off_t)from_at), put;

		if (got < 0 && errno == EINTR)
			continue;
		if (got == 0)
			return sd_fail(err, SD_INPUT, "ends early");
		if (got < 0)
			return sd_fail_errno(err, errno, "cannot read");
		put = pwrite(to, buffer, (size_t)got, (off_t)to_at);
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return sd_fail_errno(err, errno, "cannot write");
		from_at += (uint64_t)put;
		to_at += (uint64_t)put;
		length -= (uint64_t)put;
	}
	return SD_OK;
}

static enum sd_result open_there(int dir, const char *name, int flags, int *fd, struct sd_error *err)
{
	*fd = sd_openat(dir, name, flags | O_CLOEXEC | O_NONBLOCK, 0666);
	return *fd >= 0 ? SD_OK : sd_fail_errno(err, errno, "%s", name);
}

/* What a journal was written of has been read with the limits that were asked for then. */
static const struct sd_limits any_size = {.most = {[SD_LIMIT_HEADER] = INT32_MAX,
						   [SD_LIMIT_MANIFEST] = UINT64_C(1) << 32,
						   [SD_LIMIT_NAME] = 1 << 30,
						   [SD_LIMIT_TENSORS] = UINT32_MAX - 2,
						   [SD_LIMIT_RANK] = SD_RANK_MAX}};

static enum sd_result read_header(int dir, const char *name, int flags, int *fd, struct sd_template_file *file,
				  struct sd_error *err)
{
	enum sd_result result = open_there(dir, name, flags, fd, err);

	*file = (struct sd_template_file){.name = name};
	if (result == SD_OK && sd_template_read_file(*fd, &any_size, file, err) != SD_OK)
		result = sd_error_at(err, "%s", name);
	return result;
}

static void free_header(int fd, struct sd_template_file *file)
{
	if (fd >= 0)
		close(fd);
	free(file->header);
	sd_safetensors_free(&file->content);
}

/* Whether a file has other names, or its name leads to a file elsewhere: what it holds is not this directory's alone.
 */
static bool is_shared(int dir, const char *name)
{
	struct stat st;

	return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && (S_ISLNK(st.st_mode) || st.st_nlink > 1);
}

static bool is_link(int dir, const char *name)
{
	struct stat st;

	return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode);
}

static bool exists(int dir, const char *name)
{
	struct stat st;

	return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static enum sd_result sync_dir(int dir, const char *path, bool sync, struct sd_error *err)
{
	return sync ? sd_output_sync(dir, path, true, err) : SD_OK;
}

/* ---- the journal, and what it is for ---- */

struct journal {
	int place, hidden, fd;
	const char *path; /* of the place */
	bool sync;
	struct sd_template_file content;
	struct sd_names tensors; /* of content */
	char *names;             /* one behind another, with a NUL each */
	size_t nnames;
	char *buffer;
};

static enum sd_result split_names(struct journal *j, struct sd_error *err)
{
	const char *files = sd_safetensors_metadata(&j->content.content, FILES);

	if (!files || !*files)
		return sd_fail(err, SD_INPUT, JOURNAL " does not say of which files it is");
	j->names = strdup(files);
	if (!j->names)
		return sd_fail_memory(err);
	for (char *p = j->names; p; j->nnames++) {
		char *end = strchr(p, '\n');

		if (end)
			*end = '\0';
		if (!sd_file_name_good(p))
			return sd_fail(err, SD_INPUT, JOURNAL " names a file that it cannot be of");
		p = end ? end + 1 : NULL;
	}
	return SD_OK;
}

static const char *name_at(const struct journal *j, size_t i)
{
	const char *name = j->names;

	while (i-- > 0)
		name += strlen(name) + 1;
	return name;
}

static enum sd_result open_journal(struct journal *j, struct sd_error *err)
{
	enum sd_result result = read_header(j->place, JOURNAL, O_RDONLY, &j->fd, &j->content, err);
	const struct sd_safetensors *content = &j->content.content;

	for (size_t i = 0; i < content->ntensors && result == SD_OK; i++)
		if (sd_names_add(&j->tensors, content->tensors[i].name, (uint32_t)i) == SD_NO_NAME)
			result = sd_fail_memory(err);
	if (result == SD_OK)
		result = split_names(j, err);
	j->buffer = malloc(AT_ONCE);
	return result == SD_OK && !j->buffer ? sd_fail_memory(err) : result;
}

static void close_journal(struct journal *j)
{
	free_header(j->fd, &j->content);
	sd_names_free(&j->tensors);
	if (j->hidden >= 0)
		close(j->hidden);
	free(j->names);
	free(j->buffer);
}

static bool is_index(const char *name)
{
	size_t n = strlen(name), end = strlen(".json");

	return n > end && strcmp(name + n - end, ".json") == 0;
}

/* ---- hiding ---- */

static enum sd_result copy_file(const struct journal *j, const char *name, const char *copy, struct sd_error *err)
{
	struct stat st;
	int from, to = -1;
	enum sd_result result = open_there(j->place, name, O_RDONLY, &from, err);

	(void)!unlinkat(j->hidden, copy, 0);
	if (result == SD_OK)
		result = open_there(j->hidden, copy, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, &to, err);
	if (result == SD_OK && fstat(from, &st) != 0)
		result = sd_fail_errno(err, errno, "%s", name);
	if (result == SD_OK)
		result = sd_output_permissions(to, &st, (st.st_mode & 0777) | 0600, err);
	if (result == SD_OK && copy_bytes(from, 0, to, 0, (uint64_t)st.st_size, j->buffer, err) != SD_OK)
		result = sd_error_at(err, "%s", name);
	if (result == SD_OK)
		result = sync_dir(to, name, j->sync, err);
	if (from >= 0)
		close(from);
	if (to >= 0)
		close(to);
	return result;
}

/* A file that is not this directory's alone is copied, all at once for who looks. */
static enum sd_result copy_aside(const struct journal *j, const char *name, struct sd_error *err)
{
	char *copy;
	enum sd_result result;

	if (asprintf(&copy, "%s" COPY, name) < 0)
		return sd_fail_memory(err);
	result = copy_file(j, name, copy, err);
	if (result == SD_OK && renameat(j->hidden, copy, j->hidden, name) != 0)
		result = sd_fail_errno(err, errno, "%s: cannot rename its copy", name);
	free(copy);
	return result;
}

/* Whether the journal has a tensor of the file. */
static enum sd_result is_changed(const struct journal *j, const char *name, bool *changed, struct sd_error *err)
{
	struct sd_template_file file;
	int fd = -1;
	enum sd_result result = read_header(j->place, name, O_RDONLY, &fd, &file, err);

	*changed = false;
	for (size_t i = 0; i < file.content.ntensors && result == SD_OK; i++)
		*changed = *changed || sd_names_find(&j->tensors, file.content.tensors[i].name) != SD_NO_NAME;
	free_header(fd, &file);
	return result;
}

static enum sd_result copy_shared(const struct journal *j, struct sd_error *err)
{
	for (size_t i = 0; i < j->nnames; i++) {
		const char *name = name_at(j, i);
		bool changed;

		if (is_index(name) || exists(j->hidden, name) || !is_shared(j->place, name))
			continue;
		if (is_changed(j, name, &changed, err) != SD_OK || (changed && copy_aside(j, name, err) != SD_OK))
			return err->result;
	}
	return SD_OK;
}

/* All files leave their places; one that was copied only loses its name here. */
static enum sd_result hide(const struct journal *j, struct sd_error *err)
{
	for (size_t i = 0; i < j->nnames; i++) {
		const char *name = name_at(j, i);
		int failed;

		if (!exists(j->hidden, name))
			failed = sd_replace_rename(j->place, name, j->hidden, name, false);
		else
			failed = exists(j->place, name) ? unlinkat(j->place, name, 0) : 0;
		if (failed)
			return sd_fail_errno(err, errno, "%s/%s: cannot be moved aside", j->path, name);
	}
	return sync_dir(j->place, j->path, j->sync, err);
}

static enum sd_result bring_back(const struct journal *j, struct sd_error *err)
{
	for (size_t i = j->nnames; i-- > 0;)
		if (exists(j->hidden, name_at(j, i)) &&
		    sd_replace_rename(j->hidden, name_at(j, i), j->place, name_at(j, i), false) != 0)
			return sd_fail_errno(err, errno, "%s/%s: cannot be put back in its place", j->path,
					     name_at(j, i));
	return sync_dir(j->place, j->path, j->sync, err);
}

/* ---- the bytes ---- */

static enum sd_result patch_tensor(const struct journal *j, int fd, const struct sd_template_file *file,
				   const struct sd_tensor *there, struct sd_error *err)
{
	uint32_t number = sd_names_find(&j->tensors, there->name);
	const struct sd_tensor *here;

	if (number == SD_NO_NAME)
		return SD_OK;
	here = &j->content.content.tensors[number];
	if (here->dtype != there->dtype || !sd_shape_equal(here->shape, here->rank, there->shape, there->rank))
		return sd_fail(err, SD_INPUT, "%s in %s has another dtype or shape than in " JOURNAL, there->name,
			       file->name);
	if (copy_bytes(j->fd, j->content.header_length + here->begin, fd, file->header_length + there->begin,
		       there->end - there->begin, j->buffer, err) != SD_OK)
		return sd_error_at(err, "%s of %s", there->name, file->name);
	return SD_OK;
}

static enum sd_result patch_file(const struct journal *j, const char *name, struct sd_error *err)
{
	struct sd_template_file file;
	int fd = -1;
	enum sd_result result = read_header(j->hidden, name, O_RDONLY, &fd, &file, err);
	bool changed = false;

	for (size_t i = 0; i < file.content.ntensors && result == SD_OK; i++)
		changed = changed || sd_names_find(&j->tensors, file.content.tensors[i].name) != SD_NO_NAME;
	if (result == SD_OK && changed) {
		close(fd);
		result = open_there(j->hidden, name, O_RDWR | O_NOFOLLOW, &fd, err);
	}
	for (size_t i = 0; i < file.content.ntensors && result == SD_OK && changed; i++)
		result = patch_tensor(j, fd, &file, &file.content.tensors[i], err);
	if (result == SD_OK && changed)
		result = sync_dir(fd, name, j->sync, err);
	free_header(fd, &file);
	return result;
}

static enum sd_result patch_files(const struct journal *j, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	/* A link that is still one has none of the tensors; where it leads to need not be found from there. */
	for (size_t i = 0; i < j->nnames && result == SD_OK; i++)
		if (!is_index(name_at(j, i)) && !is_link(j->hidden, name_at(j, i)))
			result = patch_file(j, name_at(j, i), err);
	return result;
}

/* One that was begun, and is needed no more. */
static enum sd_result remove_copy(const struct journal *j, const char *name, struct sd_error *err)
{
	char *copy;

	if (asprintf(&copy, "%s" COPY, name) < 0)
		return sd_fail_memory(err);
	(void)!unlinkat(j->hidden, copy, 0);
	free(copy);
	return SD_OK;
}

static enum sd_result finish(struct journal *j, struct sd_error *err)
{
	enum sd_result result = bring_back(j, err);

	for (size_t i = 0; i < j->nnames && result == SD_OK; i++)
		result = remove_copy(j, name_at(j, i), err);
	if (result == SD_OK && unlinkat(j->place, SD_PATCH_HIDDEN, AT_REMOVEDIR) != 0)
		result = sd_fail_errno(err, errno, "%s/" SD_PATCH_HIDDEN ": cannot remove", j->path);
	if (result == SD_OK && unlinkat(j->place, JOURNAL, 0) != 0)
		result = sd_fail_errno(err, errno, "%s/" JOURNAL ": cannot remove", j->path);
	return result == SD_OK ? sync_dir(j->place, j->path, j->sync, err) : result;
}

/* Does what the journal says. Each step may have been done already, by a run that was killed. */
static enum sd_result apply_now(int place, const char *path, bool sync, struct sd_error *err)
{
	struct journal j = {.place = place, .hidden = -1, .fd = -1, .path = path, .sync = sync};
	enum sd_result result = open_journal(&j, err);

	if (result == SD_OK && mkdirat(place, SD_PATCH_HIDDEN, 0777) != 0 && errno != EEXIST)
		result = sd_fail_errno(err, errno, SD_PATCH_HIDDEN ": cannot create");
	if (result == SD_OK)
		result = open_there(place, SD_PATCH_HIDDEN, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, &j.hidden, err);
	if (result == SD_OK)
		result = copy_shared(&j, err);
	if (result == SD_OK)
		result = hide(&j, err);
	if (result == SD_OK)
		result = patch_files(&j, err);
	if (result == SD_OK)
		result = finish(&j, err);
	close_journal(&j);
	if (result != SD_OK && result != SD_USAGE)
		sd_error_at(err, "%s is not whole; sd-pack --recover=%s goes on", path, path);
	return result;
}

/* The same, whatever signal comes: it is the shortest way to a whole checkpoint. */
static enum sd_result apply(int place, const char *path, bool sync, struct sd_error *err)
{
	sigset_t all, before;
	enum sd_result result;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	result = apply_now(place, path, sync, err);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return result;
}

/* ---- a patch ---- */

struct change {
	const char *name;
	size_t tensors;
	uint64_t bytes;
};

struct sd_patch {
	char *path, *journal, *files;
	struct sd_entry metadata;
	int place;
	bool sync;
	struct sd_template there;
	struct change *changes; /* of each file there */
};

static const struct sd_tensor *find_tensor(const struct sd_template_file *file, const char *name)
{
	for (size_t i = 0; i < file->content.ntensors; i++)
		if (strcmp(file->content.tensors[i].name, name) == 0)
			return &file->content.tensors[i];
	return NULL;
}

static enum sd_result check_target(struct sd_patch *p, const struct sd_target *t, struct sd_error *err)
{
	uint32_t file = sd_names_find(&p->there.file_of, t->name);
	char x[SD_SHAPE_TEXT], y[SD_SHAPE_TEXT];
	const struct sd_tensor *there;

	if (file == SD_NO_NAME)
		return sd_fail(err, SD_INPUT, "%s is not in %s: --patch changes what is there, --update adds", t->name,
			       p->path);
	there = find_tensor(&p->there.files[file], t->name);
	if (there->dtype != t->dtype || !sd_shape_equal(there->shape, there->rank, t->shape, t->rank))
		return sd_fail(err, SD_INPUT,
			       "%s is %s %s, and in %s %s %s: --patch keeps dtype and shape, --update "
			       "does not",
			       t->name, sd_dtype_name(t->dtype), sd_shape_text(t->shape, t->rank, x, sizeof(x)),
			       p->path, sd_dtype_name(there->dtype),
			       sd_shape_text(there->shape, there->rank, y, sizeof(y)));
	p->changes[file].tensors++;
	p->changes[file].bytes += there->end - there->begin;
	return SD_OK;
}

/* Each tensor of the stream once, however many targets it has. */
static enum sd_result check_targets(struct sd_patch *p, const struct sd_manifest *m, struct sd_error *err)
{
	struct sd_names seen = {0};
	enum sd_result result = SD_OK;
	size_t count = 0;

	for (uint32_t i = 0; i < m->ntargets && result == SD_OK; i++) {
		uint32_t number;

		if (m->records[m->targets[i].record].state != SD_HERE)
			continue;
		number = sd_names_add(&seen, m->targets[i].name, i);
		if (number == SD_NO_NAME)
			result = sd_fail_memory(err);
		else if (number == i)
			result = check_target(p, &m->targets[i], err);
		count++;
	}
	sd_names_free(&seen);
	return result == SD_OK && !count ? sd_fail(err, SD_INPUT, "no data in this stream: there is nothing to patch")
					 : result;
}

/* That the files can be written to, and that there is room for the journal and, at the same time, for copies of files
 * that are not this directory's alone. */
static enum sd_result check_files(const struct sd_patch *p, struct sd_error *err)
{
	uint64_t room = 0;

	for (size_t i = 0; i < p->there.nfiles; i++) {
		const char *name = p->there.files[i].name, *obstacle = sd_replace_obstacle(p->place, name);
		struct stat st;
		int fd;

		if (obstacle)
			return sd_fail(err, SD_IO, "%s/%s is %s: it cannot be patched", p->path, name, obstacle);
		if (!p->changes[i].tensors)
			continue;
		if (!sd_add(room, p->changes[i].bytes, &room))
			room = UINT64_MAX;
		if (!is_shared(p->place, name)) {
			fd = sd_openat(p->place, name, O_RDWR | O_CLOEXEC | O_NONBLOCK, 0);
			if (fd < 0)
				return sd_fail_errno(err, errno, "%s/%s", p->path, name);
			close(fd);
		} else if (fstatat(p->place, name, &st, 0) == 0 && !sd_add(room, (uint64_t)st.st_size, &room)) {
			room = UINT64_MAX;
		}
	}
	return sd_output_room(p->place, p->path, room, err);
}

/* What the journal says of the files. */
static enum sd_result name_files(struct sd_patch *p, struct sd_error *err)
{
	size_t length = p->there.index_name ? strlen(p->there.index_name) + 1 : 0, used = 0;

	for (size_t i = 0; i < p->there.nfiles; i++)
		length += strlen(p->there.files[i].name) + 1;
	p->files = malloc(length + 1);
	if (!p->files)
		return sd_fail_memory(err);
	if (p->there.index_name)
		used += (size_t)sprintf(p->files, "%s\n", p->there.index_name);
	for (size_t i = 0; i < p->there.nfiles; i++)
		used += (size_t)sprintf(p->files + used, "%s\n", p->there.files[i].name);
	p->files[used ? used - 1 : 0] = '\0';
	p->metadata = (struct sd_entry){FILES, p->files};
	return SD_OK;
}

static enum sd_result begin(struct sd_patch *p, const struct sd_limits *limits, const struct sd_manifest *m, bool look,
			    struct sd_error *err)
{
	bool found;
	enum sd_result result = sd_recover_lock(p->path, &p->place, err);

	if (result == SD_OK)
		result = look ? sd_patch_check_none(p->place, p->path, err)
			      : sd_recover_place(p->place, p->path, p->sync, &found, err);
	if (result == SD_OK)
		result = sd_template_open(p->path, limits, &p->there, err);
	if (result != SD_OK)
		return result;
	p->changes = calloc(p->there.nfiles + 1, sizeof(*p->changes));
	if (!p->changes)
		return sd_fail_memory(err);
	result = check_targets(p, m, err);
	if (result == SD_OK)
		result = check_files(p, err);
	return result == SD_OK ? name_files(p, err) : result;
}

enum sd_result sd_patch_begin(const char *path, const struct sd_limits *limits, const struct sd_manifest *m, bool look,
			      bool sync, struct sd_patch **patch, struct sd_error *err)
{
	struct sd_patch *p = calloc(1, sizeof(*p));
	size_t n = strlen(path);

	*patch = p;
	if (!p)
		return sd_fail_memory(err);
	while (n > 1 && path[n - 1] == '/')
		n--;
	p->place = -1;
	p->sync = sync;
	p->path = strndup(path, n);
	if (!p->path || asprintf(&p->journal, "%s/" JOURNAL, p->path) < 0) {
		p->journal = NULL;
		return sd_fail_memory(err);
	}
	return begin(p, limits, m, look, err);
}

const char *sd_patch_journal(const struct sd_patch *p)
{
	return p->journal;
}

const struct sd_entry *sd_patch_metadata(const struct sd_patch *p)
{
	return &p->metadata;
}

bool sd_patch_file(const struct sd_patch *p, size_t i, const char **name, size_t *tensors, uint64_t *bytes)
{
	if (i >= p->there.nfiles)
		return false;
	*name = p->there.files[i].name;
	*tensors = p->changes[i].tensors;
	*bytes = p->changes[i].bytes;
	return true;
}

enum sd_result sd_patch_end(struct sd_patch *p, struct sd_error *err)
{
	enum sd_result result = sd_signals_check(err);

	if (result == SD_OK)
		return apply(p->place, p->path, p->sync, err);
	(void)!unlinkat(p->place, JOURNAL, 0);
	return result;
}

void sd_patch_close(struct sd_patch *p)
{
	if (!p)
		return;
	if (p->place >= 0)
		close(p->place);
	sd_template_close(&p->there);
	free(p->changes);
	free(p->journal);
	free(p->files);
	free(p->path);
	free(p);
}

/* ---- what was left ---- */

enum sd_result sd_patch_recover(int place, const char *path, bool sync, bool *found, struct sd_error *err)
{
	*found = exists(place, JOURNAL);
	return *found ? apply(place, path, sync, err) : SD_OK;
}

enum sd_result sd_patch_check_none(int place, const char *path, struct sd_error *err)
{
	if (!exists(place, JOURNAL) && !exists(place, SD_PATCH_HIDDEN))
		return SD_OK;
	return sd_fail(err, SD_IO, "%s: a run of sd-pack --patch was killed here; sd-pack --recover=%s ends it first",
		       path, path);
}
