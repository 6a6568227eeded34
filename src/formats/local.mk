sources += \
	%D%/checkpoint.c %D%/checkpoint.h \
	%D%/files.c %D%/files.h \
	%D%/index.c %D%/index.h \
	%D%/layout.c %D%/layout.h \
	%D%/loss.c %D%/loss.h \
	%D%/like.c %D%/like.h \
	%D%/open.c %D%/open.h \
	%D%/pack.c %D%/pack.h \
	%D%/publish.c %D%/publish.h \
	%D%/replace.c %D%/replace.h \
	%D%/safetensors.c %D%/safetensors.h \
	%D%/zstd.c %D%/zstd.h
