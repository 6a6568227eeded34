/* SPDX-License-Identifier: Apache-2.0 */
/* The marks of parts, and joining them. */
#include "formats/part_files.h"
#include "base/io.h"
#include "base/memstream.h"
#include "base/text.h"
#include "flow/checksum.h"
#include "formats/atomic_output.h"
#include "formats/checkpoint.h"
#include "formats/file.h"
#include "formats/replace.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define OURS "sd-part-"
#define JOINED "sd-part-joined"
#define MARK OURS "%" PRIu32 "-of-%" PRIu32 ".txt"
#define STAGING "." OURS "%" PRIu32 "-of-%" PRIu32
#define MARK_MAX (64u << 20)

/* ---- reading marks ---- */

/* The number that a line goes on with, in this base, up to the next blank. */
static bool take_number(char **at, int base, uint64_t *number)
{
	char *end;

	if (**at < '0' || (**at > '9' && (base == 10 || **at < 'a' || **at > 'f')))
		return false;
	errno = 0;
	*number = strtoull(*at, &end, base);
	if (errno || (*end && *end != ' '))
		return false;
	*at = *end ? end + 1 : end;
	return true;
}

static bool skip_word(char **at, const char *word)
{
	size_t n = strlen(word);

	if (strncmp(*at, word, n) != 0)
		return false;
	*at += n;
	return true;
}

static bool take_file(struct sd_part_set *set, struct sd_part_mark *mark, char *line, enum sd_result *result,
		      struct sd_error *err)
{
	struct sd_part_file file;

	if (!take_number(&line, 10, &file.size) || !take_number(&line, 10, &file.checked) ||
	    !take_number(&line, 16, &file.sum) || !sd_file_name_good(line) || file.checked > file.size)
		return false;
	file.name = sd_arena_text(&set->arena, line, strlen(line));
	if (!file.name || !sd_array_grow(&mark->files, mark->nfiles, &mark->room, sizeof(*mark->files)))
		*result = sd_fail_memory(err);
	else
		mark->files[mark->nfiles++] = file;
	return true;
}

static bool take_side(struct sd_part_set *set, struct sd_part_mark *mark, const char *name, enum sd_result *result,
		      struct sd_error *err)
{
	char *copy;

	if (!sd_file_name_good(name))
		return false;
	copy = sd_arena_text(&set->arena, name, strlen(name));
	if (!copy || !sd_array_grow(&mark->side, mark->nside, &mark->side_room, sizeof(*mark->side)))
		*result = sd_fail_memory(err);
	else
		mark->side[mark->nside++] = copy;
	return true;
}

/* One line of a mark; false where it is malformed. */
static bool take_line(struct sd_part_set *set, struct sd_part_mark *mark, char *line, enum sd_result *result,
		      struct sd_error *err)
{
	if (skip_word(&line, "run "))
		return take_number(&line, 16, &mark->run) && !*line;
	if (skip_word(&line, "file "))
		return take_file(set, mark, line, result, err);
	if (skip_word(&line, "side "))
		return take_side(set, mark, line, result, err);
	if (!skip_word(&line, "index ") || mark->index || !sd_file_name_good(line) ||
	    sd_checkpoint_role(line) != SD_ROLE_INDEX)
		return false;
	mark->index = sd_arena_text(&set->arena, line, strlen(line));
	if (!mark->index)
		*result = sd_fail_memory(err);
	return true;
}

/* A mark's text, which ends in a NUL. */
static enum sd_result parse_mark(struct sd_part_set *set, struct sd_part_mark *mark, char *text, struct sd_error *err)
{
	enum sd_result result = SD_OK;
	char first[64], *line = text, *next;
	bool good, ended = false;

	snprintf(first, sizeof(first), "part %" PRIu32 " of %" PRIu32, mark->part, mark->of);
	next = strchr(line, '\n');
	if (next)
		*next++ = '\0';
	good = strcmp(line, first) == 0;
	while (good && next && *next && !ended && result == SD_OK) {
		line = next;
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		ended = strcmp(line, "end") == 0;
		good = ended || take_line(set, mark, line, &result, err);
	}
	if (result == SD_OK && !(good && ended && next && !*next))
		return sd_fail(err, SD_INPUT, "malformed: no mark of part %" PRIu32 "/%" PRIu32 " that sd-pack writes",
			       mark->part, mark->of);
	return result;
}

static enum sd_result read_mark(const char *path, struct sd_part_set *set, struct sd_part_mark *mark,
				struct sd_error *err)
{
	char *name = sd_arena_printf(&set->arena, "%s/%s", path, mark->name), *text;
	struct stat st;
	void *data = NULL;
	enum sd_result result = name ? sd_file_read(name, MARK_MAX, &data, &st, err) : sd_fail_memory(err);

	if (result == SD_OK && !data)
		return sd_fail(err, SD_INPUT, "%s is no mark of a part", name);
	text = result == SD_OK ? sd_arena_text(&set->arena, data, (size_t)st.st_size) : NULL;
	free(data);
	if (result == SD_OK)
		result = text ? parse_mark(set, mark, text, err) : sd_fail_memory(err);
	return result == SD_INPUT ? sd_error_at(err, "%s", name) : result;
}

/* Whether a name is that of a mark, and of which part. */
static bool parse_name(const char *name, uint32_t *part, uint32_t *of)
{
	char again[64];

	if (sscanf(name, MARK, part, of) != 2 || *of > SD_PARTS_MAX || *part >= *of)
		return false;
	snprintf(again, sizeof(again), MARK, *part, *of);
	return strcmp(name, again) == 0;
}

bool sd_part_is_mark(const char *name)
{
	uint32_t part, of;

	return strcmp(name, JOINED) == 0 || parse_name(name, &part, &of);
}

bool sd_part_is_ours(const char *name)
{
	return strcmp(name, SD_PART_INDEX) == 0 || sd_part_is_mark(name);
}

static enum sd_result take_name(const char *path, const char *name, struct sd_part_set *set, struct sd_error *err)
{
	struct sd_part_mark mark = {0};

	if (strcmp(name, JOINED) == 0)
		set->joined = true;
	if (!parse_name(name, &mark.part, &mark.of))
		return SD_OK;
	mark.name = sd_arena_text(&set->arena, name, strlen(name));
	if (!mark.name || !sd_array_grow(&set->marks, set->nmarks, &set->room, sizeof(*set->marks)))
		return sd_fail_memory(err);
	set->marks[set->nmarks++] = mark;
	return read_mark(path, set, &set->marks[set->nmarks - 1], err);
}

static int by_part(const void *a, const void *b)
{
	const struct sd_part_mark *x = a, *y = b;

	return x->part < y->part ? -1 : x->part > y->part;
}

/* All marks of one directory are of one whole. */
static enum sd_result check_one_run(const char *path, const struct sd_part_set *set, struct sd_error *err)
{
	for (size_t i = 1; i < set->nmarks; i++)
		if (set->marks[i].of != set->marks[0].of || set->marks[i].run != set->marks[0].run)
			return sd_fail(err, SD_INPUT,
				       "%s: %s and %s are of two runs, or of two checkpoints: they do not join; write "
				       "one of them anew",
				       path, set->marks[0].name, set->marks[i].name);
	return SD_OK;
}

static enum sd_result read_marks(const char *path, struct sd_part_set *set, struct sd_error *err)
{
	DIR *dir = opendir(path);
	enum sd_result result = SD_OK;
	const struct dirent *entry;

	if (!dir)
		return sd_fail_errno(err, errno, "%s", path);
	for (errno = 0; result == SD_OK && (entry = readdir(dir)); errno = 0)
		if (sd_part_is_mark(entry->d_name))
			result = take_name(path, entry->d_name, set, err);
	if (result == SD_OK && errno)
		result = sd_fail_errno(err, errno, "%s", path);
	closedir(dir);
	if (set->nmarks)
		qsort(set->marks, set->nmarks, sizeof(*set->marks), by_part);
	return result;
}

enum sd_result sd_part_set_read(const char *path, struct sd_part_set *set, struct sd_error *err)
{
	enum sd_result result;

	*set = (struct sd_part_set){0};
	result = read_marks(path, set, err);
	return result == SD_OK ? check_one_run(path, set, err) : result;
}

void sd_part_set_free(struct sd_part_set *set)
{
	for (size_t i = 0; i < set->nmarks; i++) {
		free(set->marks[i].files);
		free(set->marks[i].side);
	}
	free(set->marks);
	sd_arena_free(&set->arena);
	*set = (struct sd_part_set){0};
}

/* ---- proofs ---- */

static enum sd_result sum_first(int fd, uint64_t length, uint64_t *sum, struct sd_error *err)
{
	struct sd_checksum *checksum = sd_checksum_new();
	enum sd_result result = checksum ? SD_OK : sd_fail_memory(err);
	static const size_t most = 1u << 16;
	char *buffer = malloc(most);

	if (result == SD_OK && !buffer)
		result = sd_fail_memory(err);
	if (result == SD_OK)
		sd_checksum_begin(checksum);
	for (uint64_t at = 0; at < length && result == SD_OK;) {
		size_t n = length - at < most ? (size_t)(length - at) : most;

		result = sd_pread_all(fd, buffer, n, (off_t)at, err);
		if (result == SD_OK)
			sd_checksum_add(checksum, buffer, n);
		at += n;
	}
	if (result == SD_OK)
		*sum = sd_checksum_value(checksum);
	sd_checksum_free(checksum);
	free(buffer);
	return result;
}

static enum sd_result check_open(int fd, const char *path, const struct sd_part_file *file,
				 const struct sd_part_mark *mark, struct sd_error *err)
{
	struct stat st;
	uint64_t sum = 0;
	enum sd_result result;

	if (fstat(fd, &st) != 0)
		return sd_fail_errno(err, errno, "%s/%s", path, file->name);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != file->size)
		return sd_fail(err, SD_INPUT,
			       "%s/%s has %" PRIu64 " bytes; part %" PRIu32 "/%" PRIu32 " wrote %" PRIu64, path,
			       file->name, (uint64_t)st.st_size, mark->part, mark->of, file->size);
	result = sum_first(fd, file->checked, &sum, err);
	if (result != SD_OK || sum == file->sum)
		return result;
	return sd_fail(err, SD_INPUT, "%s/%s is not what part %" PRIu32 "/%" PRIu32 " wrote", path, file->name,
		       mark->part, mark->of);
}

static enum sd_result fail_missing(const char *path, const struct sd_part_mark *mark, const char *name,
				   struct sd_error *err)
{
	return sd_fail(err, SD_INPUT, "part %" PRIu32 "/%" PRIu32 " is not finished: %s/%s is not there; run it again",
		       mark->part, mark->of, path, name);
}

static enum sd_result check_sides(int dir, const char *path, const struct sd_part_mark *mark, struct sd_error *err)
{
	struct stat st;

	for (size_t i = 0; i < mark->nside; i++)
		if (fstatat(dir, mark->side[i], &st, 0) != 0)
			return errno == ENOENT ? fail_missing(path, mark, mark->side[i], err)
					       : sd_fail_errno(err, errno, "%s/%s", path, mark->side[i]);
	return SD_OK;
}

enum sd_result sd_part_check(const char *path, const struct sd_part_mark *mark, struct sd_error *err)
{
	int dir = sd_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	enum sd_result result = dir < 0 ? sd_fail_errno(err, errno, "%s", path) : SD_OK;

	for (size_t i = 0; i < mark->nfiles && result == SD_OK; i++) {
		const char *name = mark->files[i].name;
		int fd = sd_openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);

		if (fd < 0 && errno == ENOENT)
			result = fail_missing(path, mark, name, err);
		else if (fd < 0)
			result = sd_fail_errno(err, errno, "%s/%s", path, name);
		else
			result = check_open(fd, path, &mark->files[i], mark, err);
		if (fd >= 0)
			close(fd);
	}
	if (result == SD_OK)
		result = check_sides(dir, path, mark, err);
	if (dir >= 0)
		close(dir);
	return result;
}

enum sd_result sd_part_describe(const struct sd_part_set *set, struct sd_arena *arena, const struct sd_parts **parts,
				struct sd_error *err)
{
	struct sd_parts *made = sd_arena_alloc(arena, sizeof(*made));
	uint32_t *here = sd_arena_array(arena, set->nmarks + 1, sizeof(*here));

	*parts = NULL;
	if (!made || !here)
		return sd_fail_memory(err);
	for (size_t i = 0; i < set->nmarks; i++)
		here[i] = set->marks[i].part;
	*made = (struct sd_parts){.here = here, .nhere = (uint32_t)set->nmarks};
	if (set->nmarks) {
		made->of = set->marks[0].of;
		made->id = set->marks[0].run;
		*parts = made;
	}
	return SD_OK;
}

enum sd_result sd_part_prove(const char *path, const struct sd_part_set *set, struct sd_error *err)
{
	struct sd_arena arena = {0};
	const struct sd_parts *parts, *whole;
	enum sd_result result = sd_part_describe(set, &arena, &parts, err);

	if (result == SD_OK && sd_parts_join(&parts, &path, 1, &arena, &whole, err) != SD_OK)
		result = sd_error_at(err, "%s", path);
	sd_arena_free(&arena);
	for (size_t i = 0; i < set->nmarks && result == SD_OK; i++)
		result = sd_part_check(path, &set->marks[i], err);
	return result;
}

static bool is_listed(const struct sd_part_set *set, const char *name)
{
	for (size_t i = 0; i < set->nmarks; i++)
		for (size_t k = 0; k < set->marks[i].nfiles; k++)
			if (strcmp(set->marks[i].files[k].name, name) == 0)
				return true;
	return false;
}

/* Of a checkpoint in any form, DCP's too. */
static int is_weights(const struct dirent *entry)
{
	enum sd_file_role role = sd_replace_role(entry->d_name);

	return !sd_part_is_ours(entry->d_name) && (role == SD_ROLE_WEIGHTS || role == SD_ROLE_INDEX);
}

/*
 * A directory of parts has no other weights, and no index. Marks are read after the names: other parts are written at
 * the same time, and each puts its mark there before its files.
 */
static enum sd_result check_alone(const char *path, enum sd_result bad, struct sd_error *err)
{
	struct sd_part_set set = {0};
	struct dirent **entries;
	int n = scandir(path, &entries, is_weights, alphasort);
	enum sd_result result;

	if (n < 0)
		return sd_fail_errno(err, errno, "%s", path);
	result = sd_part_set_read(path, &set, err);
	for (int i = 0; i < n; i++) {
		if (result == SD_OK && !is_listed(&set, entries[i]->d_name))
			result = sd_fail(err, bad,
					 "%s/%s is of no part: parts are in a directory without another checkpoint",
					 path, entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
	sd_part_set_free(&set);
	return result;
}

/* ---- writing a part ---- */

struct sd_part_output {
	char *path, *staging;
	char name[64], *text; /* of the mark */
	size_t length;
	uint64_t run;
	bool force, made; /* the directory was made for it */
	struct sd_part_set old;
	const struct sd_part_mark *own; /* of these, the part itself; or NULL */
};

/* What all parts of one output have in common: all its files, and what it is made of. */
static uint64_t identify(const struct sd_manifest *m, const struct sd_output_plan *layout, struct sd_checksum *sum)
{
	char id[64];

	sd_checksum_begin(sum);
	snprintf(id, sizeof(id), "%016" PRIx64 " %" PRIu32, m->parts->id, m->parts->of);
	sd_checksum_add_text(sum, id);
	sd_output_plan_sum(layout, m, sum);
	return sd_checksum_value(sum);
}

static void write_file(FILE *out, struct sd_checksum *sum, const char *name, uint64_t size, const void *first,
		       size_t checked)
{
	sd_checksum_begin(sum);
	sd_checksum_add(sum, first, checked);
	fprintf(out, "file %" PRIu64 " %zu %016" PRIx64 " %s\n", size, checked, sd_checksum_value(sum), name);
}

/* The mark. Of side files it has the names alone: they may be changed by hand before the parts are joined. */
static void write_mark(FILE *out, uint64_t run, const struct sd_manifest *m, const struct sd_output_plan *layout,
		       struct sd_checksum *sum)
{
	uint32_t part = m->parts->here[0];

	fprintf(out, "part %" PRIu32 " of %" PRIu32 "\n", part, m->parts->of);
	fprintf(out, "run %016" PRIx64 "\n", run);
	for (size_t i = 0; i < layout->nfiles; i++)
		write_file(out, sum, layout->files[i].name, layout->files[i].size, layout->files[i].header,
			   layout->files[i].header_length);
	for (size_t i = 0; part == 0 && i < m->nside; i++)
		if (sd_file_name_good(m->side[i].name))
			fprintf(out, "side %s\n", m->side[i].name);
	if (part == 0 && layout->index) {
		fprintf(out, "index %s\n", layout->index_name);
		write_file(out, sum, SD_PART_INDEX, layout->index_length, layout->index, layout->index_length);
	}
	fprintf(out, "end\n");
}

static enum sd_result make_mark(struct sd_part_output *part, const struct sd_manifest *m,
				const struct sd_output_plan *layout, struct sd_error *err)
{
	struct sd_checksum *sum = sd_checksum_new();
	FILE *out;
	struct sd_memstream *stream = sum ? sd_memstream_open(&out) : NULL;
	bool made = false;

	if (stream) {
		part->run = identify(m, layout, sum);
		write_mark(out, part->run, m, layout, sum);
		made = sd_memstream_close(stream, &part->text, &part->length);
	}
	sd_checksum_free(sum);
	snprintf(part->name, sizeof(part->name), MARK, m->parts->here[0], m->parts->of);
	return made ? SD_OK : sd_fail_memory(err);
}

/* The part that is to be written, and those that stand there, are of one run. */
static enum sd_result check_old(struct sd_part_output *part, const struct sd_manifest *m, struct sd_error *err)
{
	uint32_t own = m->parts->here[0], of = m->parts->of;
	struct sd_error unfinished;

	if (part->old.joined)
		return sd_fail(err, SD_IO, "%s: its parts are joined already; write to another directory", part->path);
	for (size_t i = 0; i < part->old.nmarks; i++) {
		const struct sd_part_mark *mark = &part->old.marks[i];
		bool same = mark->of == of && mark->run == part->run;

		if (mark->of == of && mark->part == own)
			part->own = mark;
		if (!same && !(part->force && part->own == mark))
			return sd_fail(
				err, SD_IO,
				"%s has %s of another run, or of another checkpoint: remove it and its files, or "
				"write to another directory",
				part->path, mark->name);
	}
	if (part->own && !part->force && sd_part_check(part->path, part->own, &unfinished) == SD_OK)
		return sd_fail(err, SD_IO, "%s has part %" PRIu32 "/%" PRIu32 " already; -f writes it anew", part->path,
			       own, of);
	return SD_OK;
}

/* Side files come with part 0: they take no other file's place. */
static enum sd_result check_side(const struct sd_part_output *part, const struct sd_manifest *m, struct sd_error *err)
{
	for (size_t i = 0; i < m->nside && m->parts->here[0] == 0 && !part->force && !part->own; i++) {
		char *name;
		struct stat st;
		bool there;

		if (asprintf(&name, "%s/%s", part->path, m->side[i].name) < 0)
			return sd_fail_memory(err);
		there = lstat(name, &st) == 0;
		free(name);
		if (there)
			return sd_fail(err, SD_IO, "%s/%s exists; -f replaces it", part->path, m->side[i].name);
	}
	return SD_OK;
}

/* What a run that was killed has left of the same part. */
static enum sd_result clear_staging(const struct sd_part_output *part, struct sd_error *err)
{
	return sd_replace_remove(AT_FDCWD, part->staging) || errno == ENOENT
		       ? SD_OK
		       : sd_fail_errno(err, errno, "%s: cannot remove", part->staging);
}

static enum sd_result begin(struct sd_part_output *part, const struct sd_manifest *m,
			    const struct sd_output_plan *layout, struct sd_error *err)
{
	enum sd_result result = make_mark(part, m, layout, err);

	if (result != SD_OK)
		return result;
	part->made = mkdirat(AT_FDCWD, part->path, 0777) == 0;
	if (!part->made && errno != EEXIST)
		return sd_fail_errno(err, errno, "%s: cannot create", part->path);
	result = sd_part_set_read(part->path, &part->old, err);
	if (result == SD_OK)
		result = check_old(part, m, err);
	if (result == SD_OK)
		result = check_alone(part->path, SD_IO, err);
	if (result == SD_OK)
		result = check_side(part, m, err);
	return result == SD_OK ? clear_staging(part, err) : result;
}

enum sd_result sd_part_begin(const char *path, const struct sd_manifest *m, const struct sd_output_plan *layout,
			     bool force, struct sd_part_output **output, struct sd_error *err)
{
	struct sd_part_output *part = calloc(1, sizeof(*part));
	size_t n = strlen(path);

	*output = part;
	if (!part)
		return sd_fail_memory(err);
	part->force = force;
	while (n > 1 && path[n - 1] == '/')
		n--;
	part->path = strndup(path, n);
	if (!part->path || asprintf(&part->staging, "%s/" STAGING, part->path, m->parts->here[0], m->parts->of) < 0) {
		part->staging = NULL;
		return sd_fail_memory(err);
	}
	return begin(part, m, layout, err);
}

const char *sd_part_path(const struct sd_part_output *part)
{
	return part->staging;
}

const char *sd_part_mark_name(const struct sd_part_output *part)
{
	return part->name;
}

const char *sd_part_mark_text(const struct sd_part_output *part, size_t *length)
{
	*length = part->length;
	return part->text;
}

static bool is_among(const char *const *names, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

/* Moves the files from the staging directory to their places. The mark goes first: until all that it lists are there,
 * nobody takes the part for finished. */
static enum sd_result move_files(const struct sd_part_output *part, int staging, int place, const char *const *names,
				 size_t count, struct sd_error *err)
{
	bool replace = part->force || part->own;

	if (sd_replace_rename(staging, part->name, place, part->name, replace) != 0)
		return sd_fail_errno(err, errno, "%s/%s: cannot be put in its place", part->path, part->name);
	for (size_t i = 0; part->own && i < part->own->nfiles; i++)
		if (!is_among(names, count, part->own->files[i].name))
			(void)!unlinkat(place, part->own->files[i].name, 0);
	for (size_t i = 0; i < count; i++)
		if (strcmp(names[i], part->name) != 0 &&
		    sd_replace_rename(staging, names[i], place, names[i], replace) != 0)
			return sd_fail_errno(err, errno, "%s/%s: cannot be put in its place", part->path, names[i]);
	return SD_OK;
}

enum sd_result sd_part_end(struct sd_part_output *part, const char *const *names, size_t count, bool sync,
			   struct sd_error *err)
{
	int place = sd_openat(AT_FDCWD, part->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	int staging = sd_openat(AT_FDCWD, part->staging, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	enum sd_result result = place < 0 || staging < 0 ? sd_fail_errno(err, errno, "%s", part->path) : SD_OK;

	part->made = false;
	if (result == SD_OK)
		result = move_files(part, staging, place, names, count, err);
	if (result == SD_OK && unlinkat(AT_FDCWD, part->staging, AT_REMOVEDIR) != 0)
		result = sd_fail_errno(err, errno, "%s: cannot remove", part->staging);
	if (result == SD_OK && sync)
		result = sd_output_sync(place, part->path, true, err);
	if (place >= 0)
		close(place);
	if (staging >= 0)
		close(staging);
	return result;
}

void sd_part_close(struct sd_part_output *part)
{
	if (!part)
		return;
	/* Another part may be there by now: then this fails. */
	if (part->made && part->path)
		(void)!unlinkat(AT_FDCWD, part->path, AT_REMOVEDIR);
	sd_part_set_free(&part->old);
	free(part->path);
	free(part->staging);
	free(part->text);
	free(part);
}

/* ---- joining ---- */

static enum sd_result prove_all(const char *path, const struct sd_part_set *set, struct sd_error *err)
{
	enum sd_result result = sd_part_prove(path, set, err);

	return result == SD_OK ? check_alone(path, SD_INPUT, err) : result;
}

/* From now on the directory counts as whole, whatever is left of its marks. */
static enum sd_result commit(int place, const char *path, bool sync, struct sd_error *err)
{
	int fd = sd_openat(place, JOINED, O_CREAT | O_WRONLY | O_CLOEXEC, 0666);

	if (fd < 0)
		return sd_fail_errno(err, errno, "%s/" JOINED ": cannot create", path);
	close(fd);
	return sync ? sd_output_sync(place, path, true, err) : SD_OK;
}

static enum sd_result place_index(int place, const char *path, const struct sd_part_set *set, struct sd_error *err)
{
	const char *index = set->nmarks ? set->marks[0].index : NULL;

	if (!index || sd_replace_rename(place, SD_PART_INDEX, place, index, false) == 0 || errno == ENOENT)
		return SD_OK;
	return sd_fail_errno(err, errno, "%s/%s: cannot be put in its place", path, index);
}

static enum sd_result remove_ours(int place, const char *path, const char *name, struct sd_error *err)
{
	return unlinkat(place, name, 0) == 0 || errno == ENOENT
		       ? SD_OK
		       : sd_fail_errno(err, errno, "%s/%s: cannot remove", path, name);
}

/* What a run may have left that was killed when its files had all got their places. */
static void remove_staging(int place, const struct sd_part_mark *mark)
{
	char name[64];

	snprintf(name, sizeof(name), STAGING, mark->part, mark->of);
	(void)!unlinkat(place, name, AT_REMOVEDIR);
}

static enum sd_result join(int place, const char *path, const struct sd_part_set *set, bool sync, struct sd_error *err)
{
	enum sd_result result = set->joined ? SD_OK : prove_all(path, set, err);

	if (result == SD_OK)
		result = commit(place, path, sync, err);
	if (result == SD_OK)
		result = place_index(place, path, set, err);
	for (size_t i = 0; i < set->nmarks && result == SD_OK; i++)
		result = remove_ours(place, path, set->marks[i].name, err);
	for (size_t i = 0; i < set->nmarks && result == SD_OK; i++)
		remove_staging(place, &set->marks[i]);
	if (result == SD_OK)
		result = remove_ours(place, path, JOINED, err);
	return result == SD_OK && sync ? sd_output_sync(place, path, true, err) : result;
}

enum sd_result sd_part_join(const char *path, bool sync, struct sd_error *err)
{
	struct sd_part_set set = {0};
	int place = sd_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	enum sd_result result = place < 0 ? sd_fail_errno(err, errno, "%s", path) : SD_OK;

	if (result == SD_OK && flock(place, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
		result = sd_fail(err, SD_IO, "%s is locked: another sd-pack is writing to it", path);
	if (result == SD_OK)
		result = sd_part_set_read(path, &set, err);
	if (result == SD_OK && !set.nmarks && !set.joined)
		result = sd_fail(err, SD_INPUT, "%s has no parts: there is nothing to join", path);
	if (result == SD_OK)
		result = join(place, path, &set, sync, err);
	sd_part_set_free(&set);
	if (place >= 0)
		close(place);
	return result;
}
