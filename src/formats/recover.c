/* SPDX-License-Identifier: Apache-2.0 */
/* Ends what a run that was killed has begun. */
#include "formats/recover.h"
#include "base/io.h"
#include "base/names.h"
#include "formats/atomic_output.h"
#include "formats/checkpoint.h"
#include "formats/hf_metadata.h"
#include "formats/patch.h"
#include "formats/replace.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define MARK ".sd-"
#define LIST_MAX (64 << 20)

/* A checkpoint that was taking another's place: all of it is there, in staging or in its place already. */
struct begun {
	int place, staging, aside;
	const char *path, *name; /* of the place; of staging in it */
	char *list;              /* the guard's name, and then those of all new files, with a NUL each */
	size_t length;
	bool beside;           /* weights that are not among the new files stay */
	struct sd_names files; /* the new ones */
};

static bool exists(int dir, const char *name)
{
	struct stat st;

	return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static enum sd_result fail_list(const struct begun *b, struct sd_error *err)
{
	return sd_fail(err, SD_INPUT, "%s/%s/" SD_REPLACE_LIST " is no list of files", b->path, b->name);
}

static enum sd_result read_list(struct begun *b, struct sd_error *err)
{
	int fd = sd_openat(b->staging, SD_REPLACE_LIST, O_RDONLY | O_NOFOLLOW | O_CLOEXEC, 0);
	struct stat st;
	enum sd_result result = SD_OK;

	if (fd < 0 || fstat(fd, &st) != 0 || st.st_size < 2 || st.st_size > LIST_MAX)
		result = fail_list(b, err);
	b->length = result == SD_OK ? (size_t)st.st_size : 0;
	b->list = calloc(1, b->length + 1);
	if (!b->list)
		result = sd_fail_memory(err);
	if (result == SD_OK)
		result = sd_pread_all(fd, b->list, b->length, 0, err);
	if (fd >= 0)
		close(fd);
	return result;
}

/* The next name behind one, or NULL. */
static const char *next_name(const struct begun *b, const char *name)
{
	name += strlen(name) + 1;
	return name < b->list + b->length ? name : NULL;
}

/* What stands in the directory for a file of the list: its name, or its folder. */
static const char *top_of(const char *name, char folder[NAME_MAX + 1])
{
	return sd_replace_folder(name, folder) ? folder : name;
}

/* The only folder that sd-pack writes. */
static bool is_folder(const char *name)
{
	return strcmp(name, SD_HF_METADATA) == 0;
}

static enum sd_result know_files(struct begun *b, struct sd_error *err)
{
	const char *name = next_name(b, b->list);
	char folder[NAME_MAX + 1];

	b->beside = name && !*name;
	for (name = b->beside ? next_name(b, name) : name; name; name = next_name(b, name)) {
		const char *top = top_of(name, folder);

		if (!(top == folder ? is_folder(top) : sd_file_name_good(top)))
			return fail_list(b, err);
		if (sd_names_add(&b->files, top, 0) == SD_NO_NAME)
			return sd_fail_memory(err);
	}
	return SD_OK;
}

/* Whether what stands under a name is an old file that has to go: not one that has come from staging already. */
static bool is_old(const struct begun *b, const char *name, enum sd_file_role role)
{
	bool new = sd_names_find(&b->files, name) != SD_NO_NAME,
	     weights = role == SD_ROLE_WEIGHTS || role == SD_ROLE_INDEX;

	return strcmp(name, b->list) != 0 && (new ? exists(b->staging, name) : weights && !b->beside);
}

/* Moves the old files that are still there aside: those of one role, or of all others where it is SD_ROLE_SIDE. */
static enum sd_result take_away(const struct begun *b, enum sd_file_role wanted, struct sd_error *err)
{
	DIR *dir = sd_opendirat(b->place, ".");
	enum sd_result result = dir ? SD_OK : sd_fail_errno(err, errno, "%s", b->path);
	const struct dirent *entry;

	for (errno = 0; result == SD_OK && (entry = readdir(dir)); errno = 0) {
		enum sd_file_role role = sd_replace_role(entry->d_name);
		bool one = wanted == SD_ROLE_SIDE ? role != SD_ROLE_WEIGHTS && role != SD_ROLE_INDEX : role == wanted;

		if (one && is_old(b, entry->d_name, role) &&
		    renameat(b->place, entry->d_name, b->aside, entry->d_name) != 0)
			result = sd_fail_errno(err, errno, "%s/%s: cannot be moved aside", b->path, entry->d_name);
	}
	if (result == SD_OK && errno)
		result = sd_fail_errno(err, errno, "%s", b->path);
	if (dir)
		closedir(dir);
	return result;
}

static enum sd_result bring_in(const struct begun *b, enum sd_file_role wanted, struct sd_error *err)
{
	char folder[NAME_MAX + 1];

	for (const char *name = next_name(b, b->list); name; name = next_name(b, name)) {
		const char *top = top_of(name, folder);
		enum sd_file_role role = top == folder ? SD_ROLE_SIDE : sd_checkpoint_role(top);

		if (role == wanted && exists(b->staging, top) &&
		    sd_replace_rename(b->staging, top, b->place, top, false) != 0)
			return sd_fail_errno(err, errno, "%s/%s: cannot be put in its place", b->path, top);
	}
	return SD_OK;
}

static enum sd_result sync_place(const struct begun *b, bool sync, struct sd_error *err)
{
	return sync ? sd_output_sync(b->place, b->path, true, err) : SD_OK;
}

/* The old files, which nobody needs now, and all else that the run has made. */
static enum sd_result clear(const struct begun *b, struct sd_error *err)
{
	DIR *dir = sd_opendirat(b->aside, ".");
	const struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			(void)!sd_replace_remove(b->aside, entry->d_name);
	if (dir)
		closedir(dir);
	if (unlinkat(b->place, b->list, 0) != 0 && errno != ENOENT)
		return sd_fail_errno(err, errno, "%s/%s: cannot remove", b->path, b->list);
	if (unlinkat(b->staging, SD_REPLACE_ASIDE, AT_REMOVEDIR) != 0 ||
	    unlinkat(b->staging, SD_REPLACE_LIST, 0) != 0 || unlinkat(b->place, b->name, AT_REMOVEDIR) != 0)
		return sd_fail_errno(err, errno, "%s/%s: cannot remove", b->path, b->name);
	return SD_OK;
}

/* The steps of formats/replace.c that are left, in their order. */
static enum sd_result go_on(struct begun *b, bool sync, struct sd_error *err)
{
	static const enum sd_file_role away[] = {SD_ROLE_INDEX, SD_ROLE_WEIGHTS, SD_ROLE_SIDE};
	enum sd_result result = know_files(b, err);

	for (int i = 0; i < 3 && result == SD_OK; i++)
		result = take_away(b, away[i], err);
	if (result == SD_OK)
		result = sync_place(b, sync, err);
	if (result == SD_OK)
		result = bring_in(b, SD_ROLE_SIDE, err);
	if (result == SD_OK)
		result = bring_in(b, SD_ROLE_WEIGHTS, err);
	if (result == SD_OK)
		result = sync_place(b, sync, err);
	if (result == SD_OK)
		result = bring_in(b, SD_ROLE_INDEX, err);
	if (result == SD_OK)
		result = sync_place(b, sync, err);
	return result == SD_OK ? clear(b, err) : result;
}

/*
 * Whether it is at work still: its guard stands from before the first old file leaves its place until the last new one
 * is in its own. What was written without one, or has none any more, is whole, or something else has taken its place.
 */
static bool is_at_work(const struct begun *b)
{
	return sd_file_name_good(b->list) && exists(b->place, b->list);
}

/* A directory of new files counts once it has the folder for the old ones: all of them are there then. */
static enum sd_result look_at(int place, const char *path, const char *name, bool sync, bool *found,
			      struct sd_error *err)
{
	struct begun b = {.place = place, .path = path, .name = name, .aside = -1};
	enum sd_result result = SD_OK;

	if (strncmp(name, MARK, strlen(MARK)) != 0 || strlen(name) != strlen(MARK) + SD_OUTPUT_LETTERS)
		return SD_OK;
	b.staging = sd_openat(place, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
	if (b.staging >= 0)
		b.aside = sd_openat(b.staging, SD_REPLACE_ASIDE, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
	if (b.aside >= 0) {
		result = read_list(&b, err);
		*found = result == SD_OK && is_at_work(&b);
		result = *found ? go_on(&b, sync, err) : result;
		close(b.aside);
	}
	if (b.staging >= 0)
		close(b.staging);
	sd_names_free(&b.files);
	free(b.list);
	return result;
}

enum sd_result sd_recover_lock(const char *path, int *place, struct sd_error *err)
{
	*place = sd_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (*place < 0)
		return sd_fail_errno(err, errno, "%s", path);
	if (flock(*place, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
		return sd_fail(err, SD_IO, "%s is locked: another sd-pack is writing to it", path);
	return SD_OK;
}

enum sd_result sd_recover_place(int place, const char *path, bool sync, bool *found, struct sd_error *err)
{
	DIR *dir = sd_opendirat(place, ".");
	enum sd_result result = dir ? SD_OK : sd_fail_errno(err, errno, "%s", path);
	const struct dirent *entry;

	*found = false;
	while (result == SD_OK && !*found && (entry = readdir(dir)))
		result = look_at(place, path, entry->d_name, sync, found, err);
	if (dir)
		closedir(dir);
	return result == SD_OK && !*found ? sd_patch_recover(place, path, sync, found, err) : result;
}

static enum sd_result recover(const char *path, bool sync, bool *found, struct sd_error *err)
{
	int place;
	enum sd_result result = sd_recover_lock(path, &place, err);

	*found = false;
	if (result == SD_OK)
		result = sd_recover_place(place, path, sync, found, err);
	if (place >= 0)
		close(place);
	return result;
}

enum sd_result sd_recover(const char *path, bool sync, struct sd_error *err)
{
	bool found;
	enum sd_result result = recover(path, sync, &found, err);

	if (result != SD_OK || found)
		return result;
	return sd_fail(err, SD_INPUT, "%s: no run of sd-pack was killed here in a state that could be ended", path);
}
