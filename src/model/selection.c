/* SPDX-License-Identifier: Apache-2.0 */
/* Which tensors are meant. */
#include "model/selection.h"
#include "base/names.h"
#include "base/nearest.h"
#include "model/stack.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- what is given ---- */

enum sd_result sd_selection_add_name(struct sd_selection *choice, const char *pattern, struct sd_error *err)
{
	enum sd_result result;

	if (!sd_array_grow(&choice->names, choice->nnames, &choice->names_room, sizeof(*choice->names)))
		return sd_fail_memory(err);
	result = sd_glob_new(pattern, &choice->names[choice->nnames], err);
	choice->nnames += result == SD_OK;
	return result;
}

static bool digit(char c)
{
	return c >= '0' && c <= '9';
}

/* The number at *text, behind which it stands then. */
static bool read_number(const char **text, uint32_t *number)
{
	uint64_t value = 0;

	if (!digit(**text))
		return false;
	for (; digit(**text); ++*text)
		if ((value = value * 10 + (uint64_t)(**text - '0')) >= UINT32_MAX)
			return false;
	*number = (uint32_t)value;
	return true;
}

/* One more "7" or "0-3" of a list. */
static bool read_range(const char **text, struct sd_range *range)
{
	if (!read_number(text, &range->first))
		return false;
	range->last = range->first;
	if (**text != '-')
		return true;
	++*text;
	return read_number(text, &range->last) && range->last >= range->first;
}

static int compare_ranges(const void *a, const void *b)
{
	const struct sd_range *x = a, *y = b;

	return (x->first > y->first) - (x->first < y->first);
}

/* Sorts the ranges, and joins those that touch. */
static void join_ranges(struct sd_numbers *numbers)
{
	size_t n = 0;

	qsort(numbers->ranges, numbers->count, sizeof(*numbers->ranges), compare_ranges);
	for (size_t i = 1; i < numbers->count; i++) {
		struct sd_range *last = &numbers->ranges[n], next = numbers->ranges[i];

		if (next.first > last->last && next.first - last->last > 1)
			numbers->ranges[++n] = next;
		else if (next.last > last->last)
			last->last = next.last;
	}
	numbers->count = n + 1;
}

/* Reads the list that begins at a place of an option's text. */
static enum sd_result read_list(struct sd_numbers *numbers, const char *option, const char *text, const char *at,
				struct sd_error *err)
{
	*numbers = (struct sd_numbers){.text = text, .ranges = numbers->ranges, .room = numbers->room};
	for (;;) {
		struct sd_range range;

		if (!read_range(&at, &range) || (*at && *at != ','))
			return sd_fail(err, SD_USAGE, "%s: \"%s\" is no list of numbers such as 0-3,7", option, text);
		if (!sd_array_grow(&numbers->ranges, numbers->count, &numbers->room, sizeof(*numbers->ranges)))
			return sd_fail_memory(err);
		numbers->ranges[numbers->count++] = range;
		if (!*at++)
			break;
	}
	join_ranges(numbers);
	return SD_OK;
}

enum sd_result sd_selection_set_layers(struct sd_selection *choice, const char *text, struct sd_error *err)
{
	const char *colon = strrchr(text, ':');

	choice->stack = colon && colon > text ? text : NULL;
	choice->stack_length = colon ? (size_t)(colon - text) : 0;
	if (choice->stack && choice->stack[choice->stack_length - 1] == '.')
		choice->stack_length--;
	return read_list(&choice->layers, "--layers", text, colon ? colon + 1 : text, err);
}

enum sd_result sd_selection_set_experts(struct sd_selection *choice, const char *text, struct sd_error *err)
{
	return read_list(&choice->experts, "--experts", text, text, err);
}

void sd_selection_free(struct sd_selection *choice)
{
	for (size_t i = 0; i < choice->nnames; i++)
		sd_glob_free(choice->names[i]);
	free(choice->names);
	sd_regex_list_free(&choice->include);
	sd_regex_list_free(&choice->exclude);
	free(choice->layers.ranges);
	free(choice->experts.ranges);
	*choice = (struct sd_selection){0};
}

bool sd_selection_chooses(const struct sd_selection *choice)
{
	return choice->nnames || choice->include.count || choice->layers.text || choice->experts.text;
}

/* ---- numbers ---- */

bool sd_numbers_have(const struct sd_numbers *numbers, uint64_t number)
{
	for (size_t i = 0; i < numbers->count; i++)
		if (number >= numbers->ranges[i].first && number <= numbers->ranges[i].last)
			return true;
	return false;
}

uint64_t sd_numbers_below(const struct sd_numbers *numbers, uint64_t number)
{
	uint64_t below = 0;

	for (size_t i = 0; i < numbers->count && numbers->ranges[i].first < number; i++) {
		const struct sd_range *r = &numbers->ranges[i];

		below += (r->last < number ? (uint64_t)r->last + 1 : number) - r->first;
	}
	return below;
}

bool sd_numbers_are_first(const struct sd_numbers *numbers)
{
	return numbers->count == 1 && numbers->ranges[0].first == 0;
}

/* What --layers says of a name: that of a layer of the stack that is chosen from, and all that is in none. */
static bool takes_layer(const struct sd_selection *choice, const char *name, bool *is_layer)
{
	size_t stack;
	uint32_t number;

	*is_layer = choice->stack && sd_stack_number(name, choice->stack, choice->stack_length, &stack, &number);
	return !*is_layer || sd_numbers_have(&choice->layers, number);
}

static bool takes_expert(const struct sd_selection *choice, const char *name, bool *is_expert)
{
	static const char word[] = "experts";
	size_t stack;
	uint32_t number;

	*is_expert = sd_stack_number(name, word, strlen(word), &stack, &number);
	return !*is_expert || sd_numbers_have(&choice->experts, number);
}

void sd_selection_settle(struct sd_selection *choice, const struct sd_manifest *m)
{
	if (choice->layers.text && !choice->stack)
		choice->stack = sd_stack_main(m, &choice->stack_length);
}

/* ---- choosing ---- */

static enum sd_result matches_one(const struct sd_selection *choice, const char *name, bool *yes, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	*yes = !choice->nnames && !choice->include.count;
	for (size_t i = 0; i < choice->nnames && !*yes && result == SD_OK; i++)
		result = sd_glob_matches(choice->names[i], name, yes, err);
	if (result == SD_OK && !*yes)
		result = sd_regex_list_search(&choice->include, name, yes, err);
	return result;
}

enum sd_result sd_selection_takes(const struct sd_selection *choice, const char *name, bool *yes, struct sd_error *err)
{
	bool excluded = false, is_counted;
	enum sd_result result = matches_one(choice, name, yes, err);

	if (result == SD_OK && *yes)
		result = sd_regex_list_search(&choice->exclude, name, &excluded, err);
	*yes = *yes && !excluded;
	if (*yes && choice->layers.text)
		*yes = takes_layer(choice, name, &is_counted);
	if (*yes && choice->experts.text)
		*yes = takes_expert(choice, name, &is_counted);
	return result;
}

/* ---- what matches nothing ---- */

/* How many names there are: a tensor may have several targets. */
static size_t count_names(const struct sd_manifest *m)
{
	struct sd_names names = {0};
	size_t count = m->ntargets;
	bool memory = true;

	for (size_t i = 0; i < m->ntargets && memory; i++)
		memory = sd_names_add(&names, m->targets[i].name, 0) != SD_NO_NAME;
	if (memory)
		count = names.used;
	sd_names_free(&names);
	return count;
}

/* Fails for a text that matches no name; sample is what a name would be, with * for any text, or NULL. */
static enum sd_result fail_idle(const struct sd_manifest *m, const char *option, const char *text, const char *sample,
				struct sd_error *err)
{
	struct sd_nearest nearest = sd_nearest_begin(sample ? sample : "");

	for (size_t i = 0; i < m->ntargets && sample; i++)
		sd_nearest_look(&nearest, m->targets[i].name);
	if (m->ntargets == 0)
		return sd_fail(err, SD_INPUT, "%s %s: there are no tensors to choose from", option, text);
	sd_fail(err, SD_INPUT, "%s %s matches none of %zu names", option, text, count_names(m));
	if (sd_nearest_name(&nearest))
		sd_fail(err, SD_INPUT, "%s %s matches none of %zu names; did you mean %s?", option, text,
			count_names(m), sd_nearest_name(&nearest));
	return err->result;
}

/* What a regex looks for, if it says so plainly: "\.k_proj\." as *.k_proj.*; NULL where it does not. Malloc'd. */
static char *sample_of(const char *regex)
{
	char *sample = malloc(strlen(regex) + 3), *out = sample;

	if (!sample)
		return NULL;
	if (*regex != '^')
		*out++ = '*';
	for (regex += *regex == '^'; *regex; regex++) {
		if (strncmp(regex, ".*", 2) == 0) {
			*out++ = '*';
			regex++;
		} else if (*regex == '\\' && regex[1] == '.') {
			*out++ = *++regex;
		} else if (*regex == '$' && !regex[1]) {
			*out = '\0';
			return sample;
		} else if (strchr("\\^$[]()|?+*{}", *regex)) {
			free(sample);
			return NULL;
		} else {
			*out++ = *regex;
		}
	}
	*out++ = '*';
	*out = '\0';
	return sample;
}

static enum sd_result check_name(struct sd_glob *glob, const struct sd_manifest *m, struct sd_error *err)
{
	bool found = false;

	for (size_t i = 0; i < m->ntargets && !found; i++)
		if (sd_glob_matches(glob, m->targets[i].name, &found, err) != SD_OK)
			return err->result;
	return found ? SD_OK : fail_idle(m, "-n", sd_glob_text(glob), sd_glob_first(glob), err);
}

static enum sd_result find_regex(const struct sd_regex *regex, const struct sd_manifest *m, bool *found,
				 struct sd_error *err)
{
	enum sd_result result = SD_OK;

	*found = false;
	for (size_t i = 0; i < m->ntargets && !*found && result == SD_OK; i++)
		result = sd_regex_search(regex, m->targets[i].name, found, err);
	return result;
}

static enum sd_result check_regex(const struct sd_regex *regex, const struct sd_manifest *m, struct sd_error *err)
{
	bool found;
	char *sample;
	enum sd_result result = find_regex(regex, m, &found, err);

	if (result != SD_OK || found)
		return result;
	sample = sample_of(sd_regex_text(regex));
	result = fail_idle(m, "--include", sd_regex_text(regex), sample, err);
	free(sample);
	return result;
}

/* That each range of a list has a number in it that is there. */
static enum sd_result check_numbers(const struct sd_selection *choice, const struct sd_numbers *numbers,
				    const struct sd_manifest *m, const char *option, const char *what,
				    struct sd_error *err)
{
	bool layers = numbers == &choice->layers;
	uint32_t least = UINT32_MAX, most = 0, number;
	size_t found = 0, stack;

	for (size_t i = 0; i < m->ntargets; i++) {
		const char *name = m->targets[i].name, *word = layers ? choice->stack : "experts";

		if (!word ||
		    !sd_stack_number(name, word, layers ? choice->stack_length : strlen(word), &stack, &number))
			continue;
		found += sd_numbers_have(numbers, number);
		least = number < least ? number : least;
		most = number > most ? number : most;
	}
	if (found)
		return SD_OK;
	if (least > most)
		return sd_fail(err, SD_INPUT, "%s %s: no name has a number of such %s", option, numbers->text, what);
	return sd_fail(err, SD_INPUT, "%s %s: there is none of them; %s are %" PRIu32 " to %" PRIu32, option,
		       numbers->text, what, least, most);
}

enum sd_result sd_selection_check(const struct sd_selection *choice, const struct sd_manifest *m, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	for (size_t i = 0; i < choice->nnames && result == SD_OK; i++)
		result = check_name(choice->names[i], m, err);
	for (size_t i = 0; i < choice->include.count && result == SD_OK; i++)
		result = check_regex(choice->include.regexes[i], m, err);
	if (result == SD_OK && choice->layers.text)
		result = check_numbers(choice, &choice->layers, m, "--layers", "layers", err);
	if (result == SD_OK && choice->experts.text)
		result = check_numbers(choice, &choice->experts, m, "--experts", "experts", err);
	return result;
}

enum sd_result sd_selection_idle(const struct sd_selection *choice, const struct sd_manifest *m, const char **exclude,
				 struct sd_error *err)
{
	enum sd_result result = SD_OK;
	bool found = true;

	*exclude = NULL;
	for (size_t i = 0; i < choice->exclude.count && result == SD_OK && found; i++) {
		result = find_regex(choice->exclude.regexes[i], m, &found, err);
		*exclude = found ? NULL : sd_regex_text(choice->exclude.regexes[i]);
	}
	return result;
}
