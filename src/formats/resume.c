/* SPDX-License-Identifier: Apache-2.0 */
/* Output that goes on after its run was killed. */
#include "formats/resume.h"
#include "base/checked.h"
#include "base/io.h"
#include "flow/checksum.h"
#include "formats/atomic_output.h"
#include "formats/file.h"
#include "formats/replace.h"
#include "model/parts.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define HEAD "sd-resume 1\nsource %016" PRIx64 " %zu\nrun %016" PRIx64 "\n"
#define DONE "done %zu\n"
#define LINE_MAX_BYTES 64
#define JOURNAL_MAX (1u << 30)
#define UNITS_MAX (1u << 26)
#define OFTEN (256u << 20) /* bytes between two syncs, at most; */
#define PIECES 64          /* and no less often than so many times in all */

/* What a journal says. */
struct state {
	bool there;
	uint64_t id, run;
	size_t nunits;
	bool *done;  /* of each unit */
	size_t good; /* bytes of the journal that are whole lines */
};

struct sd_resume {
	char *journal;
	const struct sd_manifest *m;
	struct state before;
	uint64_t run;
	bool sync;
	int fd;
	uint32_t *unit; /* of each record, or SD_NO_PART */
	size_t *left;   /* records of each unit that are still to come */
	bool *now;      /* units that are noted, or that were complete when all was last brought to the disk */
	size_t fresh;   /* units that are complete and not noted */
	uint64_t bytes, often;
};

/* ---- the journal ---- */

/* The path of the directory, or with ".txt" behind it of the journal; malloc'd. */
static char *path_of(const char *out, const char *end)
{
	size_t n = strlen(out), parent;
	char *path;

	while (n > 1 && out[n - 1] == '/')
		n--;
	for (parent = n; parent > 0 && out[parent - 1] != '/';)
		parent--;
	return asprintf(&path, "%.*s.%.*s" SD_OUTPUT_LASTING "%s", (int)parent, out,
			(int)(n - parent < SD_OUTPUT_NAME ? n - parent : SD_OUTPUT_NAME), out + parent, end) < 0
		       ? NULL
		       : path;
}

static bool take_head(const char *text, struct state *state)
{
	char again[4 * LINE_MAX_BYTES];
	size_t n;

	if (sscanf(text, "sd-resume 1 source %" SCNx64 " %zu run %" SCNx64, &state->id, &state->nunits, &state->run) !=
	    3)
		return false;
	n = (size_t)snprintf(again, sizeof(again), HEAD, state->id, state->nunits, state->run);
	state->good = n;
	return strncmp(text, again, n) == 0;
}

/* The lines of units, up to the first that is not whole: the disk may not have got what comes there. */
static void take_lines(const char *text, struct state *state)
{
	char again[LINE_MAX_BYTES];
	size_t unit, n;

	while (sscanf(text + state->good, "done %zu", &unit) == 1 && unit < state->nunits) {
		n = (size_t)snprintf(again, sizeof(again), DONE, unit);
		if (strncmp(text + state->good, again, n) != 0)
			return;
		state->done[unit] = true;
		state->good += n;
	}
}

/* A journal without its head was just being made. */
static enum sd_result parse(const char *text, struct state *state, struct sd_error *err)
{
	state->there = take_head(text, state) && state->nunits <= UNITS_MAX;
	if (!state->there)
		return SD_OK;
	state->done = calloc(state->nunits + 1, sizeof(*state->done));
	if (!state->done)
		return sd_fail_memory(err);
	take_lines(text, state);
	return SD_OK;
}

/* What the run before has noted, if what it has written is still there. */
static enum sd_result read_state(const char *out, struct state *state, struct sd_error *err)
{
	char *folder = path_of(out, ""), *journal = path_of(out, ".txt"), *text = NULL;
	enum sd_result result = folder && journal ? SD_OK : sd_fail_memory(err);
	struct stat st;
	void *data = NULL;

	*state = (struct state){0};
	if (result == SD_OK && stat(folder, &st) == 0 && stat(journal, &st) == 0)
		result = sd_file_read(journal, JOURNAL_MAX, &data, &st, err);
	if (data) {
		text = strndup(data, (size_t)st.st_size);
		result = text ? parse(text, state, err) : sd_fail_memory(err);
	}
	free(text);
	free(data);
	free(folder);
	free(journal);
	return result;
}

/* The unit of each record: the number of the part that it is alone in. */
static enum sd_result find_units(const struct sd_manifest *m, uint32_t *unit, struct sd_error *err)
{
	struct sd_parts_table table = {0};
	enum sd_result result = sd_parts_divide(m, m->parts->of, &table, err);

	for (uint32_t i = 0; i < m->parts->nunits && result == SD_OK; i++)
		table.part[i] = i;
	for (size_t i = 0; i < m->nrecords && result == SD_OK; i++)
		result = sd_parts_find(&table, m->records[i].key, &unit[i], err);
	sd_parts_table_free(&table);
	return result;
}

static enum sd_result fail_other(const char *out, const char *what, struct sd_error *err)
{
	char *folder = path_of(out, "");
	enum sd_result result;

	if (!folder)
		return sd_fail_memory(err);
	result = sd_fail(err, SD_INPUT, "%s was begun %s: give the same again, or remove %s to begin anew", out, what,
			 folder);
	free(folder);
	return result;
}

#define OTHER_SOURCE "with another source, or with other options of sd-cat"
#define OTHER "with another source, map or option"

/* ---- who sends, and who receives ---- */

enum sd_result sd_resume_choose(const char *out, struct sd_manifest *m, uint64_t id, struct sd_error *err)
{
	struct state state = {0};
	enum sd_result result = sd_parts_choose(m, 0, 1, id, err);

	if (result == SD_OK)
		result = read_state(out, &state, err);
	/* The lower half of the id tells what other programs have done since. */
	if (result == SD_OK && state.there && (state.id >> 32 != id >> 32 || state.nunits != m->parts->nunits))
		result = fail_other(out, OTHER_SOURCE, err);
	if (result == SD_OK && state.there)
		result = sd_parts_leave_out(m, state.done, err);
	free(state.done);
	return result;
}

static enum sd_result add_records(const char *out, const struct sd_manifest *in, const struct state *state,
				  const uint32_t *unit, struct sd_plan *plan, struct sd_error *err)
{
	for (size_t i = 0; i < in->ntargets; i++) {
		uint32_t record = in->targets[i].record;

		if (!sd_parts_is_other(in, &in->targets[i]))
			continue;
		if (unit[record] == SD_NO_PART || !state->there || !state->done[unit[record]])
			return sd_fail(err, SD_INPUT,
				       "%s: its data is not in this stream, and not in what was written of %s so far: "
				       "sd-cat --resume=%s sends what is left",
				       in->records[record].key, out, out);
		plan->manifest->records[record].state = SD_HERE;
	}
	return SD_OK;
}

static enum sd_result copy_manifest(const struct sd_manifest *in, struct sd_plan *plan, struct sd_error *err)
{
	struct sd_manifest *m = plan->manifest = sd_manifest_new();
	struct sd_parts *parts;
	bool good = m && sd_manifest_copy_head(m, in);

	plan->becomes = malloc((in->nrecords + 1) * sizeof(*plan->becomes));
	good = good && plan->becomes;
	for (size_t i = 0; i < in->nrecords && good; i++) {
		plan->becomes[i] = (uint32_t)i;
		good = sd_manifest_add_record(m, &in->records[i]);
	}
	for (size_t i = 0; i < in->ntargets && good; i++)
		good = sd_manifest_add_target(m, &in->targets[i]);
	parts = good ? sd_arena_copy(&m->arena, in->parts, sizeof(*in->parts)) : NULL;
	if (!parts)
		return sd_fail_memory(err);
	parts->of = parts->nhere = 0;
	m->parts = parts;
	return SD_OK;
}

enum sd_result sd_resume_plan(const char *out, const struct sd_manifest *in, struct sd_plan *plan, struct sd_error *err)
{
	struct state state = {0};
	uint32_t *unit = malloc((in->nrecords + 1) * sizeof(*unit));
	enum sd_result result = unit ? SD_OK : sd_fail_memory(err);

	if (result == SD_OK && !(in->parts && in->parts->of == 1))
		result = sd_fail(err, SD_USAGE,
				 "--resume goes on with what is left of a source: sd-cat --resume=%s sends that", out);
	if (result == SD_OK)
		result = read_state(out, &state, err);
	if (result == SD_OK && state.there && (state.id != in->parts->id || state.nunits != in->parts->nunits))
		result = fail_other(out, OTHER, err);
	if (result == SD_OK)
		result = find_units(in, unit, err);
	if (result == SD_OK)
		result = copy_manifest(in, plan, err);
	if (result == SD_OK)
		result = add_records(out, in, &state, unit, plan, err);
	free(state.done);
	free(unit);
	return result;
}

/* ---- who writes ---- */

/* What is written, and what of the stream it is made of. */
static enum sd_result identify(const struct sd_manifest *m, const struct sd_output_plan *layout, uint64_t *run,
			       struct sd_error *err)
{
	struct sd_checksum *sum = sd_checksum_new();

	if (!sum)
		return sd_fail_memory(err);
	sd_checksum_begin(sum);
	sd_checksum_add(sum, &m->parts->id, sizeof(m->parts->id));
	sd_output_plan_sum(layout, m, sum);
	for (size_t i = 0; i < m->ntargets; i++) {
		const struct sd_target *t = &m->targets[i];

		sd_checksum_add_text(sum, m->records[t->record].key);
		sd_checksum_add_text(sum, t->name);
		if (t->move)
			sd_checksum_add(sum, t->move, sd_move_size(t->move));
	}
	*run = sd_checksum_value(sum);
	sd_checksum_free(sum);
	return SD_OK;
}

/* How many records of each unit are to come, and how many bytes. */
static enum sd_result count_records(struct sd_resume *r, struct sd_error *err)
{
	uint64_t total = 0;

	r->unit = malloc((r->m->nrecords + 1) * sizeof(*r->unit));
	r->left = calloc(r->m->parts->nunits + 1, sizeof(*r->left));
	r->now = calloc(r->m->parts->nunits + 1, sizeof(*r->now));
	if (!r->unit || !r->left || !r->now)
		return sd_fail_memory(err);
	if (find_units(r->m, r->unit, err) != SD_OK)
		return err->result;
	for (size_t i = 0; i < r->m->nrecords; i++) {
		if (r->m->records[i].state != SD_HERE || r->unit[i] == SD_NO_PART)
			continue;
		r->left[r->unit[i]]++;
		if (!sd_add(total, r->m->records[i].bytes, &total))
			total = UINT64_MAX;
	}
	r->often = total / PIECES < OFTEN ? total / PIECES : OFTEN;
	for (size_t i = 0; i < r->m->parts->nunits && r->before.there; i++)
		r->now[i] = r->before.done[i];
	return SD_OK;
}

/* What is there without a journal is of a run that had just begun, and perhaps of other files; unless it is running. */
static enum sd_result clear(const char *out, struct sd_error *err)
{
	char *folder = path_of(out, "");
	int fd = folder ? sd_openat(AT_FDCWD, folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0) : -1;
	enum sd_result result = folder ? SD_OK : sd_fail_memory(err);

	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
		result = sd_fail(err, SD_IO, "%s is being written by another sd-pack", out);
	if (result == SD_OK && !sd_replace_remove(AT_FDCWD, folder) && errno != ENOENT)
		result = sd_fail_errno(err, errno, "%s: cannot remove", folder);
	if (fd >= 0)
		close(fd);
	free(folder);
	return result;
}

enum sd_result sd_resume_begin(const char *out, const struct sd_manifest *m, const struct sd_output_plan *layout,
			       bool sync, struct sd_resume **resume, struct sd_error *err)
{
	struct sd_resume *r = *resume = calloc(1, sizeof(*r));
	enum sd_result result;

	if (!r)
		return sd_fail_memory(err);
	r->m = m;
	r->sync = sync;
	r->fd = -1;
	r->journal = path_of(out, ".txt");
	result = r->journal ? read_state(out, &r->before, err) : sd_fail_memory(err);
	if (result == SD_OK)
		result = identify(m, layout, &r->run, err);
	if (result == SD_OK && r->before.there &&
	    (r->before.id != m->parts->id || r->before.run != r->run || r->before.nunits != m->parts->nunits))
		result = fail_other(out, OTHER, err);
	if (result == SD_OK && !r->before.there)
		result = clear(out, err);
	return result == SD_OK ? count_records(r, err) : result;
}

bool sd_resume_goes_on(const struct sd_resume *r)
{
	return r->before.there;
}

static enum sd_result sync_journal(const struct sd_resume *r, enum sd_result result, struct sd_error *err)
{
	if (result == SD_OK && r->sync)
		result = sd_output_sync(r->fd, r->journal, false, err);
	return result == SD_IO && err->told != SD_LOST ? sd_error_at(err, "writing %s", r->journal) : result;
}

enum sd_result sd_resume_open(struct sd_resume *r, struct sd_error *err)
{
	char head[4 * LINE_MAX_BYTES];
	int n = snprintf(head, sizeof(head), HEAD, r->m->parts->id, r->m->parts->nunits, r->run);

	r->fd = sd_openat(AT_FDCWD, r->journal, O_CREAT | O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0666);
	if (r->fd < 0)
		return sd_fail_errno(err, errno, "%s: cannot create", r->journal);
	if (ftruncate(r->fd, r->before.there ? (off_t)r->before.good : 0) != 0)
		return sd_fail_errno(err, errno, "%s: cannot be cut", r->journal);
	return sync_journal(r, r->before.there ? SD_OK : sd_write_all(r->fd, head, (size_t)n, err), err);
}

bool sd_resume_has(const struct sd_resume *r, size_t record)
{
	return r->before.there && r->unit[record] != SD_NO_PART && r->before.done[r->unit[record]];
}

void sd_resume_came(struct sd_resume *r, size_t record)
{
	uint32_t unit = r->unit[record];

	if (r->m->records[record].state != SD_HERE || unit == SD_NO_PART)
		return;
	r->bytes += sd_resume_has(r, record) ? 0 : r->m->records[record].bytes;
	if (--r->left[unit] == 0 && !r->now[unit])
		r->fresh++;
}

bool sd_resume_due(const struct sd_resume *r)
{
	return r->fresh && r->bytes >= r->often;
}

enum sd_result sd_resume_write(struct sd_resume *r, struct sd_error *err)
{
	char line[LINE_MAX_BYTES];
	enum sd_result result = SD_OK;

	for (size_t i = 0; i < r->m->parts->nunits && result == SD_OK; i++) {
		if (r->left[i] || r->now[i])
			continue;
		r->now[i] = true;
		result = sd_write_all(r->fd, line, (size_t)snprintf(line, sizeof(line), DONE, i), err);
	}
	r->fresh = 0;
	r->bytes = 0;
	return sync_journal(r, result, err);
}

void sd_resume_end(struct sd_resume *r)
{
	(void)!unlink(r->journal);
}

void sd_resume_close(struct sd_resume *r)
{
	if (!r)
		return;
	if (r->fd >= 0)
		close(r->fd);
	free(r->journal);
	free(r->before.done);
	free(r->unit);
	free(r->left);
	free(r->now);
	free(r);
}
