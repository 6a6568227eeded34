libsd_a_SOURCES += \
	%D%/checkpoint.c %D%/checkpoint.h \
	%D%/files.c %D%/files.h \
	%D%/index.c %D%/index.h \
	%D%/open.c %D%/open.h \
	%D%/safetensors.c %D%/safetensors.h
