/* SPDX-License-Identifier: Apache-2.0 */
/* Stands for the CUDA device in a program that is built without it. */
#include "move/device.h"

enum sd_device_result sd_device_open_cuda(unsigned number, struct sd_device **device)
{
	(void)number;
	*device = NULL;
	return SD_DEVICE_ABSENT;
}
