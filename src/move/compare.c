/* SPDX-License-Identifier: Apache-2.0 */
/* How the numbers of two runs of elements differ. */
#include "move/compare.h"
#include "move/convert.h"

#include <math.h>
#include <string.h>

/* Numbers that are worked on at a time, and how many sums of them are made side by side. */
#define BLOCK 512
#define LANES 4 /* in each of two vectors */

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
	*c = (struct sd_comparison){.tolerance = tolerance};
	sd_numbers_begin(&c->a, a);
	sd_numbers_begin(&c->b, b);
	c->in = a == b ? a : tolerance->cast ? narrower(a, b) : SD_NO_DTYPE;
#ifdef __x86_64__
	c->avx2 = __builtin_cpu_supports("avx2");
#endif
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

/* LANES numbers, which the compiler makes of what registers a machine has; sums of each lane are made apart, so that
 * they are the same on every machine. */
typedef double numbers __attribute__((vector_size(8 * LANES)));
typedef int64_t masks __attribute__((vector_size(8 * LANES)));
typedef float floats __attribute__((vector_size(4 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES)));

#define INLINE static inline __attribute__((always_inline))

INLINE void load_f64(const uint8_t *data, size_t i, numbers *into)
{
	memcpy(into, data + i * 8, sizeof(*into));
}

INLINE void load_f32(const uint8_t *data, size_t i, numbers *into)
{
	floats in;

	memcpy(&in, data + i * 4, sizeof(in));
	*into = __builtin_convertvector(in, numbers);
}

INLINE void load_bf16(const uint8_t *data, size_t i, numbers *into)
{
	halves in;
	words wide;
	floats out;

	memcpy(&in, data + i * 2, sizeof(in));
	wide = __builtin_convertvector(in, words) << 16;
	memcpy(&out, &wide, sizeof(out));
	*into = __builtin_convertvector(out, numbers);
}

typedef void load_numbers(const uint8_t *data, size_t i, numbers *into);

struct lanes {
	numbers dd, aa, bb, ab, max;
};

INLINE void add_lanes(load_numbers *load, const uint8_t *a, const uint8_t *b, size_t i, struct lanes *sums)
{
	numbers x, y, distance, size;
	masks bits, larger;

	load(a, i, &x);
	load(b, i, &y);
	distance = y - x;
	sums->dd += distance * distance;
	sums->aa += x * x;
	sums->bb += y * y;
	sums->ab += x * y;
	bits = (masks)distance & INT64_MAX;
	size = (numbers)bits;
	larger = size > sums->max;
	sums->max = (numbers)((bits & larger) | ((masks)sums->max & ~larger));
}

/* A whole block. */
INLINE void sum_block(load_numbers *load, const uint8_t *a, const uint8_t *b, struct sums *sums)
{
	struct lanes even = {0}, odd = {0};

	for (size_t i = 0; i < BLOCK; i += 2 * LANES) {
		add_lanes(load, a, b, i, &even);
		add_lanes(load, a, b, i + LANES, &odd);
	}
	*sums = (struct sums){0};
	for (size_t k = 0; k < LANES; k++) {
		sums->dd += even.dd[k] + odd.dd[k];
		sums->aa += even.aa[k] + odd.aa[k];
		sums->bb += even.bb[k] + odd.bb[k];
		sums->ab += even.ab[k] + odd.ab[k];
		sums->max = even.max[k] > sums->max ? even.max[k] : sums->max;
		sums->max = odd.max[k] > sums->max ? odd.max[k] : sums->max;
	}
}

#define COUNT(type)                                                                                                    \
	do {                                                                                                           \
		for (size_t i = 0; i < BLOCK * sizeof(type); i += 16) {                                                \
			type __attribute__((vector_size(16))) x, y;                                                    \
                                                                                                                       \
			memcpy(&x, a + i, sizeof(x));                                                                  \
			memcpy(&y, b + i, sizeof(y));                                                                  \
			apart -= (x != y);                                                                             \
		}                                                                                                      \
	} while (0)

/* How many elements of a block have other bits. */
INLINE size_t count_16(const uint8_t *a, const uint8_t *b)
{
	uint16_t __attribute__((vector_size(16))) apart = {0};
	size_t n = 0;

	COUNT(uint16_t);
	for (size_t k = 0; k < 8; k++)
		n += apart[k];
	return n;
}

INLINE size_t count_32(const uint8_t *a, const uint8_t *b)
{
	uint32_t __attribute__((vector_size(16))) apart = {0};
	size_t n = 0;

	COUNT(uint32_t);
	for (size_t k = 0; k < 4; k++)
		n += apart[k];
	return n;
}

static size_t count_codes(enum sd_dtype dtype, const uint8_t *a, const uint8_t *b)
{
	size_t n = 0;

	for (size_t i = 0; i < BLOCK; i++)
		n += sd_number_code(dtype, a, i) != sd_number_code(dtype, b, i);
	return n;
}

/* Dtypes without a loop of their own go through numbers, made one by one. */
INLINE size_t work(const struct sd_comparison *c, const uint8_t *a, const uint8_t *b, struct sums *sums)
{
	double x[BLOCK], y[BLOCK];
	unsigned bits = sd_number_bits(c->a.dtype);

	if (c->a.dtype == SD_BF16) {
		sum_block(load_bf16, a, b, sums);
	} else if (c->a.dtype == SD_F32 || c->a.dtype == SD_C64) {
		sum_block(load_f32, a, b, sums);
	} else {
		sd_numbers_read(&c->a, a, 0, BLOCK, x);
		sd_numbers_read(&c->b, b, 0, BLOCK, y);
		sum_block(load_f64, (const uint8_t *)x, (const uint8_t *)y, sums);
	}
	return bits == 16 ? count_16(a, b) : bits == 32 ? count_32(a, b) : count_codes(c->a.dtype, a, b);
}

static size_t work_plain(const struct sd_comparison *c, const uint8_t *a, const uint8_t *b, struct sums *sums)
{
	return work(c, a, b, sums);
}

#ifdef __x86_64__
__attribute__((target("avx2"))) static size_t work_avx2(const struct sd_comparison *c, const uint8_t *a,
							const uint8_t *b, struct sums *sums)
{
	return work(c, a, b, sums);
}
#else
#define work_avx2 work_plain
#endif

static size_t first_apart(const struct sd_comparison *c, const uint8_t *a, const uint8_t *b)
{
	size_t i = 0;

	while (sd_number_code(c->a.dtype, a, i) == sd_number_code(c->b.dtype, b, i))
		i++;
	return i;
}

static size_t find_max(const struct sd_comparison *c, const uint8_t *a, const uint8_t *b, double max)
{
	struct pair p;
	size_t i = first_apart(c, a, b);

	while (p = pair_at(c, a, b, i), max > 0 && p.distance != max)
		i++;
	return i;
}

/* A block of one dtype, in which all numbers are finite, and so are the sums. */
static void take_block(const struct sd_comparison *c, const uint8_t *a, const uint8_t *b, size_t count, uint64_t place,
		       size_t differ, const struct sums *sums, struct sd_difference *d)
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
		d->first = place + first_apart(c, a, b);
	if (!d->differ || sums->max > d->max) {
		size_t i = find_max(c, a, b, sums->max);
		struct pair p = pair_at(c, a, b, i);

		d->at = place + i;
		d->at_a = p.a;
		d->at_b = p.b;
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

/* A block whose numbers begin a byte. A short one goes through a whole one, with zeros behind. */
static void compare_block(const struct sd_comparison *c, const uint8_t *a, const uint8_t *b, size_t count,
			  uint64_t place, struct sd_difference *d)
{
	size_t bytes = (count * sd_number_bits(c->a.dtype) + 7) / 8, differ;
	uint8_t x[BLOCK * 8], y[BLOCK * 8];
	struct sums sums;

	/* 0 is no code of this one. */
	if (count < BLOCK && c->a.dtype == SD_F8_E8M0) {
		compare_slowly(c, a, b, 0, count, place, d);
		return;
	}
	if (count < BLOCK) {
		memset(x, 0, sizeof(x));
		memset(y, 0, sizeof(y));
		a = memcpy(x, a, bytes);
		b = memcpy(y, b, bytes);
	}
	differ = c->avx2 ? work_avx2(c, a, b, &sums) : work_plain(c, a, b, &sums);
	if (is_plain(c, &sums))
		take_block(c, a, b, count, place, differ, &sums, d);
	else
		compare_slowly(c, a, b, 0, count, place, d);
}

void sd_compare(const struct sd_comparison *c, const void *a, const void *b, uint64_t place, size_t count,
		struct sd_difference *d)
{
	size_t bits = sd_number_bits(c->a.dtype);

	if (!c->exact || c->a.dtype == SD_U64 || c->a.dtype == SD_I64) {
		compare_slowly(c, a, b, 0, count, place, d);
		return;
	}
	for (size_t from = 0; from < count; from += BLOCK)
		compare_block(c, (const uint8_t *)a + from * bits / 8, (const uint8_t *)b + from * bits / 8,
			      count - from < BLOCK ? count - from : BLOCK, place + from, d);
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
