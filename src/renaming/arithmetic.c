/* SPDX-License-Identifier: Apache-2.0 */
/* What rules do to values: weights meet their scales, and constants are made. */
#include "renaming/arithmetic.h"
#include "base/checked.h"
#include "move/convert.h"

#include <inttypes.h>
#include <string.h>

enum sd_result sd_arithmetic_misfit(struct sd_planner *p, const struct sd_rule *rule, const struct sd_planner_tensor *t,
				    const struct sd_planner_tensor *scale, const char *due)
{
	char a[SD_SHAPE_TEXT], b[SD_SHAPE_TEXT];

	return sd_fail(p->err, SD_INPUT, "%s has shape %s; %s, of shape %s, needs %s (%s:%u)", scale->name,
		       sd_shape_text(scale->shape, scale->rank, a, sizeof(a)), t->name,
		       sd_shape_text(t->shape, t->rank, b, sizeof(b)), due, rule->file, rule->line);
}

enum sd_result sd_arithmetic_bind(struct sd_planner *p, const struct sd_rule *rule, const struct sd_planner_tensor *t,
				  const struct sd_planner_tensor *scale, axis_sizes sizes)
{
	const struct sd_map_side *side = &rule->side[p->from];
	uint64_t ignored[SD_RANK_MAX];
	axis_sizes both;
	bool overflow;

	memcpy(both, sizes, sizeof(both));
	if (sd_axes_bind(&side->scale->axes, scale->shape, scale->rank, both) &&
	    sd_axes_bind(&side->axes, t->shape, t->rank, both))
		memcpy(sizes, both, sizeof(both));
	else if (sd_axes_shape(&side->axes, sizes, ignored, &overflow) != NO_AXIS)
		return sd_arithmetic_misfit(p, rule, t, scale, side->scale->axes.text);
	return SD_OK;
}

enum sd_result sd_arithmetic_count(struct sd_planner *p, const struct sd_rule *rule, const struct sd_planner_tensor *t,
				   uint64_t *count)
{
	const struct sd_map_factor *packed = rule->unpack ? sd_axes_packed(&rule->side[p->from].axes) : NULL;

	if (packed &&
	    (sd_dtype_is_float(t->dtype) || t->dtype == SD_BOOL || packed->packed != sd_dtype_bits(t->dtype) / 4))
		return sd_fail(p->err, SD_INPUT, "%s is %s: not whole numbers with %" PRIu64 " codes in each (%s:%u)",
			       t->name, sd_dtype_name(t->dtype), packed->packed, rule->file, rule->line);
	if (!sd_shape_count(t->shape, t->rank, count) || !sd_mul(*count, packed ? packed->packed : 1, count))
		return sd_fail(p->err, SD_INPUT, "%s: the shape is too large", t->name);
	return SD_OK;
}

uint8_t sd_arithmetic_dtype(const struct sd_planner *p, const struct sd_rule *rule, uint8_t dtype)
{
	uint8_t written = rule->side[!p->from].dtype;

	if (rule->arithmetic == BLOCK_SCALE || rule->arithmetic == TIMES)
		return p->dtype ? p->dtype : written ? written : rule->arithmetic == TIMES ? dtype : SD_F32;
	if (rule->arithmetic == CONSTANT)
		return written ? written : dtype;
	if (!sd_dtype_is_float(dtype))
		return dtype;
	if (rule->arithmetic == TO_DTYPE && p->dtype && sd_planner_castable(dtype))
		return p->dtype;
	return written ? written : rule->arithmetic == CAST ? rule->cast : dtype;
}

/* The one piece that is a whole record as it came, or NULL. */
static const struct sd_planner_piece *only_record(const struct sd_planner *p, const struct sd_planner_tensor *t)
{
	const struct sd_planner_piece *piece = t->first == NONE ? NULL : &p->pieces[t->first];
	const struct sd_record *r = piece ? &p->in->records[piece->record] : NULL;

	return piece && piece->next == NONE && !piece->move && !piece->nsteps &&
			       sd_shape_equal(t->shape, t->rank, r->shape, r->rank)
		       ? piece
		       : NULL;
}

/* The factor of this axis in the list, or NULL. */
static const struct sd_map_factor *find_axis(const struct sd_axes *axes, uint32_t axis)
{
	for (uint32_t d = 0; d < axes->n; d++)
		for (uint32_t f = 0; f < axes->dims[d].n; f++)
			if (axes->dims[d].factors[f].axis == axis && axis != NO_AXIS)
				return &axes->dims[d].factors[f];
	return NULL;
}

/* How each dimension of the weight finds its place in the scale. */
static enum sd_result scale_blocks(struct sd_planner *p, const struct sd_rule *rule, const struct sd_planner_tensor *t,
				   const struct sd_planner_tensor *scale, const axis_sizes sizes,
				   struct sd_block *blocks)
{
	const struct sd_axes *weight = &rule->side[p->from].axes, *axes = &rule->side[p->from].scale->axes;
	uint64_t due[SD_RANK_MAX], strides[AXES_MAX], offset;
	char text[SD_SHAPE_TEXT];
	axis_sizes index;
	bool overflow;

	if (sd_axes_shape(axes, sizes, due, &overflow) != NO_AXIS || overflow)
		return sd_arithmetic_misfit(p, rule, t, scale, axes->text);
	if (!sd_shape_equal(scale->shape, scale->rank, due, axes->n))
		return sd_arithmetic_misfit(p, rule, t, scale, sd_shape_text(due, axes->n, text, sizeof(text)));
	for (uint32_t a = 0; a < AXES_MAX; a++)
		index[a] = SIZE_OPEN;
	sd_axes_place(axes, sizes, index, strides, &offset);
	for (uint32_t d = 0; d < weight->n; d++) {
		const struct sd_map_factor *own = weight->dims[d].factors, *factor = find_axis(axes, own->axis);

		blocks[d] = (struct sd_block){1, 0};
		if (!factor)
			continue;
		blocks[d] = (struct sd_block){factor->per, strides[own->axis]};
		for (uint32_t f = 1; f < weight->dims[d].n; f++)
			blocks[d].block *= own[f].axis == NO_AXIS ? 1 : sizes[own[f].axis];
	}
	return SD_OK;
}

/* Whether a scale of this dtype is one of exponents. */
static bool is_exponent(uint8_t dtype)
{
	return dtype == SD_U8 || dtype == SD_F8_E8M0;
}

/* What a product with a sibling is rounded to: the wider of both dtypes, as torch has it; SD_NO_DTYPE if they have none
 * here. */
static uint8_t product_dtype(uint8_t a, uint8_t b)
{
	bool good = (a == SD_BF16 || a == SD_F16 || a == SD_F32) && (b == SD_BF16 || b == SD_F16 || b == SD_F32);

	return !good ? SD_NO_DTYPE : a == b ? a : SD_F32;
}

enum sd_result sd_arithmetic_scaled(struct sd_planner *p, const struct sd_rule *rule, const struct sd_planner_tensor *t,
				    const struct sd_planner_tensor *scale, const axis_sizes sizes, uint8_t dtype,
				    struct sd_planner_piece *piece)
{
	const struct sd_planner_piece *weight = only_record(p, t), *by = only_record(p, scale);
	uint8_t product = rule->arithmetic == TIMES ? product_dtype(t->dtype, scale->dtype) : dtype;
	struct sd_block *blocks = sd_arena_array(&p->out->arena, t->rank, sizeof(*blocks));
	struct sd_step *steps = sd_arena_array(&p->out->arena, 2, sizeof(*steps));

	if (!blocks || !steps)
		return sd_fail_memory(p->err);
	if (!weight || !by || (!sd_dtype_is_float(scale->dtype) && !is_exponent(scale->dtype)))
		return sd_fail(p->err, SD_INPUT, "%s and its scale have to be whole tensors as they came, of numbers",
			       t->name);
	if (!product)
		return sd_fail(p->err, SD_INPUT, "%s is %s and %s is %s: only BF16, F16 and F32 are multiplied (%s:%u)",
			       t->name, sd_dtype_name(t->dtype), scale->name, sd_dtype_name(scale->dtype), rule->file,
			       rule->line);
	if (scale_blocks(p, rule, t, scale, sizes, blocks) != SD_OK)
		return p->err->result;
	*piece = *weight;
	piece->steps = steps;
	if (rule->unpack)
		steps[piece->nsteps++] = (struct sd_step){
			.kind = SD_STEP_UNPACK, .dtype = SD_F32, .operand = SD_NO_RECORD, .param = rule->unpack};
	steps[piece->nsteps++] = (struct sd_step){.kind = SD_STEP_BLOCK_SCALE,
						  .dtype = product,
						  .operand = by->record,
						  .param = is_exponent(scale->dtype) ? rule->exponents : 0,
						  .rank = t->rank,
						  .blocks = blocks};
	return product == dtype ? SD_OK : sd_planner_cast(p, piece, (enum sd_dtype)dtype);
}

enum sd_result sd_arithmetic_constant(struct sd_planner *p, const struct sd_rule *rule,
				      const struct sd_planner_tensor *t, const struct sd_planner_tensor *made,
				      struct sd_planner_piece *piece)
{
	const struct sd_step fill = {
		.kind = SD_STEP_FILL, .dtype = made->dtype, .operand = SD_NO_RECORD, .param = rule->constant};

	if (!sd_convert_makes((enum sd_dtype)made->dtype))
		return sd_fail(p->err, SD_INPUT, "%s would be %s, as %s is: %s are BF16, F16, F32 or F64 (%s:%u)",
			       made->name, sd_dtype_name(made->dtype), t->name, rule->arithmetic_text, rule->file,
			       rule->line);
	return sd_planner_step(p, piece, &fill);
}
