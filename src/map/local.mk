sources += \
	%D%/adapter.c \
	%D%/arithmetic.c %D%/arithmetic.h \
	%D%/axes.c %D%/axes.h \
	%D%/check.c \
	%D%/copies.c \
	%D%/edit.c %D%/edit.h \
	%D%/expand.c \
	%D%/fields.c \
	%D%/experts.c %D%/experts.h \
	%D%/family.c %D%/family.h \
	%D%/follow.c %D%/follow.h \
	%D%/idle.c \
	%D%/internal.h \
	%D%/join.c \
	%D%/map.c %D%/map.h \
	%D%/known.c %D%/known.h %D%/missing.c %D%/missing.h %D%/odd.c %D%/odd.h \
	%D%/number.c \
	%D%/options.c \
	%D%/overlap.c \
	%D%/parse.c \
	%D%/parse_pattern.c \
	%D%/parse_rule.c \
	%D%/parser.h \
	%D%/pattern.c %D%/pattern.h \
	%D%/planner.h \
	%D%/quantised.c %D%/quantised.h \
	%D%/rename.c %D%/rename.h \
	%D%/sample.c \
	%D%/spans.c %D%/spans.h \
	%D%/stage.c \
	%D%/token.c \
	%D%/why.c %D%/why.h
