/* SPDX-License-Identifier: Apache-2.0 */
/* Which of the tensors that become one is unlike the others. */
#include "renaming/odd.h"

typedef bool same_function(const struct sd_planner_tensor *a, const struct sd_planner_tensor *b);

static bool same_shape(const struct sd_planner_tensor *a, const struct sd_planner_tensor *b)
{
	return sd_shape_equal(a->shape, a->rank, b->shape, b->rank);
}

static bool same_dtype(const struct sd_planner_tensor *a, const struct sd_planner_tensor *b)
{
	return a->dtype == b->dtype;
}

/* The members of a group as far as they are alike. */
struct members {
	const struct sd_planner_tensor *most, *odd; /* one of those that are alike; the first one that is not */
	size_t alike, others;
};

static const struct sd_planner_tensor *next_tensor(const struct sd_planner_tensor *before,
						   const struct sd_planner_member *members, uint32_t *at)
{
	const struct sd_planner_member *m = &members[*at];

	*at = m->next;
	return &before[m->tensor];
}

static struct members compare(const struct sd_planner_tensor *before, const struct sd_planner_member *members,
			      const struct sd_planner_group *group, same_function *same)
{
	struct members found = {.most = NULL};
	size_t votes = 0;

	/* What more than half of them have wins each vote (Boyer and Moore). */
	for (uint32_t at = group->first; at != NONE;) {
		const struct sd_planner_tensor *t = next_tensor(before, members, &at);

		if (!votes)
			found.most = t;
		votes = same(t, found.most) ? votes + 1 : votes - 1;
	}
	for (uint32_t at = group->first; at != NONE;) {
		const struct sd_planner_tensor *t = next_tensor(before, members, &at);

		if (same(t, found.most)) {
			found.alike++;
			continue;
		}
		found.odd = found.others++ ? found.odd : t;
	}
	return found;
}

/* Whether the others say what the odd one should be. */
static bool is_odd(const struct members *m)
{
	return m->odd && m->alike >= 2 && m->alike > 2 * m->others;
}

static const char *tell(struct sd_planner *p, const struct members *m, const struct sd_planner_group *group,
			const char *is, const char *are, const char *end)
{
	const char *key = sd_planner_source(p, m->odd);

	if (m->others > 1)
		return sd_arena_printf(&p->out->arena, "%s and %zu more are %s, the other %zu of %s are %s%s", key,
				       m->others - 1, is, m->alike, group->name, are, end);
	return sd_arena_printf(&p->out->arena, "%s is %s, the other %zu of %s are %s%s", key, is, m->alike, group->name,
			       are, end);
}

const char *sd_odd_shape(struct sd_planner *p, const struct sd_planner_tensor *before,
			 const struct sd_planner_member *members, const struct sd_planner_group *group)
{
	struct members m = compare(before, members, group, same_shape);

	char is[SD_SHAPE_TEXT], are[SD_SHAPE_TEXT];

	if (!is_odd(&m))
		return NULL;
	sd_shape_brief(m.odd->shape, m.odd->rank, is, sizeof(is));
	sd_shape_brief(m.most->shape, m.most->rank, are, sizeof(are));
	return tell(p, &m, group, is, are,
		    sd_shape_is_transposed(m.odd->shape, m.odd->rank, m.most->shape, m.most->rank) ? ": transposed?"
												   : "");
}

const char *sd_odd_dtype(struct sd_planner *p, const struct sd_planner_tensor *before,
			 const struct sd_planner_member *members, const struct sd_planner_group *group)
{
	struct members m = compare(before, members, group, same_dtype);

	return is_odd(&m) ? tell(p, &m, group, sd_dtype_name(m.odd->dtype), sd_dtype_name(m.most->dtype), "") : NULL;
}
