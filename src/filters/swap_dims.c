/* SPDX-License-Identifier: Apache-2.0 */
/* Swaps two dimensions of tensors, as a pending move. */
#include "move/compose.h"
#include "filters/swap_dims.h"
#include "model/companions.h"
#include "model/selection.h"
#include "model/scales.h"

#include <inttypes.h>
#include <stdlib.h>

/* The number of a dimension in a tensor of this rank; false where there is none. */
static bool dimension(int64_t number, uint32_t rank, uint32_t *k)
{
	if (number < 0)
		number += rank;
	*k = (uint32_t)number;
	return number >= 0 && number < rank;
}

/* Adds what an exchange of two dimensions makes of a target. */
static enum sd_result exchange(struct sd_manifest *m, struct sd_target t, uint32_t a, uint32_t b, struct sd_error *err)
{
	uint32_t order[SD_RANK_MAX];
	uint64_t *shape = sd_arena_copy(&m->arena, t.shape, t.rank * sizeof(*shape));
	size_t added;
	struct sd_move turn, room;
	enum sd_result result;

	if (!shape)
		return sd_fail_memory(err);
	for (uint32_t k = 0; k < t.rank; k++)
		order[k] = k;
	order[a] = b;
	order[b] = a;
	if (!sd_dtype_size(m->records[t.record].dtype))
		return sd_fail(err, SD_USAGE,
			       "%s: elements of %s are smaller than a byte and cannot be moved one by one", t.name,
			       sd_dtype_name(m->records[t.record].dtype));
	if (!sd_move_permute(&turn, t.shape, t.rank, order))
		return sd_fail(err, SD_INPUT, "%s: too large", t.name);
	shape[a] = t.shape[b];
	shape[b] = t.shape[a];
	t.shape = shape;
	result = sd_manifest_add_moved(m, &t, sd_target_move(m, &t, &room), &turn, &added, err);
	/* A tensor without elements is one all the same. */
	if (result == SD_OK && added == 0 && !sd_manifest_add_target(m, &t))
		result = sd_fail_memory(err);
	return result;
}

/* Whether a target is to be turned. Block scales are when their weight is, and only then. */
static enum sd_result turns(const struct sd_manifest *in, const struct sd_scales *scales, size_t target,
			    const struct sd_selection *choice, bool *yes, struct sd_error *err)
{
	const struct sd_target *t = &in->targets[target], *weight = sd_weight_of(scales, in, target);
	enum sd_result result = sd_selection_takes(choice, t->name, yes, err);
	bool named = *yes;

	if (result != SD_OK || !weight)
		return result;
	result = sd_selection_takes(choice, weight->name, yes, err);
	if (result == SD_OK && named && !*yes)
		return sd_fail(err, SD_USAGE, "%s cannot be turned without %s, which it has the scales of", t->name,
			       weight->name);
	*yes = *yes && !sd_scale_is_single(t->shape, t->rank);
	return result;
}

static enum sd_result exchange_if(struct sd_manifest *m, const struct sd_target *t, int64_t a, int64_t b, bool turned,
				  struct sd_error *err)
{
	char shape[SD_SHAPE_TEXT];
	uint32_t i, j;

	if (!turned)
		return sd_manifest_add_target(m, t) ? SD_OK : sd_fail_memory(err);
	if (!dimension(a, t->rank, &i) || !dimension(b, t->rank, &j))
		return sd_fail(err, SD_USAGE,
			       "%s has the shape %s: no dimensions %" PRId64 " and %" PRId64
			       "; choose tensors by -n or --include",
			       t->name, sd_shape_text(t->shape, t->rank, shape, sizeof(shape)), a, b);
	return exchange(m, *t, i, j, err);
}

enum sd_result sd_swap_dims(const struct sd_manifest *in, int64_t a, int64_t b, const struct sd_selection *choice,
			    struct sd_manifest **out, struct sd_error *err)
{
	struct sd_manifest *m = sd_manifest_new();
	struct sd_scales scales;
	enum sd_result result = sd_scales_find(in, &scales, err);

	if (!m || !sd_manifest_copy_head(m, in))
		result = sd_fail_memory(err);
	if (result == SD_OK)
		result = sd_selection_check(choice, in, err);

	for (size_t i = 0; i < in->nrecords && result == SD_OK; i++)
		if (!sd_manifest_add_record(m, &in->records[i]))
			result = sd_fail_memory(err);
	for (size_t i = 0; i < in->ntargets && result == SD_OK; i++) {
		bool yes;

		result = turns(in, &scales, i, choice, &yes, err);
		if (result == SD_OK)
			result = exchange_if(m, &in->targets[i], a, b, yes, err);
	}
	sd_scales_free(&scales);
	if (result == SD_OK)
		result = sd_companions_check(in, NULL, m, NULL, err);
	if (result != SD_OK) {
		sd_manifest_free(m);
		m = NULL;
	}
	*out = m;
	return result;
}
