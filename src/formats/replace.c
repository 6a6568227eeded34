/* SPDX-License-Identifier: Apache-2.0 */
/* One checkpoint takes another's place in a directory. */
#include "formats/replace.h"
#include "base/arena.h"
#include "base/names.h"
#include "formats/checkpoint.h"
#include "formats/dcp_write.h"
#include "formats/format.h"
#include "formats/hf_metadata.h"
#include "formats/part_files.h"
#include "formats/patch.h"
#include "base/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* What stands in the new checkpoint's way. */
struct victim {
	char *name;
	enum sd_file_role role;
	bool aside;
};

struct sd_replace {
	int place, aside;
	const char *path; /* for errors */
	const struct sd_output_file *files;
	size_t count;
	struct sd_output_options options;
	struct sd_names names;   /* of files and their folders */
	struct sd_arena folders; /* their names */
	bool *moved;             /* of each file */
	struct stat *like;       /* of each file: what it replaces; without a mode: nothing */
	struct stat common;      /* of all old weights: the permissions that each of them gives */
	struct victim *victims;
	size_t nvictims, room;
	char guard[64]; /* "": it does not stand there */
};

/* ---- looking ---- */

const char *sd_replace_obstacle(int dir, const char *name)
{
	struct statx st;

	if (statx(dir, name, AT_SYMLINK_NOFOLLOW | (*name ? 0 : AT_EMPTY_PATH), STATX_TYPE, &st) != 0)
		return NULL;
	if (*name && S_ISDIR(st.stx_mode))
		return "a directory";
	if (st.stx_attributes & STATX_ATTR_IMMUTABLE)
		return "immutable";
	if (st.stx_attributes & STATX_ATTR_APPEND)
		return "append-only";
#ifdef STATX_ATTR_MOUNT_ROOT
	if (*name && st.stx_attributes & STATX_ATTR_MOUNT_ROOT)
		return "a mount point";
#endif
	return NULL;
}

bool sd_replace_folder(const char *name, char folder[NAME_MAX + 1])
{
	const char *slash = strchr(name, '/');

	if (!slash || slash - name > NAME_MAX)
		return false;
	memcpy(folder, name, (size_t)(slash - name));
	folder[slash - name] = '\0';
	return true;
}

/* What stands in the directory for a file: its name, or the folder that goes with the first one in it. NULL: it goes
 * with another one. */
static const char *top_of(const struct sd_replace *r, size_t file, char folder[NAME_MAX + 1])
{
	if (!sd_replace_folder(r->files[file].name, folder))
		return r->files[file].name;
	return sd_names_find(&r->names, folder) == file ? folder : NULL;
}

static bool is_weights(enum sd_file_role role)
{
	return role == SD_ROLE_WEIGHTS || role == SD_ROLE_INDEX;
}

static enum sd_result add_victim(struct sd_replace *r, const char *name, enum sd_file_role role, bool folder,
				 struct sd_error *err)
{
	const char *obstacle = folder ? NULL : sd_replace_obstacle(r->place, name);
	char *copy;

	if (obstacle)
		return sd_fail(err, SD_IO, "%s/%s is %s: it cannot be replaced", r->path, name, obstacle);
	copy = strdup(name);
	if (!copy || !sd_array_grow(&r->victims, r->nvictims, &r->room, sizeof(*r->victims))) {
		free(copy);
		return sd_fail_memory(err);
	}
	r->victims[r->nvictims++] = (struct victim){copy, is_weights(role) ? role : SD_ROLE_SIDE, false};
	return SD_OK;
}

/* Whoever could not read the old files shall not read the new ones: what they allow is kept. */
static void note_permissions(struct sd_replace *r, const char *name, enum sd_file_role role, uint32_t file)
{
	struct stat st;

	if (fstatat(r->place, name, &st, 0) != 0 || !S_ISREG(st.st_mode))
		return;
	if (file != SD_NO_NAME)
		r->like[file] = st;
	if (!is_weights(role))
		return;
	if (r->common.st_mode)
		r->common.st_mode &= st.st_mode;
	else
		r->common = st;
}

enum sd_file_role sd_replace_role(const char *name)
{
	const char *dot = strrchr(name, '.');

	if (sd_part_is_ours(name) || strcmp(name, SD_HF_METADATA) == 0 || sd_format_of_mark(name))
		return SD_ROLE_INDEX;
	return dot && strcmp(dot, ".distcp") == 0 ? SD_ROLE_WEIGHTS : sd_checkpoint_role(name);
}

/* Whether other ranks, which may be at work, have it. */
static bool is_of_ranks(const struct sd_replace *r, const char *name)
{
	return r->options.ranks && (sd_dcp_is_of(name, r->options.ranks) || strcmp(name, SD_HF_METADATA) == 0);
}

static enum sd_result look_at(struct sd_replace *r, const char *name, struct sd_error *err)
{
	enum sd_file_role role = sd_replace_role(name);
	uint32_t file = sd_names_find(&r->names, name);
	char folder[NAME_MAX + 1];

	if (file == SD_NO_NAME && (!is_weights(role) || r->options.beside || is_of_ranks(r, name)))
		return SD_OK;
	if (file == SD_NO_NAME && r->options.ranks)
		return sd_fail(err, SD_IO,
			       "%s/%s is no shard for %" PRIu64
			       " ranks, and readers would take it for one: move it away",
			       r->path, name, r->options.ranks);
	if (!r->options.force && r->options.ranks)
		return sd_fail(err, SD_IO, "%s/%s exists; -f replaces it", r->path, name);
	if (!r->options.force)
		return sd_fail(err, SD_IO, "%s/%s appeared while it was being written; -f replaces it", r->path, name);
	note_permissions(r, name, role, file);
	return add_victim(r, name, role,
			  strcmp(name, SD_HF_METADATA) == 0 ||
				  (file != SD_NO_NAME && sd_replace_folder(r->files[file].name, folder) &&
				   strcmp(folder, name) == 0),
			  err);
}

static void forget_victims(struct sd_replace *r)
{
	while (r->nvictims)
		free(r->victims[--r->nvictims].name);
}

/* Finds all that has to go. */
static enum sd_result look(struct sd_replace *r, struct sd_error *err)
{
	/* Opened anew: the position of a DIR belongs to its fd. */
	DIR *dir = sd_opendirat(r->place, ".");
	enum sd_result result = SD_OK;
	const struct dirent *entry;

	forget_victims(r);
	if (!dir)
		return sd_fail_errno(err, errno, "%s", r->path);
	for (errno = 0; result == SD_OK && (entry = readdir(dir)); errno = 0)
		result = look_at(r, entry->d_name, err);
	if (result == SD_OK && errno)
		result = sd_fail_errno(err, errno, "%s", r->path);
	closedir(dir);
	return result;
}

const struct stat *sd_replace_template(const struct sd_replace *r, size_t file)
{
	if (r->like[file].st_mode)
		return &r->like[file];
	return r->files[file].role != SD_OUTPUT_SIDE && r->common.st_mode ? &r->common : NULL;
}

/*
 * Makes a file known by its name. One in a folder takes the place of one that is in none, too; and the folder, known by
 * its first file, that of the old one.
 */
static enum sd_result add_name(struct sd_replace *r, uint32_t file, struct sd_error *err)
{
	const char *name = r->files[file].name, *copy;
	char folder[NAME_MAX + 1];
	struct stat st;

	if (!sd_replace_folder(name, folder))
		return sd_names_add(&r->names, name, file) != SD_NO_NAME ? SD_OK : sd_fail_memory(err);
	if (sd_names_add(&r->names, strchr(name, '/') + 1, file) == SD_NO_NAME)
		return sd_fail_memory(err);
	if (fstatat(r->place, name, &st, 0) == 0 && S_ISREG(st.st_mode))
		r->like[file] = st;
	copy = sd_arena_text(&r->folders, folder, strlen(folder));
	return copy && sd_names_add(&r->names, copy, file) != SD_NO_NAME ? SD_OK : sd_fail_memory(err);
}

static enum sd_result begin(struct sd_replace *r, struct sd_error *err)
{
	if (!r->options.locked && flock(r->place, (r->options.ranks ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0 &&
	    errno == EWOULDBLOCK)
		return sd_fail(err, SD_IO, "%s is locked: another sd-pack is writing to it", r->path);
	if (sd_patch_check_none(r->place, r->path, err) != SD_OK)
		return err->result;
	for (size_t i = 0; i < r->count; i++)
		if (add_name(r, (uint32_t)i, err) != SD_OK)
			return err->result;
	return look(r, err);
}

enum sd_result sd_replace_begin(int place, const char *path, const struct sd_output_file *files, size_t count,
				const struct sd_output_options *options, struct sd_replace **replace,
				struct sd_error *err)
{
	struct sd_replace *r = calloc(1, sizeof(*r));

	*replace = r;
	if (!r)
		return sd_fail_memory(err);
	*r = (struct sd_replace){
		.place = place, .aside = -1, .path = path, .files = files, .count = count, .options = *options};
	r->moved = calloc(count + 1, sizeof(*r->moved));
	r->like = calloc(count + 1, sizeof(*r->like));
	return r->moved && r->like ? begin(r, err) : sd_fail_memory(err);
}

void sd_replace_close(struct sd_replace *r)
{
	if (!r)
		return;
	if (r->aside >= 0)
		close(r->aside);
	forget_victims(r);
	free(r->victims);
	free(r->moved);
	free(r->like);
	sd_names_free(&r->names);
	sd_arena_free(&r->folders);
	free(r);
}

/* ---- there ---- */

int sd_replace_rename(int from_dir, const char *from, int to_dir, const char *to, bool replace)
{
	struct stat st;

	if (replace)
		return renameat(from_dir, from, to_dir, to);
	if (renameat2(from_dir, from, to_dir, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS && errno != EPERM)
		return -1;
	/* A file system that cannot promise it, or a sandbox that does not know the call: looking first is the next
	 * best. */
	if (fstatat(to_dir, to, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		errno = EEXIST;
		return -1;
	}
	return renameat(from_dir, from, to_dir, to);
}

static enum sd_result sync_place(const struct sd_replace *r, struct sd_error *err)
{
	return r->options.sync ? sd_output_sync(r->place, r->path, true, err) : SD_OK;
}

/* A name for the guard that nothing has. */
static enum sd_result choose_guard(struct sd_replace *r, struct sd_error *err)
{
	struct stat st;

	for (int tries = 0; tries < 100; tries++) {
		char letters[SD_OUTPUT_LETTERS];

		sd_output_letters(letters);
		snprintf(r->guard, sizeof(r->guard), SD_CHECKPOINT_GUARD, letters);
		if (sd_names_find(&r->names, r->guard) == SD_NO_NAME &&
		    fstatat(r->place, r->guard, &st, AT_SYMLINK_NOFOLLOW) != 0)
			return SD_OK;
	}
	sd_fail(err, SD_IO, "%s/%s: cannot create: it is there", r->path, r->guard);
	r->guard[0] = '\0';
	return SD_IO;
}

static enum sd_result put_guard(struct sd_replace *r, struct sd_error *err)
{
	int fd = sd_openat(r->place, r->guard, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);

	if (fd < 0) {
		sd_fail_errno(err, errno, "%s/%s: cannot create", r->path, r->guard);
		r->guard[0] = '\0';
		return SD_IO;
	}
	close(fd);
	return sync_place(r, err);
}

/* What is to be there, for who goes on where this run is killed: the guard, a name of no letters where other weights
 * stay, and all new files. */
static enum sd_result write_list(const struct sd_replace *r, int staging, struct sd_error *err)
{
	int fd = sd_openat(staging, SD_REPLACE_LIST, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
	enum sd_result result = fd < 0 ? sd_fail_errno(err, errno, "%s: cannot list the new files", r->path) : SD_OK;

	if (result == SD_OK)
		result = sd_write_all(fd, r->guard, strlen(r->guard) + 1, err);
	if (result == SD_OK && r->options.beside)
		result = sd_write_all(fd, "", 1, err);
	for (size_t i = 0; i < r->count && result == SD_OK; i++)
		result = sd_write_all(fd, r->files[i].name, strlen(r->files[i].name) + 1, err);
	if (result == SD_OK && r->options.sync)
		result = sd_output_sync(fd, r->path, false, err);
	if (fd >= 0)
		close(fd);
	return result;
}

static enum sd_result make_aside(struct sd_replace *r, int staging, struct sd_error *err)
{
	if (write_list(r, staging, err) != SD_OK)
		return err->result;
	if (mkdirat(staging, SD_REPLACE_ASIDE, 0777) == 0)
		r->aside = sd_openat(staging, SD_REPLACE_ASIDE, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
	if (r->aside >= 0)
		return SD_OK;
	return sd_fail_errno(err, errno, "%s: cannot make a folder for the old files", r->path);
}

/* Whether new weights are renamed over those of the same names, so that these are there at any moment: a rank has no
 * guard, for others write at the same time. */
static bool goes_over(const struct sd_replace *r, bool weights)
{
	return r->options.ranks && weights;
}

/* Moves the old files of one role aside. */
static enum sd_result take_away(struct sd_replace *r, enum sd_file_role role, struct sd_error *err)
{
	for (size_t i = 0; i < r->nvictims; i++) {
		struct victim *v = &r->victims[i];

		if (v->role != role || goes_over(r, role == SD_ROLE_WEIGHTS))
			continue;
		v->aside = renameat(r->place, v->name, r->aside, v->name) == 0;
		if (!v->aside && errno != ENOENT)
			return sd_fail_errno(err, errno, "%s/%s: cannot be moved aside", r->path, v->name);
	}
	return sync_place(r, err);
}

/* Moves the new files of one role to their places. */
static enum sd_result bring_in(struct sd_replace *r, int staging, enum sd_output_role role, struct sd_error *err)
{
	for (size_t i = 0; i < r->count; i++) {
		char folder[NAME_MAX + 1];
		const char *name = top_of(r, i, folder);

		bool over = goes_over(r, role != SD_OUTPUT_SIDE), done;

		if (r->files[i].role != role || !name)
			continue;
		done = sd_replace_rename(staging, name, r->place, name, over) == 0;
		r->moved[i] = done && !over; /* from over another there is no way back */
		if (!done)
			return sd_fail_errno(err, errno, "%s/%s: cannot be put in its place", r->path, name);
	}
	return sync_place(r, err);
}

/* ---- and back ---- */

static bool move_back_new(struct sd_replace *r, int staging, enum sd_output_role role)
{
	for (size_t i = 0; i < r->count; i++) {
		char folder[NAME_MAX + 1];
		const char *name = top_of(r, i, folder);

		if (r->files[i].role != role || !r->moved[i])
			continue;
		if (renameat(r->place, name, staging, name) != 0)
			return false;
		r->moved[i] = false;
	}
	return true;
}

static bool move_back_old(struct sd_replace *r, enum sd_file_role role)
{
	for (size_t i = 0; i < r->nvictims; i++) {
		struct victim *v = &r->victims[i];

		if (v->role != role || !v->aside)
			continue;
		if (sd_replace_rename(r->aside, v->name, r->place, v->name, false) != 0)
			return false;
		v->aside = false;
	}
	return true;
}

static bool remove_guard(struct sd_replace *r)
{
	if (r->guard[0] && unlinkat(r->place, r->guard, 0) != 0 && errno != ENOENT)
		return false;
	r->guard[0] = '\0';
	return true;
}

/* The same steps in the other order. A disk that cannot be synced may be why: it is no reason to stop here. */
static bool go_back(struct sd_replace *r, int staging)
{
	bool back = move_back_new(r, staging, SD_OUTPUT_ENTRY) && move_back_new(r, staging, SD_OUTPUT_WEIGHTS) &&
		    move_back_new(r, staging, SD_OUTPUT_SIDE) && move_back_old(r, SD_ROLE_SIDE) &&
		    move_back_old(r, SD_ROLE_WEIGHTS);

	(void)!sync_place(r, NULL);
	back = back && move_back_old(r, SD_ROLE_INDEX);
	(void)!sync_place(r, NULL);
	return back && remove_guard(r) && (unlinkat(staging, SD_REPLACE_ASIDE, AT_REMOVEDIR) == 0 || errno == ENOENT) &&
	       (unlinkat(staging, SD_REPLACE_LIST, 0) == 0 || errno == ENOENT);
}

enum sd_result sd_replace_run(struct sd_replace *r, int staging, const char *name, bool *stuck, struct sd_error *err)
{
	enum sd_result result = look(r, err);

	*stuck = false;
	if (result == SD_OK && !r->options.ranks)
		result = choose_guard(r, err);
	if (result == SD_OK)
		result = make_aside(r, staging, err);
	/* Whoever finds it finds the folders and the list, too. */
	if (result == SD_OK && !r->options.ranks)
		result = put_guard(r, err);
	if (result == SD_OK)
		result = take_away(r, SD_ROLE_INDEX, err);
	if (result == SD_OK)
		result = take_away(r, SD_ROLE_WEIGHTS, err);
	if (result == SD_OK)
		result = take_away(r, SD_ROLE_SIDE, err);
	if (result == SD_OK)
		result = bring_in(r, staging, SD_OUTPUT_SIDE, err);
	if (result == SD_OK)
		result = bring_in(r, staging, SD_OUTPUT_WEIGHTS, err);
	if (result == SD_OK)
		result = bring_in(r, staging, SD_OUTPUT_ENTRY, err);
	if (result == SD_OK || go_back(r, staging))
		return result;
	*stuck = true;
	return sd_error_at(err, "new files are left in %s/%s, and old ones in %s/%s/" SD_REPLACE_ASIDE, r->path, name,
			   r->path, name);
}

/* An old folder may have folders in it, not many. */
#define FOLDERS_MAX 32

static bool remove_old(int dir, const char *name, int depth)
{
	const struct dirent *entry;
	bool done = true;
	DIR *in;

	if (unlinkat(dir, name, 0) == 0)
		return true;
	if (errno != EISDIR && errno != EPERM)
		return false;
	in = depth ? sd_opendirat(dir, name) : NULL;
	if (!in)
		return false;
	while (done && (entry = readdir(in)))
		done = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
		       remove_old(dirfd(in), entry->d_name, depth - 1);
	closedir(in);
	return done && unlinkat(dir, name, AT_REMOVEDIR) == 0;
}

bool sd_replace_remove(int dir, const char *name)
{
	return remove_old(dir, name, FOLDERS_MAX);
}

static enum sd_result remove_aside(struct sd_replace *r, struct sd_error *err)
{
	for (size_t i = 0; i < r->nvictims; i++) {
		struct victim *v = &r->victims[i];

		if (v->aside && !sd_replace_remove(r->aside, v->name))
			return sd_fail_errno(err, errno, "%s, what was there before, %s: cannot remove", r->path,
					     v->name);
		v->aside = false;
	}
	return SD_OK;
}

/* NFS keeps a file that is removed while somebody reads it, under another name: its folder cannot go then. */
static enum sd_result remove_folders(const struct sd_replace *r, int staging, const char *name, struct sd_error *err)
{
	if (unlinkat(staging, SD_REPLACE_ASIDE, AT_REMOVEDIR) == 0 && unlinkat(staging, SD_REPLACE_LIST, 0) == 0 &&
	    unlinkat(r->place, name, AT_REMOVEDIR) == 0)
		return SD_OK;
	if (errno != ENOTEMPTY && errno != EEXIST && errno != EBUSY)
		return sd_fail_errno(err, errno, "%s/%s: cannot remove", r->path, name);
	if (r->options.note)
		r->options.note("%s/%s is left, for something that was replaced is still open", r->path, name);
	return SD_OK;
}

enum sd_result sd_replace_end(struct sd_replace *r, int staging, const char *name, struct sd_error *err)
{
	int error = remove_guard(r) ? 0 : errno;

	if (remove_aside(r, err) != SD_OK || remove_folders(r, staging, name, err) != SD_OK)
		return SD_IO;
	return error ? sd_fail_errno(err, error, "%s/%s: cannot remove", r->path, r->guard) : SD_OK;
}
