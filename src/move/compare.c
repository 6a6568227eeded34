/* SPDX-License-Identifier: Apache-2.0 */
/* How the numbers of two runs of elements differ. */
#include "move/compare.h"
#include "move/convert.h"

#include <math.h>
#include <string.h>

/* Numbers that are worked on at a time, and sums of them that are made side by side: vectors of any machine. */
#define BLOCK 512
#define LANES 16

#ifdef __x86_64__
#define EVERY_MACHINE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define EVERY_MACHINE
#endif

/* Of two dtypes the one that holds less; SD_NO_DTYPE where a cast to it is not known. */
static enum sd_dtype narrower(enum sd_dtype a, enum sd_dtype b)
{
	unsigned bits_a = sd_dtype_bits(a), bits_b = sd_dtype_bits(b);
	enum sd_dtype dtype = bits_a != bits_b ? (bits_a < bits_b ? a : b) : SD_BF16;

	if (a == b)
		return a;
	return sd_convert_makes(dtype) && sd_convert_reads(a) && sd_convert_reads(b) ? dtype : SD_NO_DTYPE;
}

void sd_comparison_begin(struct sd_comparison *c, const struct sd_tolerance *tolerance, enum sd_dtype a,
			 enum sd_dtype b)
{
	c->tolerance = tolerance;
	sd_numbers_begin(&c->a, a);
	sd_numbers_begin(&c->b, b);
	c->in = a == b ? a : tolerance->cast ? narrower(a, b) : SD_NO_DTYPE;
	c->exact = a == b && !tolerance->by_abs && !tolerance->by_rel && !tolerance->by_steps && !tolerance->nan_equal;
}

void sd_difference_begin(struct sd_difference *d)
{
	*d = (struct sd_difference){.side = {{.zero = true}, {.zero = true}}};
}

double sd_difference_rel(const struct sd_difference *d)
{
	return d->dd == 0 ? 0 : sqrt(d->dd) / sqrt(d->aa);
}

double sd_difference_cos(const struct sd_difference *d)
{
	double cosine = d->ab / (sqrt(d->aa) * sqrt(d->bb));

	return cosine > 1 ? 1 : cosine < -1 ? -1 : cosine;
}

void sd_difference_add(struct sd_difference *d, const struct sd_difference *next)
{
	if (!d->differ)
		d->first = next->first;
	if (next->differ && (!d->differ || next->max > d->max)) {
		d->max = next->max;
		d->at = next->at;
		d->at_a = next->at_a;
		d->at_b = next->at_b;
	}
	d->numbers += next->numbers;
	d->differ += next->differ;
	d->dd += next->dd;
	d->aa += next->aa;
	d->bb += next->bb;
	d->ab += next->ab;
	for (int i = 0; i < 2; i++) {
		struct sd_difference_side *to = &d->side[i];
		const struct sd_difference_side *from = &next->side[i];

		if (!to->nans)
			to->first_nan = from->first_nan;
		to->nans += from->nans;
		to->infinities += from->infinities;
		to->zero = to->zero && from->zero;
	}
}

/* ---- one by one ---- */

/* A pair of numbers, and what they come from. */
struct pair {
	double a, b, distance;
	uint64_t code_a, code_b;
};

/* The bits of a number cast to the dtype in which both are compared. */
static uint64_t cast_code(enum sd_dtype to, enum sd_dtype from, double number, uint64_t code)
{
	float values[SD_CONVERT_RUN] = {0};
	uint64_t out = 0;

	if (from == to)
		return code;
	values[0] = from == SD_F64 ? sd_float_of_bits(sd_f32_of_f64(code)) : (float)number;
	sd_encode_plain(to, values, &out, 1);
	return out;
}

/* The difference of whole numbers of 64 bits is exact before it is rounded. */
static double distance_of(enum sd_dtype a, enum sd_dtype b, const struct pair *p)
{
	if (a == b && (a == SD_U64 || a == SD_I64))
		return (double)sd_number_steps(a, p->code_a, p->code_b);
	return p->a == p->b ? 0 : fabs(p->b - p->a);
}

static struct pair pair_at(const struct sd_comparison *c, const void *a, const void *b, uint64_t i)
{
	struct pair p = {.code_a = sd_number_code(c->a.dtype, a, i), .code_b = sd_number_code(c->b.dtype, b, i)};

	p.a = sd_number_of_code(c->a.dtype, p.code_a);
	p.b = sd_number_of_code(c->b.dtype, p.code_b);
	if (c->in && c->a.dtype != c->b.dtype) {
		p.code_a = cast_code(c->in, c->a.dtype, p.a, p.code_a);
		p.code_b = cast_code(c->in, c->b.dtype, p.b, p.code_b);
		p.a = sd_number_of_code(c->in, p.code_a);
		p.b = sd_number_of_code(c->in, p.code_b);
	}
	p.distance = distance_of(c->a.dtype, c->b.dtype, &p);
	return p;
}

/* The same bits; of two dtypes the same number, and -0 is not 0. */
static bool is_same(const struct sd_comparison *c, const struct pair *p)
{
	if (c->in)
		return p->code_a == p->code_b;
	return (p->a == p->b && signbit(p->a) == signbit(p->b)) || (isnan(p->a) && isnan(p->b));
}

static bool differs(const struct sd_comparison *c, const struct pair *p)
{
	const struct sd_tolerance *t = c->tolerance;
	double size = fabs(p->a) > fabs(p->b) ? fabs(p->a) : fabs(p->b);

	if (is_same(c, p))
		return false;
	if (isnan(p->a) || isnan(p->b))
		return !(t->nan_equal && isnan(p->a) && isnan(p->b));
	if (t->by_abs && p->distance <= t->abs)
		return false;
	if (t->by_rel && !isinf(size) && p->distance <= t->rel * size)
		return false;
	return !(t->by_steps && c->in && sd_number_steps(c->in, p->code_a, p->code_b) <= t->steps);
}

static void count_side(struct sd_difference_side *side, double number, uint64_t place)
{
	if (isnan(number) && !side->nans++)
		side->first_nan = place;
	side->infinities += isinf(number) != 0;
	side->zero = side->zero && number == 0;
}

static void take_pair(const struct sd_comparison *c, const struct pair *p, uint64_t place, struct sd_difference *d)
{
	d->numbers++;
	count_side(&d->side[0], p->a, place);
	count_side(&d->side[1], p->b, place);
	if (isfinite(p->a) && isfinite(p->b)) {
		d->dd += p->distance * p->distance;
		d->aa += p->a * p->a;
		d->bb += p->b * p->b;
		d->ab += p->a * p->b;
	}
	if (!differs(c, p))
		return;
	if (!d->differ)
		d->first = place;
	if (!d->differ || p->distance > d->max) {
		d->at = place;
		d->at_a = p->a;
		d->at_b = p->b;
		d->max = isnan(p->distance) ? d->max : p->distance;
	}
	d->differ++;
}

static void compare_slowly(const struct sd_comparison *c, const void *a, const void *b, uint64_t from, size_t count,
			   uint64_t place, struct sd_difference *d)
{
	for (uint64_t i = from; i < from + count; i++) {
		struct pair p = pair_at(c, a, b, i);

		take_pair(c, &p, place + i, d);
	}
}

/* ---- many at a time ---- */

struct sums {
	double dd, aa, bb, ab, max;
};

/* Each lane has every LANESth number, so that vectors of any width make the same sums. */
static inline __attribute__((always_inline)) void sum_block(const double *restrict a, const double *restrict b,
							    size_t count, struct sums *sums)
{
	double dd[LANES] = {0}, aa[LANES] = {0}, bb[LANES] = {0}, ab[LANES] = {0}, max[LANES] = {0};

	for (size_t i = 0; i < count; i += LANES)
		for (size_t k = 0; k < LANES; k++) {
			double x = a[i + k], y = b[i + k], distance = y - x;

			dd[k] += distance * distance;
			aa[k] += x * x;
			bb[k] += y * y;
			ab[k] += x * y;
			distance = fabs(distance);
			max[k] = distance > max[k] ? distance : max[k];
		}
	*sums = (struct sums){0};
	for (size_t k = 0; k < LANES; k++) {
		sums->dd += dd[k];
		sums->aa += aa[k];
		sums->bb += bb[k];
		sums->ab += ab[k];
		sums->max = max[k] > sums->max ? max[k] : sums->max;
	}
}

#define COUNT(type)                                                                                                    \
	do {                                                                                                           \
		type differ = 0; /* BLOCK is the most: no more than fits where it counts up to 256 at a time */        \
                                                                                                                       \
		for (size_t i = 0; i < count; i++) {                                                                   \
			type x, y;                                                                                     \
                                                                                                                       \
			memcpy(&x, (const uint8_t *)a + i * sizeof(x), sizeof(x));                                     \
			memcpy(&y, (const uint8_t *)b + i * sizeof(y), sizeof(y));                                     \
			differ = (type)(differ + (x != y));                                                            \
		}                                                                                                      \
		return (size_t)differ;                                                                                 \
	} while (0)

/* How many of at most BLOCK elements of 2, 4 or 8 bytes have other bits. */
static inline __attribute__((always_inline)) size_t count_block(unsigned bits, const void *restrict a,
								const void *restrict b, size_t count)
{
	switch (bits) {
	case 16:
		COUNT(uint16_t);
	case 32:
		COUNT(uint32_t);
	default:
		COUNT(uint64_t);
	}
}

static inline __attribute__((always_inline)) size_t work_block(const struct sd_comparison *c, const void *a,
							       const void *b, uint64_t from, size_t count, double *x,
							       double *y, struct sums *sums)
{
	unsigned bits = sd_number_bits(c->a.dtype);
	size_t whole = (count + LANES - 1) / LANES * LANES, differ = 0;

	sd_numbers_read(&c->a, a, from, count, x);
	sd_numbers_read(&c->b, b, from, count, y);
	for (size_t i = count; i < whole; i++)
		x[i] = y[i] = 0;
	sum_block(x, y, whole, sums);
	if (bits >= 16)
		return count_block(bits, (const uint8_t *)a + from * (bits / 8), (const uint8_t *)b + from * (bits / 8),
				   count);
	for (size_t i = 0; i < count; i++)
		differ += sd_number_code(c->a.dtype, a, from + i) != sd_number_code(c->b.dtype, b, from + i);
	return differ;
}

EVERY_MACHINE static size_t work(const struct sd_comparison *c, const void *a, const void *b, uint64_t from,
				 size_t count, double *x, double *y, struct sums *sums)
{
	return work_block(c, a, b, from, count, x, y, sums);
}

static size_t first_apart(const struct sd_comparison *c, const void *a, const void *b, uint64_t from)
{
	size_t i = 0;

	while (sd_number_code(c->a.dtype, a, from + i) == sd_number_code(c->b.dtype, b, from + i))
		i++;
	return i;
}

/* A block of one dtype, in which all numbers are finite, and so are the sums. */
static void take_block(const struct sd_comparison *c, const void *a, const void *b, uint64_t from, size_t count,
		       uint64_t place, const double *x, const double *y, size_t differ, const struct sums *sums,
		       struct sd_difference *d)
{
	d->numbers += count;
	d->dd += sums->dd;
	d->aa += sums->aa;
	d->bb += sums->bb;
	d->ab += sums->ab;
	d->side[0].zero = d->side[0].zero && sums->aa == 0;
	d->side[1].zero = d->side[1].zero && sums->bb == 0;
	if (!differ)
		return;
	if (!d->differ)
		d->first = place + from + first_apart(c, a, b, from);
	if (!d->differ || sums->max > d->max) {
		size_t i = sums->max > 0 ? 0 : first_apart(c, a, b, from);

		while (sums->max > 0 && fabs(y[i] - x[i]) != sums->max)
			i++;
		d->at = place + from + i;
		d->at_a = x[i];
		d->at_b = y[i];
		d->max = sums->max;
	}
	d->differ += differ;
}

/* Squares of small numbers may be 0: whether all numbers are has to be looked at then. */
static bool is_plain(const struct sd_comparison *c, const struct sums *sums)
{
	if (!isfinite(sums->dd + sums->aa + sums->bb))
		return false;
	return c->a.dtype != SD_F64 || (sums->aa > 0 && sums->bb > 0);
}

void sd_compare(const struct sd_comparison *c, const void *a, const void *b, uint64_t place, size_t count,
		struct sd_difference *d)
{
	bool fast = c->exact && c->a.dtype != SD_U64 && c->a.dtype != SD_I64;

	for (size_t from = 0; from < count; from += BLOCK) {
		size_t n = count - from < BLOCK ? count - from : BLOCK;
		double x[BLOCK], y[BLOCK];
		struct sums sums;
		size_t differ;

		if (fast) {
			differ = work(c, a, b, from, n, x, y, &sums);
			if (is_plain(c, &sums)) {
				take_block(c, a, b, from, n, place, x, y, differ, &sums, d);
				continue;
			}
		}
		compare_slowly(c, a, b, from, n, place, d);
	}
}

size_t sd_compare_list(const struct sd_comparison *c, const void *a, const void *b, uint64_t place, size_t count,
		       uint64_t *list, size_t room)
{
	size_t n = 0;

	for (uint64_t i = 0; i < count && n < room; i++) {
		struct pair p = pair_at(c, a, b, i);

		if (differs(c, &p))
			list[n++] = place + i;
	}
	return n;
}
