sources += \
	%D%/checkpoint.c %D%/checkpoint.h \
	%D%/dcp_safetensors.c %D%/dcp_safetensors.h \
	%D%/extents.c %D%/extents.h \
	%D%/format.c %D%/format.h \
	%D%/index.c %D%/index.h \
	%D%/layout.c %D%/layout.h \
	%D%/loss.c %D%/loss.h \
	%D%/like.c %D%/like.h \
	%D%/open.c %D%/open.h \
	%D%/pack.c %D%/pack.h \
	%D%/publish.c %D%/publish.h \
	%D%/reading.c %D%/reading.h \
	%D%/replace.c %D%/replace.h \
	%D%/safetensors.c %D%/safetensors.h \
	%D%/zstd.c %D%/zstd.h
