sources += \
	%D%/cast.c %D%/cast.h \
	%D%/cut.c %D%/cut.h \
	%D%/execute.h \
	%D%/execute_plan.c \
	%D%/execute_run.c \
	%D%/quantise_fp8.c \
	%D%/shard.c %D%/shard.h \
	%D%/swap_dims.c \
	%D%/tiling.c %D%/tiling.h
