/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors put together from boxes that lie in several places, as PyTorch's distributed checkpoints (DCP) have them. */
#ifndef SD_FORMATS_ASSEMBLY_H
#define SD_FORMATS_ASSEMBLY_H

#include "base/names.h"
#include "formats/extents.h"

/* The box of a tensor that begins at begin and has size: where it is, as for sd_extents_add. */
struct sd_assembly_box {
	const char *name; /* of the tensor; copied */
	const uint64_t *begin, *size;
	const uint64_t *whole; /* the tensor's shape; NULL: it goes as far as its boxes do */
	uint32_t rank, input;
	uint8_t dtype;
	uint64_t offset, bytes;
	struct sd_made *made; /* or NULL */
	const char *lack;     /* of its record */
};

struct sd_assembly;

/* Numbers and texts that are given to it live as long as the source. NULL: memory is out. */
struct sd_assembly *sd_assembly_new(struct sd_source *source, bool short_data);

/* SD_INPUT where the tensor has another dtype or rank in another place, or the box cannot be. */
SD_MUST_CHECK enum sd_result sd_assembly_add(struct sd_assembly *assembly, const struct sd_assembly_box *box,
					     struct sd_error *err);

/* How many boxes there are; and takes back all but the first so many. */
size_t sd_assembly_count(const struct sd_assembly *assembly);
void sd_assembly_cut(struct sd_assembly *assembly, size_t count);

/*
 * Each box becomes a record, in the order in which they came, with its place in the tensor as the target. Boxes without
 * elements are left out, and of equal ones with the same data all but the first. SD_INPUT, with a line that names the
 * tensor, the box and the files, for holes, overlaps, boxes outside of their tensor, and replicas that differ. whole:
 * keys of tensors that are there already.
 */
SD_MUST_CHECK enum sd_result sd_assembly_finish(struct sd_assembly *assembly, const struct sd_names *whole,
						struct sd_error *err);

void sd_assembly_free(struct sd_assembly *assembly);

/* "[5:10, 0:8]", for errors. */
#define SD_BOX_TEXT 512
const char *sd_box_text(const uint64_t *begin, const uint64_t *end, uint32_t rank, char text[SD_BOX_TEXT]);

#endif
