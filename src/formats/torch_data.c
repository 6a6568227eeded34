/* SPDX-License-Identifier: Apache-2.0 */
/* The data of torch.save's tensors: where it is in the file, or made from what is there. */
#include "formats/torch_tensor.h"
#include "formats/zip.h"
#include "move/device.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The bytes of a storage that a tensor has: from its first element to its last one. */
struct span {
	uint64_t begin, length;
};

static struct span span_of(const struct sd_torch_view *v)
{
	uint64_t last = 0;

	for (uint32_t k = 0; k < v->rank; k++)
		last += (v->shape[k] - 1) * v->stride[k];
	return (struct span){v->offset * v->item, (last + 1) * v->item};
}

static bool is_contiguous(const struct sd_torch_view *v)
{
	uint64_t stride = 1;

	for (uint32_t k = v->rank; k-- > 0; stride *= v->shape[k])
		if (v->shape[k] != 1 && v->stride[k] != stride)
			return false;
	return true;
}

/* The storage's bytes in the file; its CRC is checked once, over what it expands to. *memory: that, where it does. */
static enum sd_result open_storage(struct sd_torch_storage *s, const struct sd_extent *whole, struct sd_extent *bytes,
				   void **memory, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	*memory = NULL;
	if (!sd_zip_part(whole, s->offset, s->packed, bytes))
		return sd_fail(err, SD_INPUT, "%s goes beyond the end of the file", s->name);
	if (s->deflated) {
		if (sd_zip_expand(bytes, true, s->bytes, memory, err) != SD_OK)
			return sd_error_at(err, "%s", s->name);
		*bytes = (struct sd_extent){.length = s->bytes, .memory = *memory, .fd = -1};
	}
	result = sd_zip_check(bytes, s->crc, err);
	if (result != SD_OK) {
		free(*memory);
		*memory = NULL;
		return err->told ? result : sd_error_at(err, "%s", s->name);
	}
	s->crc = 0;
	return SD_OK;
}

/* Carries the strides out. from: the bytes of the span. */
static enum sd_result gather(const struct sd_torch_view *v, const void *from, struct span span, void *to,
			     struct sd_error *err)
{
	static const uint8_t of_size[] = {[1] = SD_U8, [2] = SD_U16, [4] = SD_U32, [8] = SD_U64};
	struct sd_job job = {.source = from,
			     .target = to,
			     .source_count = span.length / v->item,
			     .target_count = v->bytes / v->item,
			     .source_dtype = of_size[v->item],
			     .target_dtype = of_size[v->item]};
	struct sd_dim dim[SD_RANK_MAX];
	struct sd_device *device;
	enum sd_device_result result;
	uint64_t stride = 1;

	for (uint32_t k = v->rank; k-- > 0; stride *= v->shape[k])
		dim[k] = (struct sd_dim){v->shape[k], v->stride[k], stride};
	if (!sd_move_make(&job.move, 0, 0, dim, v->rank))
		return sd_fail(err, SD_INPUT, "its elements are strewn in more than %d dimensions", SD_MOVE_RANK);
	if (sd_device_open_cpu(1, &device) != SD_DEVICE_OK)
		return sd_fail_memory(err);
	result = sd_device_run(device, &job, 1);
	device->ops->close(device);
	return result == SD_DEVICE_OK ? SD_OK : sd_fail_memory(err);
}

static void turn(unsigned char *bytes, uint64_t length, unsigned width)
{
	for (uint64_t i = 0; i < length; i += width)
		for (unsigned a = 0, b = width - 1; a < b; a++, b--) {
			unsigned char kept = bytes[i + a];

			bytes[i + a] = bytes[i + b];
			bytes[i + b] = kept;
		}
}

/* Changes the sign of numbers of width bytes that are step apart. */
static void negate(unsigned char *bytes, uint64_t length, unsigned first, unsigned width, unsigned step)
{
	for (uint64_t i = first; i < length; i += step)
		bytes[i + width - 1] ^= 0x80;
}

static void change(const struct sd_torch_view *v, unsigned char *bytes)
{
	unsigned number = v->dtype == SD_C64 ? 4 : v->item;

	if (v->swap)
		turn(bytes, v->bytes, v->swap);
	if (v->conjugate)
		negate(bytes, v->bytes, number, number, v->item);
	if (v->negate)
		negate(bytes, v->bytes, 0, number, number);
}

/* Makes the tensor from the bytes of its span, which are in memory from offset on. */
static enum sd_result make(const struct sd_torch_view *v, const struct sd_extent *storage, struct span span,
			   void **made, struct sd_error *err)
{
	struct sd_extent part;
	char *from = malloc((size_t)span.length), *to = malloc((size_t)v->bytes);
	enum sd_result result = from && to ? SD_OK : sd_fail_memory(err);

	if (result == SD_OK && !sd_zip_part(storage, span.begin, span.length, &part))
		result = sd_fail(err, SD_INPUT, "it goes beyond the end of the file");
	if (result == SD_OK)
		result = sd_extent_read(&part, from, span.length, err);
	if (result == SD_OK)
		result = gather(v, from, span, to, err);
	free(from);
	if (result != SD_OK) {
		free(to);
		return result;
	}
	change(v, (unsigned char *)to);
	*made = to;
	return SD_OK;
}

enum sd_result sd_torch_data(const struct sd_torch_view *view, const struct sd_extent *whole, struct sd_extent *chunk,
			     void **memory, struct sd_error *err)
{
	struct span span;
	struct sd_extent storage;
	void *made;

	*memory = NULL;
	*chunk = (struct sd_extent){.fd = -1};
	if (!view->bytes)
		return SD_OK;
	span = span_of(view);
	if (open_storage(view->storage, whole, &storage, memory, err) != SD_OK)
		return err->result;
	if (is_contiguous(view) && !view->swap && !view->conjugate && !view->negate) {
		if (sd_zip_part(&storage, span.begin, span.length, chunk))
			return SD_OK;
		free(*memory);
		*memory = NULL;
		return sd_fail(err, SD_INPUT, "it goes beyond the end of the file");
	}
	if (make(view, &storage, span, &made, err) != SD_OK) {
		free(*memory);
		*memory = NULL;
		return err->result;
	}
	free(*memory);
	*memory = made;
	*chunk = (struct sd_extent){.length = view->bytes, .memory = made, .fd = -1};
	return SD_OK;
}
