/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands in for the CUDA device in tests/sd-transpose-grid: the engine with a GPU that is none, so that whole pipelines
 * prove both on a machine without a GPU. In the environment, MOCK_MEMORY is how many bytes of memory it has, and
 * MOCK_FAILS how many calls go well before one fails.
 */
#include "../../cuda/engine.h"
#include "gpu-mock.h"

enum sd_device_result sd_device_open_cuda(unsigned number, struct sd_device **device)
{
	/* Small ones, so that small tensors are many. */
	static const struct sd_engine_sizes sizes = {
		.slice = (size_t)64 << 10, .slice_least = (size_t)32 << 10, .direct = 256, .run = 16};
	const char *memory = getenv("MOCK_MEMORY"), *fails = getenv("MOCK_FAILS");
	struct mock *mock = mock_open(number + 1, memory ? strtoull(memory, NULL, 10) : SIZE_MAX);

	mock->failing = fails ? strtol(fails, NULL, 10) : -1;
	return sd_engine_open(&mock->gpu, &sizes, device);
}
