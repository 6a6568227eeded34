/* SPDX-License-Identifier: Apache-2.0 */
/* Output that appears whole or not at all. */
#include "formats/atomic_output.h"
#include "base/checked.h"
#include "base/signals.h"
#include "flow/extent.h"
#include "formats/replace.h"
#include "base/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define OPEN_MAX_FILES 64
#define KEEP (64u << 20) /* bytes that are copied between looks for signals */
#define MARK ".sd-"      /* in every temporary name */
#define NAME_IN_TEMP SD_OUTPUT_NAME
#define TEMPORARY (NAME_IN_TEMP + 32)

struct slot {
	int fd;
	bool later;    /* it was closed to make room, and is to be synced at the end */
	uint64_t used; /* when */
};

struct sd_output {
	const struct sd_output_file *files;
	struct slot *slots;
	size_t count, open;
	uint64_t clock;
	struct sd_output_options options;
	char *path;                     /* for errors */
	char *name;                     /* in place; NULL: place itself is the existing directory */
	int place;                      /* directory in which the temporary stands and the result will stand */
	int staging;                    /* the temporary directory; -1 for a single file */
	char prefix[NAME_IN_TEMP + 16]; /* of temporary names */
	char temporary[TEMPORARY];      /* "": there is none, or a file without a name */
	struct sd_replace *replace;     /* for an existing directory */
	struct stat like;               /* the single file that is there already; without a mode: none is */
	bool made;                      /* the directory was made for it, and may go if it is empty */
	bool keep;                      /* what is temporary holds what is nowhere else: it stays */
};

/* ---- names and places ---- */

void sd_output_letters(char letters[SD_OUTPUT_LETTERS])
{
	static const char all[] = "abcdefghijklmnopqrstuvwxyz0123456789";
	unsigned char random[SD_OUTPUT_LETTERS];

	if (getrandom(random, sizeof(random), GRND_NONBLOCK) != (ssize_t)sizeof(random))
		memset(random, (int)getpid(), sizeof(random)); /* the name is tried, and another one if it is taken */
	for (size_t i = 0; i < sizeof(random); i++)
		letters[i] = all[random[i] % (sizeof(all) - 1)];
}

/* A new temporary name: prefix and six random letters. */
static void choose_name(const struct sd_output *p, char name[TEMPORARY])
{
	size_t n = strlen(p->prefix);

	memcpy(name, p->prefix, n);
	sd_output_letters(name + n);
	name[n + SD_OUTPUT_LETTERS] = '\0';
}

/* Splits path into the directory that is opened as place, and the name in it. */
static enum sd_result open_parent(struct sd_output *p, struct sd_error *err)
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

typedef bool look(struct sd_output *p, const char *name);

/* Whether some name in the directory makes look say yes. It is opened anew: the position of a DIR belongs to its fd. */
static enum sd_result look_through(struct sd_output *p, look *wanted, bool *found, struct sd_error *err)
{
	DIR *dir = sd_opendirat(p->place, ".");
	const struct dirent *entry;

	*found = false;
	if (!dir)
		return sd_fail_errno(err, errno, "%s", p->path);
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
static bool is_alive(const struct sd_output *p, const char *name)
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

static bool is_leftover(struct sd_output *p, const char *name)
{
	size_t n = strlen(p->prefix);
	const char *slash = strrchr(p->path, '/');
	int parent = p->name && slash ? (int)(slash - p->path) + 1 : 0;

	if (strncmp(name, p->prefix, n) != 0 || strlen(name) != n + SD_OUTPUT_LETTERS || is_alive(p, name) ||
	    (p->options.lasting && strcmp(name + n - strlen(MARK), SD_OUTPUT_LASTING) == 0))
		return false;
	if (p->name)
		p->options.note("%.*s%s was left by a run that was killed, unless it is running still", parent, p->path,
				name);
	else
		p->options.note("%s/%s was left by a run that was killed, unless it is running still", p->path, name);
	return true;
}

static bool is_content(struct sd_output *p, const char *name)
{
	return strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && strncmp(name, p->prefix, strlen(p->prefix)) != 0;
}

/* An existing directory is taken as it is: into it go the new files. */
static enum sd_result open_existing(struct sd_output *p, struct sd_error *err)
{
	bool full;
	enum sd_result result;

	p->place = sd_openat(AT_FDCWD, p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (p->place < 0)
		return sd_fail_errno(err, errno, "%s", p->path);
	memcpy(p->prefix, MARK, sizeof(MARK));
	full = false;
	result = p->options.force || p->options.ranks ? SD_OK : look_through(p, is_content, &full, err);
	if (result == SD_OK && full)
		result = sd_fail(err, SD_IO, "%s exists and is not empty; -f replaces the checkpoint in it", p->path);
	return result == SD_OK ? sd_replace_begin(p->place, p->path, p->files, p->count, &p->options, &p->replace, err)
			       : result;
}

/* The single file that is there already. */
static enum sd_result look_at_old(struct sd_output *p, const struct stat *st, struct sd_error *err)
{
	const char *obstacle = sd_replace_obstacle(p->place, p->name);

	if (p->options.directory || !(S_ISREG(st->st_mode) || S_ISLNK(st->st_mode)))
		return sd_fail(err, SD_IO, "%s exists and is no %s", p->path,
			       p->options.directory ? "directory" : "file");
	if (!p->options.force)
		return sd_fail(err, SD_IO, "%s exists; -f replaces it", p->path);
	if (obstacle)
		return sd_fail(err, SD_IO, "%s is %s: it cannot be replaced", p->path, obstacle);
	if (fstatat(p->place, p->name, &p->like, 0) != 0 || !S_ISREG(p->like.st_mode))
		p->like = (struct stat){0};
	return SD_OK;
}

/* The directory that the files of several ranks share: whoever comes first makes it. */
static enum sd_result open_shared(struct sd_output *p, struct sd_error *err)
{
	int error;

	p->made = mkdir(p->path, 0777) == 0;
	error = errno;
	if (p->made || error == EEXIST)
		return open_existing(p, err);
	return open_parent(p, err) == SD_OK ? sd_fail_errno(err, error, "%s", p->path) : err->result;
}

static enum sd_result open_place(struct sd_output *p, struct sd_error *err)
{
	struct stat st;
	enum sd_result result;

	if (p->options.directory) {
		size_t n = strlen(p->path);

		while (n > 1 && p->path[n - 1] == '/')
			p->path[--n] = '\0';
		if (stat(p->path, &st) == 0 && p->options.lasting)
			return sd_fail(err, SD_IO, "%s exists: --resume makes a new directory", p->path);
		if (stat(p->path, &st) == 0)
			return open_existing(p, err);
		if (p->options.ranks)
			return open_shared(p, err);
	}
	result = open_parent(p, err);
	if (result != SD_OK)
		return result;
	if (fstatat(p->place, p->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return look_at_old(p, &st, err);
	return errno == ENOENT ? SD_OK : sd_fail_errno(err, errno, "%s", p->path);
}

/* Whether names can be changed in the place at all. */
static enum sd_result check_place(struct sd_output *p, struct sd_error *err)
{
	const char *obstacle = sd_replace_obstacle(p->place, "");

	return obstacle ? sd_fail(err, SD_IO, "%s: the directory in which it is to be is %s", p->path, obstacle)
			: SD_OK;
}

/* ---- files ---- */

enum sd_result sd_output_room(int dir, const char *where, uint64_t bytes, struct sd_error *err)
{
	struct statvfs fs;
	uint64_t room;

	if (fstatvfs(dir, &fs) != 0 || fs.f_blocks == 0 || !sd_mul(fs.f_bavail, fs.f_frsize, &room) || bytes <= room)
		return SD_OK; /* where the file system doesn't say, writing will tell */
	return sd_fail(err, SD_IO, "%s: too little space: %" PRIu64 " bytes are to be written, %" PRIu64 " are free",
		       where, bytes, room);
}

enum sd_result sd_output_reserve(int fd, uint64_t size, struct sd_error *err)
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

enum sd_result sd_output_sync(int fd, const char *path, bool go_on, struct sd_error *err)
{
	while (fsync(fd) != 0) {
		if (errno == EINVAL || errno == EROFS) /* there is nothing to be synced */
			return SD_OK;
		if (errno != EINTR)
			return sd_fail_errno(err, errno, "%s: cannot sync", path);
		if (!go_on && sd_signals_check(err) != SD_OK)
			return SD_IO;
	}
	return SD_OK;
}

static enum sd_result sync_fd(const struct sd_output *p, int fd, struct sd_error *err)
{
	return p->options.sync ? sd_output_sync(fd, p->path, false, err) : SD_OK;
}

enum sd_result sd_output_sync_all(struct sd_output *p, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	for (size_t i = 0; i < p->count && result == SD_OK && p->options.sync; i++) {
		int fd = p->slots[i].fd;

		if (p->slots[i].later)
			result = sd_output_fd(p, i, &fd, err);
		if (result == SD_OK && fd >= 0)
			result = sync_fd(p, fd, err);
		p->slots[i].later = p->slots[i].later && result != SD_OK;
	}
	if (result == SD_OK)
		result = sync_fd(p, p->staging, err);
	return result == SD_OK ? sync_fd(p, p->place, err) : result;
}

void sd_output_keep(struct sd_output *p)
{
	p->keep = true;
}

/* Written data that is not synced yet is not lost by closing: with more files than may be open, each is synced once. */
static enum sd_result close_slot(struct sd_output *p, struct slot *slot, bool sync, struct sd_error *err)
{
	enum sd_result result = sync ? sync_fd(p, slot->fd, err) : SD_OK;

	if (close(slot->fd) != 0 && errno != EINTR && result == SD_OK)
		result = sd_fail_errno(err, errno, "%s: cannot close", p->path);
	slot->later = !sync;
	slot->fd = -1;
	p->open--;
	return result;
}

static enum sd_result make_room(struct sd_output *p, struct sd_error *err)
{
	struct slot *oldest = NULL;

	if (p->open < OPEN_MAX_FILES)
		return SD_OK;
	for (size_t i = 0; i < p->count; i++)
		if (p->slots[i].fd >= 0 && (!oldest || p->slots[i].used < oldest->used))
			oldest = &p->slots[i];
	return close_slot(p, oldest, false, err);
}

enum sd_result sd_output_fd(struct sd_output *p, size_t file, int *fd, struct sd_error *err)
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

/* Gives a file without a name one; -1 and errno. */
static int link_to(const struct sd_output *p, int file, const char *name)
{
	char fd[40];

	snprintf(fd, sizeof(fd), "/proc/self/fd/%d", file);
	return linkat(AT_FDCWD, fd, p->place, name, AT_SYMLINK_FOLLOW);
}

/*
 * Whether a file that has no name can be given one here: it is tried, for it depends on the file system, on /proc, and
 * on what a sandbox allows. A file that has lost its name never gets another one, so it is tried with one of its own.
 */
static bool can_link(struct sd_output *p)
{
	int fd = sd_openat(p->place, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	bool can = false;

	for (int tries = 0; fd >= 0 && !can && tries < 100; tries++) {
		choose_name(p, p->temporary);
		can = link_to(p, fd, p->temporary) == 0;
		if (!can && errno != EEXIST)
			break;
	}
	if (fd >= 0)
		close(fd);
	if (can && unlinkat(p->place, p->temporary, 0) != 0)
		return false; /* the name remains, to be removed at the end */
	p->temporary[0] = '\0';
	return can;
}

/* What has a temporary name gets another one: who may not rename here is told before any data is written. */
static enum sd_result try_rename(struct sd_output *p, struct sd_error *err)
{
	for (int tries = 0; tries < 100; tries++) {
		char name[TEMPORARY];

		choose_name(p, name);
		if (sd_replace_rename(p->place, p->temporary, p->place, name, false) == 0) {
			strcpy(p->temporary, name);
			return SD_OK;
		}
		if (errno != EEXIST)
			break;
	}
	return sd_fail_errno(err, errno, "what is written could not be put in its place");
}

enum sd_result sd_output_permissions(int fd, const struct stat *like, mode_t mode, struct sd_error *err)
{
	struct stat st;

	/* Where its group cannot be had, the group gets what others have. */
	if (fchown(fd, like->st_uid, like->st_gid) != 0 && fchown(fd, (uid_t)-1, like->st_gid) != 0)
		mode = (mode & ~(mode_t)070) | (mode & 07) << 3;
	if (fchmod(fd, mode) == 0)
		return SD_OK;
	/* Some file systems have one mode for all. */
	return fstat(fd, &st) == 0 && !(st.st_mode & 0777 & ~mode)
		       ? SD_OK
		       : sd_fail_errno(err, EPERM, "cannot get the permissions of the file that is there");
}

static mode_t first_mode(const struct stat *like)
{
	return like ? 0600 : 0666;
}

/* The single file: without a name where it can be given one at the end, for nothing can be left of it. */
static enum sd_result create_file(struct sd_output *p, struct sd_error *err)
{
	const struct stat *like = p->like.st_mode ? &p->like : NULL;
	bool linked = can_link(p);
	enum sd_result result = SD_OK;
	int fd = -1;

	if (p->temporary[0])
		return sd_fail_errno(err, errno, "%s: cannot remove %s", p->path, p->temporary);
	if (linked)
		fd = sd_openat(p->place, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, first_mode(like));
	for (int tries = 0; fd < 0 && tries < 100; tries++) {
		choose_name(p, p->temporary);
		fd = sd_openat(p->place, p->temporary, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, first_mode(like));
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
	if (like)
		result = sd_output_permissions(fd, like, like->st_mode & 0777, err);
	if (result == SD_OK && p->temporary[0])
		result = try_rename(p, err);
	if (result == SD_OK)
		result = sd_output_reserve(fd, p->files[0].size, err);
	return result == SD_OK ? result : sd_error_at(err, "%s", p->path);
}

/* The directory that outlives a run. */
static enum sd_result create_lasting(struct sd_output *p, struct sd_error *err)
{
	bool there = p->options.lasting == SD_OUTPUT_IS_THERE;

	snprintf(p->temporary, sizeof(p->temporary), ".%.*s" SD_OUTPUT_LASTING, NAME_IN_TEMP, p->name);
	if (!there && mkdirat(p->place, p->temporary, 0777) != 0) {
		p->temporary[0] = '\0';
		return sd_fail_errno(err, errno, "%s: cannot create a directory", p->path);
	}
	p->keep = there;
	p->staging = sd_openat(p->place, p->temporary, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
	if (p->staging < 0)
		return sd_fail_errno(err, errno, "%s: cannot open the directory made for it", p->path);
	if (flock(p->staging, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
		p->keep = true;
		return sd_fail(err, SD_IO, "%s is being written by another sd-pack", p->path);
	}
	return SD_OK;
}

static enum sd_result create_staging(struct sd_output *p, struct sd_error *err)
{
	int failed = -1;

	if (p->options.lasting)
		return create_lasting(p, err);
	for (int tries = 0; failed && tries < 100; tries++) {
		choose_name(p, p->temporary);
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
	return try_rename(p, err) == SD_OK ? SD_OK : sd_error_at(err, "%s", p->path);
}

static const struct stat *like_of(const struct sd_output *p, size_t file)
{
	return p->replace ? sd_replace_template(p->replace, file) : NULL;
}

/* Calls what is to be done with each folder of the new directory. */
typedef enum sd_result each_folder(struct sd_output *p, const char *folder, struct sd_error *err);

static enum sd_result for_folders(struct sd_output *p, each_folder *what, struct sd_error *err)
{
	char folder[NAME_MAX + 1], last[NAME_MAX + 1] = "";
	enum sd_result result = SD_OK;

	for (size_t i = 0; i < p->count && result == SD_OK; i++) {
		if (!sd_replace_folder(p->files[i].name, folder) || strcmp(folder, last) == 0)
			continue;
		strcpy(last, folder);
		result = what(p, folder, err);
	}
	return result;
}

/* A folder of the new directory: nobody may look into it who may not look into the one whose place it takes. */
static enum sd_result create_folder(struct sd_output *p, const char *folder, struct sd_error *err)
{
	struct stat st;
	bool old = p->replace && fstatat(p->place, folder, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);

	if (mkdirat(p->staging, folder, old ? 0700 : 0777) != 0 ||
	    (old && fchmodat(p->staging, folder, (st.st_mode & 0777) | 0700, 0) != 0))
		return sd_fail_errno(err, errno, "%s/%s: cannot create", p->path, folder);
	return SD_OK;
}

static enum sd_result sync_folder(struct sd_output *p, const char *folder, struct sd_error *err)
{
	int fd = sd_openat(p->staging, folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
	enum sd_result result = fd >= 0 ? sync_fd(p, fd, err) : sd_fail_errno(err, errno, "%s/%s", p->path, folder);

	if (fd >= 0)
		close(fd);
	return result;
}

static enum sd_result remove_folder(struct sd_output *p, const char *folder, struct sd_error *err)
{
	(void)err;
	unlinkat(p->staging, folder, AT_REMOVEDIR);
	return SD_OK;
}

/* A file that stays is there under a second name, or where there are none, as a copy. */
static enum sd_result keep_in_staging(struct sd_output *p, size_t file, struct sd_error *err)
{
	const char *name = p->files[file].name;
	struct sd_extent all = {.offset = 0};
	struct stat st;
	off_t at = 0;
	int to = -1;
	enum sd_result result = SD_OK;

	if (linkat(p->place, name, p->staging, name, 0) == 0)
		return SD_OK;
	all.fd = sd_openat(p->place, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
	if (all.fd >= 0)
		to = sd_openat(p->staging, name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	if (all.fd < 0 || to < 0 || fstat(all.fd, &st) != 0)
		result = sd_fail_errno(err, errno, "%s/%s: cannot copy", p->path, name);
	all.length = result == SD_OK ? (uint64_t)st.st_size : 0;
	if (result == SD_OK)
		result = sd_output_permissions(to, &st, st.st_mode & 0777, err);
	while (all.length && result == SD_OK)
		result = sd_extent_copy(&all, to, &at, all.length < KEEP ? all.length : KEEP, err);
	if (result == SD_OK)
		result = sync_fd(p, to, err);
	if (all.fd >= 0)
		close(all.fd);
	if (to >= 0)
		close(to);
	return result;
}

/* A file that a run before has made. */
static enum sd_result open_in_staging(struct sd_output *p, size_t file, struct sd_error *err)
{
	struct stat st;
	int fd;
	enum sd_result result = sd_output_fd(p, file, &fd, err);

	if (result == SD_OK && fstat(fd, &st) != 0)
		result = sd_fail_errno(err, errno, "%s", p->path);
	if (result == SD_OK && (uint64_t)st.st_size != p->files[file].size)
		result = sd_fail(err, SD_IO, "%s in %s has not the size that it was given: remove %s to begin anew",
				 p->files[file].name, p->temporary, p->temporary);
	return result;
}

/* A file in the new directory. Its owner may write to it for now, whatever it will be like. */
static enum sd_result create_in_staging(struct sd_output *p, size_t file, struct sd_error *err)
{
	const struct stat *like = like_of(p, file);
	const char *name = p->files[file].name;
	struct slot *slot = &p->slots[file];
	enum sd_result result = make_room(p, err);

	if (result != SD_OK)
		return result;
	slot->fd = sd_openat(p->staging, name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, first_mode(like));
	if (slot->fd < 0)
		return sd_fail_errno(err, errno, "%s/%s: cannot create", p->path, name);
	slot->used = ++p->clock;
	p->open++;
	if (like)
		result = sd_output_permissions(slot->fd, like, (like->st_mode & 0777) | 0600, err);
	if (result == SD_OK)
		result = sd_output_reserve(slot->fd, p->files[file].size, err);
	return result == SD_OK ? result : sd_error_at(err, "%s/%s", p->path, name);
}

static enum sd_result create_files(struct sd_output *p, struct sd_error *err)
{
	enum sd_result result = create_staging(p, err);

	for (size_t i = 0; i < p->count && result == SD_OK && p->options.lasting == SD_OUTPUT_IS_THERE; i++)
		result = open_in_staging(p, i, err);
	if (result != SD_OK || p->options.lasting == SD_OUTPUT_IS_THERE)
		return result;
	result = for_folders(p, create_folder, err);
	for (size_t i = 0; i < p->count && result == SD_OK; i++)
		result = p->files[i].kept ? keep_in_staging(p, i, err) : create_in_staging(p, i, err);
	return result;
}

static enum sd_result begin(struct sd_output *p, struct sd_error *err)
{
	uint64_t total = 0;
	bool found;
	enum sd_result result = open_place(p, err);

	for (size_t i = 0; i < p->count && result == SD_OK; i++)
		if (!p->files[i].kept && !sd_add(total, p->files[i].size, &total))
			result = sd_fail(err, SD_INPUT, "more than 2^64 bytes are to be written");
	if (result == SD_OK)
		result = check_place(p, err);
	if (result == SD_OK && p->options.note)
		result = look_through(p, is_leftover, &found, err);
	if (result == SD_OK && p->options.lasting != SD_OUTPUT_IS_THERE)
		result = sd_output_room(p->place, p->path, total, err);
	if (result == SD_OK)
		result = p->options.directory ? create_files(p, err) : create_file(p, err);
	return result;
}

enum sd_result sd_output_begin(const char *path, const struct sd_output_file *files, size_t count,
			       const struct sd_output_options *options, struct sd_output **publish,
			       struct sd_error *err)
{
	struct sd_output *p = calloc(1, sizeof(*p));
	enum sd_result result;

	*publish = NULL;
	if (!p)
		return sd_fail_memory(err);
	*p = (struct sd_output){.files = files, .count = count, .options = *options, .place = -1, .staging = -1};
	p->path = strdup(path);
	p->slots = calloc(count + 1, sizeof(*p->slots));
	if (p->slots)
		for (size_t i = 0; i < count; i++)
			p->slots[i].fd = -1;
	result = p->path && p->slots ? begin(p, err) : sd_fail_memory(err);
	if (result != SD_OK) {
		sd_output_close(p);
		return result;
	}
	*publish = p;
	return SD_OK;
}

/* ---- the end ---- */

static enum sd_result fail_appeared(const struct sd_output *p, struct sd_error *err)
{
	return sd_fail(err, SD_IO, "%s appeared while it was being written; -f replaces it", p->path);
}

/* The result stands; the disk may not know yet. */
static enum sd_result sync_published(struct sd_output *p, struct sd_error *err)
{
	enum sd_result result = sync_fd(p, p->place, err);

	if (result != SD_OK)
		sd_error_at(err, "complete and in its place, but perhaps not yet on the disk");
	return result;
}

static enum sd_result end_file(struct sd_output *p, struct sd_error *err)
{
	enum sd_result result = sync_fd(p, p->slots[0].fd, err);
	int failed;

	if (result != SD_OK)
		return result;
	if (!p->temporary[0]) {
		failed = link_to(p, p->slots[0].fd, p->name);
		/* A name that is taken cannot be linked over: by way of a temporary name it can be renamed over. */
		for (int tries = 0; failed && errno == EEXIST && p->options.force && tries < 100; tries++) {
			choose_name(p, p->temporary);
			failed = link_to(p, p->slots[0].fd, p->temporary);
		}
		if (failed)
			p->temporary[0] = '\0';
	} else {
		failed = 0;
	}
	if (!failed && p->temporary[0]) {
		failed = sd_replace_rename(p->place, p->temporary, p->place, p->name, p->options.force);
		if (!failed)
			p->temporary[0] = '\0';
	}
	if (failed)
		return errno == EEXIST && !p->options.force
			       ? fail_appeared(p, err)
			       : sd_fail_errno(err, errno, "%s: cannot be put in its place", p->path);
	return sync_published(p, err);
}

static enum sd_result end_new_directory(struct sd_output *p, struct sd_error *err)
{
	if (sd_replace_rename(p->place, p->temporary, p->place, p->name, false) != 0)
		return errno == EEXIST || errno == ENOTEMPTY
			       ? fail_appeared(p, err)
			       : sd_fail_errno(err, errno, "%s: cannot be put in its place", p->path);
	p->temporary[0] = '\0';
	return sync_published(p, err);
}

/* A checkpoint takes another's place. */
static enum sd_result end_existing(struct sd_output *p, struct sd_error *err)
{
	enum sd_result result = sd_replace_run(p->replace, p->staging, p->temporary, &p->keep, err);

	if (result != SD_OK)
		return result;
	p->keep = true;
	if (sd_replace_end(p->replace, p->staging, p->temporary, err) != SD_OK)
		return sd_error_at(err, "complete and in its place, but");
	p->temporary[0] = '\0';
	return sync_published(p, err);
}

/* What is like a file that its owner may not write to becomes so, when all is written. */
static enum sd_result end_permissions(const struct sd_output *p, struct sd_error *err)
{
	for (size_t i = 0; i < p->count; i++) {
		const struct stat *like = like_of(p, i);
		const char *name = p->files[i].name;
		struct stat st;

		if (!like || p->files[i].kept || (like->st_mode & 0600) == 0600)
			continue;
		if (fstatat(p->staging, name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
		    fchmodat(p->staging, name, st.st_mode & (like->st_mode | 077) & 0777, 0) != 0)
			return sd_fail_errno(err, errno, "%s/%s: cannot get its permissions", p->path, name);
	}
	return SD_OK;
}

enum sd_result sd_output_end(struct sd_output *p, struct sd_error *err)
{
	enum sd_result result = sd_signals_check(err);

	if (result == SD_OK && !p->options.directory)
		return end_file(p, err);
	for (size_t i = 0; i < p->count && result == SD_OK; i++) {
		int fd;

		if (p->slots[i].later && p->options.sync)
			result = sd_output_fd(p, i, &fd, err);
		if (result == SD_OK && p->slots[i].fd >= 0)
			result = close_slot(p, &p->slots[i], true, err);
	}
	if (result == SD_OK)
		result = end_permissions(p, err);
	if (result == SD_OK)
		result = for_folders(p, sync_folder, err);
	if (result == SD_OK)
		result = sync_fd(p, p->staging, err);
	if (result == SD_OK)
		result = sd_signals_check(err);
	if (result == SD_OK)
		result = p->name ? end_new_directory(p, err) : end_existing(p, err);
	return result;
}

/* After an end there is nothing temporary any more, or (keep) it must stay. */
static void remove_temporary(struct sd_output *p)
{
	if (!p->temporary[0] || p->keep)
		return;
	if (!p->options.directory) {
		unlinkat(p->place, p->temporary, 0);
		return;
	}
	for (size_t i = 0; i < p->count && p->staging >= 0; i++)
		unlinkat(p->staging, p->files[i].name, 0);
	if (p->staging >= 0)
		(void)!for_folders(p, remove_folder, NULL);
	unlinkat(p->place, p->temporary, AT_REMOVEDIR);
}

void sd_output_close(struct sd_output *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->count && p->slots; i++)
		if (p->slots[i].fd >= 0)
			close(p->slots[i].fd);
	remove_temporary(p);
	if (p->made)
		rmdir(p->path); /* fails where something is in it */
	if (p->staging >= 0)
		close(p->staging);
	if (p->place >= 0)
		close(p->place);
	sd_replace_close(p->replace);
	free(p->slots);
	free(p->path);
	free(p->name);
	free(p);
}
