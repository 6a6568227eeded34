sources += \
	%D%/adapter.c \
	%D%/arithmetic.c %D%/arithmetic.h \
	%D%/check_samples.c \
	%D%/config.c \
	%D%/copies.c \
	%D%/direction.c \
	%D%/experts.c %D%/experts.h \
	%D%/family.c %D%/family.h \
	%D%/follow.c %D%/follow.h \
	%D%/interval_index.c %D%/interval_index.h \
	%D%/known.c %D%/known.h \
	%D%/merge.c \
	%D%/missing_keys.c %D%/missing_keys.h \
	%D%/number.c \
	%D%/odd.c %D%/odd.h \
	%D%/options.c \
	%D%/places.c %D%/places.h \
	%D%/planner.c %D%/planner.h \
	%D%/quantised.c %D%/quantised.h \
	%D%/rename.c %D%/rename.h \
	%D%/stage.c \
	%D%/which_map.c %D%/which_map.h \
	%D%/words.c %D%/words.h
