sources += \
	%D%/cast.c %D%/cast.h \
	%D%/cut.c %D%/cut.h \
	%D%/execute.h \
	%D%/execute_plan.c \
	%D%/execute_run.c \
	%D%/quantise_weights.c %D%/quantise_weights.h \
	%D%/shard.c %D%/shard.h \
	%D%/swap_dims.c %D%/swap_dims.h \
	%D%/tiling.c %D%/tiling.h \
	%D%/values.c %D%/values.h
