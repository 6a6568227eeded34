/* SPDX-License-Identifier: Apache-2.0 */
/* A line to a rule. */
#include "map/parser.h"
#include "model/manifest.h"

enum sd_result sd_parse_guard(struct sd_parser *p, char *text, struct sd_map_guard *guard)
{
	const char *value = sd_token_cut(text);

	if (!value)
		return sd_parse_fail(p, "a condition on an option is NAME=VALUE");
	for (uint32_t i = 0; i < p->map->noptions; i++) {
		const struct sd_map_option *option = &p->map->options[i];

		if (strcmp(option->name, text) != 0)
			continue;
		for (uint32_t v = 0; v < option->nvalues; v++)
			if (strcmp(option->values[v], value) == 0) {
				*guard = (struct sd_map_guard){i, v};
				return SD_OK;
			}
		return sd_parse_fail(p, "option %s is %s, never \"%s\"", text, option->text, value);
	}
	return sd_parse_fail(p, "there is no option \"%s\"", text);
}

enum sd_result sd_parse_guards(struct sd_parser *p, struct sd_map_guard **guards, uint32_t *n)
{
	*guards = sd_arena_array(&p->map->arena, p->nguards + p->ntokens, sizeof(**guards));
	if (!*guards)
		return sd_fail_memory(p->err);
	*n = p->nguards;
	if (p->nguards)
		memcpy(*guards, p->guards, p->nguards * sizeof(**guards));
	while (*sd_token_peek(p) == '@')
		if (sd_parse_guard(p, p->tokens[p->at++].text + 1, &(*guards)[(*n)++]) != SD_OK)
			return p->err->result;
	return SD_OK;
}

enum sd_result sd_parse_axes(struct sd_parser *p, struct sd_axes *axes)
{
	const char *why;

	if (p->at == p->ntokens || p->tokens[p->at].kind != LIST)
		return SD_OK;
	why = sd_axes_parse(p->tokens[p->at++].text, &p->map->axes, &p->map->arena, axes);
	return why ? sd_parse_fail(p, "%s: %s", p->tokens[p->at - 1].text, why) : SD_OK;
}

static void parse_dtype(struct sd_parser *p, uint8_t *dtype)
{
	*dtype = (uint8_t)sd_dtype_parse(sd_token_peek(p), strlen(sd_token_peek(p)));
	if (*dtype)
		p->at++;
}

/* What may stand on one side of a rule: its outcome, if it is one, or a pattern with what belongs to it. */
static enum sd_result parse_side(struct sd_parser *p, struct sd_rule *rule, int number, enum sd_map_outcome *outcome)
{
	struct sd_map_side *side = &rule->side[number];

	*outcome = sd_token_accept(p, "drop")     ? DROP
		   : sd_token_accept(p, "keep")   ? KEEP
		   : sd_token_accept(p, "refuse") ? REFUSE
						  : MOVE;
	if (*outcome == REFUSE)
		return sd_token_want(p, STRING, "why it is refused, in \"\",", &rule->why);
	if (*outcome != MOVE)
		return SD_OK;
	if (sd_parse_want_pattern(p, number, &rule->holes, &side->key) != SD_OK ||
	    sd_parse_axes(p, &side->axes) != SD_OK)
		return p->err->result;
	parse_dtype(p, &side->dtype);
	if (!sd_token_accept(p, "+"))
		return SD_OK;
	side->scale = sd_arena_alloc(&p->map->arena, sizeof(*side->scale));
	if (!side->scale)
		return sd_fail_memory(p->err);
	if (sd_parse_want_pattern(p, number, &rule->holes, &side->scale->key) != SD_OK ||
	    sd_parse_axes(p, &side->scale->axes) != SD_OK)
		return p->err->result;
	parse_dtype(p, &side->scale->dtype);
	return SD_OK;
}

/* What may stand behind fp8, fp4 and int4: how some codes and bytes are to be read. */
static enum sd_result parse_codes(struct sd_parser *p, struct sd_rule *rule, const char *text)
{
	bool codes = rule->unpack == SD_UNPACK_E2M1;

	for (; rule->arithmetic == BLOCK_SCALE; p->at++) {
		const char *word = sd_token_peek(p);

		if (codes && strcmp(word, "code8=+0") == 0)
			rule->unpack = SD_UNPACK_E2M1_PLUS;
		else if (strcmp(word, "byte0=0") == 0)
			rule->exponents |= SD_EXPONENT_ZERO;
		else if (strcmp(word, "byte255=inf") == 0)
			rule->exponents |= SD_EXPONENT_INFINITY;
		else if (codes && strcmp(word, "byte255=2^128") == 0)
			rule->exponents |= SD_EXPONENT_2_128;
		else
			break;
		text = sd_arena_printf(&p->map->arena, "%s %s", text, word);
		if (!text)
			return sd_fail_memory(p->err);
	}
	rule->arithmetic_text = text;
	if (rule->exponents >= (SD_EXPONENT_INFINITY | SD_EXPONENT_2_128))
		return sd_parse_fail(p, "byte 255 is either infinity or 2^128");
	return SD_OK;
}

static enum sd_result parse_arithmetic(struct sd_parser *p, struct sd_rule *rule)
{
	static const struct {
		const char *word;
		enum sd_map_arithmetic arithmetic;
		uint8_t unpack;
		uint32_t constant;
	} words[] = {{"fp8", BLOCK_SCALE, 0, 0},
		     {"fp4", BLOCK_SCALE, SD_UNPACK_E2M1, 0},
		     {"int4", BLOCK_SCALE, SD_UNPACK_INT4, 0},
		     {"times", TIMES, 0, 0},
		     {"dtype", TO_DTYPE, 0, 0},
		     {"zeros", CONSTANT, 0, 0},
		     {"ones", CONSTANT, 0, 0x3f800000}};
	const char *word = NULL;

	if (sd_token_want(p, WORD, "what is to be done to the values", &word) != SD_OK)
		return p->err->result;
	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
		if (strcmp(word, words[i].word) != 0)
			continue;
		rule->arithmetic = words[i].arithmetic;
		rule->unpack = words[i].unpack;
		rule->constant = words[i].constant;
		return parse_codes(p, rule, word);
	}
	rule->arithmetic = CAST;
	rule->arithmetic_text = word;
	rule->cast = (uint8_t)sd_dtype_parse(word, strlen(word));
	return rule->cast ? SD_OK : sd_parse_fail(p, "\"%s\" is neither a dtype nor an arithmetic", word);
}

/* "L>=N" or "L<N". */
static enum sd_result parse_bound(struct sd_parser *p, struct sd_rule *rule)
{
	struct sd_map_bound *bound = &rule->bounds[rule->nbounds++];
	char *text = p->tokens[p->at++].text, *sign = strpbrk(text, "<>");
	size_t length = (size_t)(sign - text);

	bound->text = sd_arena_text(&p->map->arena, text, strlen(text));
	if (!bound->text)
		return sd_fail_memory(p->err);
	bound->least = sign[0] == '>';
	if (bound->least != (sign[1] == '='))
		return sd_parse_fail(p, "\"%s\": a bound is L>=N or L<N", text);
	*sign = '\0';
	for (bound->hole = 0; bound->hole < rule->holes.n; bound->hole++) {
		const struct sd_map_hole *hole = &rule->holes.hole[bound->hole];

		if (strlen(hole->name) == length && strcmp(hole->name, text) == 0 && hole->kind == HOLE_NUMBER)
			return sd_parse_amount(p, sign + 1 + bound->least, &bound->amount);
	}
	return sd_parse_fail(p, "\"%s\": the rule has no number {%s}", bound->text, text);
}

/* What may stand behind a rule. */
static enum sd_result parse_tail(struct sd_parser *p, struct sd_rule *rule, int read)
{
	uint32_t most = p->ntokens - p->at;

	rule->excepts = sd_arena_array(&p->map->arena, most, sizeof(*rule->excepts));
	rule->conditions = sd_arena_array(&p->map->arena, most, sizeof(*rule->conditions));
	rule->bounds = sd_arena_array(&p->map->arena, most, sizeof(*rule->bounds));
	if (!rule->excepts || !rule->conditions || !rule->bounds)
		return sd_fail_memory(p->err);
	while (p->at < p->ntokens) {
		bool wanted = strcmp(sd_token_peek(p), "if") == 0;

		if (sd_token_accept(p, ":")) {
			if (parse_arithmetic(p, rule) != SD_OK)
				return p->err->result;
		} else if (sd_token_accept(p, "except")) {
			struct sd_map_except *except = &rule->excepts[rule->nexcepts++];

			if (sd_parse_want_pattern(p, LEFT, &except->holes, &except->pattern) != SD_OK ||
			    sd_parse_no_shift(p, &except->holes) != SD_OK)
				return p->err->result;
		} else if (sd_token_accept(p, "note")) {
			if (sd_token_want(p, STRING, "what is to be said, in \"\",", &rule->note) != SD_OK)
				return p->err->result;
		} else if (sd_token_accept(p, "if") || sd_token_accept(p, "unless")) {
			struct sd_map_condition *condition = &rule->conditions[rule->nconditions];

			if (wanted && sd_token_accept(p, "complete")) {
				rule->if_complete = true;
				continue;
			}
			if (strpbrk(sd_token_peek(p), "<>")) {
				if (!wanted)
					return sd_parse_fail(p, "a bound stands behind \"if\"");
				if (parse_bound(p, rule) != SD_OK)
					return p->err->result;
				continue;
			}
			rule->nconditions++;
			condition->wanted = wanted;
			if (sd_parse_want_pattern(p, read, &rule->holes, &condition->key) != SD_OK)
				return p->err->result;
			parse_dtype(p, &condition->dtype);
		} else {
			return sd_token_end(p);
		}
	}
	return SD_OK;
}

static enum sd_result set_direction(struct sd_parser *p, struct sd_rule *rule, const char *op,
				    const enum sd_map_outcome *outcome)
{
	bool rightwards = strcmp(op, "->") == 0, leftwards = strcmp(op, "<-") == 0;

	if (strcmp(op, "<->") == 0)
		rule->direction = BOTH_WAYS;
	else if (strcmp(op, "<=") == 0)
		rule->direction = COPY;
	else if (strcmp(op, "=>") == 0)
		rule->direction = COPY_RIGHTWARDS;
	else if (rightwards || leftwards)
		rule->direction = rightwards ? RIGHTWARDS : LEFTWARDS;
	else
		return sd_parse_fail(p, "between the two sides stands <->, ->, <-, <= or =>, not \"%s\"", op);
	if ((outcome[LEFT] != MOVE && !leftwards) || (outcome[RIGHT] != MOVE && !rightwards))
		return sd_parse_fail(p, "drop, keep and refuse stand where a -> or <- points to");
	if (!leftwards)
		rule->outcome[LEFT] = rule->direction == COPY ? COPIED : outcome[RIGHT];
	if (!rightwards)
		rule->outcome[RIGHT] = rule->direction == COPY_RIGHTWARDS ? COPIED : outcome[LEFT];
	return SD_OK;
}

/* `keep PATTERN`: both ways. */
static enum sd_result parse_keep(struct sd_parser *p, struct sd_rule *rule)
{
	uint32_t start = p->at;

	rule->outcome[LEFT] = rule->outcome[RIGHT] = KEEP;
	if (sd_parse_want_pattern(p, LEFT, &rule->holes, &rule->side[LEFT].key) != SD_OK)
		return p->err->result;
	p->at = start;
	return sd_parse_want_pattern(p, RIGHT, &rule->holes, &rule->side[RIGHT].key) == SD_OK ? sd_token_end(p)
											      : p->err->result;
}

enum sd_result sd_parse_rule(struct sd_parser *p)
{
	struct sd_rule rule = {.file = sd_arena_text(&p->map->arena, p->file, strlen(p->file)),
			       .line = p->line,
			       .text = p->line_text,
			       .next_part = {NONE, NONE}};
	struct sd_map_stage *stage;
	struct sd_rule *added;
	enum sd_map_outcome outcome[2];
	const char *op = "";

	if (!rule.file)
		return sd_fail_memory(p->err);
	if (sd_parse_guards(p, &rule.guards, &rule.nguards) != SD_OK)
		return p->err->result;
	if (strcmp(sd_token_peek(p), "keep") == 0 && p->at + 2 == p->ntokens) {
		p->at++;
		if (parse_keep(p, &rule) != SD_OK)
			return p->err->result;
	} else {
		if (parse_side(p, &rule, LEFT, &outcome[LEFT]) != SD_OK ||
		    sd_token_want(p, WORD, "an arrow behind the left side", &op) != SD_OK ||
		    parse_side(p, &rule, RIGHT, &outcome[RIGHT]) != SD_OK ||
		    set_direction(p, &rule, op, outcome) != SD_OK ||
		    parse_tail(p, &rule, sd_rule_condition_side(&rule)) != SD_OK ||
		    sd_map_check_rule(p->map, &rule, p->err) != SD_OK)
			return p->err->result;
	}
	stage = &p->map->stages[p->stage];
	added = SD_PARSE_ADD(stage->rules, stage->nrules, stage->rules_room);
	if (!added)
		return sd_fail_memory(p->err);
	*added = rule;
	return SD_OK;
}
