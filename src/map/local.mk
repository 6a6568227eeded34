sources += \
	%D%/axes.c %D%/axes.h \
	%D%/check.c \
	%D%/compiled.h \
	%D%/edit.c %D%/edit.h \
	%D%/expand.c \
	%D%/idle.c \
	%D%/map.c %D%/map.h \
	%D%/overlap.c \
	%D%/parse.c \
	%D%/parse_config.c \
	%D%/parse_known.c \
	%D%/parse_pattern.c \
	%D%/parse_peft.c \
	%D%/parse_rule.c \
	%D%/parse_sample.c \
	%D%/parser.h \
	%D%/pattern.c %D%/pattern.h \
	%D%/token.c \
	%D%/why.c %D%/why.h
