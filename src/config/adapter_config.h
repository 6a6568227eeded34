/* SPDX-License-Identifier: Apache-2.0 */
/* adapter_config.json, by which PEFT makes the modules that a LoRA adapter's tensors go into. */
#ifndef SD_CONFIG_ADAPTER_CONFIG_H
#define SD_CONFIG_ADAPTER_CONFIG_H

#include "model/manifest.h"

/* What a form of adapter has tensors for: single modules, or a parameter of the module that is all experts. */
struct sd_peft_target {
	const char *container; /* "mlp.experts" */
	const char *name;      /* "gate_proj" */
	bool parameter;        /* it goes into target_parameters, else into target_modules */
	bool outside;          /* the adapter has tensors of modules of that name elsewhere too */
	bool wanted;           /* of the form that comes out */
	uint64_t numbers;      /* of modules: how many experts are to be named one by one; 0: by their name alone */
	uint32_t form;         /* the same number: of one form */
	uint32_t group;        /* the same number: what one form has for what another has */
};

/*
 * m's adapter_config.json becomes that of the wanted form, by a text in m's arena: target_modules, target_parameters,
 * rank_pattern and alpha_pattern. Where it is of that form already, or is not there, nothing changes. SD_INPUT where it
 * cannot say what it has to.
 */
SD_MUST_CHECK enum sd_result sd_adapter_config_follow(struct sd_manifest *m, const struct sd_peft_target *targets,
						      size_t n, struct sd_error *err);

/* Sets a field of a JSON file of m to a text, or, with NULL, takes it out. Nothing happens where it is so, or where
 * there is no such file. */
SD_MUST_CHECK enum sd_result sd_stamp_follow(struct sd_manifest *m, const char *file, const char *field,
					     const char *text, struct sd_error *err);

#endif
