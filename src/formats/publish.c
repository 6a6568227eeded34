/* SPDX-License-Identifier: Apache-2.0 */
/* Output that appears whole or not at all. */
#include "formats/publish.h"
#include "base/arena.h"
#include "base/checked.h"
#include "base/signals.h"
#include "formats/checkpoint.h"
#include "stream/chunk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define OPEN_MAX_FILES 64
#define MARK ".sd-"      /* in every temporary name */
#define NAME_IN_TEMP 200 /* bytes of the name that go into the temporary one */

/*
 * Stands in a directory while one checkpoint takes another's place there. Files that no index names are a checkpoint
 * whichever of them are there; with one that says that it is the first of two, and is alone, they are none. It is
 * empty, so that who takes every *.safetensors fails, too.
 */
#define GUARD "unfinished-00001-of-00002.safetensors"

struct slot {
	int fd;
	uint64_t used; /* when */
};

struct sd_publish {
	const struct sd_publish_file *files;
	struct slot *slots;
	size_t count, open;
	uint64_t clock;
	struct sd_publish_options options;
	char *path;                        /* for errors */
	char *name;                        /* in place; NULL: place itself is the existing directory */
	int place;                         /* directory in which the temporary stands and the result will stand */
	int staging;                       /* the temporary directory; -1 for a single file */
	char prefix[NAME_IN_TEMP + 16];    /* of temporary names */
	char temporary[NAME_IN_TEMP + 32]; /* "": there is none, or a file without a name */
	bool guarded;                      /* GUARD stands in place */
	bool keep; /* something old is gone, or something new in its place: there is no way but forward */
};

/* ---- names and places ---- */

/* A new temporary name: prefix and six random letters. */
static void choose_name(struct sd_publish *p)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
	unsigned char random[6];
	size_t n = strlen(p->prefix);

	if (getrandom(random, sizeof(random), GRND_NONBLOCK) != (ssize_t)sizeof(random))
		memset(random, (int)getpid(), sizeof(random)); /* the name is tried, and another one if it is taken */
	memcpy(p->temporary, p->prefix, n);
	for (size_t i = 0; i < sizeof(random); i++)
		p->temporary[n + i] = letters[random[i] % (sizeof(letters) - 1)];
	p->temporary[n + sizeof(random)] = '\0';
}

/* Splits path into the directory that is opened as place, and the name in it. */
static enum sd_result open_parent(struct sd_publish *p, struct sd_error *err)
{
	char *slash = strrchr(p->path, '/');
	enum sd_result result = SD_OK;

	p->name = strdup(slash ? slash + 1 : p->path);
	if (!p->name)
		return sd_fail_memory(err);
	if (!slash) {
		p->place = sd_openat(AT_FDCWD, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	} else {
		char *parent = strndup(p->path, slash == p->path ? 1 : (size_t)(slash - p->path));

		if (!parent)
			return sd_fail_memory(err);
		p->place = sd_openat(AT_FDCWD, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
		if (p->place < 0 && errno == ENOENT)
			result =
				sd_fail(err, SD_IO, "%s: there is no directory %s; mkdir -p makes it", p->path, parent);
		free(parent);
	}
	if (result != SD_OK)
		return result;
	if (p->place < 0)
		return sd_fail_errno(err, errno, "%s: the directory in which it is to be", p->path);
	snprintf(p->prefix, sizeof(p->prefix), ".%.*s" MARK, NAME_IN_TEMP, p->name);
	return SD_OK;
}

typedef bool look(struct sd_publish *p, const char *name);

/* Whether some name in the directory makes look say yes. It is opened anew: the position of a DIR belongs to its fd. */
static enum sd_result look_through(struct sd_publish *p, look *wanted, bool *found, struct sd_error *err)
{
	int fd = sd_openat(p->place, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *entry;

	*found = false;
	if (!dir) {
		int error = errno;

		if (fd >= 0)
			close(fd);
		return sd_fail_errno(err, error, "%s", p->path);
	}
	for (errno = 0; (entry = readdir(dir)); errno = 0)
		if (wanted(p, entry->d_name))
			*found = true;
	if (errno) {
		int error = errno;

		closedir(dir);
		return sd_fail_errno(err, error, "%s", p->path);
	}
	closedir(dir);
	return SD_OK;
}

/* Whoever writes a temporary file or directory holds a lock on it for as long as it lives, where the file system has
 * locks. */
static bool is_alive(const struct sd_publish *p, const char *name)
{
	int fd = sd_openat(p->place, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);
	bool alive = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;

	if (fd >= 0)
		close(fd);
	return alive;
}

static void say_alive(int fd)
{
	(void)!flock(fd, LOCK_EX | LOCK_NB);
}

static bool is_leftover(struct sd_publish *p, const char *name)
{
	size_t n = strlen(p->prefix);
	const char *slash = strrchr(p->path, '/');
	int parent = p->name && slash ? (int)(slash - p->path) + 1 : 0;

	if (strncmp(name, p->prefix, n) != 0 || strlen(name) != n + 6 || is_alive(p, name))
		return false;
	if (p->name)
		p->options.note("%.*s%s was left by a run that was killed, unless it is running still", parent, p->path,
				name);
	else
		p->options.note("%s/%s was left by a run that was killed, unless it is running still", p->path, name);
	return true;
}

static bool is_content(struct sd_publish *p, const char *name)
{
	return strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && strncmp(name, p->prefix, strlen(p->prefix)) != 0;
}

/* An existing directory is taken as it is: into it go the new files. */
static enum sd_result open_existing(struct sd_publish *p, struct sd_error *err)
{
	bool full;
	enum sd_result result;

	p->place = sd_openat(AT_FDCWD, p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (p->place < 0)
		return sd_fail_errno(err, errno, "%s", p->path);
	memcpy(p->prefix, MARK, sizeof(MARK));
	if (p->options.force)
		return SD_OK;
	result = look_through(p, is_content, &full, err);
	if (result == SD_OK && full)
		result = sd_fail(err, SD_IO, "%s exists and is not empty; -f replaces the checkpoint in it", p->path);
	return result;
}

static enum sd_result open_place(struct sd_publish *p, struct sd_error *err)
{
	struct stat st;
	enum sd_result result;

	if (p->options.directory) {
		size_t n = strlen(p->path);

		while (n > 1 && p->path[n - 1] == '/')
			p->path[--n] = '\0';
		if (stat(p->path, &st) == 0)
			return open_existing(p, err);
	}
	result = open_parent(p, err);
	if (result != SD_OK)
		return result;
	if (fstatat(p->place, p->name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT ? SD_OK : sd_fail_errno(err, errno, "%s", p->path);
	if (p->options.directory || !(S_ISREG(st.st_mode) || S_ISLNK(st.st_mode)))
		return sd_fail(err, SD_IO, "%s exists and is no %s", p->path,
			       p->options.directory ? "directory" : "file");
	if (!p->options.force)
		return sd_fail(err, SD_IO, "%s exists; -f replaces it", p->path);
	return SD_OK;
}

/* ---- files ---- */

enum sd_result sd_publish_room(int dir, const char *where, uint64_t bytes, struct sd_error *err)
{
	struct statvfs fs;
	uint64_t room;

	if (fstatvfs(dir, &fs) != 0 || fs.f_blocks == 0 || !sd_mul(fs.f_bavail, fs.f_frsize, &room) || bytes <= room)
		return SD_OK; /* where the file system doesn't say, writing will tell */
	return sd_fail(err, SD_IO, "%s: too little space: %" PRIu64 " bytes are to be written, %" PRIu64 " are free",
		       where, bytes, room);
}

enum sd_result sd_publish_reserve(int fd, uint64_t size, struct sd_error *err)
{
	if (size > INT64_MAX)
		return sd_fail(err, SD_IO, "no file has %" PRIu64 " bytes", size);
	while (size && fallocate(fd, 0, 0, (off_t)size) != 0) {
		if (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL)
			break;
		if (errno != EINTR)
			return sd_fail_errno(err, errno, "cannot reserve %" PRIu64 " bytes", size);
		if (sd_signals_check(err) != SD_OK)
			return SD_IO;
	}
	while (ftruncate(fd, (off_t)size) != 0) {
		if (errno != EINTR)
			return sd_fail_errno(err, errno, "cannot make it %" PRIu64 " bytes long", size);
		if (sd_signals_check(err) != SD_OK)
			return SD_IO;
	}
	return SD_OK;
}

static enum sd_result sync_fd(const struct sd_publish *p, int fd, struct sd_error *err)
{
	if (!p->options.sync)
		return SD_OK;
	while (fsync(fd) != 0) {
		if (errno == EINVAL || errno == EROFS) /* there is nothing to be synced */
			return SD_OK;
		if (errno != EINTR)
			return sd_fail_errno(err, errno, "%s: cannot sync", p->path);
		if (!p->keep && sd_signals_check(err) != SD_OK)
			return SD_IO;
	}
	return SD_OK;
}

static enum sd_result close_slot(struct sd_publish *p, struct slot *slot, struct sd_error *err)
{
	enum sd_result result = sync_fd(p, slot->fd, err);

	if (close(slot->fd) != 0 && errno != EINTR && result == SD_OK)
		result = sd_fail_errno(err, errno, "%s: cannot close", p->path);
	slot->fd = -1;
	p->open--;
	return result;
}

static enum sd_result make_room(struct sd_publish *p, struct sd_error *err)
{
	struct slot *oldest = NULL;

	if (p->open < OPEN_MAX_FILES)
		return SD_OK;
	for (size_t i = 0; i < p->count; i++)
		if (p->slots[i].fd >= 0 && (!oldest || p->slots[i].used < oldest->used))
			oldest = &p->slots[i];
	return close_slot(p, oldest, err);
}

enum sd_result sd_publish_fd(struct sd_publish *p, size_t file, int *fd, struct sd_error *err)
{
	struct slot *slot = &p->slots[file];

	if (slot->fd < 0) {
		enum sd_result result = make_room(p, err);

		if (result != SD_OK)
			return result;
		slot->fd = sd_openat(p->staging, p->files[file].name, O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0);
		if (slot->fd < 0)
			return sd_fail_errno(err, errno, "%s/%s", p->path, p->files[file].name);
		p->open++;
	}
	slot->used = ++p->clock;
	*fd = slot->fd;
	return SD_OK;
}

/* The single file: without a name where the file system knows such files, for nothing can be left of them. */
static enum sd_result create_file(struct sd_publish *p, struct sd_error *err)
{
	int fd = -1;

	if (access("/proc/self/fd", X_OK) == 0)
		fd = sd_openat(p->place, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
	for (int tries = 0; fd < 0 && tries < 100; tries++) {
		choose_name(p);
		fd = sd_openat(p->place, p->temporary, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0666);
		if (fd < 0 && errno != EEXIST)
			break;
	}
	if (fd < 0) {
		p->temporary[0] = '\0';
		return sd_fail_errno(err, errno, "%s: cannot create", p->path);
	}
	say_alive(fd);
	p->slots[0].fd = fd;
	p->open = 1;
	if (sd_publish_reserve(fd, p->files[0].size, err) != SD_OK)
		return err->said ? err->result : sd_error_at(err, "%s", p->path);
	return SD_OK;
}

static enum sd_result create_staging(struct sd_publish *p, struct sd_error *err)
{
	int failed = -1;

	for (int tries = 0; failed && tries < 100; tries++) {
		choose_name(p);
		failed = mkdirat(p->place, p->temporary, 0777);
		if (failed && errno != EEXIST)
			break;
	}
	if (failed) {
		p->temporary[0] = '\0';
		return sd_fail_errno(err, errno, "%s: cannot create a directory", p->path);
	}
	p->staging = sd_openat(p->place, p->temporary, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
	if (p->staging < 0)
		return sd_fail_errno(err, errno, "%s: cannot open the directory made for it", p->path);
	say_alive(p->staging);
	return SD_OK;
}

static enum sd_result create_files(struct sd_publish *p, struct sd_error *err)
{
	enum sd_result result = create_staging(p, err);

	for (size_t i = 0; i < p->count && result == SD_OK; i++) {
		int fd;

		result = make_room(p, err);
		if (result != SD_OK)
			break;
		fd = sd_openat(p->staging, p->files[i].name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0666);
		if (fd < 0)
			return sd_fail_errno(err, errno, "%s/%s: cannot create", p->path, p->files[i].name);
		p->slots[i].fd = fd;
		p->slots[i].used = ++p->clock;
		p->open++;
		result = sd_publish_reserve(fd, p->files[i].size, err);
		if (result != SD_OK && !err->said)
			sd_error_at(err, "%s/%s", p->path, p->files[i].name);
	}
	return result;
}

static enum sd_result begin(struct sd_publish *p, struct sd_error *err)
{
	uint64_t total = 0;
	bool found;
	enum sd_result result = open_place(p, err);

	for (size_t i = 0; i < p->count && result == SD_OK; i++)
		if (!sd_add(total, p->files[i].size, &total))
			result = sd_fail(err, SD_INPUT, "more than 2^64 bytes are to be written");
	if (result == SD_OK && p->options.note)
		result = look_through(p, is_leftover, &found, err);
	if (result == SD_OK)
		result = sd_publish_room(p->place, p->path, total, err);
	if (result == SD_OK)
		result = p->options.directory ? create_files(p, err) : create_file(p, err);
	return result;
}

enum sd_result sd_publish_begin(const char *path, const struct sd_publish_file *files, size_t count,
				const struct sd_publish_options *options, struct sd_publish **publish,
				struct sd_error *err)
{
	struct sd_publish *p = calloc(1, sizeof(*p));
	enum sd_result result;

	*publish = NULL;
	if (!p)
		return sd_fail_memory(err);
	*p = (struct sd_publish){.files = files, .count = count, .options = *options, .place = -1, .staging = -1};
	p->path = strdup(path);
	p->slots = calloc(count + 1, sizeof(*p->slots));
	if (p->slots)
		for (size_t i = 0; i < count; i++)
			p->slots[i].fd = -1;
	result = p->path && p->slots ? begin(p, err) : sd_fail_memory(err);
	if (result != SD_OK) {
		sd_publish_close(p);
		return result;
	}
	*publish = p;
	return SD_OK;
}

/* ---- the end ---- */

static enum sd_result fail_appeared(const struct sd_publish *p, struct sd_error *err)
{
	return sd_fail(err, SD_IO, "%s appeared while it was being written; -f replaces it", p->path);
}

/* Renames, and replaces nothing unless that is wanted. */
static int rename_to(int from_dir, const char *from, int to_dir, const char *to, bool replace)
{
	struct stat st;

	if (replace)
		return renameat(from_dir, from, to_dir, to);
	if (renameat2(from_dir, from, to_dir, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -1;
	/* A file system that cannot promise it: looking first is the next best. */
	if (fstatat(to_dir, to, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		errno = EEXIST;
		return -1;
	}
	return renameat(from_dir, from, to_dir, to);
}

/* Gives the file without a name one; -1 and errno. */
static int link_to(const struct sd_publish *p, const char *name)
{
	char fd[40];

	snprintf(fd, sizeof(fd), "/proc/self/fd/%d", p->slots[0].fd);
	return linkat(AT_FDCWD, fd, p->place, name, AT_SYMLINK_FOLLOW);
}

/* The result stands; the disk may not know yet. */
static enum sd_result sync_published(struct sd_publish *p, struct sd_error *err)
{
	enum sd_result result = sync_fd(p, p->place, err);

	if (result != SD_OK && !err->said)
		sd_error_at(err, "complete and in its place, but perhaps not yet on the disk");
	return result;
}

static enum sd_result end_file(struct sd_publish *p, struct sd_error *err)
{
	enum sd_result result = sync_fd(p, p->slots[0].fd, err);
	int failed;

	if (result != SD_OK)
		return result;
	if (!p->temporary[0]) {
		failed = link_to(p, p->name);
		/* A name that is taken cannot be linked over: by way of a temporary name it can be renamed over. */
		for (int tries = 0; failed && errno == EEXIST && p->options.force && tries < 100; tries++) {
			choose_name(p);
			failed = link_to(p, p->temporary);
		}
		if (failed)
			p->temporary[0] = '\0';
	} else {
		failed = 0;
	}
	if (!failed && p->temporary[0]) {
		failed = rename_to(p->place, p->temporary, p->place, p->name, p->options.force);
		if (!failed)
			p->temporary[0] = '\0';
	}
	if (failed)
		return errno == EEXIST && !p->options.force
			       ? fail_appeared(p, err)
			       : sd_fail_errno(err, errno, "%s: cannot be put in its place", p->path);
	return sync_published(p, err);
}

static enum sd_result end_new_directory(struct sd_publish *p, struct sd_error *err)
{
	if (rename_to(p->place, p->temporary, p->place, p->name, false) != 0)
		return errno == EEXIST || errno == ENOTEMPTY
			       ? fail_appeared(p, err)
			       : sd_fail_errno(err, errno, "%s: cannot be put in its place", p->path);
	p->temporary[0] = '\0';
	return sync_published(p, err);
}

/* What an old checkpoint in the directory leaves to be removed. */
struct old {
	char **names;
	size_t count, room;
};

static enum sd_result list_old(const struct sd_publish *p, enum sd_role role, struct old *old, struct sd_error *err)
{
	int fd = sd_openat(p->place, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	enum sd_result result = SD_OK;
	const struct dirent *entry;

	if (!dir)
		return sd_fail_errno(err, errno, "%s", p->path);
	for (errno = 0; result == SD_OK && (entry = readdir(dir)); errno = 0) {
		if (sd_checkpoint_role(entry->d_name) != role || strcmp(entry->d_name, GUARD) == 0)
			continue;
		if (!sd_array_grow(&old->names, old->count, &old->room, sizeof(*old->names)) ||
		    !(old->names[old->count] = strdup(entry->d_name)))
			result = sd_fail_memory(err);
		else
			old->count++;
	}
	if (result == SD_OK && errno)
		result = sd_fail_errno(err, errno, "%s", p->path);
	closedir(dir);
	return result;
}

/* Removes the old checkpoint's files of one role. */
static enum sd_result remove_old(struct sd_publish *p, enum sd_role role, struct sd_error *err)
{
	struct old old = {0};
	enum sd_result result = list_old(p, role, &old, err);

	for (size_t i = 0; i < old.count; i++) {
		if (result == SD_OK && unlinkat(p->place, old.names[i], 0) != 0)
			result = sd_fail_errno(err, errno, "%s/%s: cannot remove", p->path, old.names[i]);
		else if (result == SD_OK)
			p->keep = true;
		free(old.names[i]);
	}
	free(old.names);
	return result == SD_OK ? sync_fd(p, p->place, err) : result;
}

/* Moves the new files of one role to their place. */
static enum sd_result move_new(struct sd_publish *p, enum sd_publish_role role, struct sd_error *err)
{
	for (size_t i = 0; i < p->count; i++) {
		if (p->files[i].role != role)
			continue;
		if (rename_to(p->staging, p->files[i].name, p->place, p->files[i].name, p->options.force) != 0)
			return sd_fail_errno(err, errno, "%s/%s: cannot be put in its place", p->path,
					     p->files[i].name);
		p->keep = true;
	}
	/* The last ones are synced with the whole. */
	return role == SD_PUBLISH_ENTRY ? SD_OK : sync_fd(p, p->place, err);
}

static enum sd_result put_guard(struct sd_publish *p, struct sd_error *err)
{
	int fd = sd_openat(p->place, GUARD, O_CREAT | O_WRONLY | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);

	if (fd < 0)
		return sd_fail_errno(err, errno, "%s/" GUARD ": cannot create", p->path);
	p->guarded = true;
	close(fd);
	return sync_fd(p, p->place, err);
}

/* All is in its place: what stands there for the time of the change goes. */
static enum sd_result clear_place(struct sd_publish *p, struct sd_error *err)
{
	int error = unlinkat(p->place, GUARD, 0) != 0 ? errno : 0;

	p->guarded = false;
	if (unlinkat(p->place, p->temporary, AT_REMOVEDIR) != 0)
		return sd_fail_errno(err, errno, "%s/%s: cannot remove", p->path, p->temporary);
	p->temporary[0] = '\0';
	return error ? sd_fail_errno(err, error, "%s/" GUARD ": cannot remove", p->path) : SD_OK;
}

/*
 * A checkpoint takes another's place. At no moment is there anything that a reader takes for a checkpoint but the whole
 * old one or the whole new one: the old entry goes first, the new one comes last, and between them no old weights stand
 * beside anything new.
 */
static enum sd_result end_existing(struct sd_publish *p, struct sd_error *err)
{
	enum sd_result result = put_guard(p, err), synced;
	struct sd_error unsynced;

	if (result == SD_OK && p->options.force)
		result = remove_old(p, SD_ROLE_INDEX, err);
	if (result == SD_OK && p->options.force)
		result = remove_old(p, SD_ROLE_WEIGHTS, err);
	if (result == SD_OK)
		result = move_new(p, SD_PUBLISH_SIDE, err);
	if (result == SD_OK)
		result = move_new(p, SD_PUBLISH_WEIGHTS, err);
	if (result == SD_OK)
		result = move_new(p, SD_PUBLISH_ENTRY, err);
	if (result != SD_OK)
		return p->keep ? sd_error_at(err, "new files are left in %s/%s", p->path, p->temporary) : result;
	/* On the disk, too, the last of them must be there before the guard is gone. */
	synced = sync_published(p, &unsynced);
	result = clear_place(p, err);
	if (result == SD_OK && synced != SD_OK) {
		*err = unsynced;
		return synced;
	}
	return result == SD_OK ? sync_published(p, err) : result;
}

enum sd_result sd_publish_end(struct sd_publish *p, struct sd_error *err)
{
	enum sd_result result = sd_signals_check(err);

	if (result == SD_OK && !p->options.directory)
		return end_file(p, err);
	for (size_t i = 0; i < p->count && result == SD_OK; i++)
		if (p->slots[i].fd >= 0)
			result = close_slot(p, &p->slots[i], err);
	if (result == SD_OK)
		result = sync_fd(p, p->staging, err);
	if (result == SD_OK)
		result = sd_signals_check(err);
	if (result == SD_OK)
		result = p->name ? end_new_directory(p, err) : end_existing(p, err);
	return result;
}

/* After an end there is nothing temporary any more, or (keep) it must stay. */
static void remove_temporary(struct sd_publish *p)
{
	if (p->guarded && !p->keep)
		unlinkat(p->place, GUARD, 0);
	if (!p->temporary[0] || p->keep)
		return;
	if (!p->options.directory) {
		unlinkat(p->place, p->temporary, 0);
		return;
	}
	for (size_t i = 0; i < p->count && p->staging >= 0; i++)
		unlinkat(p->staging, p->files[i].name, 0);
	unlinkat(p->place, p->temporary, AT_REMOVEDIR);
}

void sd_publish_close(struct sd_publish *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->count && p->slots; i++)
		if (p->slots[i].fd >= 0)
			close(p->slots[i].fd);
	remove_temporary(p);
	if (p->staging >= 0)
		close(p->staging);
	if (p->place >= 0)
		close(p->place);
	free(p->slots);
	free(p->path);
	free(p->name);
	free(p);
}
