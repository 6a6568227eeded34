sources += \
	%D%/advice.c %D%/advice.h \
	%D%/arena.c %D%/arena.h \
	%D%/checked.h \
	%D%/dtype.c %D%/dtype.h \
	%D%/error.c %D%/error.h \
	%D%/io.c %D%/io.h \
	%D%/fold.c %D%/fold.h \
	%D%/glob.c %D%/glob.h \
	%D%/json.c %D%/json.h \
	%D%/json_tree.c %D%/json_tree.h \
	%D%/limits.c %D%/limits.h \
	%D%/memstream.c %D%/memstream.h \
	%D%/names.c %D%/names.h \
	%D%/nearest.c %D%/nearest.h \
	%D%/pool.c %D%/pool.h \
	%D%/progress.c %D%/progress.h \
	%D%/regex.c %D%/regex.h \
	%D%/signals.c %D%/signals.h \
	%D%/text.c %D%/text.h \
	%D%/units.c %D%/units.h
